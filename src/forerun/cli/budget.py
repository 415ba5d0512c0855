"""From minutes to steps: time each stage briefly on this machine, then divide."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from forerun.data.cache import TickCache
from forerun.stages import LatentTable
from forerun.teach import STAGES, Recipe, foreseeing, one_thread, prepare, seeing
from forerun.training.learner import Learner
from forerun.training.trainer import TrainConfig, train
from forerun.world_model import WorldModel

OVERHEAD = 0.9
"""Share of the minutes that goes into steps; checkpoints, videos and measuring take the rest."""
TIMED = 30
"""Steps of each stage that are timed; the first two thirds only warm up."""


def steps_for(cache: TickCache, recipe: Recipe, minutes: float) -> dict[str, int]:
    """Steps per stage that fill ``minutes`` on this machine, in the proportions of ``recipe``.

    Every stage is timed as `forerun.teach.teach` runs it, threads included.
    """
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        model, episodes = prepare(cache, Path(scratch), recipe)
        latents = torch.zeros(cache.num_rows, *model.layout.shape)
        action = torch.from_numpy(np.array(cache.streams["action"])) if cache.has_action else None
        table = LatentTable(latents, action, cache)
        wanted = {name: recipe.stage(name) for name in STAGES}
        per_step: dict[str, float] = {}

        def time_steps(learner: Learner) -> None:
            per_step[learner.name] = _seconds_per_step(learner, wanted[learner.name], Path(scratch))

        if model.config.video:
            time_steps(seeing(model, cache, episodes, recipe))
        with one_thread():
            for learner in foreseeing(model, table, episodes, recipe):
                time_steps(learner)
        encoding = _encoding_seconds(model, cache)
    available = max(60 * minutes * OVERHEAD - encoding - (time.perf_counter() - began), 1.0)
    factor = available / sum(wanted[name].steps * seconds for name, seconds in per_step.items())
    return {name: max(1, round(factor * config.steps)) for name, config in wanted.items()}


def _seconds_per_step(learner: Learner, config: TrainConfig, scratch: Path) -> float:
    short = replace(config, steps=TIMED, log_every=TIMED // 3, save_every=TIMED)
    return 1.0 / train(learner, short, scratch / learner.name, console=Console(quiet=True))["steps_per_s"]


def _encoding_seconds(model: WorldModel, cache: TickCache) -> float:
    """How long it takes to encode every tick once, judged by a few hundred."""
    few = min(512, cache.num_rows)
    seen = {
        s.name: torch.from_numpy(np.array(cache.streams[s.name][:few]))[None] for s in model.config.streams
    }
    with torch.inference_mode():
        began = time.perf_counter()
        model.encode(seen)
    return (time.perf_counter() - began) * cache.num_rows / few
