"""Intervals against published worked examples, and against their promise."""

from __future__ import annotations

import numpy as np
import pytest

from forerun.evaluation.stats import (
    bootstrap_band,
    bootstrap_mean,
    bootstrap_ratio,
    paired_difference,
    wilson,
)
from forerun.types import ConfigError

REPEATS = 400


def outcomes(both: int, first: int, second: int, neither: int) -> tuple[list[bool], list[bool]]:
    """Paired trials: so many that both solve, only the first, only the second, neither."""
    a = [True] * (both + first) + [False] * (second + neither)
    return a, [True] * both + [False] * first + [True] * second + [False] * neither


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),  # Newcombe 1998, "comparison of seven methods", table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((successes / n, low, high), abs=6e-5)


def test_certain_results_still_leave_doubt() -> None:
    assert wilson(20, 20).low == pytest.approx(1 - wilson(0, 20).high)
    assert wilson(20, 20).low < 0.85
    assert (wilson(0, 20).low, wilson(20, 20).high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("table", "interval"),
    [
        ((1, 1, 7, 12), (-0.286, -0.507, -0.026)),  # Bentur 2009, in Fagerland, Lydersen and Laake 2014
        ((14, 5, 0, 22), (0.122, 0.011, 0.226)),  # Altman et al., Statistics with Confidence, 2000
    ],
)
def test_paired_differences_match_worked_examples(
    table: tuple[int, int, int, int], interval: tuple[float, float, float]
) -> None:
    assert paired_difference(*outcomes(*table)) == pytest.approx(interval, abs=6e-4)


def test_the_same_outcomes_twice_do_not_differ() -> None:
    a, _ = outcomes(30, 0, 0, 20)
    found = paired_difference(a, a)
    assert found.estimate == 0
    assert found.low == pytest.approx(-found.high)


def test_pairing_narrows_the_interval_of_alike_policies() -> None:
    a, b = outcomes(60, 6, 2, 32)
    paired = paired_difference(a, b)
    shuffled = paired_difference(a, np.random.default_rng(0).permutation(b))
    assert paired.high - paired.low < shuffled.high - shuffled.low


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    shares = [wilson(int(k), 50) for k in rng.binomial(50, 0.8, REPEATS)]
    means = [bootstrap_mean(rng.exponential(1.0, 40), resamples=400) for _ in range(REPEATS // 2)]
    assert 0.92 < np.mean([i.low <= 0.8 <= i.high for i in shares]) < 0.98
    assert 0.88 < np.mean([i.low <= 1.0 <= i.high for i in means]) < 0.98


def test_a_seed_decides_a_bootstrap_interval() -> None:
    values = np.random.default_rng(1).normal(size=30)
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)


def test_a_band_is_the_interval_of_each_point() -> None:
    curves = np.random.default_rng(2).normal(size=(30, 5)).cumsum(axis=1)
    band = bootstrap_band(curves)
    alone = bootstrap_mean(curves[:, 3])
    assert (band.estimate[3], band.low[3], band.high[3]) == pytest.approx(tuple(alone))


def test_a_ratio_of_pairs_ignores_what_is_hard_for_both() -> None:
    hard = np.random.default_rng(3).exponential(1.0, 60)
    found = bootstrap_ratio(0.7 * hard, hard)
    assert found == pytest.approx((0.7, 0.7, 0.7))


def test_wider_confidence_gives_a_wider_interval() -> None:
    values = np.random.default_rng(4).normal(size=30)
    assert bootstrap_mean(values, confidence=0.99).low < bootstrap_mean(values, confidence=0.8).low
    assert wilson(5, 10, confidence=0.99).low < wilson(5, 10, confidence=0.8).low


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: wilson(5, 4),
        lambda: wilson(0, 0),
        lambda: wilson(1, 2, confidence=95),
        lambda: bootstrap_mean([]),
        lambda: bootstrap_mean([1.0, float("nan")]),
        lambda: bootstrap_band(np.zeros(4)),
        lambda: bootstrap_ratio([1.0], [0.0]),
        lambda: bootstrap_ratio([1.0, 2.0], [1.0]),
        lambda: paired_difference([True], [True, False]),
    ],
)
def test_what_has_no_interval_is_refused_with_the_reason(wrong) -> None:
    with pytest.raises(ConfigError, match="expected"):
        wrong()
