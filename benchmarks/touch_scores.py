"""How methods are scored on real touch: one figure over test rows, its interval, and the range over seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from forerun.evaluation.linear import Linear
from forerun.evaluation.stats import bootstrap_mean, wilson

SEEDS = (0, 1, 2)
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)

Scored = dict[str, Any]


def share(right: np.ndarray) -> Scored:
    """The share of trials that come out right, Wilson's interval over the trials.

    Args:
        right: (seeds, n) bool. Seeds are averaged before they are counted: they share their trials, so they
            make the interval no narrower.
    """
    right = np.atleast_2d(right)
    return {**wilson(round(float(right.mean(0).sum())), right.shape[1])._asdict(), **_seeds(right)}


def mean(errors: np.ndarray, blocks: np.ndarray | None = None) -> Scored:
    """The mean error, bootstrapped over rows, or over blocks of neighbours where rows are not independent.

    Args:
        errors: (seeds, n), averaged over seeds first.
        blocks: (n,) in which block a row is.
    """
    errors = np.atleast_2d(errors)
    return {**bootstrap_mean(by_block(errors.mean(0), blocks))._asdict(), **_seeds(errors)}


def by_block(values: np.ndarray, blocks: np.ndarray | None) -> np.ndarray:
    """(n,) values, or the mean of each block."""
    if blocks is None:
        return values
    return np.array([values[blocks == block].mean() for block in np.unique(blocks)])


def _seeds(values: np.ndarray) -> Scored:
    return {"seeds": values.mean(axis=1).tolist()} if len(values) > 1 else {}


def select(options: Sequence[Any], error: Callable[[Any], float]) -> Any:
    """The option with the least error on validation rows."""
    return min(options, key=error)


class Chosen(NamedTuple):
    """A linear model of the penalty that validation chose."""

    model: Linear
    """Fitted to all training rows."""
    inside: Linear
    """Fitted without the validation rows."""


def best_linear(
    fit: Callable[[np.ndarray, float], Linear],
    error: Callable[[Linear, np.ndarray], float],
    held: np.ndarray,
    train: np.ndarray | None = None,
) -> Chosen:
    """The penalty is chosen on the rows ``held``.

    Args:
        fit: rows (N,) bool and a penalty to a model.
        held: (N,) bool, part of ``train``.
        train: (N,) bool; every row by default.
    """
    train = np.ones(len(held), bool) if train is None else train
    insides = {penalty: fit(train & ~held, penalty) for penalty in PENALTIES}
    penalty = select(PENALTIES, lambda option: error(insides[option], held))
    return Chosen(fit(train, penalty), insides[penalty])
