"""Touch that nobody foresaw: the fast tier's word to the planner that its plan rests on a wrong idea."""

from __future__ import annotations

import numpy as np

FAR_SD, IN_A_ROW = 4.0, 3


class Surprise:
    """Told of every fast sample; true once, when touch was far outside the envelope three times in a row.

    One sample alone is a spike of the sensor. What stays outside is told once, not at every sample: a new
    surprise takes a return into the envelope first.

    Args:
        count: B, of worlds or robots.
    """

    def __init__(self, count: int) -> None:
        self._outside = np.zeros(count, int)

    def __call__(self, touch: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """Touch, its expected mean and its spread, each (B, K), to who is surprised now (B,)."""
        far = (np.abs(touch - mean) > FAR_SD * sd).any(axis=-1)
        self._outside = np.where(far, self._outside + 1, 0)
        return self._outside == IN_A_ROW
