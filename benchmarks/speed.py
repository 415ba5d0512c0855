"""How fast training and planning are on one core, each beside its naive version in the same run.

    python benchmarks/speed.py

Records a little Push play and takes every stage through its first steps with the real trainer, to see how
long it waits for data (against making each batch in the loop, when it is needed). Then times: a step of stage
one (against decoding video in every step), a step of the dynamics on cached latents (against encoding
pictures in every step), one plan of 64 futures, 4 rounds, 5 ticks (against imagining the futures one by one),
and a decision of the goal policy from a new picture (against reading goal and context anew, with gradients).
Ratios matter; seconds belong to this machine. Writes one JSON.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from forerun.cli.play import record_play
from forerun.control.agents import WorldModelAgent
from forerun.data import open_recordings
from forerun.data.cache import TickCache, build_cache
from forerun.data.episode import Recordings
from forerun.evaluation.results import write_result
from forerun.imagination.planner import Planner, PlannerConfig
from forerun.stages import DynamicsLearner, LatentTable, RepresentationLearner
from forerun.teach import STAGES, Recipe, foreseeing, seeing, teach
from forerun.training.learner import Learner
from forerun.training.trainer import TrainConfig, make_optimizer, update
from forerun.world_model import WorldModel

LAP = 20
"""Steps between two lines of a stage's metrics."""
LAPS = 4
"""Per stage. The first is not counted: its first batch cannot be made ahead."""
CONTEXT = 2
"""Ticks the robot has seen when it plans."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """See the top of this file."""

    repeats: int = 15
    seed: int = 0

    def __call__(self) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(self.seed)
        with tempfile.TemporaryDirectory() as scratch:
            play = Path(scratch) / "play"
            record_play(
                "forerun/Push-v0", play, episodes=12, steps=100, policies=("noisy",), done=lambda *_: None
            )
            recordings = open_recordings(play)
            cache = build_cache(recordings, Path(scratch) / "cache", tick_s=0.1)
            run, recipe = Path(scratch) / "run", _brief(Recipe(seed=self.seed))
            model = teach(cache, run, recipe)
            metrics = {
                "data_wait": _data_wait(run, model, cache, recipe),
                **self._training(model, recordings, cache),
                **self._planning(model, cache),
                **self._deciding(model, cache),
            }
        settings = {"size": "xs", "threads": 1, "context_ticks": CONTEXT, "data_wait_steps": LAP * (LAPS - 1)}
        path = write_result("speed", metrics, settings=settings, seed=self.seed, n=self.repeats)
        print(path.read_text())

    def _training(self, model: WorldModel, recordings: Recordings, cache: TickCache) -> dict[str, Any]:
        episodes, recipe = np.arange(cache.num_episodes), Recipe()
        seeing = RepresentationLearner(model, cache, episodes)
        foreseeing = DynamicsLearner(model, LatentTable.encode(model, cache, episodes), episodes)
        see, foresee = _step(seeing, recipe.representation), _step(foreseeing, recipe.dynamics)
        episode = recordings[0]
        camera = next(s for s in episode.streams.values() if s.spec.kind == "video")

        def decode_then_see() -> None:
            """64 windows of three frames read from the video, as a loader without a cache does."""
            for first in range(64):
                camera.read(np.array([first, first + 1, first + 30]))
            see()

        def encode_then_foresee() -> None:
            rows = foreseeing.sampler.batch(0)[:, None] + np.arange(foreseeing.ticks)
            with torch.no_grad():
                model.encode(
                    {s.name: torch.from_numpy(cache.streams[s.name][rows]) for s in model.config.streams}
                )
            foresee()

        frames, transitions = 3 * 64, 512 * (foreseeing.ticks - 1)
        return {
            "end_to_end": self._rate(see, decode_then_see, frames, "frames/s"),
            "cached_latents": self._rate(foresee, encode_then_foresee, transitions, "transitions/s"),
        }

    def _rate(
        self, ours: Callable[[], object], naive: Callable[[], object], items: int, unit: str
    ) -> dict[str, Any]:
        fast, slow = _interleaved(ours, naive, self.repeats)
        return {"figure": items / fast, "naive": items / slow, "ratio": slow / fast, "unit": unit}

    def _planning(self, model: WorldModel, cache: TickCache) -> dict[str, Any]:
        state, goal = _situation(model, cache)
        planner = Planner(model, PlannerConfig(candidates=64, iterations=4, horizon=5))

        def one_by_one() -> None:
            with torch.inference_mode():
                for _ in range(4 * 64):
                    imagined = state
                    for _ in range(5):
                        imagined = model.step(imagined, torch.zeros(1, model.config.action_size))
                    model.distance(imagined, goal)

        fast, slow = _interleaved(lambda: planner.plan(state, goal), one_by_one, self.repeats)
        return {"plan": _milliseconds(fast, slow)}

    def _deciding(self, model: WorldModel, cache: TickCache) -> dict[str, Any]:
        agent, window = WorldModelAgent(model, PlannerConfig(method="policy")), model.config.size.window
        later, rows = _row(model, cache, 25), [_row(model, cache, tick) for tick in range(window)]
        agent.begin(rows[0], later)
        actions = torch.from_numpy(np.stack([agent.act(row) for row in rows[:-1]], axis=1))
        past = {name: np.stack([row[name] for row in rows], axis=1) for name in later}

        def see(streams: dict[str, np.ndarray]) -> torch.Tensor:
            return model.encode({name: torch.from_numpy(values) for name, values in streams.items()})

        def anew() -> torch.Tensor:
            goal = model.goal(see({name: values[:, None] for name, values in later.items()})[:, 0])
            return model.propose(model.start(see(past), actions), goal)

        return {"decision": _milliseconds(*_interleaved(lambda: agent.act(rows[-1]), anew, self.repeats))}


def _brief(recipe: Recipe) -> Recipe:
    """Every stage as it begins."""
    brief = {stage: replace(getattr(recipe, stage), steps=LAP * LAPS, log_every=LAP) for stage in STAGES}
    return replace(recipe, **brief)


def _data_wait(run: Path, model: WorldModel, cache: TickCache, recipe: Recipe) -> dict[str, Any]:
    """Per cent of its time that the trainer waits for batches, as it logs it: the worst stage and each."""
    stages = {}
    for stage in STAGES:
        lines = (run / stage / "metrics.jsonl").read_text().splitlines()
        laps = [json.loads(line)["data_wait"] for line in lines][1:]
        stages[stage] = 100 * float(np.mean(laps))
    episodes = np.arange(cache.num_episodes)
    latents = LatentTable.encode(model, cache, episodes)
    learners = chain(
        [seeing(model, cache, episodes, recipe)], foreseeing(model, latents, episodes, recipe)
    )  # each is made when the one before it is done, as in training
    naive = {learner.name: wait_in_the_loop(learner, recipe.stage(learner.name)) for learner in learners}
    worst, without = max(stages.values()), max(naive.values())
    ratio = {"figure": worst, "naive": without, "ratio": without / worst}
    return {**ratio, "unit": "% of the time", "stages": stages, "naive_stages": naive}


def wait_in_the_loop(learner: Learner, config: TrainConfig) -> float:
    """Per cent of the time that goes into batches if the loop makes each when it needs it."""
    optimizer, times = make_optimizer(learner.module.train(), config), []
    for step in range(LAP * LAPS):
        began = time.perf_counter()
        batch = learner.batch(step)
        made = time.perf_counter()
        update(learner, optimizer, batch, config, step)
        times.append((made - began, time.perf_counter() - began))
    waited, whole = np.sum(times[LAP:], axis=0)
    return 100 * float(waited / whole)


def _milliseconds(fast: float, slow: float) -> dict[str, Any]:
    return {"figure": 1e3 * fast, "naive": 1e3 * slow, "ratio": slow / fast, "unit": "ms"}


def _situation(model: WorldModel, cache: TickCache) -> tuple[Any, torch.Tensor]:
    """A state in which the robot has seen `CONTEXT` ticks, as in control, and a goal later in its episode."""
    agent = WorldModelAgent(model)
    agent.begin(_row(model, cache, 0), _row(model, cache, 25))
    for tick in range(CONTEXT):
        agent.act(_row(model, cache, tick))
    return agent.state, agent.goal


def _row(model: WorldModel, cache: TickCache, tick: int) -> dict[str, np.ndarray]:
    """What was seen at one tick, as one row."""
    return {s.name: np.array(cache.streams[s.name][[tick]]) for s in model.config.streams}


def _step(learner: Learner, config: TrainConfig) -> Callable[[], object]:
    """One whole training step of the trainer: batch, loss, gradients clipped, fused update."""
    optimizer = make_optimizer(learner.module.train(), config)

    def step() -> object:
        return update(learner, optimizer, learner.batch(0), config, config.warmup)

    return step


def _interleaved(
    ours: Callable[[], object], naive: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Median seconds of each, taken in turn so that both meet the same machine."""
    ours(), naive()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for call, kept in zip((ours, naive), times, strict=True):
            began = time.perf_counter()
            call()
            kept.append(time.perf_counter() - began)
    return float(np.median(times[0])), float(np.median(times[1]))


if __name__ == "__main__":
    tyro.cli(Speed)()
