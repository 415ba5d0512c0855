"""Where a LeRobotDataset v3.0 or v2.1 folder keeps each episode, and which streams it declares.

Follows lerobot 0.6: meta/info.json, then one row per episode in meta/episodes/*/*.parquet (v3.0) or a line in
meta/episodes.jsonl (v2.0, v2.1). Streams on another clock than the table are listed under "forerun" in info.json,
a key that lerobot passes over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from forerun.types import DataError, Kind, ShapeError, StreamSpec

INDEX_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""Columns that say where a row belongs; they are not streams."""

_TOUCH = re.compile(r"tactile|touch|wrench|force|taxel|torque", re.IGNORECASE)


@dataclass(frozen=True)
class EpisodeEntry:
    """One row of the episode table."""

    index: int
    length: int
    tasks: tuple[str, ...]
    data_file: Path
    cameras: dict[str, tuple[Path, float]]
    """Per camera: video file and the second at which the episode begins in it."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Columns whose names begin with "forerun/", without that prefix."""


@dataclass(frozen=True)
class LeRobotMeta:
    """A data set's description, read without touching its samples."""

    path: Path
    info: dict[str, Any]
    specs: dict[str, StreamSpec]
    """Streams in the table and its videos, by feature key."""
    num_episodes: int
    entry: Callable[[int], EpisodeEntry]
    notes: tuple[str, ...]

    @property
    def fps(self) -> float:
        return float(self.info["fps"])

    @property
    def version(self) -> str:
        return str(self.info["codebase_version"])


def read_json(path: Path) -> Any:
    """Parse a JSON file or say where it breaks."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as cause:
        raise DataError(
            f"{path.name} is missing; the data set needs it. Restore the file ({path})"
        ) from cause
    except (json.JSONDecodeError, UnicodeDecodeError) as cause:
        raise DataError(
            f"{path.name} is no readable JSON ({cause}); expected a JSON document. Restore the file ({path})"
        ) from cause


def read_meta(path: Path) -> LeRobotMeta:
    """Read meta/ of a LeRobot folder.

    Raises:
        DataError: if a file is missing or unreadable, or the layout's version is unknown.
    """
    info_path = path / "meta" / "info.json"
    info = read_json(info_path)
    missing = [k for k in ("codebase_version", "fps", "features", "data_path") if k not in info]
    if missing or not info["fps"] or info["fps"] <= 0:
        raise DataError(
            f"meta/info.json lacks {', '.join(missing) or 'a positive fps'}; a LeRobot data set states "
            f"codebase_version, fps, features and data_path. Restore the file ({info_path})"
        )
    specs, notes = _specs(info)
    cameras = [k for k, s in specs.items() if info["features"][k].get("dtype") == "video"]
    version = str(info["codebase_version"])
    if version.startswith("v3."):
        count, entry = _entries_v30(path, info, cameras)
    elif version.startswith("v2."):
        count, entry = _entries_v21(path, info, cameras)
    else:
        raise DataError(
            f"the data set says it is LeRobot {version}; forerun reads v3.0, v2.1 and v2.0. Convert it with lerobot's "
            f"own converter first ({path})"
        )
    if count != info.get("total_episodes", count):
        notes.append(f"info.json counts {info['total_episodes']} episodes, the episode table lists {count}")
    return LeRobotMeta(path, info, specs, count, entry, tuple(notes))


def kind_of(key: str, dtype: str = "float32") -> Kind:
    """What a feature is for, judged by LeRobot's naming habits."""
    if dtype in ("video", "image"):
        return "video"
    if dtype == "string":
        return "text"
    if key == "action" or key.startswith(("action.", "action/")):
        return "action"
    if key.startswith("next."):  # reward, done, success: labels of the outcome
        return "privileged"
    return "touch" if _TOUCH.search(key) else "vector"


def _specs(info: dict[str, Any]) -> tuple[dict[str, StreamSpec], list[str]]:
    own = {s["key"]: s["spec"] for s in info.get("forerun", {}).get("streams", []) if not s.get("path")}
    specs: dict[str, StreamSpec] = {}
    notes: list[str] = []
    for key, feature in info["features"].items():
        if key in INDEX_COLUMNS:
            continue
        if key in own:
            specs[key] = StreamSpec.from_json(own[key])
        elif feature.get("info", {}).get("video.is_depth_map") or feature.get("info", {}).get("is_depth_map"):
            notes.append(f"depth camera '{key}' is left out: forerun reads colour video only")
        else:
            specs[key] = _spec(key, feature, float(info["fps"]), notes)
    return specs, notes


def _spec(key: str, feature: dict[str, Any], fps: float, notes: list[str]) -> StreamSpec:
    dtype, shape = feature.get("dtype", "float32"), tuple(int(n) for n in feature.get("shape") or (1,))
    kind = kind_of(key, dtype)
    if kind == "video":
        names = flat_names(feature.get("names"))
        if shape[0] in (1, 3) and (shape[-1] not in (1, 3) or (names and names[0].startswith("channel"))):
            shape = (shape[1], shape[2], shape[0])
        return StreamSpec(name=key, kind="video", shape=(shape[0], shape[1], 3), unit="rgb", rate_hz=fps)
    if kind == "text":
        return StreamSpec(name=key, kind="text", shape=(), rate_hz=fps)
    names = flat_names(feature.get("names"))
    try:
        return StreamSpec(name=key, kind=kind, shape=shape, names=names, rate_hz=fps)
    except ShapeError:
        notes.append(
            f"'{key}' has {int(np.prod(shape))} channels but {len(names)} names; the names are left out"
        )
        return StreamSpec(name=key, kind=kind, shape=shape, rate_hz=fps)


def flat_names(names: Any) -> tuple[str, ...]:
    """Channel names, however deep they are nested: a list, a list in a list, a dict of lists, or nothing."""
    if names is None:
        return ()
    if isinstance(names, dict):
        if all(isinstance(v, int) for v in names.values()):
            return tuple(sorted(names, key=names.__getitem__))
        names = list(names.values())
    if isinstance(names, list):
        return tuple(n for part in names for n in flat_names(part))
    return (str(names),)


def _entries_v30(
    path: Path, info: dict[str, Any], cameras: list[str]
) -> tuple[int, Callable[[int], EpisodeEntry]]:
    table = _episode_table(path)
    rows = {name: table.column(name) for name in table.column_names}
    _need(
        rows, ["episode_index", "length", "data/chunk_index", "data/file_index"], path / "meta" / "episodes"
    )
    _need(
        rows,
        [f"videos/{c}/{k}" for c in cameras for k in ("chunk_index", "file_index")],
        path / "meta" / "episodes",
    )

    def entry(i: int) -> EpisodeEntry:
        row = {name: column[i].as_py() for name, column in rows.items()}
        data = info["data_path"].format(
            chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
        )
        files = {}
        for key in cameras:
            at = {k: row[f"videos/{key}/{k}"] for k in ("chunk_index", "file_index")}
            video = path / info["video_path"].format(video_key=key, **at)
            files[key] = (video, float(row.get(f"videos/{key}/from_timestamp") or 0.0))
        extra = {k.removeprefix("forerun/"): v for k, v in row.items() if k.startswith("forerun/")}
        tasks = tuple(row.get("tasks") or ())
        return EpisodeEntry(row["episode_index"], row["length"], tasks, path / data, files, extra)

    return len(table), entry


def _episode_table(path: Path) -> pa.Table:
    files = sorted((path / "meta" / "episodes").glob("**/*.parquet"))
    if not files:
        raise DataError(
            "meta/episodes holds no parquet file; a LeRobot v3.0 data set lists its episodes there (an interrupted "
            f"recording leaves it out: finalize the data set again) ({path / 'meta' / 'episodes'})"
        )
    tables = []
    for file in files:
        names = [n for n in open_parquet(file).schema_arrow.names if not n.startswith("stats/")]
        tables.append(pq.read_table(file, columns=names, partitioning=None))
    return pa.concat_tables(tables, promote_options="permissive").sort_by("episode_index")


def open_parquet(file: Path) -> pq.ParquetFile:
    """Open a parquet file, or say that it is missing or was never finished."""
    if not file.is_file():
        raise DataError(f"{file.name} is missing; the data set's tables name it. Restore the file ({file})")
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as cause:
        raise DataError(
            f"{file.name} ({file.stat().st_size} bytes) is no readable parquet file: {str(cause).splitlines()[0]}. It "
            f"is truncated or was never finalized; write or copy it again ({file})"
        ) from cause


def _need(found: Any, wanted: list[str], where: Path) -> None:
    missing = [w for w in wanted if w not in found]
    if missing:
        raise DataError(
            f"{where.name} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; it has "
            f"{', '.join(list(found)[:12])}. Restore the file or correct meta/info.json ({where})"
        )


def _entries_v21(
    path: Path, info: dict[str, Any], cameras: list[str]
) -> tuple[int, Callable[[int], EpisodeEntry]]:
    file = path / "meta" / "episodes.jsonl"
    if not file.is_file():
        raise DataError(
            f"meta/episodes.jsonl is missing; LeRobot v2.1 lists its episodes there. Restore it ({file})"
        )
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError as cause:
            raise DataError(
                f"line {number} of episodes.jsonl is no JSON ({cause}); restore the file ({file})"
            ) from cause
    chunk = int(info.get("chunks_size", 1000))

    def entry(i: int) -> EpisodeEntry:
        row = rows[i]
        at = {"episode_chunk": row["episode_index"] // chunk, "episode_index": row["episode_index"]}
        data = path / info["data_path"].format(**at)
        files = {k: (path / info["video_path"].format(video_key=k, **at), 0.0) for k in cameras}
        return EpisodeEntry(row["episode_index"], row["length"], tuple(row.get("tasks") or ()), data, files)

    return len(rows), entry
