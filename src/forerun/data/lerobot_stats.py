"""The ten statistics that LeRobot v3.0 keeps of every feature, per episode and pooled over all.

Pooled quantiles of vectors are means of the episodes' quantiles weighted by their length, as lerobot itself
pools them; all other figures are exact. Pictures are counted in histograms of 256 levels per channel, so
theirs are exact over the sampled frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}

NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)

_SAMPLED_FRAMES = 32
"""Per episode and camera: a picture changes little from frame to frame."""

Statistics = dict[str, np.ndarray]


def vector_statistics(values: np.ndarray) -> Statistics:
    """Of (N, *shape) numbers along the first axis; ``count`` is (1,)."""
    values = np.asarray(values, dtype=np.float64)
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=0)
    return {
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "mean": values.mean(axis=0),
        "std": values.std(axis=0),
        "count": np.asarray([len(values)]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


class PooledVector:
    """Statistics of all episodes together, kept in constant memory."""

    def __init__(self) -> None:
        self.total: Statistics = {}

    def statistics(self) -> Statistics:
        return self.total

    def add(self, part: Statistics) -> None:
        if not self.total:
            self.total = dict(part)
            return
        old, n, m = self.total, float(self.total["count"][0]), float(part["count"][0])
        share = m / (n + m)
        apart = part["mean"] - old["mean"]
        spread = (1 - share) * old["std"] ** 2 + share * part["std"] ** 2 + share * (1 - share) * apart**2
        self.total = {
            "min": np.minimum(old["min"], part["min"]),
            "max": np.maximum(old["max"], part["max"]),
            "mean": old["mean"] + share * apart,
            "std": np.sqrt(spread),
            "count": old["count"] + part["count"],
            **{q: (1 - share) * old[q] + share * part[q] for q in QUANTILES},
        }


class PictureHistogram:
    """Counts of the 256 levels per channel over sampled frames and pixels."""

    def __init__(self) -> None:
        self.levels = np.zeros((3, 256), dtype=np.int64)
        self.num_frames = 0

    def add_frames(self, frames: np.ndarray, first: int, total: int) -> None:
        """Sample (N, height, width, 3) uint8, frames ``first`` to first + N of a run of ``total``."""
        every = max(1, total // _SAMPLED_FRAMES)
        stride = max(1, min(frames.shape[1:3]) // 120)
        for picture in frames[(-first) % every :: every, ::stride, ::stride]:
            self.levels += [np.bincount(picture[..., c].ravel(), minlength=256) for c in range(3)]
            self.num_frames += 1

    def add(self, other: PictureHistogram) -> None:
        self.levels += other.levels
        self.num_frames += other.num_frames

    def statistics(self) -> Statistics:
        """Of pixels in 0..1, shape (3, 1, 1); ``count`` is the number of sampled frames."""
        share = self.levels / self.levels.sum(axis=1, keepdims=True)
        level = np.arange(256) / 255.0
        mean = share @ level
        present = self.levels > 0
        reached = np.cumsum(share, axis=1)
        found = {
            "min": level[present.argmax(axis=1)],
            "max": level[255 - present[:, ::-1].argmax(axis=1)],
            "mean": mean,
            "std": np.sqrt(np.maximum(share @ level**2 - mean**2, 0.0)),
            **{name: level[(reached >= q - 1e-12).argmax(axis=1)] for name, q in QUANTILES.items()},
        }
        return {k: v.reshape(3, 1, 1) for k, v in found.items()} | {"count": np.asarray([self.num_frames])}


def to_lists(statistics: Statistics) -> dict[str, Any]:
    """Plain lists in LeRobot's order, for JSON and parquet."""
    return {name: statistics[name].tolist() for name in NAMES}
