"""A repaired copy of a LeRobot folder in the same version, with the video bytes of the original."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from forerun.data.doctor_lerobot import name_of
from forerun.data.lerobot_meta import EpisodeEntry, LeRobotMeta, read_meta
from forerun.data.lerobot_stats import (
    PictureHistogram,
    PooledVector,
    to_lists,
    vector_statistics,
)
from forerun.data.tables import open_parquet, to_array
from forerun.data.video import index_video, read_frames
from forerun.types import DataError

SAMPLED_FRAMES = 100  # per episode and camera, as lerobot samples them for its statistics


class LeRobotRepair:
    """Copies sound episodes from ``root`` to ``copy``, mending their tables on the way.

    Args:
        root: the LeRobot folder; it is only read.
        copy: an empty folder.
        faulty: episodes to leave out, by name, and why.
    """

    def __init__(self, root: Path, copy: Path, faulty: dict[str, str]) -> None:
        self.root, self.copy, self.faulty = root, copy, faulty
        self.meta: LeRobotMeta = read_meta(root)
        self.v3 = self.meta.version.startswith("v3")
        self.said: list[str] = []
        self.rows = 0
        self.kept: list[tuple[EpisodeEntry, int, dict[str, Any]]] = []
        """Every copied episode: its old entry, its length, its statistics."""
        self.writers: dict[Path, pq.ParquetWriter] = {}

    def run(self, progress: Callable[[int, int], None] | None = None) -> list[str]:
        """Do it; returns what was changed."""
        count = self.meta.num_episodes
        try:
            for i in range(count):
                self._episode(self.meta.entry(i))
                if progress:
                    progress(i + 1, count)
        finally:
            for writer in self.writers.values():
                writer.close()
        if not self.kept:
            raise DataError(
                f"none of the {count} episodes is sound, so there is nothing to copy: {self.root}"
            )
        self._metadata()
        self.said.append(f"computed the statistics of {len(self.kept)} episodes anew")
        return self.said

    def _episode(self, entry: EpisodeEntry) -> None:
        name = name_of(entry)
        if name in self.faulty:
            self.said.append(f"left out {name}: it {self.faulty[name]}")
            return
        try:
            table = _rows_of(entry.data_file, entry.data_file.stat().st_mtime_ns, entry.index)
            frames = {camera: self._frames(entry, camera) for camera in entry.cameras}
        except (DataError, OSError) as cause:
            self.said.append(f"left out {name}: {cause}")
            return
        length = min([len(table), *frames.values()])
        if length < 2:
            self.said.append(f"left out {name}: {length} rows have a frame of every camera")
            return
        try:
            statistics = self._picture_statistics(entry, length)
        except DataError as cause:
            self.said.append(f"left out {name}: {cause}")
            return
        if length < len(table):
            self.said.append(f"{name}: cut {len(table) - length} rows at the end that have no frame")
        table = self._mended(table.slice(0, length), name)
        statistics |= self._statistics(table)
        self._write_rows(entry, table)
        for camera, (video, _) in entry.cameras.items():
            self._copy_video(entry, camera, video, length, frames[camera])
        self.kept.append((entry, length, statistics))
        self.rows += length

    def _frames(self, entry: EpisodeEntry, camera: str) -> int:
        """How many frames of a camera are there for this episode; in a shared file, at most its own."""
        video, start_s = entry.cameras[camera]
        there = index_video(video).num_frames - round(start_s * self.meta.fps)
        return min(there, entry.length) if self.v3 else there

    def _mended(self, table: pa.Table, name: str) -> pa.Table:
        """Index columns as they should be; time stamps put right where they do not increase."""
        count, place = len(table), np.arange(len(table))
        stamps = to_array(table.column("timestamp")).astype(np.float64).reshape(-1)
        right = {
            "frame_index": place,
            "episode_index": np.full(count, len(self.kept)),
            "index": self.rows + place,
        }
        if not (np.isfinite(stamps).all() and (np.diff(stamps) > 0).all()):
            right["timestamp"] = place / self.meta.fps
            self.said.append(f"{name}: put the time stamps, which ran backwards, at frame_index / fps")
        for column, values in right.items():
            if column not in table.column_names:
                continue
            at = table.column_names.index(column)
            if column == "frame_index" and not np.array_equal(to_array(table.column(at)).reshape(-1), values):
                self.said.append(f"{name}: renumbered frame_index")
            kind = table.schema.field(at)
            table = table.set_column(at, kind, _like(values, kind.type))
        return table

    def _write_rows(self, entry: EpisodeEntry, table: pa.Table) -> None:
        if self.v3:
            place = self.copy / entry.data_file.relative_to(self.root)
        else:
            at = {"episode_chunk": len(self.kept) // self._chunk, "episode_index": len(self.kept)}
            place = self.copy / self.meta.info["data_path"].format(**at)
        place.parent.mkdir(parents=True, exist_ok=True)
        if place not in self.writers:
            self.writers[place] = pq.ParquetWriter(place, table.schema)
        self.writers[place].write_table(table, row_group_size=len(table))
        if not self.v3:
            self.writers.pop(place).close()

    @property
    def _chunk(self) -> int:
        return int(self.meta.info.get("chunks_size") or 1000)

    def _copy_video(self, entry: EpisodeEntry, camera: str, video: Path, length: int, there: int) -> None:
        if self.v3:
            place = self.copy / video.relative_to(self.root)
        else:
            new = len(self.kept)
            at = {"video_key": camera, "episode_chunk": new // self._chunk, "episode_index": new}
            place = self.copy / self.meta.info["video_path"].format(**at)
        if place.exists():
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        if not self.v3 and there > length and cut_video(video, place, length):
            self.said.append(f"{name_of(entry)}: cut {there - length} frames of {camera} that have no row")
        else:
            shutil.copyfile(video, place)

    def _statistics(self, table: pa.Table) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in table.column_names:
            if (
                pa.types.is_string(table.schema.field(name).type)
                or self.meta.info["features"].get(name) is None
            ):
                continue
            if self.meta.info["features"][name].get("dtype") in ("image", "video", "string"):
                continue
            values = to_array(table.column(name))
            found[name] = vector_statistics(values.reshape(len(values), -1))
        return found

    def _picture_statistics(self, entry: EpisodeEntry, length: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for camera, (video, start_s) in entry.cameras.items():
            first = round(start_s * self.meta.fps)
            wanted = np.round(np.linspace(0, length - 1, min(SAMPLED_FRAMES, length))).astype(int)
            histogram = PictureHistogram()
            for some in np.array_split(wanted, max(1, len(wanted) // 16)):
                histogram.add_frames(read_frames(video, first + some), 0, 1)
            found[camera] = histogram
        return found

    def _metadata(self) -> None:
        for file in (self.root / "meta").rglob("*"):
            place = self.copy / file.relative_to(self.root)
            if file.is_file() and "episodes" not in file.relative_to(self.root / "meta").parts[0]:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)
        count = len(self.kept)
        changed = {"total_episodes": count, "total_frames": self.rows, "splits": self._splits()}
        if "total_videos" in self.meta.info:
            changed["total_videos"] = count * len(self.kept[0][0].cameras)
        if "total_chunks" in self.meta.info:
            changed["total_chunks"] = -(-count // self._chunk)
        (self.copy / "meta" / "info.json").write_text(json.dumps(self.meta.info | changed, indent=4))
        if self.v3:
            self._episodes_v30()
            self._side_streams()
        else:
            self._episodes_v21()
        if self.v3 or (self.root / "meta" / "stats.json").is_file():
            (self.copy / "meta" / "stats.json").write_text(json.dumps(self._pooled(), indent=1))

    def _splits(self) -> dict[str, str]:
        """The old spans, counted in kept episodes."""
        kept, spans = [entry.index for entry, _, _ in self.kept], {}
        for name, span in (self.meta.info.get("splits") or {}).items():
            first, _, last = str(span).partition(":")
            if first.isdigit() and last.isdigit():
                spans[name] = f"{sum(i < int(first) for i in kept)}:{sum(i < int(last) for i in kept)}"
        return spans

    def _pooled(self) -> dict[str, Any]:
        pooled: dict[str, Any] = {}
        for _, _, statistics in self.kept:
            for name, part in statistics.items():
                vector = not isinstance(part, PictureHistogram)
                pooled.setdefault(name, PooledVector() if vector else PictureHistogram()).add(part)
        totals = {n: p.total if isinstance(p, PooledVector) else p.statistics() for n, p in pooled.items()}
        return {name: to_lists(total) for name, total in totals.items() if total is not None}

    def _episodes_v21(self) -> None:
        lines, stats = [], []
        for new, (entry, length, statistics) in enumerate(self.kept):
            lines.append({"episode_index": new, "tasks": list(entry.tasks), "length": length})
            stats.append({"episode_index": new, "stats": {n: _v21(s) for n, s in statistics.items()}})
        for name, rows in (("episodes.jsonl", lines), ("episodes_stats.jsonl", stats)):
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (self.copy / "meta" / name).write_text(text, encoding="utf-8")

    def _episodes_v30(self) -> None:
        files = sorted((self.root / "meta" / "episodes").rglob("*.parquet"))
        old = pa.concat_tables([pq.read_table(f) for f in files], promote_options="permissive")
        by_index = {int(row["episode_index"]): row for row in old.to_pylist()}
        rows, start = [], 0
        for new, (entry, length, statistics) in enumerate(self.kept):
            row = by_index[entry.index] | {"episode_index": new, "length": length}
            row |= {"dataset_from_index": start, "dataset_to_index": start + length}
            for camera, (_, start_s) in entry.cameras.items():
                row[f"videos/{camera}/to_timestamp"] = start_s + length / self.meta.fps
            for name, part in statistics.items():
                listed = to_lists(part.statistics() if isinstance(part, PictureHistogram) else part)
                row |= {f"stats/{name}/{k}": v for k, v in listed.items() if f"stats/{name}/{k}" in row}
            row |= {key: 0 for key in row if key.startswith("meta/episodes/")}
            rows.append(row)
            start += length
        place = self.copy / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
        place.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema=old.schema), place)

    def _side_streams(self) -> None:
        """Streams on clocks of their own: rows of kept episodes, renumbered; their videos as they are."""
        new = {entry.index: i for i, (entry, _, _) in enumerate(self.kept)}
        for file in sorted((self.root / "streams").rglob("*")):
            place = self.copy / file.relative_to(self.root)
            if not file.is_file():
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix != ".parquet":
                shutil.copyfile(file, place)
                continue
            table = pq.read_table(file)
            with pq.ParquetWriter(place, table.schema) as writer:
                at = table.column_names.index("episode_index")
                for old, number in new.items():
                    mine = _of_episode(table, old)
                    column = _like(np.full(len(mine), number), table.schema.field(at).type)
                    writer.write_table(mine.set_column(at, table.schema.field(at), column))


def _like(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Numbers as a column of the given type: plain, or lists of one."""
    if pa.types.is_nested(kind):
        return pa.array(values.reshape(-1, 1).tolist(), type=kind)
    return pa.array(values).cast(kind)


def _v21(part: Any) -> dict[str, Any]:
    listed = to_lists(part.statistics() if isinstance(part, PictureHistogram) else part)
    return {name: listed[name] for name in ("min", "max", "mean", "std", "count")}


def _of_episode(table: pa.Table, episode: int) -> pa.Table:
    return table.filter(pa.array(to_array(table.column("episode_index")).reshape(-1) == episode))


@lru_cache(maxsize=2)
def _table(file: Path, _mtime_ns: int) -> pa.Table:
    try:
        return open_parquet(file).read()
    except (pa.ArrowException, OSError) as cause:
        raise DataError(f"{file.name} cannot be read: {str(cause).splitlines()[0]}") from cause


def _rows_of(file: Path, mtime_ns: int, episode: int) -> pa.Table:
    table = _table(file, mtime_ns)
    return _of_episode(table, episode)


def cut_video(source: Path, place: Path, frames: int) -> bool:
    """Copy the first ``frames`` frames of a video without encoding them again.

    Returns False, and writes nothing, where frames are stored out of order: dropping one could spoil others.
    """
    keep = index_video(source).pts[:frames]
    with av.open(str(source)) as old:
        track = old.streams.video[0]
        packets = [p for p in old.demux(track) if p.size]
        if any(p.pts != p.dts for p in packets if p.dts is not None):
            return False
        with av.open(str(place), "w") as new:
            copied = new.add_stream_from_template(track)
            for packet in packets:
                if packet.pts is not None and packet.pts <= keep[-1]:
                    packet.stream = copied
                    new.mux(packet)
    return True
