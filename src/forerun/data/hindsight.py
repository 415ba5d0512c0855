"""Goals that play reached without meaning to: hindsight (Andrychowicz et al. 2017, arXiv:1707.01495)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from forerun.data.cache import TickCache
from forerun.data.window import fresh


class Hindsight:
    """Draws rows of a table of ticks as goals: later in the same episode, or anywhere.

    A goal is never a row whose camera hung: that would promise a picture at a time when it was another's.

    Args:
        cache: the table.
        episodes: those to draw from anywhere in.
    """

    def __init__(self, cache: TickCache, episodes: np.ndarray | Sequence[int]) -> None:
        whole = fresh(cache)
        self.last = np.repeat(cache.episode_starts[1:] - 1, np.diff(cache.episode_starts))
        self.newest = np.maximum.accumulate(np.where(whole, np.arange(len(whole)), -1))
        rows = cache.rows_of(episodes)
        self.rows = rows[whole[rows]]

    def ahead(self, rows: np.ndarray, ticks: np.ndarray) -> np.ndarray:
        """The row so many ticks after each of ``rows``, or the last of its episode if that comes sooner.

        Where a stream was stale then, the newest whole row before it; ``rows`` must be followed by one.
        """
        return self.newest[np.minimum(rows + ticks, self.last[rows])]

    def later(
        self, rows: np.ndarray, horizon: int, random: np.random.Generator, near: float = 0.0
    ) -> np.ndarray:
        """For each of ``rows`` one that is 1 to ``horizon`` ticks later in its episode.

        Args:
            near: share drawn log-uniformly, mostly a few ticks ahead; the others are uniform.
        """
        room, share = np.minimum(self.last[rows] - rows, horizon), random.random(len(rows))
        ticks = share * room
        if near:
            ticks = np.where(random.random(len(rows)) < near, (room + 1) ** share - 1, ticks)
        return self.ahead(rows, 1 + ticks.astype(np.int64))

    def anywhere(self, count: int, random: np.random.Generator) -> np.ndarray:
        """(count,) rows of any episode."""
        return self.rows[random.integers(0, len(self.rows), count)]
