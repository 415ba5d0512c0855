"""LeRobotDataset v3.0 and v2.1 folders, read without the lerobot package.

Rows of the table sit on one clock, frame_index / fps; stamps within 1e-4 s of it (LeRobot's own tolerance)
are taken as exactly that, which removes their float32 rounding. Other stamps are kept as they are. Streams
on other clocks come from streams/{key}/, which forerun's writer adds to the layout.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from forerun.data.episode import Episode, Recordings, Stream
from forerun.data.lerobot_meta import EpisodeEntry, LeRobotMeta, read_meta
from forerun.data.pictures import Pictures
from forerun.data.tables import first_line, need_columns, open_parquet, to_array
from forerun.data.video import VideoFrames
from forerun.types import DataError, StreamSpec

TOLERANCE_S = 1e-4
"""How far a stamp may lie from frame_index / fps and still be that frame (lerobot's default)."""

SIDE_TABLE = "streams/{key}/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
"""One row group per episode: episode_index, time_s (float64), and value; of a video, frame in place of
value."""

SIDE_VIDEO = "streams/{key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


def open_lerobot(path: str | Path) -> Recordings:
    """Open a LeRobot folder; streams keep the data set's own keys.

    Raises:
        DataError: if meta/ is missing, unreadable or of an unknown version. Faults of one episode (a
            missing file, rows and frames out of step) are raised when that episode is read.
    """
    path = Path(path)
    meta = read_meta(path)
    version = "v3.0" if meta.version.startswith("v3.") else "v2.1"
    specs = {spec.name: spec for spec in meta.ordered()}
    return Recordings(
        path, f"lerobot-{version}", specs, meta.num_episodes, lambda i: _load(meta, meta.entry(i)), meta.notes
    )


def _load(meta: LeRobotMeta, entry: EpisodeEntry) -> Episode:
    table = _rows(
        entry.data_file, entry.index, ["timestamp", *(k for k in meta.specs if k not in entry.cameras)]
    )
    if len(table) != entry.length:
        raise DataError(
            f"episode {entry.index} has {len(table)} rows, the episode table says {entry.length}: rows and "
            f"episodes are out of step. Run: forerun data doctor PATH ({entry.data_file})"
        )
    times_s = _clock(table, meta.fps)
    streams = {}
    for key, spec in meta.specs.items():
        if key in entry.cameras:
            file, start_s = entry.cameras[key]
            values: Any = VideoFrames(file, *spec.shape[:2], native=spec.shape[:2], times_s=start_s + times_s)
        else:
            values = _values(table.column(key), spec, entry.data_file, meta.path)
        streams[spec.name] = Stream(spec, times_s, values)
    for key, spec in meta.side.items():
        if entry.extra.get(f"streams/{key}/file_index") is not None:
            streams[spec.name] = _side_stream(meta.path, key, spec, entry)
    extra = entry.extra
    return Episode(
        name=extra.get("name") or f"episode_{entry.index:06d}",
        streams={spec.name: streams[spec.name] for spec in meta.ordered() if spec.name in streams},
        task=entry.tasks[0] if entry.tasks else "",
        success=extra.get("success"),
        metadata=json.loads(extra.get("metadata") or "{}"),
    )


def _rows(file: Path, episode: int, columns: list[str]) -> pa.Table:
    """The rows of one episode: only row groups that may hold them are read."""
    parquet = open_parquet(file)
    need_columns(parquet.schema_arrow.names, ["episode_index", *columns], file)
    groups = _row_groups(file, file.stat().st_mtime_ns)
    wanted = [g for g, (low, high) in enumerate(groups) if low <= episode <= high]
    try:
        table = parquet.read_row_groups(wanted, columns=["episode_index", *columns])
    except (pa.ArrowException, OSError) as cause:
        raise DataError(
            f"the rows of episode {episode} in {file.name} cannot be read: {first_line(cause)}. The file is "
            f"damaged; write or copy it again ({file})"
        ) from cause
    return table.filter(pa.array(to_array(table.column("episode_index")) == episode))


@lru_cache(maxsize=1024)
def _row_groups(file: Path, _mtime_ns: int) -> list[tuple[float, float]]:
    """Lowest and highest episode_index of every row group; unbounded where the writer left no statistics."""
    parquet = open_parquet(file)
    leaf = [parquet.schema.column(i).path for i in range(len(parquet.schema))].index("episode_index")
    bounds = []
    for g in range(parquet.num_row_groups):
        found = parquet.metadata.row_group(g).column(leaf).statistics
        bounds.append(
            (found.min, found.max) if found is not None and found.has_min_max else (-np.inf, np.inf)
        )
    return bounds


def _clock(table: pa.Table, fps: float) -> np.ndarray:
    stamps = to_array(table.column("timestamp")).astype(np.float64).reshape(-1)
    grid = np.arange(len(stamps)) / fps
    rounding = np.spacing(np.abs(stamps).astype(np.float32)).astype(np.float64)
    return grid if (np.abs(stamps - grid) <= TOLERANCE_S + rounding).all() else stamps


def _values(column: pa.ChunkedArray, spec: StreamSpec, file: Path, folder: Path) -> Any:
    if spec.kind == "video":
        return Pictures(column, spec.shape, spec.name, folder)
    if spec.kind == "text":
        return np.asarray(column.to_pylist(), dtype=object)
    values = to_array(column)
    if values.size != len(column) * spec.size:
        raise DataError(
            f"column '{spec.name}' holds {values.size} numbers in {len(column)} rows; meta/info.json "
            f"declares the shape {spec.shape}, so {len(column) * spec.size} are expected. Correct the "
            f"metadata or the table ({file})"
        )
    return values.reshape(len(column), *spec.shape)


def _side_stream(path: Path, key: str, spec: StreamSpec, entry: EpisodeEntry) -> Stream:
    at = {k: entry.extra[f"streams/{key}/{k}"] for k in ("chunk_index", "file_index")}
    file, video = path / SIDE_TABLE.format(key=key, **at), spec.kind == "video"
    table = _rows(file, entry.index, ["time_s", *(("frame", "video_file") if video else ("value",))])
    times_s = to_array(table.column("time_s"))
    if not video:
        return Stream(spec, times_s, _values(table.column("value"), spec, file, path))
    frames, number = (
        to_array(table.column("frame")),
        table.column("video_file")[0].as_py() if len(table) else 0,
    )
    pictures = path / SIDE_VIDEO.format(key=key, chunk_index=number // 1000, file_index=number % 1000)
    return Stream(spec, times_s, VideoFrames(pictures, *spec.shape[:2], native=spec.shape[:2], frames=frames))
