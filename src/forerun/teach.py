"""The whole recipe, from a table of ticks to a saved world model; stop it anywhere, the same call continues.

RUN/
  representation/  dynamics/  goals/  practice/   checkpoint/ and metrics.jsonl of each stage
  run.json                             settings, data, which episodes were held out
  model/                               the world model, when all stages are done
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from forerun.checkpoint import write_text
from forerun.config import model_config
from forerun.data.cache import TickCache
from forerun.data.window import split_episodes
from forerun.dynamics.heads import GoalConfig
from forerun.encoders.representation import RepresentationConfig
from forerun.practice import PracticeConfig, PracticeLearner
from forerun.stages import DynamicsLearner, GoalLearner, LatentTable, RepresentationLearner, fit_scales
from forerun.training.trainer import TrainConfig, train
from forerun.types import DataError, StreamSpec
from forerun.world_model import WorldModel

STAGES = ("representation", "dynamics", "goals", "practice")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How much of each stage. Budgets are steps, not seconds, so that a run can be repeated anywhere."""

    size: str = "xs"
    representation: TrainConfig = field(default_factory=lambda: TrainConfig(steps=1000, learning_rate=2e-3))
    dynamics: TrainConfig = field(default_factory=lambda: TrainConfig(steps=1500, learning_rate=2e-3))
    goals: TrainConfig = field(default_factory=lambda: TrainConfig(steps=5000, learning_rate=1e-3))
    practice: TrainConfig = field(default_factory=lambda: TrainConfig(steps=1000, learning_rate=5e-4))
    objective: RepresentationConfig = field(default_factory=RepresentationConfig)
    goal: GoalConfig = field(default_factory=GoalConfig)
    practising: PracticeConfig = field(default_factory=PracticeConfig)
    window: int = 6
    """Ticks of a dynamics window: context and imagined ticks together."""
    holdout: float = 0.1
    """Share of episodes never trained on."""
    seed: int = 0

    def scaled(self, factor: float) -> Recipe:
        """The same recipe with every stage ``factor`` times as long."""
        return replace(
            self,
            **{
                stage: replace(getattr(self, stage), steps=max(1, round(factor * getattr(self, stage).steps)))
                for stage in STAGES
            },
        )


def observed(cache: TickCache) -> tuple[StreamSpec, ...]:
    """The streams a model sees: everything but actions, labels and simulator state."""
    return tuple(s for s in cache.specs.values() if s.kind in ("video", "vector", "touch"))


def teach(
    cache: TickCache,
    run: Path,
    recipe: Recipe,
    *,
    on_save: Callable[[WorldModel, str, int], None] | None = None,
    console: Console | None = None,
) -> WorldModel:
    """Train a world model on the training episodes of ``cache``; resumes where an earlier call stopped.

    Args:
        cache: recordings as a table of ticks.
        run: folder of this run; see the top of this file.
        on_save: called with (model, stage, step) after each checkpoint.

    Raises:
        DataError: nothing to observe, or too little to train on.
        CheckpointError: ``run`` holds a run with other settings.
    """
    model, train_episodes = prepare(cache, run, recipe)
    say = on_save or (lambda *_: None)
    torch.manual_seed(recipe.seed)
    if model.config.video:
        learner = RepresentationLearner(
            model, cache, train_episodes, config=recipe.objective, seed=recipe.seed
        )
        train(learner, recipe.representation, run / learner.name, console=console,
              on_save=lambda step: say(model, learner.name, step))  # fmt: skip
    table = LatentTable.encode(model, cache, train_episodes)
    with one_thread():
        _teach_on_latents(model, table, train_episodes, run, recipe, say, console)
    model.eval().save_pretrained(run / "model")
    return model


def _teach_on_latents(
    model: WorldModel,
    table: LatentTable,
    train_episodes: np.ndarray,
    run: Path,
    recipe: Recipe,
    say: Callable[[WorldModel, str, int], None],
    console: Console | None,
) -> None:
    """All stages that need no pictures."""
    dynamics = DynamicsLearner(model, table, train_episodes, ticks=recipe.window, seed=recipe.seed)
    train(dynamics, recipe.dynamics, run / dynamics.name, console=console,
          on_save=lambda step: say(model, dynamics.name, step))  # fmt: skip
    if model.config.action is not None:
        goals = GoalLearner(model, table, train_episodes, seed=recipe.seed)
        train(goals, recipe.goals, run / goals.name, console=console,
              on_save=lambda step: say(model, goals.name, step))  # fmt: skip
        practice = PracticeLearner(model, table, train_episodes, config=recipe.practising, seed=recipe.seed)
        train(practice, recipe.practice, run / practice.name, console=console,
              on_save=lambda step: say(model, practice.name, step))  # fmt: skip


@contextmanager
def one_thread() -> Iterator[None]:
    """Matrices of latents are small: sharing them between threads costs more than it brings (LOG.md)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def prepare(cache: TickCache, run: Path, recipe: Recipe) -> tuple[WorldModel, np.ndarray]:
    """A fresh model for the streams of ``cache``, its scales fitted, and the episodes to train on."""
    streams = observed(cache)
    if not streams:
        raise DataError(
            f"the recordings hold nothing to observe: their streams are {sorted(cache.specs)}. A world model "
            "needs at least one video, vector or touch stream."
        )
    train_episodes, held_out = split_episodes(cache, recipe.holdout, recipe.seed)
    torch.manual_seed(recipe.seed)
    config = model_config(recipe.size, streams, cache.specs.get("action"), cache.tick_s)
    model = WorldModel(config, recipe.goal)
    fit_scales(model, cache, train_episodes)
    write_text(
        run / "run.json",
        json.dumps(
            {
                "recipe": asdict(recipe),
                "data": cache.hash,
                "train_episodes": train_episodes.tolist(),
                "held_out_episodes": held_out.tolist(),
            },
            indent=1,
        ),
    )
    return model, train_episodes
