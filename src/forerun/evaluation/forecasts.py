"""Questions put to a run: what will a sensor read at a moment that lies ahead? Asked of what had arrived.

Clocks jitter, so a horizon is kept exact by asking backwards: every sample is a target, and the question is
put ``horizon_s`` before it was taken. Nothing is resampled, and no target is a sample already at hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forerun.data.episode import Stream, align, newest_before
from forerun.types import DataError

STEPS = 24
"""Samples of the past in a sequence."""
LAGS_S = np.arange(0, 0.52, 0.02)
"""How far back the evenly spaced past reads, in seconds."""


@dataclass(frozen=True)
class Forecasts:
    """M questions at one horizon, in the order of their targets."""

    horizon_s: float
    target_s: np.ndarray
    """(M,) when the target was sampled."""
    target: np.ndarray
    """(M, C) what it read."""
    newest: np.ndarray
    """(M, C) the newest sample at hand: copy-last."""
    linear: np.ndarray
    """(M, C) the newest two samples, continued to the target's time."""
    sequence: np.ndarray
    """(M, STEPS, C + 1 + K + 1) samples at hand as they came: values, seconds until the target, then the
    other stream's newest value at that time and its age in seconds."""
    lagged: np.ndarray
    """(M, len(LAGS_S) * (C + K)) both streams read causally at even lags before the question."""

    def take(self, rows: np.ndarray) -> Forecasts:
        """Some of them, by index or mask."""
        parts = (self.target_s, self.target, self.newest, self.linear, self.sequence, self.lagged)
        return Forecasts(self.horizon_s, *(part[rows] for part in parts))


def forecasts(sensor: Stream, other: Stream, horizon_s: float) -> Forecasts:
    """Every question whose past is long enough.

    Args:
        sensor: (N, C) what is foretold.
        other: (P, K) what may help, on a clock of its own.

    Raises:
        DataError: the streams are too short, or do not overlap.
    """
    asked_s = sensor.times_s - horizon_s
    newest = newest_before(sensor.times_s, asked_s)
    begins_s = max(float(other.times_s[0]), float(sensor.times_s[0])) + LAGS_S[-1]
    kept = np.flatnonzero((newest >= STEPS - 1) & (asked_s >= begins_s))
    if not len(kept):
        raise DataError(
            f"streams '{sensor.spec.name}' ({len(sensor)} samples) and '{other.spec.name}' ({len(other)}) "
            f"leave no moment with {STEPS} samples and {LAGS_S[-1]:.2f} s of past, {horizon_s:g} s before "
            "another sample; record for longer, or choose a shorter horizon"
        )
    asked_s, newest, target_s = asked_s[kept], newest[kept], sensor.times_s[kept]
    values = sensor.read().astype(np.float64)
    last_s, earlier_s = sensor.times_s[newest], sensor.times_s[newest - 1]
    slope = (values[newest] - values[newest - 1]) / (last_s - earlier_s)[:, None]
    return Forecasts(
        horizon_s,
        target_s,
        values[kept],
        values[newest],
        values[newest] + slope * (target_s - last_s)[:, None],
        _sequence(sensor, other, newest, asked_s, target_s),
        np.concatenate([align(s, asked_s - lag).values for lag in LAGS_S for s in (sensor, other)], axis=1),
    )


def _sequence(
    sensor: Stream, other: Stream, newest: np.ndarray, asked_s: np.ndarray, target_s: np.ndarray
) -> np.ndarray:
    steps = newest[:, None] + np.arange(1 - STEPS, 1)
    times_s = sensor.times_s[steps]
    read_s = times_s.copy()
    read_s[:, -1] = asked_s  # the other stream may have brought something newer since the last sample
    beside = align(other, read_s.ravel())
    parts = (
        sensor.read()[steps],
        (target_s[:, None] - times_s)[..., None],
        beside.values.reshape(*steps.shape, -1),
        np.where(beside.valid, beside.age_s, 0.0).reshape(*steps.shape, 1),
    )
    return np.concatenate(parts, axis=-1).astype(np.float32)
