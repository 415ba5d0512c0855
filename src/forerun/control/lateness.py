"""Latency and jitter on purpose: how late a tier is in simulated time, and what is in force meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Lateness:
    """How late a tier is, in simulated time; by default the planner."""

    every_s: float = 0.2
    """Between two plans: 5 Hz."""
    delay_s: float = 0.05
    """From what was sensed to the arrival of what was made of it."""
    jitter_s: float = 0.0
    """Added, uniformly from zero to this."""
    outages: tuple[tuple[float, float], ...] = ()
    """(from, until) in seconds: nothing arrives in between."""
    seed: int = 0

    def arrival(self, rng: np.random.Generator, now_s: float, rows: int) -> np.ndarray:
        """When (B,) what is begun now arrives; infinite if it is lost."""
        arrives = now_s + self.delay_s + self.jitter_s * rng.random(rows)
        for begin, end in self.outages:
            arrives = np.where((arrives >= begin) & (arrives < end), np.inf, arrives)
        return arrives


@dataclass
class DelayLine:
    """Values (B, N) on their way in B worlds; the newest that has arrived is in force.

    An episode begins with the first value in hand. What was sent later is never replaced by what was sent
    before it, however the jitter falls.

    Args:
        lateness: of the tier that sends.
        salt: apart from the seed, so that tiers do not draw the same jitter.
    """

    lateness: Lateness
    salt: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.lateness.seed, self.salt])
        self.punctual = not (self.lateness.delay_s or self.lateness.jitter_s or self.lateness.outages)
        self.value: np.ndarray | None = None
        self._sent, self._newest = 0, np.zeros(0, int)
        self._waiting: list[tuple[int, np.ndarray, np.ndarray]] = []

    def send(self, now_s: float, value: np.ndarray) -> np.ndarray:
        """Send a value; returns by how much (B,) it will be late."""
        if self.value is None or self.punctual:
            self.value, self._newest = np.array(value), np.zeros(len(value), int)
            return np.zeros(len(value))
        self._sent += 1
        arrives = self.lateness.arrival(self.rng, now_s, len(value))
        self._waiting.append((self._sent, arrives, np.array(value)))
        return arrives - now_s

    def receive(self, now_s: float) -> np.ndarray:
        """The value in force now."""
        value, now_s = self.value, now_s + 1e-9
        assert value is not None, "nothing was ever sent"
        for number, arrives, sent in self._waiting:
            new = (arrives <= now_s) & (number > self._newest)
            value = np.where(new[:, None], sent, value)
            self._newest = np.where(new, number, self._newest)
        coming = [(arrives > now_s) & np.isfinite(arrives) for _, arrives, _ in self._waiting]
        self._waiting = [w for w, late in zip(self._waiting, coming, strict=True) if late.any()]
        self.value = value
        return value
