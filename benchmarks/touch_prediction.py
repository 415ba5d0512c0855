"""What a world model foretells of touch: hands that lift boxes of hidden mass and friction.

    python benchmarks/touch_prediction.py
    python benchmarks/touch_prediction.py --episodes 200 --steps 3000

Plays LiftFragile with grips that grow, without a camera, and trains one model on ticks of 200,
Plays LiftFragile with grips that grow and no camera, and trains one model on ticks of 200,
and beside going on in a straight line; when contact is foretold; and what probes read of mass and friction.
Writes one JSON.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from representation import network_r2, ridge_r2

from forerun.config import model_config
from forerun.data import Episode, Recordings, Stream
from forerun.data.cache import TickCache, build_cache
from forerun.evaluation.results import write_result
from forerun.evaluation.stats import bootstrap_mean
from forerun.stages import (
    DynamicsLearner,
    LatentTable,
    PacedLearner,
    RepresentationLearner,
    fit_scales,
    touch_labels,
    without,
)
from forerun.tasks.touch import make_worlds
from forerun.teach import observed
from forerun.training.trainer import TrainConfig, train
from forerun.types import StreamSpec
from forerun.world_model import WorldModel

TASK, TICKS_S, CONTEXT = "forerun/LiftFragile-v0", (0.2, 0.1, 0.02, 0.01), 4
AHEAD = {"10ms": (0.01, 1), "100ms": (0.02, 5), "500ms": (0.02, 25), "200ms-5hz": (0.2, 1),
         "200ms-10hz": (0.1, 2), "200ms-50hz": (0.02, 10)}  # fmt: skip
"""Horizon by name: the tick it is rolled at, and how many of them."""
PROBED = slice(11, 19)
"""Ticks of 100 ms that a probe reads: lifted, and tugged."""


def play(count: int, seed: int) -> list[Episode]:
    """Lift ``count`` boxes with grips drawn without regard to the box."""
    worlds, random = make_worlds(TASK, count), np.random.default_rng(seed)
    worlds.reset(range(seed * 100_000, seed * 100_000 + count))
    first, growth = np.exp(random.uniform(np.log(0.5), np.log(4.0), count)), random.uniform(0.3, 1.5, count)
    fast: dict[str, list[np.ndarray]] = {"proprio": [], "pads": []}
    actions = []
    while not worlds.over:
        if worlds.ms % 20 == 0:
            action = worlds.nominal()
            action[:, 1] = np.minimum(first * np.exp(growth * worlds.time_s), 30.0)
            action[:, 1] *= np.exp(0.05 * random.standard_normal(count))
            actions.append(action)
        if worlds.ms % 2 == 0:
            for name, kept in fast.items():
                kept.append(worlds.read(name).values)
        worlds.tick(worlds.follow(action))
    specs = {**worlds.streams, "action": worlds.action_spec}
    return [_episode(f"{seed}-{i}", i, specs, fast, actions, worlds.hidden[i]) for i in range(count)]


def _episode(name, i, specs, fast, actions, hidden) -> Episode:
    streams = {n: Stream(specs[n], 0.002 * np.arange(len(v)), np.stack(v)[:, i]) for n, v in fast.items()}
    times_s = 0.02 * np.arange(len(actions))
    streams["action"] = Stream(specs["action"], times_s, np.stack(actions)[:, i].astype(np.float32))
    state = StreamSpec(name="state", kind="privileged", shape=(2,), names=("log_mass", "friction"))
    truth = np.tile([np.log(hidden[0]), hidden[1]], (len(times_s), 1)).astype(np.float32)
    return Episode(name, {**streams, "state": Stream(state, times_s, truth)})


def starts(cache: TickCache, episode: int, ahead: int) -> np.ndarray:
    """(n,) rows at which a context begins that still has ``ahead`` ticks after it."""
    first, last = cache.episode_starts[episode : episode + 2]
    return np.arange(first, last - CONTEXT - ahead + 1)


@torch.no_grad()
def imagined(model: WorldModel, table: LatentTable, rows: np.ndarray, ahead: int):
    """The state ``ahead`` ticks after contexts that begin at ``rows``."""
    cache = table.cache
    index, action = rows[:, None] + np.arange(CONTEXT + ahead), table.action
    seen = table.latents[index[:, :CONTEXT]]
    state = model.start(seen, action[index[:, : CONTEXT - 1]], cache.tick_s)
    for t in range(ahead):
        state = model.step(state, action[index[:, CONTEXT - 1 + t]])
    return state


@torch.no_grad()
def errors(model: WorldModel, table: LatentTable, episodes: np.ndarray, ahead: int) -> dict[str, list[float]]:
    """Per held-out episode, mean absolute error in N of both normal forces, by way of guessing."""
    cache, found = table.cache, {"model": [], "copy": [], "linear": []}
    channels = [channel for _, channel in model.feel.forces]
    pads = np.array(cache.streams["pads"])[:, channels]
    for episode in episodes:
        rows = starts(cache, int(episode), ahead)
        last = pads[rows + CONTEXT - 1]
        slope, truth = last - pads[rows + CONTEXT - 2], pads[rows + CONTEXT - 1 + ahead]
        guess = model.decode(imagined(model, table, rows, ahead))["pads"][:, channels].numpy()
        for name, value in (("model", guess), ("copy", last), ("linear", last + ahead * slope)):
            found[name].append(float(np.abs(value - truth).mean()))
    return found


@torch.no_grad()
def onset_ms(model: WorldModel, table: LatentTable, episodes: np.ndarray, ahead: int = 5) -> list[float]:
    """Foretold minus true moment of first contact, in ms, foretold ``ahead`` ticks before."""
    contact, found = touch_labels(model, table.cache)["contact"].numpy() > 0.5, []
    for episode in episodes:
        rows = starts(table.cache, int(episode), ahead)
        truth = contact[rows + CONTEXT - 1 + ahead]
        said = (model.predict(imagined(model, table, rows, ahead))["contact"] > 0.5).numpy()
        if truth.any() and not truth[0]:
            first = said.argmax() if said.any() else len(said)
            found.append(1000 * table.cache.tick_s * float(first - truth.argmax()))
    return found


def probes(model: WorldModel, table: LatentTable, train_on: np.ndarray, test_on: np.ndarray) -> dict:
    """R2 of (log mass, friction) from eight ticks of latents, with touch and with the sensor taken away."""
    cache, out = table.cache, {}
    truth = torch.from_numpy(np.array(cache.streams["state"]))
    for name, latents in (("felt", table.latents), ("unfelt", without(model, table.latents, "pads"))):
        x, y = {}, {}
        for part, episodes in (("train", train_on), ("test", test_on)):
            first = torch.from_numpy(cache.episode_starts[:-1][episodes])
            windows = [latents[f + PROBED.start : f + PROBED.stop].detach().flatten() for f in first]
            x[part] = torch.stack(windows)
            y[part] = truth[first]
        mean, std = x["train"].mean(0), x["train"].std(0).clamp_min(1e-3)
        parts = (x["train"] - mean) / std, y["train"], (x["test"] - mean) / std, y["test"]
        out[name] = {"linear": ridge_r2(*parts).tolist(), "network": network_r2(*parts).tolist()}
    return out


@dataclass(frozen=True, kw_only=True)
class TouchPrediction:
    """See the top of this file."""

    episodes: int = 160
    steps: int = 1200
    representation_steps: int = 400
    seed: int = 0

    def __call__(self) -> None:
        torch.set_num_threads(1)
        made = play(self.episodes, self.seed)
        specs = {name: s.spec for name, s in made[0].streams.items()}
        recordings = Recordings(Path("lift"), "memory", specs, len(made), lambda i: made[i])
        with tempfile.TemporaryDirectory() as scratch:
            caches = {t: build_cache(recordings, scratch, tick_s=t, burst_samples=1e-3) for t in TICKS_S}
            self._measure(caches, Path(scratch))

    def _measure(self, caches: dict[float, TickCache], scratch: Path) -> None:
        held_out = np.arange(self.episodes * 3 // 4, self.episodes)
        seen = np.arange(self.episodes * 3 // 4)
        model, tables = self._taught(caches, seen, scratch)
        metrics: dict = {}
        for name, (tick_s, ahead) in AHEAD.items():
            found = errors(model, tables[tick_s], held_out, ahead)
            metrics[name] = {way: bootstrap_mean(values) for way, values in found.items()}
        onsets = np.array(onset_ms(model, tables[0.01], held_out))
        if onsets.size:
            within = float((np.abs(onsets) <= 20).mean())
            metrics["onset"] = {"median_ms": np.median(onsets), "within_20ms": within, "n": len(onsets)}
        metrics["probe"] = probes(model, tables[0.1], seen, held_out)
        print(metrics)
        settings = {"episodes": self.episodes, "steps": self.steps, "task": TASK, "ticks_s": TICKS_S}
        write_result("touch-prediction", metrics, settings=settings, seed=self.seed, n=len(held_out))

    def _taught(self, caches: dict[float, TickCache], seen: np.ndarray, scratch: Path):
        torch.manual_seed(self.seed)
        base = caches[0.1]
        model = WorldModel(model_config("xs", observed(base), base.specs["action"], base.tick_s))
        fit_scales(model, base, seen)
        budget = {"learning_rate": 2e-3, "seed": self.seed, "save_every": 10**6}
        learner = RepresentationLearner(model, base, seen, seed=self.seed)
        train(learner, TrainConfig(steps=self.representation_steps, **budget), scratch / "seeing")
        tables = {0.1: LatentTable.encode(model, base, seen)}
        for tick_s, cache in caches.items():
            if tick_s != 0.1:
                tables[tick_s] = LatentTable.encode(model, cache, seen, refit=False)
        paced = PacedLearner(
            [DynamicsLearner(model, t, seen, batch_size=256, seed=self.seed) for t in tables.values()]
        )
        train(paced, TrainConfig(steps=self.steps, **budget), scratch / "foreseeing")
        return model.eval(), tables


if __name__ == "__main__":
    tyro.cli(TouchPrediction)()
