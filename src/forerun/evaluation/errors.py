"""Errors of a world model and its baselines over the horizon, per episode, so that intervals can be honest.

Letters: E episodes, H imagined ticks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from forerun.evaluation.stats import Band, Interval, bootstrap_ratio
from forerun.types import ConfigError

PIXELS, CHANGED_PIXELS, LATENTS = "pixels", "changed pixels", "latents"
MODEL, COPY, REDRAWN = "model", "copy-last", "redrawn"
MEAN, NEAREST, RANDOM = "mean picture", "nearest clip", "random frame"


@dataclass(frozen=True)
class Quantity:
    """One kind of error, per episode and horizon; divide ``squared`` by ``count`` for a mean.

    Pixels count from 0 to 1; ``rooted`` errors are shown as root mean squares, in the stream's own unit.
    """

    squared: dict[str, np.ndarray]
    """By method, (E, H) sums of squared errors."""
    count: np.ndarray
    """(E, H) how many numbers those sums hold."""
    unit: str = ""
    rooted: bool = False


@dataclass(frozen=True)
class Prediction:
    """Errors of a model and its baselines on the same clips; every interval resamples whole episodes."""

    tick_s: float
    context: int
    episodes: np.ndarray
    """(E,) which episodes of the cache."""
    num_clips: int
    quantities: dict[str, Quantity]
    """"pixels", "changed pixels", "latents", and each vector stream by name."""
    shuffled: np.ndarray | None
    """(E, H) squared latent errors if every clip is given another clip's actions."""

    @property
    def horizon(self) -> int:
        return next(iter(self.quantities.values())).count.shape[1]

    @property
    def seconds(self) -> np.ndarray:
        """(H,) how far ahead each column looks."""
        return self.tick_s * np.arange(1, self.horizon + 1)

    def column(self, seconds: float) -> int:
        """The column that looks ``seconds`` ahead; ConfigError beyond the horizon."""
        column = round(seconds / self.tick_s) - 1
        if not 0 <= column < self.horizon:
            raise ConfigError(
                f"an error {seconds:g} s ahead was asked for; these clips reach from {self.tick_s:g} s to "
                f"{self.seconds[-1]:g} s"
            )
        return column

    def nearest_column(self, seconds: float) -> int:
        """The column nearest to ``seconds`` ahead."""
        return int(np.abs(self.seconds - seconds).argmin())

    def methods(self, quantity: str) -> list[str]:
        return list(self.quantities[quantity].squared)

    def error(self, quantity: str, method: str, seconds: float) -> Interval | None:
        """Mean squared error (root mean square for vectors) with its interval; None where nothing changed."""
        q, column = self.quantities[quantity], self.column(seconds)
        count = q.count[:, column]
        if not count.any():
            return None
        found = bootstrap_ratio(q.squared[method][:, column], count)
        return Interval(*np.sqrt(found).tolist()) if q.rooted else found

    def ratio(self, quantity: str, seconds: float, baseline: str = COPY) -> Interval | None:
        """The model's mean squared error over that of ``baseline``: below 1, imagining pays."""
        squared, column = self.quantities[quantity].squared, self.column(seconds)
        above, below = squared[MODEL][:, column], squared[baseline][:, column]
        return bootstrap_ratio(above, below) if below.any() else None

    def shuffled_ratio(self, seconds: float | None = None) -> Interval | None:
        """Latent error with another clip's actions over the error with the true ones; None without actions.

        About 1 means that the model ignores what the robot does. Up to ``seconds`` ahead, all by default.
        """
        if self.shuffled is None:
            return None
        end = self.horizon if seconds is None else self.column(seconds) + 1
        true = self.quantities[LATENTS].squared[MODEL]
        return bootstrap_ratio(self.shuffled[:, :end].sum(1), true[:, :end].sum(1))

    def curve(self, quantity: str, method: str) -> Band:
        """The error over the horizon, (H,) each; not a number where nothing changed."""
        points = [self.error(quantity, method, s) or Interval(*3 * [float("nan")]) for s in self.seconds]
        return Band(*np.asarray(points).T)

    def to_json(self) -> dict[str, Any]:
        """All sums as lists: nothing is lost, every figure can be computed again."""
        return {
            "tick_s": self.tick_s,
            "context": self.context,
            "episodes": self.episodes.tolist(),
            "num_clips": self.num_clips,
            "shuffled": None if self.shuffled is None else self.shuffled.tolist(),
            "quantities": {
                name: {
                    "squared": {m: v.tolist() for m, v in q.squared.items()},
                    "count": q.count.tolist(),
                    "unit": q.unit,
                    "rooted": q.rooted,
                }
                for name, q in self.quantities.items()
            },
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Prediction:
        quantities = {
            name: Quantity(
                {m: np.asarray(v) for m, v in q["squared"].items()},
                np.asarray(q["count"]),
                q["unit"],
                q["rooted"],
            )
            for name, q in values["quantities"].items()
        }
        shuffled = None if values["shuffled"] is None else np.asarray(values["shuffled"])
        episodes = np.asarray(values["episodes"], dtype=np.int64)
        return cls(values["tick_s"], values["context"], episodes, values["num_clips"], quantities, shuffled)
