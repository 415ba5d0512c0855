"""Play that shows what touch depends on: hands that close on boxes, lift them, lose them and grip again.

Grips and speeds are drawn without regard to the box, so that what was done tells nothing of what is hidden.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from forerun.data import Episode, Recordings, Stream
from forerun.tasks.touch import TouchWorlds, make_worlds
from forerun.types import StreamSpec

TASK = "forerun/LiftFragile-v0"
BATCH = 200


class Play:
    """The plan (B, 2) of B worlds: hands rise, close, rub down the box, lift it, ease and grip again.

    Rubbing a box that stands on the table tells its friction, lifting tells its mass.
    """

    def __init__(self, worlds: int, random: np.random.Generator) -> None:
        self.close_s = random.uniform(0.15, 0.5, worlds)
        self.rub_s = self.close_s + random.uniform(0.08, 0.2, worlds)
        self.lift_s = self.rub_s + random.uniform(0.15, 0.25, worlds)
        self.first_n, self.peak_n = random.uniform(0.5, 6.0, worlds), random.uniform(14.0, 25.0, worlds)
        self.rate, self.speed = random.uniform(5.0, 10.0, worlds), random.uniform(0.03, 0.12, worlds)
        self.relax_s, self.ease = random.uniform(1.3, 1.7, worlds), random.uniform(4.0, 8.0, worlds)
        self.again_s = self.relax_s + random.uniform(0.15, 0.4, worlds)
        self.random = random

    def __call__(self, now: float) -> np.ndarray:
        """Speed upwards in m/s, grip in N."""
        grown = self.first_n * np.exp(self.rate * np.maximum(now - self.lift_s, 0))
        grip = np.minimum(grown, self.peak_n) * (now >= self.close_s)
        grip = grip * np.exp(-self.ease * np.maximum(now - self.relax_s, 0))
        grip = np.where(now < self.again_s, grip * (grip > 0.15), self.peak_n)
        grip *= np.exp(0.05 * self.random.standard_normal(len(grip)))
        speed = np.where(now < 0.14, 0.15, 0.0) - 0.1 * ((now >= self.rub_s) & (now < self.lift_s))
        return np.stack([speed + self.speed * (now >= self.lift_s), grip], axis=1)


def play(count: int, seed: int) -> list[Episode]:
    """``count`` episodes of 2.2 s at the sensors' own rates, the hidden truth as privileged "state"."""
    made = []
    for first in range(0, count, BATCH):
        worlds = make_worlds(TASK, min(BATCH, count - first))
        worlds.reset(range(seed * 100_000 + first, seed * 100_000 + first + worlds.count))
        plan = Play(worlds.count, np.random.default_rng([seed, first]))
        made += _episodes(worlds, *_played(worlds, plan), first)
    return made


def _played(worlds: TouchWorlds, plan: Play) -> tuple[dict[str, list[np.ndarray]], list[np.ndarray]]:
    fast: dict[str, list[np.ndarray]] = {"proprio": [], "pads": []}
    actions: list[np.ndarray] = []
    while not worlds.over:
        if worlds.ms % 20 == 0:
            actions.append(plan(worlds.time_s))
        if worlds.ms % 2 == 0:
            for name, kept in fast.items():
                kept.append(worlds.read(name).values)
        worlds.tick(worlds.follow(actions[-1]))
    return fast, actions


def _episodes(
    worlds: TouchWorlds, fast: dict[str, list[np.ndarray]], actions: list[np.ndarray], first: int
) -> list[Episode]:
    done = np.stack(actions, axis=1).astype(np.float32)
    felt = {name: np.stack(samples, axis=1) for name, samples in fast.items()}
    clock = 0.02 * np.arange(len(actions))
    truth = StreamSpec(name="state", kind="privileged", shape=(2,), names=("log_mass", "friction"))
    out = []
    for i in range(worlds.count):
        streams = {n: Stream(worlds.streams[n], 0.002 * np.arange(v.shape[1]), v[i]) for n, v in felt.items()}
        streams["action"] = Stream(worlds.action_spec, clock, done[i])
        hidden = np.float32([np.log(worlds.hidden[i, 0]), worlds.hidden[i, 1]])
        streams["state"] = Stream(truth, clock, np.tile(hidden, (len(clock), 1)))
        out.append(Episode(f"lift_{first + i:05d}", streams))
    return out


def recordings(count: int, seed: int) -> Recordings:
    """The same as a set in memory."""
    made = play(count, seed)
    specs = {name: s.spec for name, s in made[0].streams.items()}
    return Recordings(Path(f"lift-{count}-{seed}"), "memory", specs, count, lambda i: made[i])
