"""LeRobotDataset v3.0 and v2.1 folders, read without the lerobot package.

The table's rows sit on one clock, frame_index / fps; stamps within 1e-4 s of it (LeRobot's own tolerance) are
taken as exactly that, which removes their float32 rounding. Other stamps are kept as they are.
"""

from __future__ import annotations

import io
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from forerun.data.episode import Episode, Recordings, Stream
from forerun.data.lerobot_meta import EpisodeEntry, LeRobotMeta, _need, open_parquet, read_meta
from forerun.data.video import VideoFrames
from forerun.types import DataError, StreamSpec

TOLERANCE_S = 1e-4
"""How far a stamp may lie from frame_index / fps and still be that frame (lerobot's default)."""


def open_lerobot(path: str | Path) -> Recordings:
    """Open a LeRobot folder; streams keep the data set's own keys.

    Raises:
        DataError: if meta/ is missing, unreadable or of an unknown version. Faults of a single episode (a missing
            file, rows and frames out of step) are raised when that episode is read.
    """
    path = Path(path)
    meta = read_meta(path)
    specs = {spec.name: spec for spec in meta.specs.values()}

    def load(i: int) -> Episode:
        return _load(meta, meta.entry(i))

    version = "v3.0" if meta.version.startswith("v3.") else "v2.1"
    return Recordings(path, f"lerobot-{version}", specs, meta.num_episodes, load, meta.notes)


def _load(meta: LeRobotMeta, entry: EpisodeEntry) -> Episode:
    in_table = [k for k in meta.specs if k not in entry.cameras]
    table = _rows(entry, in_table)
    times_s = _clock(table, meta.fps)
    streams = {}
    for key, spec in meta.specs.items():
        if key in entry.cameras:
            file, start_s = entry.cameras[key]
            height, width, _ = spec.shape
            values: Any = VideoFrames(file, start_s + times_s, height, width, native=(height, width))
        else:
            values = _column(table.column(key), spec, entry.data_file)
        streams[spec.name] = Stream(spec, times_s, values)
    extra = dict(entry.extra)
    return Episode(
        name=extra.pop("name", None) or f"episode_{entry.index:06d}",
        streams=streams,
        task=entry.tasks[0] if entry.tasks else "",
        success=extra.pop("success", None),
        metadata=json.loads(extra.pop("metadata", None) or "{}"),
    )


def _rows(entry: EpisodeEntry, keys: list[str]) -> pa.Table:
    """The episode's rows: only row groups that may hold them are read."""
    file = open_parquet(entry.data_file)
    columns = ["timestamp", "episode_index", *keys]
    _need(file.schema_arrow.names, columns, entry.data_file)
    groups = _groups(entry.data_file, entry.data_file.stat().st_mtime_ns)
    wanted = [g for g, (low, high) in enumerate(groups) if low <= entry.index <= high]
    table = file.read_row_groups(wanted, columns=columns) if wanted else file.schema_arrow.empty_table()
    table = table.filter(pa.compute.equal(table.column("episode_index"), entry.index))
    if len(table) != entry.length:
        raise DataError(
            f"episode {entry.index} has {len(table)} rows; the episode table says {entry.length}: rows and episodes are "
            f"out of step. Run: forerun data doctor PATH ({entry.data_file})"
        )
    return table


@lru_cache(maxsize=1024)
def _groups(file: Path, _mtime_ns: int) -> list[tuple[float, float]]:
    """Lowest and highest episode_index of every row group; unbounded where the writer left no statistics."""
    parquet = pq.ParquetFile(file)
    column = parquet.schema_arrow.names.index("episode_index")
    leaf = [parquet.schema.column(i).path for i in range(len(parquet.schema))].index("episode_index")
    assert column >= 0
    bounds = []
    for g in range(parquet.num_row_groups):
        stats = parquet.metadata.row_group(g).column(leaf).statistics
        known = stats is not None and stats.has_min_max
        bounds.append((stats.min, stats.max) if known else (-np.inf, np.inf))
    return bounds


def _clock(table: pa.Table, fps: float) -> np.ndarray:
    stamps = table.column("timestamp").to_numpy().astype(np.float64)
    grid = np.arange(len(stamps)) / fps
    rounding = np.spacing(np.abs(stamps).astype(np.float32)).astype(np.float64)
    return grid if (np.abs(stamps - grid) <= TOLERANCE_S + rounding).all() else stamps


def _column(column: pa.ChunkedArray, spec: StreamSpec, file: Path) -> Any:
    if spec.kind == "video":
        return Pictures(column.combine_chunks(), spec, file.parent)
    if spec.kind == "text":
        return np.asarray(column.to_pylist(), dtype=object)
    flat = column.combine_chunks()
    while pa.types.is_nested(flat.type):
        flat = flat.flatten()
    values = flat.to_numpy(zero_copy_only=False)
    if values.size != len(column) * spec.size:
        raise DataError(
            f"column '{spec.name}' holds {values.size} numbers in {len(column)} rows; meta/info.json declares the shape "
            f"{spec.shape}, which makes {len(column) * spec.size}. Correct the metadata or the table ({file})"
        )
    return values.reshape(len(column), *spec.shape)


class Pictures:
    """Compressed pictures in a table column (bytes, or HuggingFace's {bytes, path}), decoded when asked for."""

    def __init__(self, column: Any, spec: StreamSpec, folder: Path) -> None:
        self.column, self.spec, self.folder = column, spec, folder

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        frames = np.empty((len(indices), *self.spec.shape), dtype=np.uint8)
        for row, i in enumerate(indices):
            frames[row] = self._decode(self.column[int(i)].as_py(), int(i))
        return frames

    def _decode(self, cell: Any, i: int) -> np.ndarray:
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        try:
            source = io.BytesIO(content) if content else self.folder / cell["path"]
            picture = np.asarray(Image.open(source).convert("RGB"))
        except (OSError, TypeError, KeyError) as cause:
            raise DataError(
                f"picture {i} of '{self.spec.name}' cannot be decoded: {cause}. Restore it"
            ) from cause
        if picture.shape != self.spec.shape:
            raise DataError(
                f"picture {i} of '{self.spec.name}' is {picture.shape}, the data set declares {self.spec.shape}"
            )
        return picture
