"""Intervals for the few kinds of numbers forerun reports: shares, means, ratios, paired differences.

No figure is printed without its n and one of these. All are two-sided at ``confidence``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from forerun.types import ConfigError

RESAMPLES = 4000
"""Enough that the ends of a 95 % bootstrap interval move by less than a tenth of its width between seeds."""


class Interval(NamedTuple):
    """An estimate and where the truth plausibly lies."""

    estimate: float
    low: float
    high: float


class Band(NamedTuple):
    """A curve of estimates, each with its own interval; three arrays of one shape."""

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray


def wilson(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """The share of ``successes`` among ``n`` independent trials, 0..1, with Wilson's score interval.

    It keeps its promise at 0 and n successes, where the textbook interval shrinks to a point
    (E. B. Wilson, JASA 22, 1927; recommended by Brown, Cai and DasGupta, Statistical Science 16, 2001).

    Example:
        >>> [round(float(x), 2) for x in wilson(16, 20)]
        [0.8, 0.58, 0.92]
    """
    if not 0 <= successes <= n or n < 1:
        raise ConfigError(f"{successes} successes of {n} trials; expected 0 <= successes <= n and n >= 1")
    z = _quantile(confidence)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = 0.0 if successes == 0 else centre - half  # exact at the ends, not up to rounding
    high = 1.0 if successes == n else centre + half
    return Interval(share, low, high)


def paired_difference(
    first: Sequence[bool] | np.ndarray, second: Sequence[bool] | np.ndarray, *, confidence: float = 0.95
) -> Interval:
    """How much more often ``first`` succeeds than ``second`` on the same trials, -1..1.

    Square-and-add of the two Wilson intervals, corrected for the correlation of the pairs (R. G. Newcombe,
    "Improved confidence intervals for the difference between binomial proportions based on paired data",
    Statistics in Medicine 17, 1998, method 10).

    Args:
        first, second: (n,) outcome of trial i under either, True for success.
    """
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise ConfigError(f"outcomes of shape {a.shape} and {b.shape} are not pairs; expected (n,) twice")
    one, two = (wilson(int(x.sum()), len(x), confidence=confidence) for x in (a, b))
    phi = _correlation(a, b)

    def half(up: float, down: float) -> float:
        return math.sqrt(max(up * up - 2 * phi * up * down + down * down, 0.0))

    difference = one.estimate - two.estimate
    low = difference - half(one.estimate - one.low, two.high - two.estimate)
    high = difference + half(one.high - one.estimate, two.estimate - two.low)
    return Interval(difference, low, high)


def bootstrap_mean(
    values: Sequence[float] | np.ndarray,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean over independent units, with its percentile bootstrap interval (B. Efron, 1979).

    Args:
        values: (n,) one number per independent unit: an episode, a seed, a clip, never a frame.
        seed: the same seed gives the same interval.
    """
    rows = _rows(values, 1)
    low, high = np.percentile(_draws(len(rows), resamples, seed) @ rows, _tails(confidence))
    return Interval(float(rows.mean()), float(low), float(high))


def bootstrap_band(
    values: np.ndarray, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Band:
    """The mean curve over independent units, with a percentile bootstrap interval at each point.

    Args:
        values: (n, T) one curve per independent unit; whole curves are resampled.
    """
    rows = _rows(values, 2)
    low, high = np.percentile(_draws(len(rows), resamples, seed) @ rows, _tails(confidence), axis=0)
    return Band(rows.mean(axis=0), low, high)


def bootstrap_ratio(
    numerators: Sequence[float] | np.ndarray,
    denominators: Sequence[float] | np.ndarray,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Mean over mean of two quantities of the same units, with its percentile bootstrap interval.

    For "error of the model over error of copy-last": units are resampled in pairs, so a clip that is hard
    for both does not widen the interval.

    Args:
        numerators, denominators: (n,) one number per independent unit; denominators >= 0, not all 0.
    """
    above, below = _rows(numerators, 1), _rows(denominators, 1)
    if above.shape != below.shape or (below < 0).any() or not below.any():
        raise ConfigError(
            f"a ratio of {len(above)} numerators to {len(below)} denominators between {below.min():g} and "
            f"{below.max():g}; expected one pair per unit, with denominators >= 0 and not all 0"
        )
    draws = _draws(len(above), resamples, seed)
    tops, bottoms = draws @ above, draws @ below
    low, high = np.percentile(tops[bottoms > 0] / bottoms[bottoms > 0], _tails(confidence))
    return Interval(float(above.mean() / below.mean()), float(low), float(high))


def _draws(n: int, resamples: int, seed: int) -> np.ndarray:
    """(resamples, n) share of each unit when n are drawn with replacement; rows sum to one."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples) / n


def _tails(confidence: float) -> list[float]:
    _quantile(confidence)  # refuses what is no share
    return [50 * (1 - confidence), 50 * (1 + confidence)]


def _rows(values: Sequence[float] | np.ndarray, dimensions: int) -> np.ndarray:
    rows = np.asarray(values, np.float64)
    if rows.ndim != dimensions or not rows.size or not np.isfinite(rows).all():
        expected = "(n,)" if dimensions == 1 else "(n, T)"
        raise ConfigError(
            f"an interval was asked for over values of shape {rows.shape}, {int(np.isfinite(rows).sum())} of "
            f"them finite; expected shape {expected}, all finite, one row per independent unit"
        )
    return rows


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Phi of two columns of outcomes, shrunk by Newcombe's n / 2 if positive; 0 where either never varies."""
    n, both, ones, twos = len(a), int((a & b).sum()), int(a.sum()), int(b.sum())
    spread = ones * (n - ones) * twos * (n - twos)
    if spread == 0:
        return 0.0
    excess = both * (n - ones - twos + both) - (ones - both) * (twos - both)
    return (max(excess - n / 2, 0.0) if excess > 0 else excess) / math.sqrt(spread)


def _quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence is {confidence}; expected a share in (0, 1), 0.95 for instance")
    return NormalDist().inv_cdf(0.5 + confidence / 2)
