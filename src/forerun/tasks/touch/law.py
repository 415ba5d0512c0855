"""Analytic laws of the fast tier, and the knobs by which something learned may turn them a little.

A law turns the action of the policy (50 Hz) and what is felt now into a command, every millisecond. It is
safe and good by itself; a residual within -1..1 per knob changes it within bounds that the knob fixes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from forerun.tasks.touch.worlds import TouchWorlds


@dataclass(frozen=True)
class Knob:
    """One number that may be turned: by sums of ``scale``, or by factors of e to the ``scale``."""

    channel: int
    scale: float
    log: bool = False

    def turn(self, value: np.ndarray, by: np.ndarray) -> np.ndarray:
        """``value`` (B,) turned ``by`` (B,)."""
        return value * np.exp(by * self.scale) if self.log else value + by * self.scale

    def between(self, value: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """By how much (B,) to turn ``value`` to get what is ``wanted``."""
        if self.log:
            return np.log(np.maximum(wanted, 1e-3) / np.maximum(value, 1e-3)) / self.scale
        return (wanted - value) / self.scale


def turned(values: np.ndarray, knobs: tuple[Knob, ...], by: np.ndarray) -> np.ndarray:
    """A copy of ``values`` (B, A) with every knob turned ``by`` (B, K)."""
    out = np.array(values, dtype=np.float64)
    for k, knob in enumerate(knobs):
        out[:, knob.channel] = knob.turn(out[:, knob.channel], by[:, k])
    return out


def turns(values: np.ndarray, knobs: tuple[Knob, ...], wanted: np.ndarray) -> np.ndarray:
    """By how much (B, K) every knob would turn ``values`` (B, A) into the ``wanted`` (B, A)."""
    return np.stack([k.between(values[:, k.channel], wanted[:, k.channel]) for k in knobs], axis=1)


class Law:
    """The law that feels nothing, and the form of all others."""

    knobs: ClassVar[tuple[Knob, ...]] = ()
    from_ms: ClassVar[int] = 0
    """Before this a residual has nothing to do."""
    critical_ms: ClassVar[tuple[int, int]] = (0, 0)
    """While most is decided: a student's errors count four times."""

    def reset(self, worlds: TouchWorlds) -> None:
        """Begin an episode."""

    def __call__(
        self, worlds: TouchWorlds, action: np.ndarray, residual: np.ndarray | None = None
    ) -> np.ndarray:
        """The command (B, C) of this millisecond, for an action (B, A) and a residual (B, K) in -1..1."""
        return worlds.follow(action)

    def stance(self, worlds: TouchWorlds, action: np.ndarray) -> np.ndarray:
        """What the law means to do by itself, (B, S) of order one: a residual is learned beside it."""
        return np.zeros((worlds.count, 0))

    def wanted(self, worlds: TouchWorlds, action: np.ndarray) -> np.ndarray:
        """The residual (B, K) that an expert would give who knows what is hidden."""
        return np.zeros((worlds.count, len(self.knobs)))


Actor = Callable[[Any], np.ndarray]
"""Worlds of its own task to actions (B, A), asked at 50 Hz."""


@dataclass
class Scripted:
    """A policy and a law, run together; what a good engineer writes who feels but does not know."""

    act: Actor
    law: Law

    def reset(self, worlds: TouchWorlds) -> None:
        self.law.reset(worlds)
        begin = getattr(self.act, "reset", None)
        if begin is not None:
            begin(worlds)

    def command(self, worlds: TouchWorlds) -> np.ndarray:
        """The command (B, C) of this millisecond."""
        if worlds.ms % 20 == 0:
            self.action = self.act(worlds)
        return self.law(worlds, self.action)


class Smoothed:
    """Exponential smoothing of (B, ...) samples with a time constant, seconds."""

    def __init__(self, tau_s: float, every_s: float) -> None:
        self.share = 1 - np.exp(-every_s / tau_s)
        self.value: np.ndarray | None = None

    def __call__(self, sample: np.ndarray) -> np.ndarray:
        before = sample if self.value is None else self.value
        self.value = after = before + self.share * (sample - before)
        return after
