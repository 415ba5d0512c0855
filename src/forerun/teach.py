"""The whole recipe, from a table of ticks to a saved world model; stop it anywhere, the same call continues.

RUN/
  representation/  dynamics/  goals/  practice/   checkpoint/ and metrics.jsonl of each stage
  run.json                             settings, data, which episodes were trained on
  model/                               the world model, when all stages are done
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from forerun.checkpoint import differences, write_text
from forerun.config import model_config
from forerun.data.cache import TickCache
from forerun.data.window import split_episodes
from forerun.dynamics.heads import GoalConfig
from forerun.encoders.representation import RepresentationConfig
from forerun.practice import PracticeConfig, PracticeLearner
from forerun.stages import DynamicsLearner, GoalLearner, LatentTable, RepresentationLearner, fit_scales
from forerun.training.learner import Learner
from forerun.training.trainer import TrainConfig, train
from forerun.types import CheckpointError, DataError, StreamSpec
from forerun.world_model import FORMAT, WorldModel

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

    def stage(self, name: str) -> TrainConfig:
        """How one stage is trained, its noise drawn from the recipe's own seed."""
        return replace(getattr(self, name), seed=self.seed)

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
        CheckpointError: ``run`` holds a run with other settings or episodes; it is untouched.
    """
    model, train_episodes = prepare(cache, run, recipe)
    torch.manual_seed(recipe.seed)
    stages = stages_of(model)

    def learn(learner: Learner) -> None:
        stage = learner.name
        train(
            learner,
            recipe.stage(stage),
            run / stage,
            title=f"{stages.index(stage) + 1}/{len(stages)} {stage}",
            on_save=None if on_save is None else partial(on_save, model, stage),
            console=console,
        )

    if model.config.learned:
        learn(seeing(model, cache, train_episodes, recipe))
    table = LatentTable.encode(model, cache, train_episodes)
    with one_thread():
        for learner in foreseeing(model, table, train_episodes, recipe):
            learn(learner)
    model.eval().save_pretrained(run / "model")
    return model


def stages_of(model: WorldModel) -> list[str]:
    """The stages in which such a model is taught: not all without pictures or touch, or without actions."""
    action = model.config.action is not None
    needed = {
        "representation": bool(model.config.learned),
        "dynamics": True,
        "goals": action,
        "practice": action,
    }
    return [stage for stage in STAGES if needed[stage]]


def seeing(model: WorldModel, cache: TickCache, episodes: np.ndarray, recipe: Recipe) -> Learner:
    """The stage that learns what pictures and bursts of touch become."""
    return RepresentationLearner(model, cache, episodes, config=recipe.objective, seed=recipe.seed)


def foreseeing(
    model: WorldModel, table: LatentTable, episodes: np.ndarray, recipe: Recipe
) -> Iterator[Learner]:
    """All stages that need none, in order; each is made when the one before it has learned."""
    yield DynamicsLearner(model, table, episodes, ticks=recipe.window, seed=recipe.seed)
    if model.config.action is not None:
        yield GoalLearner(model, table, episodes, seed=recipe.seed)
        yield PracticeLearner(model, table, episodes, config=recipe.practising, seed=recipe.seed)


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
    _write_identity(
        run,
        {
            "format": FORMAT,
            "recipe": asdict(recipe),
            "data": cache.hash,
            "train_episodes": train_episodes.tolist(),
            "train_hashes": [cache.episodes[i]["hash"] for i in train_episodes],
            "held_out_episodes": held_out.tolist(),
        },
    )
    return model, train_episodes


def _write_identity(run: Path, about: dict[str, Any]) -> None:
    """Say in run.json what this run is; CheckpointError if a stage has begun and the file says otherwise."""
    path, about = run / "run.json", json.loads(json.dumps(about))  # as it will be read back
    if path.is_file() and any((run / stage).is_dir() for stage in STAGES):
        try:
            before = json.loads(path.read_text())
        except (OSError, ValueError) as cause:
            raise CheckpointError(
                f"run.json cannot be read ({cause}), so this run cannot be continued; train anew in another "
                f"folder. Path: {path}"
            ) from cause
        _check_format(before, path)
        if before != about:
            raise CheckpointError(
                f"this folder holds a run with other settings: {differences(before, about)}. Use the "
                f"same settings and recordings to continue it, or another folder for a new run. Path: {run}"
            )
        return
    write_text(path, json.dumps(about, indent=1))


def _check_format(about: Any, path: Path) -> None:
    """CheckpointError if another version of forerun, with other weights, began what run.json describes."""
    began = about.get("format", "an earlier one") if isinstance(about, dict) else "none"
    if began != FORMAT:
        raise CheckpointError(
            f"this run was begun by a version of forerun whose models have another format ({began}); this "
            f"one continues '{FORMAT}'. Train anew in another folder, or install the version that began it. "
            f"Path: {path}"
        )
