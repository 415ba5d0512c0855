"""Where a LeRobotDataset v3.0 or v2.1 folder keeps each episode, and which streams it declares.

Follows lerobot 0.6: meta/info.json, then one row per episode in meta/episodes/*/*.parquet (v3.0) or a line in
meta/episodes.jsonl (v2.0, v2.1). Streams on a clock of their own are listed under "forerun" in info.json,
which lerobot passes over (see lerobot_writer.py). GR00T's meta/modality.json only regroups columns and is
not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from forerun.data.naming import flat_names, kind_of
from forerun.data.tables import need_columns, open_parquet, read_json, read_json_lines
from forerun.types import DataError, ShapeError, StreamSpec

INDEX_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""Columns that say where a row belongs; they are not streams."""


@dataclass(frozen=True)
class EpisodeEntry:
    """One row of the episode table."""

    index: int
    length: int
    tasks: tuple[str, ...]
    data_file: Path
    cameras: dict[str, tuple[Path, float]]
    """Per camera key: video file, and the second at which the episode begins in it."""
    ends_s: dict[str, float] = field(default_factory=dict)
    """Per camera key: the second at which the episode ends in its video, where the table says so."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Columns whose names begin with "forerun/", without that prefix."""


@dataclass(frozen=True)
class LeRobotMeta:
    """A data set's description, read without touching its samples."""

    path: Path
    info: dict[str, Any]
    specs: dict[str, StreamSpec]
    """Streams of the table and its videos, by feature key."""
    side: dict[str, StreamSpec]
    """Streams on clocks of their own, by key."""
    num_episodes: int
    entry: Callable[[int], EpisodeEntry]
    notes: tuple[str, ...]

    @property
    def fps(self) -> float:
        return float(self.info["fps"])

    @property
    def version(self) -> str:
        return str(self.info["codebase_version"])

    def ordered(self) -> list[StreamSpec]:
        """Every stream, in the order in which forerun wrote them, or the data set's own."""
        specs = {s.name: s for s in (*self.specs.values(), *self.side.values())}
        written = [s["spec"]["name"] for s in self.info.get("forerun", {}).get("streams", [])]
        return [specs[n] for n in written if n in specs] + [s for n, s in specs.items() if n not in written]


def read_meta(path: Path) -> LeRobotMeta:
    """Read meta/ of a LeRobot folder.

    Raises:
        DataError: if a file is missing or unreadable, or the layout's version is unknown.
    """
    info_path = path / "meta" / "info.json"
    info = read_json(info_path)
    need_columns(info, ["codebase_version", "fps", "features", "data_path"], info_path)
    if not isinstance(info["fps"], (int, float)) or info["fps"] <= 0:
        raise DataError(
            f"meta/info.json says fps = {info['fps']!r}; expected a positive rate in Hz. Correct it "
            f"({info_path})"
        )
    notes: list[str] = []
    specs, side = _specs(info, notes)
    cameras = [k for k in specs if info["features"][k].get("dtype") == "video"]
    version = str(info["codebase_version"])
    if version.startswith("v3."):
        count, entry = _entries_v30(path, info, cameras)
    elif version.startswith("v2."):
        count, entry = _entries_v21(path, info, cameras)
    else:
        raise DataError(
            f"the data set says it is LeRobot {version}; forerun reads v3.0, v2.1 and v2.0. Convert it with "
            f"lerobot's own converter first ({path})"
        )
    if count != info.get("total_episodes", count):
        notes.append(f"info.json counts {info['total_episodes']} episodes, the episode table lists {count}")
    return LeRobotMeta(path, info, specs, side, count, entry, tuple(notes))


def _specs(info: dict[str, Any], notes: list[str]) -> tuple[dict[str, StreamSpec], dict[str, StreamSpec]]:
    written = info.get("forerun", {}).get("streams", [])
    own = {s["key"]: StreamSpec.from_json(s["spec"]) for s in written if s["table"]}
    side = {s["key"]: StreamSpec.from_json(s["spec"]) for s in written if not s["table"]}
    specs: dict[str, StreamSpec] = {}
    for key, feature in info["features"].items():
        if key in INDEX_COLUMNS:
            continue
        if key in own:
            specs[key] = own[key]
        elif any(feature.get("info", {}).get(k) for k in ("video.is_depth_map", "is_depth_map")):
            notes.append(f"depth camera '{key}' is left out: forerun reads colour video only")
        elif feature.get("dtype") == "language":
            notes.append(f"annotation column '{key}' is left out: it is no sampled stream")
        else:
            specs[key] = _spec(key, feature, float(info["fps"]), notes)
    return specs, side


def _spec(key: str, feature: dict[str, Any], fps: float, notes: list[str]) -> StreamSpec:
    dtype, shape = feature.get("dtype", "float32"), tuple(int(n) for n in feature.get("shape") or (1,))
    kind, names = kind_of(key, dtype), flat_names(feature.get("names"))
    if kind == "video":
        if shape[0] in (1, 3) and (shape[-1] not in (1, 3) or names[:1] in (("channel",), ("channels",))):
            shape = (*shape[1:], shape[0])
        return StreamSpec(name=key, kind="video", shape=(*shape[:2], 3), unit="rgb", rate_hz=fps)
    if kind == "text":
        return StreamSpec(name=key, kind="text", shape=(), rate_hz=fps)
    try:
        return StreamSpec(name=key, kind=kind, shape=shape, names=names, rate_hz=fps)
    except ShapeError:
        notes.append(
            f"'{key}' has {int(np.prod(shape))} channels but {len(names)} names; the names are left out"
        )
        return StreamSpec(name=key, kind=kind, shape=shape, rate_hz=fps)


def _entries_v30(
    path: Path, info: dict[str, Any], cameras: list[str]
) -> tuple[int, Callable[[int], EpisodeEntry]]:
    table, where = _episode_table(path), path / "meta" / "episodes"
    columns = {name: table.column(name) for name in table.column_names}
    need_columns(columns, ["episode_index", "length", "data/chunk_index", "data/file_index"], where)
    need_columns(columns, [f"videos/{c}/{k}" for c in cameras for k in ("chunk_index", "file_index")], where)

    def entry(i: int) -> EpisodeEntry:
        row = {name: column[i].as_py() for name, column in columns.items()}
        files = {}
        for key in cameras:
            at = {k: row[f"videos/{key}/{k}"] for k in ("chunk_index", "file_index")}
            video = path / info["video_path"].format(video_key=key, **at)
            files[key] = (video, float(row.get(f"videos/{key}/from_timestamp") or 0.0))
        return EpisodeEntry(
            index=row["episode_index"],
            length=row["length"],
            tasks=tuple(row.get("tasks") or ()),
            data_file=path
            / info["data_path"].format(**{k: row[f"data/{k}"] for k in ("chunk_index", "file_index")}),
            cameras=files,
            ends_s={
                key: float(end_s)
                for key in cameras
                if (end_s := row.get(f"videos/{key}/to_timestamp")) is not None
            },
            extra={k.removeprefix("forerun/"): v for k, v in row.items() if k.startswith("forerun/")},
        )

    return len(table), entry


def _episode_table(path: Path) -> pa.Table:
    where = path / "meta" / "episodes"
    files = sorted(where.glob("**/*.parquet"))
    if not files:
        raise DataError(
            "meta/episodes holds no parquet file; a LeRobot v3.0 data set lists its episodes there. A "
            "recording that was interrupted lacks it: finalize the data set, or restore the folder "
            f"({where})"
        )
    tables = []
    for file in files:
        parquet = open_parquet(file)
        tables.append(parquet.read([n for n in parquet.schema_arrow.names if not n.startswith("stats/")]))
    table = pa.concat_tables(tables, promote_options="permissive")
    need_columns(table.column_names, ["episode_index"], where)
    return table.sort_by("episode_index")


def _entries_v21(
    path: Path, info: dict[str, Any], cameras: list[str]
) -> tuple[int, Callable[[int], EpisodeEntry]]:
    file = path / "meta" / "episodes.jsonl"
    rows = read_json_lines(file)
    for row in rows:
        need_columns(row, ["episode_index", "length"], file)
    chunk = int(info.get("chunks_size") or 1000)

    def entry(i: int) -> EpisodeEntry:
        row = rows[i]
        at = {"episode_chunk": row["episode_index"] // chunk, "episode_index": row["episode_index"]}
        return EpisodeEntry(
            index=row["episode_index"],
            length=row["length"],
            tasks=tuple(row.get("tasks") or ()),
            data_file=path / info["data_path"].format(**at),
            cameras={k: (path / info["video_path"].format(video_key=k, **at), 0.0) for k in cameras},
        )

    return len(rows), entry
