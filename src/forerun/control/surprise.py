"""Touch that nobody foresaw: the fast tier's word to the planner that its plan rests on a wrong idea."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forerun.tasks.touch import TouchWorlds

FAR_SD, IN_A_ROW = 4.0, 3
ROWS_HZ = 50
"""Of an envelope: a row for every step of a chunk."""


@dataclass(frozen=True)
class Envelope:
    """Between what touch should stay while a chunk is followed: features (H, B, K), a row per 20 ms.

    Whoever foretells touch can fill it: a calibration (`forerun.control.calibration`), or a world model with
    its means and spreads (`around`).
    """

    low: np.ndarray
    high: np.ndarray

    @classmethod
    def around(cls, mean: np.ndarray, sd: np.ndarray) -> Envelope:
        """Four standard deviations to either side of a mean, both (H, B, K)."""
        return cls(mean - FAR_SD * sd, mean + FAR_SD * sd)

    def where(self, new: np.ndarray, before: Envelope) -> Envelope:
        """This one in the worlds that are ``new`` (B,), what was ``before`` in the others."""
        rows = new[None, :, None]
        return Envelope(np.where(rows, self.low, before.low), np.where(rows, self.high, before.high))


@dataclass(frozen=True)
class Usual:
    """Bounds of touch features over an episode, (T, K) each, a row per 20 ms.

    As a planner's ``envelope`` (`forerun.control.chunks.Chunks`) it gives the rows of the next steps; beyond
    the last one, that.
    """

    low: np.ndarray
    high: np.ndarray

    def ahead(self, now_s: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Low and high (steps, K) from ``now_s`` on."""
        rows = np.clip(int(now_s * ROWS_HZ + 1e-6) + np.arange(steps), 0, len(self.low) - 1)
        return self.low[rows], self.high[rows]

    def __call__(self, worlds: TouchWorlds, steps: int) -> Envelope:
        """The same for B worlds."""
        low, high = (np.repeat(part[:, None], worlds.count, 1) for part in self.ahead(worlds.time_s, steps))
        return Envelope(low, high)


class Surprise:
    """Told of every fast sample; true once, when touch was outside the envelope three times in a row.

    One sample alone is a spike of the sensor. What stays outside is told once, not at every sample: a new
    surprise takes a return into the envelope first.

    Args:
        count: B, of worlds or robots.
    """

    def __init__(self, count: int) -> None:
        self._outside = np.zeros(count, int)

    def __call__(self, touch: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Touch and what it should stay between, each (B, K), to who is surprised now (B,)."""
        far = ((touch < low) | (touch > high)).any(axis=-1)
        self._outside = np.where(far, self._outside + 1, 0)
        return self._outside == IN_A_ROW
