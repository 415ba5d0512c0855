"""How punctual a tier was: the same figures from either executor, so that they stand in one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

POINTS = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}


SPREAD = {"p50": 50.0, "p95": 95.0, "max": 100.0}
"""Of what is had once an episode."""


def percentiles(values: np.ndarray, points: Mapping[str, float] = POINTS) -> dict[str, float]:
    """The named percentiles; empty if there are no values."""
    if not len(values):
        return {}
    found = np.percentile(values, list(points.values()))
    return dict(zip(points, map(float, found.round(3)), strict=True))


def punctuality(
    hz: float, seconds: float, late_s: np.ndarray, age_s: np.ndarray, missed: int | None = None
) -> dict[str, Any]:
    """Rate, lateness, missed deadlines and touch age of one tier, for tables and JSON.

    Args:
        hz: how often it should tick.
        seconds: how long it ran, all worlds together.
        late_s: (N,) from when a tick was due until it was there; infinite for one that never came.
        age_s: (N,) how old the touch behind it was when it took effect.
        missed: ticks that were a whole period late; counted from ``late_s`` if None.
    """
    came = np.isfinite(late_s)
    if missed is None:
        missed, due = int((late_s >= 1 / hz).sum()), len(late_s)
    else:
        due = len(late_s) + missed
    return {
        "wanted_hz": hz,
        "achieved_hz": float(came.sum() / seconds) if seconds else 0.0,
        "late_ms": percentiles(1000 * late_s[came]),
        "missed": missed,
        "missed_share": missed / max(due, 1),
        "touch_age_ms": percentiles(1000 * age_s[np.isfinite(age_s)]),
    }


class Diary:
    """What one tier of B worlds did, tick by tick, in virtual time."""

    def __init__(self) -> None:
        self.late_s: list[np.ndarray] = []
        self.age_s: list[np.ndarray] = []

    def note(self, late_s: np.ndarray, age_s: np.ndarray) -> None:
        """A tick: how late and on how old touch, (N,) of the worlds that ticked."""
        self.late_s.append(late_s)
        self.age_s.append(age_s)

    def extend(self, other: Diary) -> None:
        """Add another's ticks."""
        self.late_s += other.late_s
        self.age_s += other.age_s

    def figures(self, hz: float, seconds: float) -> dict[str, Any]:
        """`punctuality` of all of it; ``seconds`` as in there."""
        late, age = (np.concatenate(notes) if notes else np.zeros(0) for notes in (self.late_s, self.age_s))
        return punctuality(hz, seconds, late, age)
