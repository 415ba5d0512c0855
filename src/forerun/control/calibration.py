"""What touch is usual, learned from practice: quantiles per time step, a scripted planner's envelope."""

from __future__ import annotations

import numpy as np

from forerun.control.chunks import CONTROL_HZ
from forerun.control.student import Tiers, run
from forerun.control.surprise import Usual
from forerun.tasks.touch import TouchWorlds

PRACTICE_FROM = 4 * 10**6
"""Seeds of practice episodes: no trial and no student ever uses them."""
QUANTILE, WIDER, FLOOR = 0.001, 0.5, 0.15
"""Tails that are left out, and by what share of the range, plus how much, the rest is widened."""
SMEAR_STEPS = 3
"""Contacts begin a little sooner or later than they ever did in practice."""


def calibrate(worlds: TouchWorlds, tiers: Tiers, rounds: int = 1) -> Usual:
    """Let ``tiers`` practise, and remember between which bounds touch stayed.

    Args:
        worlds: B of them; ``rounds`` x B episodes are played, with seeds from `PRACTICE_FROM` on.
        tiers: as they will act later; what they do without a planner in time is not practised.
    """
    felt = Feeling(tiers)
    for r in range(rounds):
        run(worlds, felt, range(PRACTICE_FROM + r * worlds.count, PRACTICE_FROM + (r + 1) * worlds.count))
    steps = sorted(felt.samples)
    pooled = [np.concatenate(felt.samples[step]) for step in steps]
    low, high = (np.stack([np.quantile(p, q, axis=0) for p in pooled]) for q in (QUANTILE, 1 - QUANTILE))
    low, high = _neighbours(low).min(0), _neighbours(high).max(0)
    margin = WIDER * (high - low) + FLOOR
    return Usual((low - margin).astype(np.float32), (high + margin).astype(np.float32))


def _neighbours(rows: np.ndarray) -> np.ndarray:
    """Rows (T, K) beside those before and after them, (2 * SMEAR_STEPS + 1, T, K)."""
    padded = np.pad(rows, ((SMEAR_STEPS, SMEAR_STEPS), (0, 0)), mode="edge")
    return np.stack([padded[k : k + len(rows)] for k in range(2 * SMEAR_STEPS + 1)])


class Feeling:
    """A controller that notes what its fast tier feels, by time step."""

    def __init__(self, inner: Tiers) -> None:
        self.inner, self.samples = inner, dict[int, list[np.ndarray]]()

    def reset(self, worlds: TouchWorlds) -> None:
        self.inner.reset(worlds)

    def command(self, worlds: TouchWorlds) -> np.ndarray:
        """The inner controller's command (B, C)."""
        command = self.inner.command(worlds)
        if worlds.ms % 2 == 0:
            self.samples.setdefault(worlds.ms * CONTROL_HZ // 1000, []).append(self.inner.felt.newest.copy())
        return command
