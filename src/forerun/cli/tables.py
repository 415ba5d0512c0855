"""Figures on the terminal: every one with its interval, every error beside the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from forerun.evaluation.approach import Approach
from forerun.evaluation.errors import CHANGED_PIXELS, COPY, LATENTS, MEAN, PIXELS, Prediction
from forerun.evaluation.stats import Interval
from forerun.evaluation.tally import Tally

NEAR_S, FAR_S = (0.1, 0.5, 1.0), (0.5, 1.0, 2.0)
"""Seconds ahead that are shown: the second three where the clips reach so far."""
WIDE = 100
"""Columns of a terminal that holds intervals too."""


def prediction_table(
    prediction: Prediction, what: str = "held-out episodes", width: int = 80
) -> RenderableType:
    """Errors a few moments ahead, one row per kind and method, and what they say in a sentence.

    Each figure carries its interval where the terminal is wide enough; the sentences always do.
    """
    intervals = width >= WIDE and len(prediction.episodes) > 1
    moments = FAR_S if prediction.seconds[-1] > 1.9 else NEAR_S
    ahead = {prediction.seconds[prediction.nearest_column(s)] for s in moments}
    columns = sorted(ahead | {prediction.seconds[-1]})
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("error")
    table.add_column("of")
    for seconds in columns:
        table.add_column(f"{seconds:.3g} s ahead", no_wrap=True)
    for quantity in prediction.quantities:
        for label, method in zip_longest(_labels(prediction, quantity), prediction.methods(quantity)):
            errors = [prediction.error(quantity, method, s) for s in columns]
            cells = [_cell(error, quantity, intervals) for error in errors]
            table.add_row(Text(label or ""), method, *cells)
        table.add_section()
    episodes = len(prediction.episodes)
    note = (
        f"{prediction.num_clips} clips of {episodes} {what}, after {prediction.context} ticks of context; "
        f"{'no interval from a single episode' if episodes < 2 else '95 % intervals over episodes'}."
    )
    return Group(table, *verdicts(prediction), Text(note, style="dim"))


def _labels(prediction: Prediction, quantity: str) -> list[str]:
    """What the error is of, and below it how it is counted."""
    if quantity in (PIXELS, CHANGED_PIXELS):
        return [quantity, "mean sq. x 1000"]
    if quantity == LATENTS:
        return [quantity, "mean square"]
    return [quantity, f"RMS, {prediction.quantities[quantity].unit or 'no unit'}"]


def verdicts(prediction: Prediction) -> list[Text]:
    """What the figures say, furthest ahead: against copy-last, and without the right actions."""
    far = float(prediction.seconds[-1])
    lines = []
    for quantity in prediction.quantities:
        ratio = prediction.ratio(quantity, far, COPY)
        if ratio is not None and quantity != LATENTS:
            line = f"{quantity}, {far:.3g} s ahead: {_share(ratio)} of the squared error of copy-last"
            lines.append(Text(f"{line}{_beside_mean(prediction, quantity, far)}"))
    shuffled = prediction.shuffled_ratio()
    if shuffled is not None:
        lines.append(
            Text(f"with the actions of another clip the latent error is {_times(shuffled)} as large")
        )
    return lines


def _beside_mean(prediction: Prediction, quantity: str, seconds: float) -> str:
    """What knowing the scene alone would have been worth: half of the gain over copy-last may be free."""
    if MEAN not in prediction.methods(quantity):
        return ""
    ratio = prediction.ratio(quantity, seconds, MEAN)
    if ratio is None:
        return ""
    worth = "; no better than that: it draws nothing that moves yet, train longer" if ratio.high >= 1 else ""
    return f", {_share(ratio)} of that of the mean picture{worth}"


def _cell(error: Interval | None, quantity: str, interval: bool) -> Text:
    """Three digits, and the interval in two."""
    if error is None:
        return Text("-")
    scale = 1000 if quantity in (PIXELS, CHANGED_PIXELS) else 1
    estimate = _number(scale * error.estimate, 3)
    span = f" {_number(scale * error.low, 2)}..{_number(scale * error.high, 2)}" if interval else ""
    return Text.assemble(f"{estimate:<6}", (span, "dim"))


def _number(value: float, digits: int) -> str:
    """So many significant digits, and no exponent."""
    return np.format_float_positional(value, precision=digits, fractional=False, trim="-")


def _share(ratio: Interval) -> str:
    return f"{100 * ratio.estimate:.0f} %{span(Interval(*(100 * x for x in ratio)), '.0f')}"


def _times(ratio: Interval) -> str:
    return f"{ratio.estimate:.2f} times{span(ratio, '.2f')}"


def span(interval: Interval, digits: str) -> str:
    """ " [low, high]", or nothing where a single unit gives no interval."""
    return f" [{interval.low:{digits}}, {interval.high:{digits}}]" if interval.low < interval.high else ""


def success_table(tallies: Sequence[Tally], control_hz: float, how: str) -> RenderableType:
    """One row per agent: success with its interval, and what a decision costs."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("agent")
    for name in ("moderate", "strict", "steps", "ms/decision", "decides"):
        table.add_column(name, justify="right", no_wrap=True)
    for tally in tallies:
        table.add_row(
            tally.name,
            _percent(tally.share("moderate")),
            _percent(tally.share("strict")),
            f"{tally.steps.mean():.0f}",
            "" if tally.ms_per_decision is None else f"{tally.ms_per_decision:.1f}",
            f"{control_hz / tally.replan_steps:g} Hz",
        )
    note = (
        f"n = {tallies[0].n}, 95 % Wilson intervals; {how}. Decides anew at every step; ms: median, one "
        "trial alone, from picture to action."
    )
    return Group(table, Text(_lead(tallies)), Text(note, style="dim"))


def _lead(tallies: Sequence[Tally]) -> str:
    """The first agent beside the best of the others, trial by trial."""
    first, *others = tallies
    if not others:
        return ""
    rival = max(others, key=lambda tally: tally.share().estimate)
    lead = Interval(*(100 * x for x in first.lead_over(rival)))
    return (
        f"{first.name} over {rival.name}, on the same trials: {lead.estimate:+.0f} points{span(lead, '+.0f')}"
    )


def approach_table(found: Sequence[Approach], control_hz: float, how: str) -> RenderableType:
    """One row per agent: how near it came to a picture, and what a decision costs."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("agent")
    for name in ("difference left", "distance", "ms/decision", "decides"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        distance = one.judged()
        table.add_row(
            one.name,
            f"{_share(one.left())}",
            f"{distance.estimate:.1f}{span(distance, '.1f')}",
            f"{one.ms_per_decision:.1f}",
            f"{control_hz / one.replan_steps:g} Hz",
        )
    note = (
        f"n = {found[0].n}, 95 % bootstrap intervals over starts; {how}. Difference left: squared error at "
        "the end as a share of that at the start, over the pixels that differ from the picture. Distance: "
        f"discounted steps to it at the end as the model judges, {found[0].distance[:, 0].mean():.1f} at the "
        "start. Success cannot be counted: a picture has no simulator state. ms: median, one attempt alone, "
        "from picture to action."
    )
    return Group(table, Text(_nearer(found)), Text(note, style="dim"))


def _nearer(found: Sequence[Approach]) -> str:
    """The first agent beside the best of the others, start by start."""
    first, *others = found
    rivals = [other for other in others if other.pixels[:, 1].any()]
    if not rivals:
        return ""
    rival = min(rivals, key=lambda other: other.left().estimate)
    return (
        f"{first.name} leaves {_share(first.beside(rival))} of what {rival.name} leaves, from the same starts"
    )


def _percent(share: Interval) -> str:
    return f"{100 * share.estimate:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]"
