"""Rewrite recordings of any format as a LeRobot v3.0 folder, side streams included."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from forerun.data.episode import Episode, Recordings, Stream
from forerun.data.lerobot import TOLERANCE_S
from forerun.data.lerobot_writer import write_lerobot
from forerun.data.mcap_writer import write_mcaps
from forerun.data.video_writer import Encoding
from forerun.types import ConfigError, DataError, StreamSpec

SMALL_PICTURE = 128  # pixels: below, compression that nobody sees in large video wipes out objects


def convert(
    recordings: Recordings,
    path: str | Path,
    *,
    fps: float | None = None,
    streams: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    drop: Collection[int] = (),
    codec: str = "libx264",
    crf: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a LeRobot v3.0 folder; pictures are encoded again.

    Streams that sit on the clock k / fps in every episode go into LeRobot's own table and videos, all others
    keep their time stamps in side tables. Nothing is resampled.

    Args:
        recordings: what to convert.
        path: the folder to make; it must not exist.
        fps: of the common clock, Hz; by default the rate of the first action, else video, else any stream.
        streams: which to keep; all by default.
        units: SI unit per stream name, where the source states none or a wrong one.
        drop: numbers of episodes to leave out.
        codec: of the videos.
        crf: of the videos, lower is better; by default 23, and 12 where pictures are at most 128 pixels wide.
        progress: called with (episodes done, episodes in all).

    Raises:
        ConfigError: no such stream, or a rate or quality out of range.
        DataError: nothing is left to write, or episodes differ in what a stream is.
        StorageError: ``path`` exists or cannot be written.
    """
    kept = [i for i in range(len(recordings)) if i not in drop]
    if not kept:
        raise DataError(f"none of the {len(recordings)} episodes is left to convert; expected at least one")
    chosen = _chosen(recordings, streams, units or {})
    rate_hz = base_rate_hz(recordings, chosen) if fps is None else _positive(fps)
    encoding = encoding_for([recordings.specs[n] for n in chosen], crf)
    Encoding(codec=codec, **encoding)  # refuses a bad quality before anything is read

    def episodes() -> Iterator[Episode]:
        for done, i in enumerate(kept):
            yield _episode(recordings, i, chosen, units or {})
            if progress:
                progress(done + 1, len(kept))

    side = off_the_clock((recordings.load(i) for i in kept), chosen, rate_hz)
    return write_lerobot(
        path,
        episodes(),
        fps=rate_hz,
        side=side,
        codec=codec,
        **encoding,
    )


def convert_to_mcap(
    recordings: Recordings,
    path: str | Path,
    *,
    streams: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a folder of MCAP files, one per episode; every stream keeps its clock. Arguments as of `convert`.

    Raises:
        ConfigError: no such stream.
        DataError, StorageError, MissingExtraError: as `forerun.data.mcap_writer.write_mcaps`.
    """
    chosen, count = _chosen(recordings, streams, units or {}), len(recordings)
    told = None if progress is None else lambda done: progress(done, count)
    return write_mcaps(path, (_episode(recordings, i, chosen, units or {}) for i in range(count)), told)


def _positive(fps: float) -> float:
    if not (np.isfinite(fps) and fps > 0):
        raise ConfigError(
            f"a common clock of {fps:g} Hz was asked for; expected a positive rate, for example --fps 10, or "
            "none to take that of the first action"
        )
    return fps


def encoding_for(specs: Sequence[StreamSpec], crf: int | None = None) -> dict[str, Any]:
    """Quality and pixel format that keep what small pictures show; odd sides need full colour resolution."""
    shapes = [spec.shape for spec in specs if spec.kind == "video"]
    small = bool(shapes) and max(max(shape[:2]) for shape in shapes) <= SMALL_PICTURE
    odd = any(side % 2 for shape in shapes for side in shape[:2])
    quality = crf if crf is not None else (12 if small else 23)
    return {"crf": quality, "pix_fmt": "yuv444p" if small or odd else "yuv420p"}


def _chosen(recordings: Recordings, streams: Sequence[str] | None, units: Mapping[str, str]) -> list[str]:
    chosen = list(recordings.specs) if streams is None else list(streams)
    unknown = [name for name in (*chosen, *units) if name not in recordings.specs]
    if unknown:
        raise ConfigError(f"the set has no stream '{unknown[0]}'; it has {', '.join(recordings.specs)}")
    return chosen


def base_rate_hz(recordings: Recordings, chosen: Sequence[str]) -> float:
    """Rate of the clock that most of the set shares: the first action's, else video's, else any stream's."""
    order = {"action": 0, "video": 1}
    specs = sorted((recordings.specs[name] for name in chosen), key=lambda s: order.get(s.kind, 2))
    rates = [spec.rate_hz for spec in specs if spec.rate_hz]
    if not rates:
        raise ConfigError(
            "no stream states its rate, so the clock of the table is unknown; give it with --fps"
        )
    return float(rates[0])


def off_the_clock(episodes: Iterator[Episode], chosen: Sequence[str], fps: float) -> list[str]:
    """Streams that some episode has not at 0, 1 / fps, 2 / fps, ... or with another number of samples."""
    off: set[str] = set()
    for episode in episodes:
        lengths: dict[int, list[str]] = {}
        for name in chosen:
            stream = episode.streams.get(name)
            if stream is None or not len(stream) or not _on_grid(stream.times_s, fps):
                off.add(name)
            else:
                lengths.setdefault(len(stream), []).append(name)
        common = max(lengths.values(), key=len, default=[])
        off |= {name for names in lengths.values() if names is not common for name in names}
    return sorted(off)


def _on_grid(times_s: np.ndarray, fps: float) -> bool:
    return bool(np.abs(times_s - np.arange(len(times_s)) / fps).max() <= TOLERANCE_S)


def _episode(recordings: Recordings, i: int, chosen: Sequence[str], units: Mapping[str, str]) -> Episode:
    episode = recordings.load(i)
    streams = {}
    for name in chosen:
        if name in episode.streams:
            stream, declared = episode.streams[name], recordings.specs[name]
            unit = units.get(name, stream.spec.unit)
            spec = replace(stream.spec, unit=unit, rate_hz=declared.rate_hz)
            streams[name] = Stream(spec, stream.times_s, stream.values)
    return replace(episode, streams=streams)
