"""What a world model foretells of touch: hands that lift, lose and grip boxes of hidden mass and friction.

    python benchmarks/touch_prediction.py
    python benchmarks/touch_prediction.py --touch latent --steps 2000

Trains one model on ticks of 200, 100, 20 and 10 ms, and measures on other episodes how far off the foretold
normal forces are, beside repeating the last one and beside going on in a straight line; when contact is
foretold; and what a probe reads of mass and friction. Resumes where it was stopped; writes one JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console
from touch_play import TASK, recordings
from touch_probe import probe_r2

from forerun.config import Feeling, model_config
from forerun.data.cache import TickCache, build_cache
from forerun.evaluation.results import write_result
from forerun.evaluation.stats import bootstrap_mean
from forerun.pacing import PacedLearner
from forerun.stages import (
    DynamicsLearner,
    LatentTable,
    RepresentationLearner,
    fit_scales,
    touch_labels,
    without,
)
from forerun.teach import observed
from forerun.training.trainer import TrainConfig, train
from forerun.world_model import WorldModel

PACES = {0.2: 8, 0.1: 12, 0.02: 24, 0.01: 24}
"""Seconds per tick, and ticks of a training window."""
SIZE = {"width": 128, "layers": 2, "window": 16}
AHEAD = {
    "10 ms": (0.01, 1),
    "100 ms": (0.02, 5),
    "500 ms": (0.02, 25),
    "200 ms in ticks of 10 ms": (0.01, 20),
    "200 ms in ticks of 20 ms": (0.02, 10),
    "200 ms in ticks of 100 ms": (0.1, 2),
    "200 ms in ticks of 200 ms": (0.2, 1),
}
"""Horizon by name: the tick it is rolled at, and how many of them."""
CONTEXT = {0.2: 3, 0.1: 6, 0.02: 16, 0.01: 16}
"""Ticks read before; all that the model can look back."""
ONSET_AHEAD = (1, 2, 5)
TESTED_EVERY = 3
"""Of the ticks of a held-out episode, every third is a present to foretell from."""


@torch.no_grad()
def imagined(model: WorldModel, table: LatentTable, rows: np.ndarray, ahead: int):
    """States 1 .. ``ahead`` ticks after contexts that begin at ``rows``, one after the other."""
    cache, context = table.cache, CONTEXT[table.cache.tick_s]
    index = rows[:, None] + np.arange(context + ahead)
    assert table.action is not None
    action = table.action[index]
    state = model.start(table.latents[index[:, :context]], action[:, : context - 1], cache.tick_s)
    for t in range(ahead):
        yield (state := model.step(state, action[:, context - 1 + t]))


def presents(cache: TickCache, episode: int, ahead: int) -> np.ndarray:
    """(n,) rows at which a context begins that still has ``ahead`` ticks after it."""
    first, last = cache.episode_starts[episode : episode + 2]
    return np.arange(first, last - CONTEXT[cache.tick_s] - ahead + 1, TESTED_EVERY)


@torch.no_grad()
def errors(model: WorldModel, table: LatentTable, episodes: np.ndarray, ahead: int) -> dict[str, list[float]]:
    """Per episode, mean absolute error in N of both normal forces, by way of guessing."""
    found: dict[str, list[float]] = {"model": [], "copy-last": [], "linear": [], "mean": []}
    channels = [channel for _, channel in model.feel.forces]  # type: ignore[union-attr]
    pads = np.array(table.cache.streams["pads"])[:, channels]
    usual = pads[: table.cache.episode_starts[episodes[0]]].mean(0)  # of episodes trained on
    for episode in episodes:
        rows = presents(table.cache, int(episode), ahead)
        now = rows + CONTEXT[table.cache.tick_s] - 1
        slope, truth = pads[now] - pads[now - 1], pads[now + ahead]
        *_, state = imagined(model, table, rows, ahead)
        guess = model.decode(state)["pads"][:, channels].numpy()
        guesses = {"model": guess, "copy-last": pads[now], "linear": pads[now] + ahead * slope, "mean": usual}
        for name, value in guesses.items():
            found[name].append(float(np.abs(value - truth).mean()))
    return found


@torch.no_grad()
def onsets(model: WorldModel, table: LatentTable, episodes: np.ndarray, ahead: int) -> dict:
    """Said minus true moment of contact after 100 ms and more without, foretold ``ahead`` ticks before.

    Contact is a force above the sensor's own noise. What was said for a tick is what the model foretold of it
    ``ahead`` ticks earlier; the moment is the first tick within 100 ms around the true one of which contact
    was said, and 100 ms off if there is none. Copying says of a tick what was felt ``ahead`` ticks before it.
    """
    contact = touch_labels(model, table.cache)["contact"].numpy() > 0.5
    off: dict[str, list[float]] = {"model": [], "copy-last": []}
    near, context = 10, CONTEXT[table.cache.tick_s]
    for episode in episodes:
        first, last = table.cache.episode_starts[int(episode) : int(episode) + 2]
        rows = np.arange(first, last - context - ahead + 1)
        *_, state = imagined(model, table, rows, ahead)
        said = {
            "model": (model.predict(state)["contact"] > 0.5).numpy(),
            "copy-last": contact[rows + context - 1],
        }
        truth = contact[rows + context - 1 + ahead]
        for t in np.flatnonzero(truth[1:] & ~truth[:-1]) + 1:
            quiet = contact[rows[t] + context - 1 - near :][: near + ahead]
            if t >= near and not quiet.any():
                for way, words in said.items():
                    around = np.flatnonzero(words[t - near : t + near + 1]) - near
                    off[way].append(1000 * table.cache.tick_s * float(around[0] if len(around) else near))
    return {way: _moments(np.array(values)) for way, values in off.items()}


def _moments(off_ms: np.ndarray) -> dict:
    away = np.abs(off_ms)
    return {
        "n": len(off_ms),
        "median_ms": float(np.median(away)),
        "p95_ms": float(np.percentile(away, 95)),
        "within_20ms": bootstrap_mean((away <= 20).astype(float).tolist()),
        "late_ms": float(np.mean(off_ms)),
    }


@torch.no_grad()
def read(model: WorldModel, table: LatentTable, latents: torch.Tensor, episodes: np.ndarray) -> torch.Tensor:
    """(n, T, Z): latents of whole episodes, and what the trunk made of them and of all before."""
    cache, out = table.cache, []
    length = int(np.diff(cache.episode_starts).min())
    rows = cache.episode_starts[:-1][episodes][:, None] + np.arange(length)
    assert table.action is not None
    for part in np.array_split(rows, max(1, len(rows) // 50)):
        seen, pace = latents[part], model._pace(cache.tick_s, latents[part])
        drive = model._drive(pace, model.action_scale(table.action[part]))
        hidden, _ = model.trunk(seen, drive, torch.arange(length)[None])
        out.append(torch.cat([seen.flatten(2), hidden.flatten(2)], dim=-1))
    return torch.cat(out)


def probes(model: WorldModel, table: LatentTable, seen: np.ndarray, held_out: np.ndarray) -> dict:
    """R2 of log mass and friction, with touch, by parts of what is read, and with the sensor taken away."""
    truth, out = torch.from_numpy(np.array(table.cache.streams["state"])), {}
    first, numbers = torch.from_numpy(table.cache.episode_starts[:-1]), int(np.prod(model.layout.shape))
    for name, latents in (("felt", table.latents), ("unfelt", without(model, table.latents, "pads"))):
        x, x_new = (read(model, table, latents, part) for part in (seen, held_out))
        parts = {name: (slice(None), slice(None))}
        if name == "felt":
            parts["felt, latents alone"] = slice(None), slice(numbers)
            parts["felt, trunk's last 0.2 s"] = slice(-10, None), slice(numbers, None)
        for part, (ticks, which) in parts.items():
            told = x[:, ticks, which], truth[first[seen]], x_new[:, ticks, which], truth[first[held_out]]
            out[part] = dict(zip(("log_mass", "friction"), probe_r2(*told).tolist(), strict=True))
    return out


@dataclass(frozen=True, kw_only=True)
class TouchPrediction:
    """See the top of this file."""

    touch: Feeling = "both"
    """Foretold as learned numbers, as statistics of bursts, or as both."""
    episodes: int = 1000
    held_out: int = 200
    """Of them, never trained on."""
    steps: int = 7000
    representation_steps: int = 600
    batch: int = 128
    seed: int = 0
    out: Path = Path("runs/touch-prediction")
    try_out: bool = False
    """Judge on training episodes set aside, never on those held out, and write no JSON: for choices."""

    def __call__(self) -> None:
        torch.set_num_threads(1)
        made = recordings(self.episodes, self.seed)
        caches = {t: build_cache(made, self.out / "cache", tick_s=t, burst_samples=1e-3) for t in PACES}
        seen, held_out = np.split(np.arange(self.episodes), [self.episodes - self.held_out])
        if self.try_out:
            seen, held_out = np.split(seen, [len(seen) - self.held_out // 2])
        model, tables = self._taught(caches, seen)
        metrics = self._measured(model, tables, seen, held_out)
        Console().print(metrics)
        if not self.try_out:
            settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(self).items()}
            name = "touch-prediction" if self.touch == "both" else f"touch-prediction-{self.touch}"
            settings |= {"task": TASK, "paces": PACES, "size": SIZE, "context": CONTEXT}
            print(write_result(name, metrics, settings=settings, seed=self.seed, n=self.held_out))

    def _measured(self, model, tables: dict[float, LatentTable], seen, held_out) -> dict:
        metrics: dict = {"error_n": {}, "onset": {}}
        for name, (tick_s, ahead) in AHEAD.items():
            found = errors(model, tables[tick_s], held_out, ahead)
            metrics["error_n"][name] = {way: bootstrap_mean(values) for way, values in found.items()}
            print(name, {k: round(v.estimate, 3) for k, v in metrics["error_n"][name].items()}, flush=True)
        for ahead in ONSET_AHEAD:
            metrics["onset"][f"{10 * ahead} ms"] = onsets(model, tables[0.01], held_out, ahead)
        print(metrics["onset"], flush=True)
        metrics["probe"] = probes(model, tables[0.02], seen, held_out)
        return metrics

    def _taught(self, caches: dict[float, TickCache], seen: np.ndarray):
        torch.manual_seed(self.seed)
        base, folder = caches[0.1], self.out / f"{self.touch}{self.seed}{'try' * self.try_out}"
        streams, dial = observed(base), {"touch": self.touch, **SIZE}
        config = model_config("xs", streams, base.specs["action"], base.tick_s, **dial)
        model = WorldModel(config)
        fit_scales(model, base, seen)
        budget = {"learning_rate": 2e-3, "seed": self.seed, "save_every": 500}
        if model.config.learned:
            learner = RepresentationLearner(model, base, seen, seed=self.seed)
            train(learner, TrainConfig(steps=self.representation_steps, **budget), folder / "seeing")
        tables = {0.1: LatentTable.encode(model, base, seen)}
        for tick_s, cache in caches.items():
            if tick_s not in tables:
                tables[tick_s] = LatentTable.encode(model, cache, seen, refit=False)
        learners = [
            DynamicsLearner(model, tables[t], seen, batch_size=self.batch, ticks=ticks, seed=self.seed)
            for t, ticks in PACES.items()
        ]
        train(PacedLearner(learners), TrainConfig(steps=self.steps, **budget), folder / "foreseeing")
        return model.eval(), tables


if __name__ == "__main__":
    tyro.cli(TouchPrediction)()
