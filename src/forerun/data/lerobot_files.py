"""Files of a LeRobot v3.0 folder that hold many episodes each and roll over at a size cap."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from forerun.data.episode import Stream
from forerun.data.video_writer import Encoding, VideoWriter

FILES_PER_CHUNK = 1000

_BLOCK_BYTES = 32 * 1024 * 1024
"""Uncompressed pictures held at once while a video is copied."""


class Place(NamedTuple):
    """Where an episode begins."""

    chunk_index: int
    file_index: int
    row: int
    """First row, or frame, in the file."""


class Rolling:
    """Counts files and makes their folders."""

    def __init__(self, root: Path, template: str, cap_mb: float) -> None:
        self.root, self.template, self.cap = root, template, cap_mb * 1024 * 1024
        self.number, self.filled, self.rows = -1, 0.0, 0

    def next_file(self) -> Path:
        self.number, self.filled, self.rows = self.number + 1, 0.0, 0
        chunk, file = divmod(self.number, FILES_PER_CHUNK)
        path = self.root / self.template.format(chunk_index=chunk, file_index=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def place(self) -> Place:
        return Place(*divmod(self.number, FILES_PER_CHUNK), self.rows)


class RollingTable(Rolling):
    """Parquet files, one row group per ``write``; the cap counts uncompressed bytes, as lerobot does."""

    writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> Place:
        if self.writer is None or self.filled >= self.cap:
            self.close()
            self.writer = pq.ParquetWriter(self.next_file(), table.schema)
        place = self.place()
        self.writer.write_table(table, row_group_size=max(len(table), 1))
        self.filled += table.nbytes
        self.rows += len(table)
        return place

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


class RollingVideo(Rolling):
    """Video files; every episode begins with a key frame."""

    writer: VideoWriter | None = None

    def __init__(self, root: Path, template: str, cap_mb: float, fps: float, encoding: Encoding) -> None:
        super().__init__(root, template, cap_mb)
        self.fps, self.encoding = fps, encoding

    def write(self, stream: Stream) -> Iterator[tuple[Place, np.ndarray]]:
        """Copy a whole stream; yields each block of frames with its place in the file, for whoever counts
        them."""
        height, width, _ = stream.spec.shape
        if self.writer is None or self.writer.num_bytes >= self.cap:
            self.close()
            self.writer = VideoWriter(self.next_file(), height, width, self.fps, self.encoding)
        step = max(1, _BLOCK_BYTES // (height * width * 3))
        for start in range(0, len(stream), step):
            frames = stream.read(np.arange(start, min(start + step, len(stream))))
            place = self.place()
            self.writer.write(frames, new_run=start == 0)
            self.rows += len(frames)
            yield place, frames

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def abort(self) -> None:
        if self.writer is not None:
            self.writer.abort()
            self.writer = None
