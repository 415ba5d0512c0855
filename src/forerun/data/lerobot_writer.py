"""Write episodes as a LeRobotDataset v3.0 folder that plain v3.0 readers understand, side streams included.

Streams on the common clock k / fps go into LeRobot's table and videos. Every other stream (faster, slower,
irregular) gets streams/{key}/chunk-000/file-000.parquet with its own stamps. info.json lists all of them
under the key "forerun", with kind, unit, names and bounds, so that reading returns the same StreamSpecs;
lerobot passes over that key, over streams/, and over the columns "forerun/..." of the episode table.

The folder is built beside its final name and renamed when whole: an interrupted write leaves nothing there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from av.error import FFmpegError

from forerun.data.episode import Episode, Stream
from forerun.data.lerobot import SIDE_TABLE, SIDE_VIDEO
from forerun.data.lerobot_files import FILES_PER_CHUNK, RollingTable, RollingVideo
from forerun.data.lerobot_plan import Plan, plan
from forerun.data.lerobot_stats import PictureHistogram, PooledVector, to_lists, vector_statistics
from forerun.data.lerobot_tables import episode_schema, tasks_table, to_arrow
from forerun.data.video_writer import Encoding
from forerun.types import ConfigError, DataError, StorageError

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"

_EPISODES_AT_ONCE = 64
"""Rows of the episode table held before they are written."""


def write_lerobot(
    path: str | Path,
    episodes: Iterable[Episode],
    *,
    fps: float,
    robot_type: str = "",
    side: Iterable[str] = (),
    codec: str = "libx264",
    crf: int = 23,
    pix_fmt: str = "yuv420p",
    gop: int = 10,
    data_mb: float = 100,
    video_mb: float = 200,
) -> Path:
    """Write all episodes, one at a time.

    Args:
        path: the folder to make; it must not exist.
        episodes: an iterable; only one episode, and of its videos one block, is in memory at a time.
        fps: rate of the common clock, Hz. The first episode decides which streams sit on it.
        robot_type: free text for info.json.
        side: streams to keep beside the table even if the first episode has them on the common clock.
        codec, crf, pix_fmt, gop: of the videos, see ``Encoding``; 64 x 64 simulator pictures want crf 12,
        yuv444p.
        data_mb, video_mb: size at which a new file is begun.

    Raises:
        StorageError: if ``path`` exists or cannot be written.
        DataError: if there is no episode, or one does not match the first.
    """
    encoding = Encoding(codec=codec, crf=crf, pix_fmt=pix_fmt, gop=gop)
    with LeRobotWriter(
        path, fps=fps, robot_type=robot_type, side=side, encoding=encoding, data_mb=data_mb, video_mb=video_mb
    ) as writer:
        for episode in episodes:
            writer.add(episode)
    return Path(path)


class LeRobotWriter:
    """Takes episodes as they come; leave the ``with`` block without an exception to finish the folder.

    Arguments and errors are those of ``write_lerobot``.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: float,
        robot_type: str = "",
        side: Iterable[str] = (),
        encoding: Encoding | None = None,
        data_mb: float = 100,
        video_mb: float = 200,
    ) -> None:
        if not fps > 0:
            raise ConfigError(f"fps is {fps}; expected a positive rate in Hz")
        self.path, self.fps, self.robot_type = Path(path), float(fps), robot_type
        self.forced_side, self.encoding = tuple(side), encoding or Encoding()
        self.data_mb, self.video_mb = data_mb, video_mb
        if self.path.exists():
            raise StorageError(
                f"{self.path.name} exists already and is not overwritten; choose another name ({self.path})"
            )
        self.root = self.path.with_name(f".{self.path.name}.partial-{os.getpid()}")
        with self._storage():
            self.root.mkdir(parents=True)
        self.plan: Plan | None = None
        self.data = RollingTable(self.root, DATA_PATH, data_mb)
        self.episode_table = RollingTable(self.root, EPISODES_PATH, data_mb)
        self.videos: dict[str, RollingVideo] = {}
        self.sides: dict[str, RollingTable] = {}
        self.tasks: dict[str, int] = {}
        self.pooled: dict[str, PooledVector | PictureHistogram] = {}
        self.rows: list[dict[str, Any]] = []
        self.num_episodes = self.num_rows = 0

    def __enter__(self) -> LeRobotWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None:
            self.abort()
            return
        try:
            self.finalize()
        except BaseException:
            self.abort()
            raise

    @contextlib.contextmanager
    def _storage(self) -> Iterator[None]:
        """Say in a sentence what the disk refused."""
        try:
            yield
        except (OSError, FFmpegError) as cause:
            raise StorageError(
                f"the data set {self.path.name} cannot be written: "
                f"{getattr(cause, 'strerror', None) or cause}. Free some space, or choose a folder that may "
                f"be written ({self.path})"
            ) from cause

    def add(self, episode: Episode) -> None:
        """Append one episode.

        Raises:
            DataError: if its streams do not match those of the first episode.
        """
        if self.plan is None:
            self.plan = plan(episode, self.fps, self.forced_side, self.encoding)
            self._open_files(self.plan)
        length = self.plan.check(episode)
        with self._storage():
            self._append(self.plan, episode, length)

    def _open_files(self, plan: Plan) -> None:
        for key, spec in plan.side.items():
            self.sides[key] = RollingTable(self.root, SIDE_TABLE.replace("{key}", key), self.data_mb)
            if spec.kind == "video":
                template, rate_hz = SIDE_VIDEO.replace("{key}", key), spec.rate_hz or self.fps
                self.videos[key] = RollingVideo(self.root, template, self.video_mb, rate_hz, self.encoding)
        for key, spec in plan.table.items():
            if spec.kind == "video":
                template = VIDEO_PATH.replace("{video_key}", key)
                self.videos[key] = RollingVideo(self.root, template, self.video_mb, self.fps, self.encoding)

    def _append(self, plan: Plan, episode: Episode, length: int) -> None:
        row: dict[str, Any] = {
            "episode_index": self.num_episodes,
            "tasks": [episode.task],
            "length": length,
            "dataset_from_index": self.num_rows,
            "dataset_to_index": self.num_rows + length,
            "forerun/name": episode.name,
            "forerun/success": episode.success,
            "forerun/metadata": json.dumps(episode.metadata, default=_plain),
        }
        row |= self._table(plan, episode, length)
        for key, spec in plan.table.items():
            if spec.kind == "video":
                row |= self._video(key, episode.streams[spec.name])
        for key, spec in plan.side.items():
            if spec.name in episode.streams:
                row |= self._side(key, episode.streams[spec.name])
        self.rows.append(row)
        self.num_episodes += 1
        self.num_rows += length
        if len(self.rows) >= _EPISODES_AT_ONCE:
            self._flush(plan)

    def _table(self, plan: Plan, episode: Episode, length: int) -> dict[str, Any]:
        """Write the rows of an episode; returns their place and statistics."""
        columns = {k: episode.streams[s.name].read() for k, s in plan.table.items() if s.kind != "video"}
        columns |= {
            "timestamp": (np.arange(length) / self.fps).astype(np.float32),
            "frame_index": np.arange(length),
            "episode_index": np.full(length, self.num_episodes),
            "index": self.num_rows + np.arange(length),
            "task_index": np.full(length, self.tasks.setdefault(episode.task, len(self.tasks))),
        }
        place = self.data.write(pa.table({k: to_arrow(v) for k, v in columns.items()}))
        row: dict[str, Any] = {"data/chunk_index": place.chunk_index, "data/file_index": place.file_index}
        for key, values in columns.items():
            if values.dtype == object:
                continue
            part = vector_statistics(values[:, None] if values.ndim == 1 else values)
            pooled = self.pooled.setdefault(key, PooledVector())
            assert isinstance(pooled, PooledVector)
            pooled.add(part)
            row |= {f"stats/{key}/{name}": value for name, value in to_lists(part).items()}
        return row

    def _video(self, key: str, stream: Stream) -> dict[str, Any]:
        """Write the frames of an episode; returns their place and statistics."""
        histogram, done, places = PictureHistogram(), 0, []
        for place, frames in self.videos[key].write(stream):
            places.append(place)
            histogram.add_frames(frames, done, len(stream))
            done += len(frames)
        pooled = self.pooled.setdefault(key, PictureHistogram())
        assert isinstance(pooled, PictureHistogram)
        pooled.add(histogram)
        row = {f"stats/{key}/{name}": value for name, value in to_lists(histogram.statistics()).items()}
        return row | {
            f"videos/{key}/chunk_index": places[0].chunk_index,
            f"videos/{key}/file_index": places[0].file_index,
            f"videos/{key}/from_timestamp": places[0].row / self.fps,
            f"videos/{key}/to_timestamp": (places[0].row + done) / self.fps,
        }

    def _side(self, key: str, stream: Stream) -> dict[str, Any]:
        """Write a stream with its stamps; of a video, its frames and where they are."""
        columns = {
            "episode_index": pa.array(np.full(len(stream), self.num_episodes)),
            "time_s": pa.array(stream.times_s.astype(np.float64)),
        }
        if stream.spec.kind == "video":
            places = [place for place, _ in self.videos[key].write(stream)]
            columns["frame"] = pa.array((places[0].row if places else 0) + np.arange(len(stream)))
            columns["video_file"] = pa.array(np.full(len(stream), self.videos[key].number))
        else:
            columns["value"] = to_arrow(stream.read())
        place = self.sides[key].write(pa.table(columns))
        return {
            f"forerun/streams/{key}/chunk_index": place.chunk_index,
            f"forerun/streams/{key}/file_index": place.file_index,
        }

    def _flush(self, plan: Plan) -> None:
        for row in self.rows:
            row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        schema = episode_schema(plan.table, plan.side, plan.features)
        self.episode_table.write(pa.Table.from_pylist(self.rows, schema=schema))
        self.rows = []

    def finalize(self) -> Path:
        """Write the metadata and give the folder its name.

        Raises:
            DataError: if no episode was added.
            StorageError: if the disk is full, or the name was taken meanwhile.
        """
        if self.plan is None:
            raise DataError("there is no episode to write; a data set needs at least one")
        with self._storage():
            if self.rows:
                self._flush(self.plan)
            for part in (self.data, self.episode_table, *self.videos.values(), *self.sides.values()):
                part.close()
            pq.write_table(tasks_table(list(self.tasks)), self.root / "meta" / "tasks.parquet")
            self._write_json("stats.json", {k: to_lists(p.statistics()) for k, p in self.pooled.items()})
            self._write_json("info.json", self._info(self.plan))
            os.rename(self.root, self.path)
        return self.path

    def _info(self, plan: Plan) -> dict[str, Any]:
        specs = plan.table | plan.side
        streams = [{"key": k, "table": k in plan.table, "spec": specs[k].to_json()} for k in plan.order]
        return {
            "codebase_version": "v3.0",
            "robot_type": self.robot_type,
            "total_episodes": self.num_episodes,
            "total_frames": self.num_rows,
            "total_tasks": len(self.tasks),
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": self.data_mb,
            "video_files_size_in_mb": self.video_mb,
            "fps": int(self.fps) if self.fps.is_integer() else self.fps,
            "splits": {"train": f"0:{self.num_episodes}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if any(s.kind == "video" for s in plan.table.values()) else None,
            "features": plan.features,
            "forerun": {"version": 1, "streams": streams},
        }

    def _write_json(self, name: str, content: Any) -> None:
        (self.root / "meta" / name).write_text(json.dumps(content, indent=2), encoding="utf-8")

    def abort(self) -> None:
        """Give up and remove what was written."""
        for part in (self.data, self.episode_table, *self.sides.values()):
            with contextlib.suppress(OSError, pa.ArrowException):
                part.close()
        for video in self.videos.values():
            video.abort()
        shutil.rmtree(self.root, ignore_errors=True)


def _plain(value: Any) -> Any:
    """What JSON takes in place of numpy's numbers and arrays."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
