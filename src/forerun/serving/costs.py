"""What a pass costs, as it was lately: the ground of every promise the server makes."""

from __future__ import annotations

from collections import deque

BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
KEPT = 200
"""Newest passes per bucket that count; an old slow one is forgotten."""


def bucket_of(rows: int) -> int:
    """The smallest bucket that holds so many rows."""
    return next((b for b in BUCKETS if b >= rows), rows)


class CostTable:
    """Rolling 99th percentile of seconds per pass, by bucket of rows; what was never run is inferred."""

    def __init__(self) -> None:
        self._kept: dict[int, deque[float]] = {}
        self._worst: dict[int, float] = {}
        self._mean: dict[int, float] = {}

    def note(self, rows: int, seconds: float) -> None:
        """A pass over so many rows took so long."""
        bucket = bucket_of(rows)
        kept = self._kept.setdefault(bucket, deque(maxlen=KEPT))
        kept.append(seconds)
        before = self._mean.get(bucket)
        self._mean[bucket] = seconds if before is None else before + 0.05 * (seconds - before)
        if len(kept) < 20 or seconds > self._worst.get(bucket, 0.0) or len(kept) % 16 == 0:
            self._worst[bucket] = sorted(kept)[int(0.99 * (len(kept) - 1))]

    def worst(self, rows: int) -> float:
        """p99 seconds of a pass over so many rows."""
        return self._look(self._worst, rows)

    def usual(self, rows: int) -> float:
        """Mean seconds of a pass over so many rows."""
        return self._look(self._mean, rows)

    def per_row(self, within_s: float) -> float:
        """Mean seconds a row costs in the largest pass of which two fit into ``within_s``."""
        best = [self.usual(b) / b for b in BUCKETS if b == 1 or 2 * self.worst(b) <= within_s]
        return min(best)

    def _look(self, table: dict[int, float], rows: int) -> float:
        """Of the bucket itself; else of the nearest larger one, else the nearest smaller one scaled up."""
        bucket = bucket_of(rows)
        if bucket in table:
            return table[bucket]
        larger = [b for b in table if b > bucket]
        if larger:
            return table[min(larger)]
        if not table:
            return 0.0
        nearest = max(table)
        return table[nearest] * bucket / nearest
