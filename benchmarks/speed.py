"""How fast training and planning are on one core, each beside its naive version in the same run.

    python benchmarks/speed.py

Records a little Push play, then times: stage one end to end (against decoding video in every step), the
dynamics on cached latents (against encoding pictures in every step), and one plan of 64 futures, 4 rounds, 5
ticks (against imagining the futures one by one). Ratios matter; seconds belong to this machine.
Writes one JSON.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from forerun.cli.play import record_play
from forerun.config import model_config
from forerun.data import open_recordings
from forerun.data.cache import TickCache, build_cache
from forerun.data.episode import Recordings
from forerun.evaluation.results import write_result
from forerun.imagination.planner import Planner, PlannerConfig
from forerun.stages import DynamicsLearner, LatentTable, RepresentationLearner, fit_scales
from forerun.teach import observed
from forerun.training.learner import Learner
from forerun.world_model import WorldModel


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
            metrics = self._measure(recordings, cache)
        path = write_result(
            "speed", metrics, settings={"size": "xs", "threads": 1}, seed=self.seed, n=self.repeats
        )
        print(path.read_text())

    def _measure(self, recordings: Recordings, cache: TickCache) -> dict[str, dict[str, float | str]]:
        model = WorldModel(model_config("xs", observed(cache), cache.specs["action"], cache.tick_s))
        episodes = np.arange(cache.num_episodes)
        fit_scales(model, cache, episodes)
        seeing = RepresentationLearner(model, cache, episodes)
        foreseeing = DynamicsLearner(model, LatentTable.encode(model, cache, episodes), episodes)
        frames, transitions = 3 * 64, 512 * (foreseeing.ticks - 1)
        episode = recordings[0]
        camera = next(s for s in episode.streams.values() if s.spec.kind == "video")

        def decode_then_see() -> None:
            """64 windows of three frames read from the video, as a loader without a cache does."""
            for first in range(64):
                camera.read(np.array([first, first + 1, first + 30]))
            _step(seeing)()

        def encode_then_foresee() -> None:
            rows = foreseeing.sampler.batch(0)[:, None] + np.arange(foreseeing.ticks)
            with torch.no_grad():
                model.encode(
                    {s.name: torch.from_numpy(cache.streams[s.name][rows]) for s in model.config.streams}
                )
            _step(foreseeing)()

        return {
            "end_to_end": self._rate(_step(seeing), decode_then_see, frames, "frames/s"),
            "cached_latents": self._rate(
                _step(foreseeing), encode_then_foresee, transitions, "transitions/s"
            ),
            "plan": self._plan(model),
        }

    def _rate(
        self, ours: Callable[[], None], naive: Callable[[], None], items: int, unit: str
    ) -> dict[str, float | str]:
        fast, slow = _interleaved(ours, naive, self.repeats)
        return {"figure": items / fast, "naive": items / slow, "ratio": slow / fast, "unit": unit}

    def _plan(self, model: WorldModel) -> dict[str, float | str]:
        model.eval()
        tokens, width = model.num_tokens, model.config.size.latent_dim
        state = model.start(torch.randn(1, 1, tokens, width))
        goal = model.goal(torch.randn(1, tokens, width))
        planner = Planner(model, PlannerConfig(candidates=64, iterations=4, horizon=5))

        def one_by_one() -> None:
            with torch.inference_mode():
                for _ in range(4 * 64):
                    imagined = state
                    for _ in range(5):
                        imagined = model.step(imagined, torch.zeros(1, model.config.action_size))
                    model.distance(imagined, goal)

        fast, slow = _interleaved(lambda: planner.plan(state, goal), one_by_one, self.repeats)
        return {"figure": 1e3 * fast, "naive": 1e3 * slow, "ratio": slow / fast, "unit": "ms"}


def _step(learner: Learner) -> Callable[[], None]:
    """One whole training step: batch, loss, gradients, update."""
    optimizer = torch.optim.AdamW([p for p in learner.module.parameters() if p.requires_grad], 1e-4)

    def step() -> None:
        losses = learner.loss(learner.batch(0))
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()

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
