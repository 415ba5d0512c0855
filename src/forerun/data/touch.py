"""Touch as it reached the robot: samples count from when they arrived, without their bias, in blocks.

A controller that reads at time t has what was captured a sensor's delay earlier, and nothing newer. All here
is exact to the last bit of the stamps: no tolerance lets a sample of the future in.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from forerun.data.episode import Aligned, Stream, align
from forerun.types import ShapeError, check_clock

STATISTICS = ("mean", "min", "max", "rms")


def arrived(stream: Stream) -> Stream:
    """The same samples stamped with their arrival, bias taken off; itself if it has neither."""
    spec = stream.spec
    if not spec.delay_s and spec.bias is None:
        return stream
    plain, times_s = replace(spec, delay_s=0.0, bias=None), stream.times_s + spec.delay_s
    if spec.bias is None:
        return Stream(plain, times_s, stream.values)  # a video's own reader scales while it decodes

    def unbiased(index: np.ndarray) -> np.ndarray:
        values = stream.read(index)
        return values - np.reshape(spec.bias, spec.shape).astype(values.dtype)  # type: ignore[arg-type]

    return Stream(plain, times_s, unbiased)


def felt_at(stream: Stream, times_s: ArrayLike, *, max_age_s: float = float("inf")) -> Aligned:
    """What had arrived by ``times_s`` (T,): each newest sample, its validity, its age since capture."""
    delay_s, when = stream.spec.delay_s, np.asarray(times_s, dtype=np.float64)
    found = align(arrived(stream), when, max_age_s=max_age_s - delay_s, tolerance_s=0.0)
    return found._replace(age_s=found.age_s + delay_s)


class Blocks(NamedTuple):
    """Samples reduced between successive edges."""

    statistics: np.ndarray
    """(T, 4, *shape) float64: mean, minimum, maximum, root mean square; NaN where a block is empty."""
    count: np.ndarray
    """(T,) samples in each."""


def blocks(stream: Stream, edges_s: ArrayLike) -> Blocks:
    """Reduce what arrived after each edge and up to the next, (edges[k], edges[k + 1]].

    Args:
        edges_s: (T + 1,) increasing, seconds.

    Raises:
        ShapeError: the stream is text or no numbers.
        ClockError: edges do not increase.
    """
    edges = np.asarray(edges_s, dtype=np.float64)
    check_clock(edges, f"{stream.spec.name} edges")
    came = arrived(stream)
    values = came.read()
    if values.dtype.kind not in "fiub":
        raise ShapeError(
            f"stream '{stream.spec.name}' holds {values.dtype}; expected numbers. Text has no statistics"
        )
    values = values.reshape(len(values), -1).astype(np.float64)
    border = np.searchsorted(came.times_s, edges, side="right")
    empty = np.full((len(edges) - 1, values.shape[1]), np.nan)
    found = burst_statistics(values, border[:-1], border[1:], empty)
    return Blocks(found.reshape(-1, 4, *stream.spec.shape), np.diff(border))


def burst_statistics(values: np.ndarray, low: np.ndarray, high: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Mean, minimum, maximum and RMS of ``values[low[k]:high[k]]`` for each k.

    Decimation would alias a vibration and a mean alone would erase it; the RMS keeps its power.

    Args:
        values: (N, C) samples.
        low, high: (T,) adjoining, ordered index ranges.
        held: (T, C) stands in where a range is empty.

    Returns:
        (T, 4 C): C means, C minima, C maxima, C root mean squares.
    """
    parts = np.stack([held, held, held, np.abs(held)], axis=1)
    full = high > low
    if full.any():
        upto, starts = values[: high[full][-1]], low[full]
        count = (high - low)[full, None]
        parts[full, 0] = np.add.reduceat(upto, starts) / count
        parts[full, 1] = np.minimum.reduceat(upto, starts)
        parts[full, 2] = np.maximum.reduceat(upto, starts)
        parts[full, 3] = np.sqrt(np.add.reduceat(upto**2, starts) / count)
    return parts.reshape(len(held), -1)
