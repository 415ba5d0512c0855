"""What is in a data set: streams, units, rates, gaps, lengths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from forerun.data.episode import Episode, Recordings, Stream
from forerun.types import DataError, Error, StreamSpec

EXAMINED_EPISODES = 200
GAP_PERIODS = 3.0
TABLE_WIDTH = 120  # characters; a narrower terminal gets a list


@dataclass(frozen=True)
class StreamSummary:
    """One stream over the episodes that were examined."""

    spec: StreamSpec
    num_episodes: int
    """In how many of them it occurs."""
    num_samples: int
    rates_hz: tuple[float, float] | None
    """Measured, lowest and highest of the episodes: one over the median step."""
    steps_s: tuple[float, float] | None
    """Shortest and longest step of the most uneven episode."""
    num_gaps: int
    """Steps longer than three median ones."""
    low: float | None
    high: float | None
    """Extremes of finite values; None for pictures and text."""


@dataclass(frozen=True)
class Summary:
    """A data set at a glance."""

    path: Path
    title: str
    format: str
    num_episodes: int
    num_examined: int
    lengths_s: tuple[float, ...]
    """Duration of every examined episode."""
    tasks: tuple[str, ...]
    successes: tuple[bool, ...]
    """Of the examined episodes that say whether they succeeded."""
    streams: dict[str, StreamSummary]
    notes: tuple[str, ...]
    unreadable: tuple[str, ...]
    """One line per episode that could not be read."""

    @property
    def duration_s(self) -> float:
        """Of all episodes, estimated from the mean if not all were examined."""
        return float(np.mean(self.lengths_s)) * self.num_episodes if self.lengths_s else 0.0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._head()
        yield _table(self) if options.max_width >= TABLE_WIDTH else _list(self)
        yield from (Text(f"note: {note}", style="dim") for note in self.notes)

    def _head(self) -> Text:
        lengths = (
            f"{min(self.lengths_s):.1f} to {max(self.lengths_s):.1f} s" if self.lengths_s else "none readable"
        )
        text = Text.assemble((self.title, "bold"), f"  {self.format}\n")
        text.append(f"{self.num_episodes} episodes, {readable(self.duration_s)} in all, each {lengths}")
        if self.num_examined < self.num_episodes:
            text.append(f" ({self.num_examined} examined)")
        if self.successes:
            text.append(f"\n{sum(self.successes)} of {len(self.successes)} marked successful")
        if self.tasks:
            more = f" and {len(self.tasks) - 3} more" if len(self.tasks) > 3 else ""
            text.append("\ntasks: " + "; ".join(self.tasks[:3]) + more)
        for line in self.unreadable[:3]:
            text.append(f"\nunreadable: {line}", style="red")
        return text


def summary(recordings: Recordings) -> Summary:
    """Read clocks and numbers, not pictures, of up to 200 evenly spread episodes.

    Raises:
        DataError: the set has no episode.
    """
    if not len(recordings):
        raise DataError(f"the set holds no episode; expected at least one: {recordings.path}")
    chosen = np.unique(np.linspace(0, len(recordings) - 1, EXAMINED_EPISODES).astype(int))
    lengths, tasks, successes, unreadable = [], {}, [], []
    streams: dict[str, list[StreamSummary]] = {name: [] for name in recordings.specs}
    for i in chosen:
        try:
            episode = recordings.load(int(i))
            found = [_stream(stream) for stream in episode.streams.values() if len(stream)]
        except Error as cause:
            unreadable.append(f"episode {i}: {cause}")
            continue
        for each in found:
            streams.setdefault(each.spec.name, []).append(each)
        lengths.append(_length_s(episode))
        tasks[episode.task] = None
        successes += [] if episode.success is None else [episode.success]
    return Summary(
        path=recordings.path,
        title=title_of(recordings),
        format=recordings.format,
        num_episodes=len(recordings),
        num_examined=len(chosen),
        lengths_s=tuple(lengths),
        tasks=tuple(t for t in tasks if t),
        successes=tuple(successes),
        streams={name: _join(parts) for name, parts in streams.items() if parts},
        notes=recordings.notes,
        unreadable=tuple(unreadable),
    )


def _length_s(episode: Episode) -> float:
    """Seconds from time zero until the last sample has lasted its period."""
    ends = [
        s.times_s[-1] + (np.median(np.diff(s.times_s)) if len(s) > 1 else 0) for s in episode.streams.values()
    ]
    return float(max(ends, default=0.0))


def _stream(stream: Stream) -> StreamSummary:
    steps = np.diff(stream.times_s)
    median = float(np.median(steps)) if len(steps) else None
    low = high = None
    if stream.spec.kind not in ("video", "text"):
        values = stream.read()
        values = values[np.isfinite(values)] if values.dtype != object else np.empty(0)
        low, high = (float(values.min()), float(values.max())) if values.size else (None, None)
    return StreamSummary(
        spec=stream.spec,
        num_episodes=1,
        num_samples=len(stream),
        rates_hz=(1 / median, 1 / median) if median else None,
        steps_s=(float(steps.min()), float(steps.max())) if median else None,
        num_gaps=int((steps > GAP_PERIODS * median).sum()) if median else 0,
        low=low,
        high=high,
    )


def _join(parts: list[StreamSummary]) -> StreamSummary:
    rates = [p.rates_hz for p in parts if p.rates_hz is not None]
    steps = [p.steps_s for p in parts if p.steps_s is not None]
    lows, highs = [p.low for p in parts if p.low is not None], [p.high for p in parts if p.high is not None]
    return StreamSummary(
        spec=parts[0].spec,
        num_episodes=len(parts),
        num_samples=sum(p.num_samples for p in parts),
        rates_hz=(min(r[0] for r in rates), max(r[1] for r in rates)) if rates else None,
        steps_s=max(steps, key=lambda s: s[1] / s[0], default=None),
        num_gaps=sum(p.num_gaps for p in parts),
        low=min(lows, default=None),
        high=max(highs, default=None),
    )


def _table(about: Summary) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", show_edge=False)
    for heading in ("stream", "kind", "shape", "unit", "rate", "samples", "gaps", "values"):
        right = heading in ("rate", "samples", "gaps")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for name, stream in about.streams.items():
        table.add_row(name + _where(about, stream), *_cells(stream))
    return table


def _list(about: Summary) -> Text:
    text = Text()
    for name, stream in about.streams.items():
        kind, shape, unit, rate, samples, gaps, values = _cells(stream)
        text.append(f"{name}{_where(about, stream)}\n", style="bold")
        parts = [f"{kind} {shape}", "" if unit == "-" else unit, rate, f"{samples} samples"]
        parts += ["" if gaps == "-" else f"{gaps} gaps", values]
        text.append(f"    {'; '.join(part for part in parts if part)}\n")
    text.rstrip()
    return text


def _where(about: Summary, stream: StreamSummary) -> str:
    few = stream.num_episodes < len(about.lengths_s)
    return f" (in {stream.num_episodes} episodes)" if few else ""


def _cells(stream: StreamSummary) -> tuple[str, ...]:
    spec = stream.spec
    return (
        spec.kind,
        " x ".join(map(str, spec.shape)) or "1",
        spec.unit or "-",
        _rate(stream),
        f"{stream.num_samples:,}",
        str(stream.num_gaps or "-"),
        "" if stream.low is None else f"{stream.low:.4g} to {stream.high:.4g}",
    )


def _rate(stream: StreamSummary) -> str:
    if stream.rates_hz is None or stream.steps_s is None:
        return "once"
    (low, high), (shortest, longest) = stream.rates_hz, stream.steps_s
    rate = f"{low:.4g} Hz" if high < 1.01 * low else f"{low:.3g} to {high:.3g} Hz"
    return rate + (f", {1e3 * shortest:.0f}-{1e3 * longest:.0f} ms" if longest > 1.2 * shortest else "")


def title_of(recordings: Recordings) -> str:
    """A name for a person: the folder's, or its parent's where the folder is only a version number."""
    path = recordings.path.resolve()
    return path.parent.name if path.name.replace(".", "").isdigit() else path.name


def readable(seconds: float) -> str:
    """A duration a person can grasp: "42 s", "15.7 min", "3.2 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
