"""Charts for HTML pages: SVG whose text and colours follow the page, light or dark."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from forerun.evaluation.stats import Band
from forerun.types import DataError, ShapeError

COLOURS = {
    "ink": "#010101",
    "faint": "#020202",
    "edge": "#030303",
    "model": "#040404",
    "copy": "#050505",
    "nearest": "#060606",
    "mean": "#070707",
}
"""What matplotlib draws with; each becomes the page's own colour of that name, `var(--NAME)`."""


@dataclass(frozen=True, kw_only=True)
class ErrorCurve:
    """How wrong imagination is, the further it looks ahead, beside what costs nothing."""

    seconds: np.ndarray
    """(T,) ahead of the last tick the model saw, increasing."""
    model: Band
    """(T,) the model's error."""
    copy_last: Band
    """(T,) the error of expecting that nothing changes. NaN in a band leaves a gap."""
    nearest: Band | None = None
    """(T,) the error of replaying the most similar moment of the training recordings."""
    mean: Band | None = None
    """(T,) the error of showing the mean picture of the training recordings."""
    n: int
    """Independent clips behind each point."""
    unit: str = "mean squared error"
    """What is on the vertical axis."""

    def __post_init__(self) -> None:
        for name, (_, band) in self.bands().items():
            if any(np.shape(part) != self.seconds.shape for part in band):
                raise ShapeError(
                    f"the curve '{name}' has {[np.shape(part) for part in band]} points; expected "
                    f"{self.seconds.shape}, one for each time"
                )

    def bands(self) -> dict[str, tuple[str, Band]]:
        """The curves there are: colour by the words a reader sees."""
        named = {
            "model": ("model", self.model),
            "copy of the last picture": ("copy", self.copy_last),
            "nearest recording": ("nearest", self.nearest),
            "mean picture": ("mean", self.mean),
        }
        return {words: (colour, band) for words, (colour, band) in named.items() if band is not None}


@dataclass(frozen=True, kw_only=True)
class LossCurve:
    """The loss of one training stage."""

    name: str
    steps: np.ndarray
    values: np.ndarray
    """(N,) ``total`` at these steps."""


def read_loss(metrics: Path, name: str, value: str = "total") -> LossCurve:
    """The curve in a ``metrics.jsonl``; a last line cut short by a kill is left out.

    Raises:
        DataError: no line has both "step" and ``value``.
    """
    points = []
    for line in metrics.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "step" in row and value in row:
            points.append((row["step"], row[value]))
    if not points:
        raise DataError(f"no line holds 'step' and '{value}'; expected metrics of training: {metrics}")
    steps, values = np.array(points, float).T
    return LossCurve(name=name, steps=steps, values=values)


def error_chart(curve: ErrorCurve) -> str:
    """Error over horizon with interval bands, each line named at its end; SVG."""
    figure, (axis,) = _figure(7.2, 3.1, 1)
    bands = {words: (COLOURS[colour], band) for words, (colour, band) in curve.bands().items()}
    for words, (colour, band) in bands.items():
        axis.fill_between(curve.seconds, band.low, band.high, color=colour, alpha=0.18, lw=0)
        axis.plot(curve.seconds, band.estimate, color=colour, lw=2.2 if words == "model" else 1.4)
    top = 1.08 * max(float(np.nanmax(band.high)) for _, band in bands.values())
    axis.set_ylim(0, top)
    axis.set_xlim(float(curve.seconds[0]), float(curve.seconds[-1]))
    ends = {words: float(band.estimate[np.isfinite(band.estimate)][-1]) for words, (_, band) in bands.items()}
    for words, y in _apart(ends, 0.085 * top).items():
        place = {"xy": (1.015, y), "xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 9}
        axis.annotate(words, color=bands[words][0], annotation_clip=False, **place)
    axis.set_xlabel("seconds ahead", color=COLOURS["faint"], fontsize=9)
    axis.set_title(curve.unit, loc="left", color=COLOURS["faint"], fontsize=9)
    return _svg(figure)


def loss_chart(curves: Sequence[LossCurve]) -> str:
    """The loss of each stage over its steps, side by side on logarithmic scales; SVG."""
    figure, axes = _figure(9.4, 2.3, len(curves))
    for axis, curve in zip(axes, curves, strict=True):
        axis.plot(curve.steps, curve.values, color=COLOURS["model"], lw=1.4)
        if curve.values.min() > 0:
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter(NullFormatter())
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axis.set_title(curve.name, loc="left", color=COLOURS["ink"], fontsize=9)
        axis.set_title(f"{curve.values[-1]:.3g}", loc="right", color=COLOURS["faint"], fontsize=9)
        axis.set_xlabel("step", color=COLOURS["faint"], fontsize=8)
    return _svg(figure)


def _apart(heights: dict[str, float], distance: float) -> dict[str, float]:
    """Heights of labels, moved up until none covers another."""
    placed, last = {}, -np.inf
    for name, y in sorted(heights.items(), key=lambda entry: entry[1]):
        last = max(y, last + distance)
        placed[name] = last
    return placed


def _figure(width: float, height: float, columns: int) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = list(figure.subplots(1, columns, squeeze=False)[0])
    for axis in axes:
        axis.patch.set_visible(False)
        axis.tick_params(labelsize=8, colors=COLOURS["faint"], length=2, which="both")
        axis.grid(axis="y", color=COLOURS["edge"], lw=0.6)
        axis.set_axisbelow(True)
        for side, spine in axis.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(COLOURS["edge"])
    figure.patch.set_visible(False)
    return figure, axes


def _svg(figure: Figure) -> str:
    """The figure as an element for HTML: text stays text, colours become variables of the page."""
    drawn = io.StringIO()
    style: dict[Any, Any] = {"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "forerun"}
    with matplotlib.rc_context(style):
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    svg = drawn.getvalue()
    svg = svg[svg.index("<svg") :]
    for name, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg
