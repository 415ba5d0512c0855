"""One row per tick: what the world model sees of an episode, causally, on its own clock.

Every reduction here looks backwards, except actions, which belong to the interval that follows the row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from forerun.data.episode import Episode, Recordings, Stream, newest_before
from forerun.data.touch import STATISTICS, arrived, burst_statistics
from forerun.data.video import resize_video
from forerun.types import ConfigError, DataError, ShapeError, StreamSpec

Mode = Literal["picture", "newest", "burst", "action"]
CHUNK_BYTES = 64 * 2**20  # of undecoded pictures held at once


@dataclass(frozen=True)
class RowPlan:
    """How one stream becomes one entry of a row."""

    mode: Mode
    source: StreamSpec
    spec: StreamSpec
    """Of the cached entry: resized pictures, four statistics per channel of a burst."""

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8 if self.mode == "picture" else np.float32)

    @property
    def row_bytes(self) -> int:
        return self.spec.size * self.dtype.itemsize + 1  # one byte of validity


@dataclass(frozen=True)
class Entry:
    """One stream of one episode on the tick clock."""

    values: np.ndarray
    """(T, *shape), float32 or uint8."""
    valid: np.ndarray
    """(T,) bool: the sample was fresh, or the burst held at least one."""


def plan_rows(
    recordings: Recordings,
    *,
    tick_s: float,
    image_size: int,
    streams: Sequence[str] | None,
    burst_samples: float,
) -> dict[str, RowPlan]:
    """Decide for each chosen stream what a row holds. Text is never chosen.

    Raises:
        ConfigError: no such stream, or none left.
    """
    known = {name: spec for name, spec in recordings.specs.items() if spec.kind != "text"}
    chosen = list(known) if streams is None else list(streams)
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        found = f"the set has no stream '{unknown[0]}'" if unknown else "no stream is chosen"
        raise ConfigError(f"{found}; choose with --streams from: {', '.join(known)}")
    first = recordings.load(0)
    return {name: _plan(_stream(first, name), tick_s, image_size, burst_samples) for name in chosen}


def _plan(stream: Stream, tick_s: float, image_size: int, burst_samples: float) -> RowPlan:
    spec, row = stream.spec, {"rate_hz": 1 / tick_s, "delay_s": 0.0, "bias": None}  # see `arrived`
    if spec.kind == "action":
        return RowPlan("action", spec, replace(spec, **row))
    if spec.kind == "video" or (spec.kind == "touch" and _holds_pictures(stream)):
        shape = (image_size, image_size, spec.shape[-1])
        return RowPlan("picture", spec, replace(spec, shape=shape, names=(), **row))
    samples = tick_s / period_s(stream)
    if (spec.kind == "touch" and samples > 0.99) or (spec.kind == "vector" and samples > burst_samples):
        channels = spec.names or tuple(str(i) for i in range(spec.size))
        names = tuple(f"{n} {s}" for s in STATISTICS for n in channels)
        burst = replace(spec, shape=(4 * spec.size,), names=names, low=None, high=None, family=None, **row)
        return RowPlan("burst", spec, burst)
    return RowPlan("newest", spec, replace(spec, **row))


def _holds_pictures(stream: Stream) -> bool:
    return len(stream.spec.shape) == 3 and stream.read(np.array([0])).dtype == np.uint8


def period_s(stream: Stream) -> float:
    """Median seconds between samples; infinite for a single sample, which holds for the whole episode."""
    return float(np.median(np.diff(stream.times_s))) if len(stream) > 1 else float("inf")


def tick_times(episode: Episode, names: Sequence[str], tick_s: float) -> np.ndarray:
    """(T,) seconds: from the first moment every stream has a sample to the last moment all still run.

    Raises:
        DataError: the streams do not overlap in time.
    """
    streams = [_stream(episode, name) for name in names]
    start = max(float(s.times_s[0]) for s in streams)
    end = min((float(s.times_s[-1]) for s in streams if len(s) > 1), default=start)
    if end < start:
        late, early = max(streams, key=lambda s: s.times_s[0]), min(streams, key=lambda s: s.times_s[-1])
        raise DataError(
            f"episode '{episode.name}': stream '{late.spec.name}' begins at {start:.3f} s, after stream "
            f"'{early.spec.name}' has ended at {end:.3f} s, so no moment has both; leave one of them out "
            "with --streams, or look at the clocks with: forerun data doctor PATH"
        )
    return start + tick_s * np.arange(int(np.floor((end - start) / tick_s + 1e-4)) + 1)


def read_rows(
    episode: Episode, plans: dict[str, RowPlan], times_s: np.ndarray, tick_s: float
) -> dict[str, Entry]:
    """Everything but pictures of one episode on the tick clock.

    Raises:
        DataError: a chosen stream holds a value that is not a number.
    """
    rows = {}
    for name, plan in plans.items():
        if plan.mode == "picture":
            continue
        stream = _stream(episode, name)
        values = _finite(stream, episode.name, plan.source)
        rows[name] = _reduce(plan.mode, stream, values, times_s, tick_s)
    return rows


def _stream(episode: Episode, name: str) -> Stream:
    if name not in episode.streams or not len(episode.streams[name]):
        raise DataError(
            f"episode '{episode.name}' has no samples of stream '{name}', which the rest of the set has; "
            "leave the stream out with --streams, or drop the episode with: forerun data doctor PATH --fix "
            "COPY"
        )
    return arrived(episode.streams[name])


def _finite(stream: Stream, episode: str, expected: StreamSpec) -> np.ndarray:
    """All samples of a stream as (N, channels) float64."""
    values = stream.read()
    if values.shape[1:] != expected.shape:
        raise ShapeError(
            f"stream '{stream.spec.name}' of episode '{episode}' has samples of shape {values.shape[1:]}; "
            f"earlier episodes have {expected.shape}. Convert the episodes to one shape, or leave the stream "
            "out with --streams"
        )
    values = values.reshape(len(values), -1).astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if bad.size:
        raise DataError(
            f"stream '{stream.spec.name}' of episode '{episode}' holds a value that is not a finite number "
            f"at sample {bad[0]} ({bad.size} such samples of {len(values)}); a model can learn only from "
            "finite values. Drop the episode with: forerun data doctor PATH --fix COPY, or leave the stream "
            "out with --streams"
        )
    return values


def _reduce(mode: Mode, stream: Stream, values: np.ndarray, times_s: np.ndarray, tick_s: float) -> Entry:
    newest, fresh = _newest(stream, times_s, tick_s)
    held = values[newest]
    if mode == "newest":
        return Entry(held.reshape(len(held), *stream.spec.shape).astype(np.float32), fresh)
    tolerance = _rounding(times_s)
    if mode == "action":
        low = np.searchsorted(stream.times_s, times_s - tolerance, side="left")
        high = np.searchsorted(stream.times_s, times_s + tick_s - tolerance, side="left")
        mean = burst_statistics(values, low, high, held)[:, : values.shape[1]]
        shaped = mean.reshape(len(mean), *stream.spec.shape)
        return Entry(shaped.astype(np.float32), fresh | (high > low))
    low = np.searchsorted(stream.times_s, times_s - tick_s + tolerance, side="right")
    high = np.searchsorted(stream.times_s, times_s + tolerance, side="right")
    return Entry(burst_statistics(values, low, high, held).astype(np.float32), high > low)


def _newest(stream: Stream, times_s: np.ndarray, tick_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Index of the newest sample at or before each tick, and whether it is at most one lost sample old."""
    index = np.maximum(newest_before(stream.times_s, times_s + _rounding(times_s)), 0)
    oldest = max(tick_s, 2.5 * period_s(stream)) + 1e-6
    return index, times_s - stream.times_s[index] <= oldest


def _rounding(times_s: np.ndarray) -> np.ndarray:
    """Clocks are often stored as float32: the seconds by which such a stamp may be off."""
    return np.spacing(np.abs(times_s).astype(np.float32)).astype(np.float64)


def picture_freshness(stream: Stream, times_s: np.ndarray, tick_s: float) -> np.ndarray:
    """(T,) bool: the newest frame is at most one lost frame old."""
    return _newest(stream, times_s, tick_s)[1]


def read_pictures(stream: Stream, times_s: np.ndarray, tick_s: float, size: int) -> Iterator[np.ndarray]:
    """Newest frame at or before each tick, in chunks (n, size, size, 3) uint8; decodes none twice.

    Areas are averaged. A frame that is not square is squashed, not cropped: no part of the scene is lost.
    """
    small = resize_video(stream, size, size)
    index, _ = _newest(stream, times_s, tick_s)
    unique, back = np.unique(index, return_inverse=True)
    frame_bytes = max(1, int(np.prod(stream.spec.shape)))
    chunk = max(1, CHUNK_BYTES // frame_bytes)
    for start in range(0, len(unique), chunk):
        frames = small.read(unique[start : start + chunk])
        inside = (back >= start) & (back < start + chunk)
        yield frames[back[inside] - start]
