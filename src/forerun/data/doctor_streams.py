"""Checks of one episode at a time that need only its streams, whatever the format.

Clocks: gaps, jitter, nominal rates, streams that begin or end apart. Values: not finite, out of bounds, wrong
unit by the look of it. Pictures: readable, moving.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from forerun.data.episode import Episode, Stream
from forerun.data.findings import Finding
from forerun.types import DataError

GAP_PERIODS = 3.0  # a step longer than this many periods is a gap
FULL_TURN = 4 * np.pi


def clock_findings(episode: Episode) -> Iterator[Finding]:
    """Rate, gaps and jitter of every stream, and how far apart streams begin and end."""
    clocks: dict[bytes, list[Stream]] = {}
    for stream in episode.streams.values():
        if len(stream) > 2 and stream.spec.kind != "text":
            clocks.setdefault(stream.times_s.tobytes(), []).append(stream)
    for sharing in clocks.values():
        others = len(sharing) - 1
        name = sharing[0].spec.name + (f" and {others} more" if others else "")
        yield from _one_clock(sharing[0], name, episode.name)
    yield from _offsets(episode)


def _one_clock(stream: Stream, name: str, episode: str) -> Iterator[Finding]:
    steps = np.diff(stream.times_s)
    period = float(np.median(steps))
    rate, nominal = 1 / period, stream.spec.rate_hz
    if nominal and min(abs(rate / nominal - 1), abs(1 / steps.mean() / nominal - 1)) > 0.02:
        yield Finding(
            severity="warning",
            check="rate",
            episode=episode,
            stream=name,
            found=f"the time stamps step at {rate:.2f} Hz (median)",
            expected=f"{nominal:g} Hz, as the metadata says",
            advice="trust the time stamps; correct the metadata if other tools read it",
        )
    gaps = np.flatnonzero(steps > GAP_PERIODS * period)
    if gaps.size:
        worst = int(steps.argmax())
        yield Finding(
            severity="warning",
            check="gaps",
            episode=episode,
            stream=name,
            found=f"{gaps.size} gaps, the longest {steps[worst]:.3f} s at {stream.times_s[worst]:.3f} s",
            expected=f"a sample every {period:.4f} s",
            advice="forerun marks the samples after a gap as stale; look for lost packets in the recorder",
        )
    spread = float(np.subtract(*np.percentile(steps, (95, 5)))) / period
    if spread > 0.5:
        yield Finding(
            severity="note",
            check="gaps",
            episode=episode,
            stream=name,
            found=f"jittery clock: steps between {1e3 * steps.min():.0f} and {1e3 * steps.max():.0f} ms, "
            f"median {1e3 * period:.0f} ms",
            expected="steps of nearly equal length",
            advice="nothing to do: windows are aligned by time stamp; record stamps at capture if you can",
        )


def _offsets(episode: Episode) -> Iterator[Finding]:
    streams = [s for s in episode.streams.values() if len(s) > 1 and s.spec.kind != "text"]
    if len(streams) < 2:
        return
    period = max(float(np.median(np.diff(s.times_s))) for s in streams)
    starts = {s.spec.name: float(s.times_s[0]) for s in streams}
    ends = {s.spec.name: float(s.times_s[-1]) for s in streams}
    first, last = min(starts, key=starts.__getitem__), max(starts, key=starts.__getitem__)
    if starts[last] - starts[first] > 1.5 * period:
        yield Finding(
            severity="warning",
            check="offset",
            episode=episode.name,
            stream=last,
            found=f"it begins {starts[last] - starts[first]:.3f} s after '{first}'",
            expected=f"all streams to begin within {1.5 * period:.3f} s",
            advice="forerun starts where all streams run; check that both clocks have the same zero",
        )
    short, long = min(ends, key=ends.__getitem__), max(ends, key=ends.__getitem__)
    if ends[long] - ends[short] > 1.5 * period:
        yield Finding(
            severity="note",
            check="offset",
            episode=episode.name,
            stream=short,
            found=f"it ends {ends[long] - ends[short]:.3f} s before '{long}'",
            expected=f"all streams to end within {1.5 * period:.3f} s",
            advice="forerun stops where the first stream ends",
        )


def value_findings(stream: Stream, values: np.ndarray, episode: str) -> Iterator[Finding]:
    """Numbers of one stream (N, C) that are not finite, out of bounds, or unlike their unit."""
    spec, bad = stream.spec, np.flatnonzero(~np.isfinite(values).all(axis=1))
    if bad.size:
        channel = int(np.flatnonzero(~np.isfinite(values[bad[0]]))[0])
        label = spec.names[channel] if spec.names else f"channel {channel}"
        yield Finding(
            severity="fault",
            check="finite",
            episode=episode,
            stream=spec.name,
            found=f"{bad.size} of {len(values)} samples are not finite, first {label} of sample {bad[0]}",
            expected="finite numbers",
            advice="drop the episode: forerun data doctor PATH --fix COPY",
        )
        values = np.delete(values, bad, axis=0)
    if len(values):
        yield from _bounds(stream, values, episode)
        yield from _units(stream, values, episode)


def _bounds(stream: Stream, values: np.ndarray, episode: str) -> Iterator[Finding]:
    spec = stream.spec
    if spec.low is None or spec.high is None:
        return
    low, high = np.asarray(spec.low), np.asarray(spec.high)
    outside = np.maximum(low - values, values - high).max(axis=0)
    channel = int((outside / np.maximum(high - low, 1e-9)).argmax())
    if outside[channel] > 1e-3 * (high[channel] - low[channel]):
        label = spec.names[channel] if spec.names else f"channel {channel}"
        yield Finding(
            severity="warning",
            check="units",
            episode=episode,
            stream=spec.name,
            found=f"{label} is {values[:, channel].min():.4g} to {values[:, channel].max():.4g} {spec.unit}",
            expected=f"{low[channel]:.4g} to {high[channel]:.4g}, the bounds in the metadata",
            advice="correct the bounds, or the unit: a planner never leaves the bounds",
        )


def _units(stream: Stream, values: np.ndarray, episode: str) -> Iterator[Finding]:
    spec, largest = stream.spec, float(np.abs(values).max())
    suspicion = {"rad": (FULL_TURN, "degrees"), "m": (100.0, "millimetres"), "s": (1e9, "nanoseconds")}
    limit, other = suspicion.get(spec.unit, (np.inf, ""))
    if largest > limit:
        yield Finding(
            severity="warning",
            check="units",
            episode=episode,
            stream=spec.name,
            found=f"values up to {largest:.4g} with the unit '{spec.unit}'",
            expected=f"at most {limit:.4g} {spec.unit}; these look like {other}",
            advice="correct the unit or the values before training",
        )
    where = _quaternion(spec.names)
    if where is not None:
        norms = np.linalg.norm(values[:, where], axis=1)
        if np.abs(norms - 1).max() > 0.02:
            yield Finding(
                severity="warning",
                check="units",
                episode=episode,
                stream=spec.name,
                found=f"the quaternion {', '.join(spec.names[i] for i in where)} has norms "
                f"{norms.min():.3f} to {norms.max():.3f}",
                expected="norm 1",
                advice="check the order of the channels against their names",
            )


def _quaternion(names: tuple[str, ...]) -> list[int] | None:
    """Channels called qw, qx, qy, qz, whatever stands before."""
    ends = {name.lower()[-2:]: i for i, name in enumerate(names)}
    return [ends[q] for q in ("qw", "qx", "qy", "qz")] if {"qw", "qx", "qy", "qz"} <= set(ends) else None


def picture_findings(stream: Stream, episode: str, indices: np.ndarray) -> tuple[list[Finding], np.ndarray]:
    """Decode the frames at ``indices``: what is wrong with them, and a mean colour per frame."""
    try:
        frames = stream.read(indices)
    except DataError as cause:
        return [unreadable(str(cause), episode, stream.spec.name)], np.empty((0, 3))
    means = frames.reshape(len(frames), -1, 3).mean(axis=1)
    findings = []
    if len(frames) > 1 and all((frames[0] == frame).all() for frame in frames[1:]):
        flat = "one plain colour" if np.ptp(frames[0].reshape(-1, 3), axis=0).max() == 0 else "identical"
        findings.append(
            Finding(
                severity="warning",
                check="dead",
                episode=episode,
                stream=stream.spec.name,
                found=f"{len(frames)} frames from start to end are {flat}",
                expected="a picture that changes",
                advice="check the camera; leave the stream out with --streams if it was off",
            )
        )
    return findings, means


def unreadable(cause: str, episode: str | None, stream: str | None = None) -> Finding:
    """An episode or a video that a reader refuses."""
    return Finding(
        severity="fault",
        check="readable",
        episode=episode,
        stream=stream,
        found=cause,
        expected="an episode that can be read from start to end",
        advice="restore the file, or drop the episode: forerun data doctor PATH --fix COPY",
    )
