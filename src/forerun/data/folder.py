"""Plain folders of video, with side streams where a manifest describes them (see manifest.py)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from forerun.data.episode import Episode, Recordings, Stream
from forerun.data.manifest import EpisodeSource, Manifest, Source
from forerun.data.naming import kind_of
from forerun.data.tables import need_columns, read_table
from forerun.data.video import VIDEO_SUFFIXES, VideoFrames, index_video
from forerun.types import DataError, StreamSpec

VIDEO_STREAM = "observation.images.video"
"""What the only stream of an undescribed video is called."""


def open_folder(path: Path, manifest: Manifest) -> Recordings:
    """Open what a manifest describes; paths in it are relative to ``path``.

    Raises:
        DataError: if the first episode cannot be read.
    """

    def load(i: int) -> Episode:
        return _load(path, manifest.episodes[i])

    specs = {name: stream.spec for name, stream in load(0).streams.items()}
    return Recordings(path, "folder", specs, len(manifest.episodes), load, manifest.notes)


def videos_below(path: Path) -> Manifest:
    """The manifest of a folder without one: every video at or below ``path`` is an episode of its own."""
    found = [path] if path.is_file() else sorted(path.rglob("*"))
    files = [file for file in found if file.suffix.lower() in VIDEO_SUFFIXES]
    root = path.parent if path.is_file() else path
    stems = Counter(file.stem for file in files)
    episodes = []
    for file in files:
        inside = file.relative_to(root)
        name = str(inside.with_suffix("")) if stems[file.stem] == 1 else str(inside)
        source = Source(file=str(inside), kind="video")
        episodes.append(EpisodeSource(name, {VIDEO_STREAM: source}))
    return Manifest(episodes, ("no manifest: every video is an episode, its pictures the only stream",))


def _load(path: Path, episode: EpisodeSource) -> Episode:
    zero = _zero(path, episode)
    streams = {}
    for name, source in episode.streams.items():
        is_video = Path(source.file).suffix.lower() in VIDEO_SUFFIXES
        streams[name] = (_video if is_video else _table)(path, name, source, zero)
    return Episode(
        name=episode.name,
        streams=streams,
        task=episode.task,
        success=episode.success,
        metadata=dict(episode.metadata),
    )


class Zero(NamedTuple):
    """The earliest stamp of an episode, in its own unit: subtracting before scaling keeps microseconds
    exact."""

    stamp: float
    scale_s: float


def _zero(path: Path, episode: EpisodeSource) -> Zero:
    first = [
        Zero(float(_stamps(path, name, source)[0]), source.time_scale_s)
        for name, source in episode.streams.items()
        if source.time not in ("", "index")
    ]
    return min(first, key=lambda z: z.stamp * z.scale_s, default=Zero(0.0, 1.0))


def _video(path: Path, name: str, source: Source, zero: Zero) -> Stream:
    file = path / source.file
    index = index_video(file)
    if source.rate_hz or source.time:
        times_s, rate_hz = _clock(path, name, source, index.num_frames, zero)
    else:
        times_s, rate_hz = index.times_s, round(index.rate_hz, 6) or None
    spec = StreamSpec(
        name=name, kind="video", shape=(index.height, index.width, 3), unit="rgb", rate_hz=rate_hz
    )
    return Stream(spec, times_s, VideoFrames(file, index.height, index.width))


def _table(path: Path, name: str, source: Source, zero: Zero) -> Stream:
    file = path / source.file
    columns = read_table(file, skip_lines=source.skip_lines, numbers_per_row=source.numbers_per_row)
    wanted = list(source.columns or [c for c in columns if c != source.time])
    need_columns(columns, wanted, file)
    values = _samples([_cut(columns, c, source, file) for c in wanted], name, file)
    if source.channels is not None:
        values = values[:, slice(*source.channels)]
    kind = source.kind or kind_of(name, "string" if values.dtype == object else "float32")
    if source.scale != 1.0:
        values = values * np.asarray(
            source.scale, dtype=values.dtype if values.dtype.kind == "f" else np.float64
        )
    values = _shaped(values, name, source, file)
    named = len(wanted) == values[0].size > 1 and values.ndim == 2 and not all(c.isdigit() for c in wanted)
    names = source.names or (tuple(wanted) if named else ())
    times_s, rate_hz = _clock(path, name, source, len(values), zero)
    spec = StreamSpec(
        name=name,
        kind=kind,  # type: ignore[arg-type]
        shape=values.shape[1:],
        unit=source.unit,
        names=names,
        rate_hz=rate_hz,
        low=source.low,
        high=source.high,
    )
    return Stream(spec, times_s, values)


def _cut(columns: dict[str, np.ndarray], name: str, source: Source, file: Path) -> np.ndarray:
    column = columns[name]
    count = len(column) if column.ndim else 0
    if source.item is not None and not -count <= source.item < count:
        raise DataError(
            f"'{name}' of {file.name} has shape {column.shape}; the manifest asks for entry {source.item} of "
            f"its first axis. Correct 'item' ({file})"
        )
    if source.item is not None:
        column = column[source.item]
    if column.ndim == 0:
        raise DataError(
            f"'{name}' of {file.name} is a single value ({str(column.item())[:40]}); a stream needs one row "
            f"per sample. Name the arrays that hold samples under 'columns' ({file})"
        )
    return column if source.rows is None else column[slice(*source.rows)]


def _samples(parts: list[np.ndarray], name: str, file: Path) -> np.ndarray:
    """(N, ...) of one column as it is, or several side by side."""
    if len(parts) == 1:
        values = parts[0]
    else:
        lengths = {len(p) for p in parts}
        if len(lengths) > 1:
            raise DataError(
                f"the columns of stream '{name}' have {sorted(lengths)} rows; they must be equally long. "
                f"Name columns of one table, or make several streams ({file})"
            )
        values = np.concatenate([p.reshape(len(p), -1) for p in parts], axis=1)
    if len(values) == 0:
        raise DataError(f"stream '{name}' has no rows; leave it out or restore the file ({file})")
    if values.dtype.kind in "US":
        return values.astype(object)
    return values


def _shaped(values: np.ndarray, name: str, source: Source, file: Path) -> np.ndarray:
    if source.shape is not None:
        if values[0].size != np.prod(source.shape):
            raise DataError(
                f"a sample of stream '{name}' holds {values[0].size} numbers; the manifest says shape "
                f"{source.shape}. Correct 'shape' or 'columns' ({file})"
            )
        return values.reshape(len(values), *source.shape)
    return values[:, None] if values.ndim == 1 and values.dtype != object else values


def _clock(path: Path, name: str, source: Source, count: int, zero: Zero) -> tuple[np.ndarray, float | None]:
    """Stamps in seconds and the nominal rate."""
    if source.rate_hz:
        return source.start_s + np.arange(count) / source.rate_hz, source.rate_hz
    if source.time == "index":
        return np.arange(count, dtype=np.float64), None
    if not source.time:
        raise DataError(
            f"stream '{name}' has no clock; expected 'rate_hz', the name of its 'time' column, or \"time\": "
            f'"index" in the manifest. Add one ({path})'
        )
    stamps = _stamps(path, name, source)
    if len(stamps) != count:
        raise DataError(
            f"stream '{name}' has {count} samples but {len(stamps)} time stamps: rows and frames are out of "
            f"step. Correct the files ({path / (source.time_file or source.file)})"
        )
    if zero.scale_s == source.time_scale_s:
        times_s = (stamps - zero.stamp) * source.time_scale_s
    else:
        times_s = stamps * source.time_scale_s - zero.stamp * zero.scale_s
    return times_s, round((count - 1) / (times_s[-1] - times_s[0]), 3) if times_s[-1] > times_s[0] else None


def _stamps(path: Path, name: str, source: Source) -> np.ndarray:
    """The time column as stored, float64."""
    file = path / (source.time_file or source.file)
    columns = read_table(file, skip_lines=0 if source.time_file else source.skip_lines)
    need_columns(columns, [source.time], file)
    stamps = _cut(columns, source.time, source, file)
    if len(stamps) == 0 or stamps.dtype.kind not in "iuf":
        raise DataError(
            f"the time column '{source.time}' of stream '{name}' holds {len(stamps)} entries of type "
            f"{stamps.dtype}; expected numbers. Correct the file ({file})"
        )
    return stamps.astype(np.float64)
