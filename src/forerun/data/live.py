"""Record live at a kilohertz: the control loop copies samples into memory, a thread writes them to disk.

FOLDER/
  live.json            what the streams are, when the clock was zero, and at the end what was lost
  STREAM.values        samples end to end, as they are in memory
  STREAM.stamps        their capture times, int64 nanoseconds

Files only ever grow, so that a process that is killed loses what the thread had not written yet, a few tenths
of a second, and nothing else: `open_live` reads the folder as it lies.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import numpy as np

from forerun.data.episode import Episode, Recordings, Stream
from forerun.data.tables import read_json
from forerun.types import DataError, ShapeError, StorageError, StreamSpec

LIVE = "live.json"
FORMAT = "forerun-live-1"
EVERY_S = 0.1
"""Between two writes of the thread."""
NS = 10**9


class _Ring:
    """Samples of one stream on their way to disk; one writer, one reader, no lock."""

    def __init__(self, spec: StreamSpec, dtype: np.dtype, slots: int, folder: Path) -> None:
        self.spec, self.dtype, self.slots = spec, dtype, slots
        self.values = np.zeros((slots, *spec.shape), dtype)
        self.stamps = np.zeros(slots, np.int64)
        self.written = self.taken = self.lost = 0
        stem = _file_stem(folder, spec.name)
        self.files: tuple[IO[bytes], IO[bytes]] = (
            stem.with_name(stem.name + ".values").open("wb", buffering=0),
            stem.with_name(stem.name + ".stamps").open("wb", buffering=0),
        )

    def append(self, value: Any, stamp_ns: int) -> bool:
        if self.taken - self.written >= self.slots:
            self.lost += 1
            return False
        slot = self.taken % self.slots
        self.values[slot] = value
        self.stamps[slot] = stamp_ns
        self.taken += 1  # only now may the thread see it
        return True

    def drain(self) -> None:
        """Write what has come, values first: a stamp on disk always has its sample."""
        upto = self.taken
        while self.written < upto:
            first = self.written % self.slots
            last = min(first + upto - self.written, self.slots)
            for file, array in zip(self.files, (self.values, self.stamps), strict=True):
                _write_all(file, array[first:last].view(np.uint8).data.cast("B"))
            self.written += last - first

    def close(self) -> None:
        for file in self.files:
            file.close()


def _usual_dtype(spec: StreamSpec) -> type[np.generic]:
    return np.uint8 if spec.kind == "video" or spec.family == "tactile_image" else np.float32


def _file_stem(folder: Path, name: str) -> Path:
    """Where a stream's files lie; names that differ never share them."""
    return folder / quote(name, safe=" .")


def _write_all(file: IO[bytes], data: memoryview) -> None:
    while len(data):
        data = data[file.write(data) :]


class LiveRecorder:
    """Takes samples of any streams, at any rates, without allocating, locking or waiting.

    >>> with LiveRecorder("run1", {"skin": spec}, origin_ns=time.time_ns()) as recorder:
    ...     recorder.append("skin", sample, time.time_ns())

    Args:
        folder: to make; it must not exist.
        specs: of the streams, by name.
        origin_ns: when the recording's clock is zero; stamps are on the same clock.
        dtypes: of samples in memory and on disk; float32 by default, uint8 for pictures.
        seconds: how long the disk may hang before samples are lost, at the streams' nominal rates.
        task: what is being done.

    Raises:
        StorageError: the folder exists or cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        specs: Mapping[str, StreamSpec],
        *,
        origin_ns: int,
        dtypes: Mapping[str, Any] | None = None,
        seconds: float = 2.0,
        task: str = "",
    ) -> None:
        self.folder, self.origin_ns, self.task = Path(folder), origin_ns, task
        self.error: OSError | None = None
        try:
            self.folder.mkdir(parents=True)
            self._rings = {
                name: _Ring(
                    spec,
                    np.dtype((dtypes or {}).get(name, _usual_dtype(spec))),
                    max(16, int(seconds * (spec.rate_hz or 1000.0))),
                    self.folder,
                )
                for name, spec in specs.items()
            }
            self._describe(closed=False)
        except OSError as cause:
            raise StorageError(
                f"'{self.folder.name}' cannot be recorded into: {cause.strerror or cause}. Choose a folder "
                f"that does not exist yet, on a disk with space ({self.folder})"
            ) from cause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="live-recorder", daemon=True)
        self._thread.start()

    def append(self, name: str, value: Any, stamp_ns: int) -> bool:
        """Keep one sample; False if it was lost because the disk did not follow. Call it from one thread.

        Raises:
            ShapeError: a sample of another shape.
        """
        ring = self._rings[name]
        if np.shape(value) != ring.spec.shape:
            raise ShapeError(
                f"a sample of shape {np.shape(value)} came for stream '{name}'; expected {ring.spec.shape}"
            )
        return ring.append(value, stamp_ns)

    @property
    def lost(self) -> dict[str, int]:
        """Samples that found no room, by stream."""
        return {name: ring.lost for name, ring in self._rings.items()}

    def _work(self) -> None:
        told = 0
        while not self._stop.wait(EVERY_S):
            self._drain()
            lost = sum(self.lost.values())
            if lost != told:
                told = lost
                with contextlib.suppress(OSError):
                    self._describe(closed=False)  # should the end come without a word
        self._drain()

    def _drain(self) -> None:
        if self.error is not None:
            return
        try:
            for ring in self._rings.values():
                ring.drain()
        except OSError as cause:  # the loop goes on, its samples are counted as lost
            self.error = cause

    def _describe(self, closed: bool) -> None:
        about = {
            "format": FORMAT,
            "origin_ns": self.origin_ns,
            "task": self.task,
            "closed": closed,
            "streams": {
                name: {"spec": ring.spec.to_json(), "dtype": ring.dtype.str, "lost": ring.lost}
                for name, ring in self._rings.items()
            },
        }
        part = self.folder / f".{LIVE}"
        part.write_text(json.dumps(about, indent=1))
        part.replace(self.folder / LIVE)

    def close(self) -> None:
        """Write what is left.

        Raises:
            StorageError: the disk refused some of it; what was written before can be read.
        """
        self._stop.set()
        self._thread.join()
        try:
            for ring in self._rings.values():
                ring.close()
            if self.error is None:
                self._describe(closed=True)
        except OSError as cause:
            self.error = cause
        if self.error is not None:
            kept = sum(ring.written for ring in self._rings.values())
            raise StorageError(
                f"recording into '{self.folder.name}' stopped: {self.error.strerror or self.error}. {kept} "
                f"samples are on disk and can be read; free some space before the next one ({self.folder})"
            ) from self.error

    def __enter__(self) -> LiveRecorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def live_folders(path: Path) -> list[Path]:
    """The recording at ``path``, or those directly below it."""
    return [path] if (path / LIVE).is_file() else sorted(f.parent for f in path.glob(f"*/{LIVE}"))


def open_live(path: str | Path) -> Recordings:
    """Open what a `LiveRecorder` wrote, or a folder of such, whether or not it was closed.

    Raises:
        DataError: a file is missing, or its stamps run backwards.
    """
    folders = live_folders(Path(path))
    first = _load(folders[0])
    notes = tuple(note for folder in folders for note in _notes(folder))
    specs = {name: stream.spec for name, stream in first.streams.items()}
    return Recordings(Path(path), "live", specs, len(folders), lambda i: _load(folders[i]), notes)


def _notes(folder: Path) -> list[str]:
    about = _about(folder)
    lost = {name: stream["lost"] for name, stream in about["streams"].items() if stream["lost"]}
    said = [f"'{folder.name}': {n} samples of '{name}' were lost while recording" for name, n in lost.items()]
    if not about["closed"]:
        said.append(f"'{folder.name}' was not closed: its last tenths of a second may be missing")
    return said


def _about(folder: Path) -> dict[str, Any]:
    about = read_json(folder / LIVE)
    if about.get("format") != FORMAT:
        raise DataError(
            f"'{folder.name}' says format '{about.get('format')}'; this version of forerun reads '{FORMAT}'. "
            f"Read it with the version that recorded it ({folder})"
        )
    return about


def _load(folder: Path) -> Episode:
    about = _about(folder)
    streams = {
        name: _stream(folder, StreamSpec.from_json(stream["spec"]), stream["dtype"], about["origin_ns"])
        for name, stream in about["streams"].items()
    }
    return Episode(folder.name, streams, about["task"], None, {"origin_ns": about["origin_ns"]})


def _stream(folder: Path, spec: StreamSpec, dtype: str, origin_ns: int) -> Stream:
    stem = _file_stem(folder, spec.name)
    try:
        stamps = _whole(Path(f"{stem}.stamps"), np.dtype(np.int64), ())
        values = _whole(Path(f"{stem}.values"), np.dtype(dtype), spec.shape)
    except OSError as cause:
        raise DataError(
            f"stream '{spec.name}' of '{folder.name}' cannot be read: {cause.strerror or cause}; expected "
            f"{stem.name}.values and {stem.name}.stamps. Copy the folder again ({folder})"
        ) from cause
    if len(values) < len(stamps):
        raise ShapeError(
            f"stream '{spec.name}' of '{folder.name}' has {len(stamps)} stamps but {len(values)} samples; "
            f"expected a sample for each. Copy the folder again ({folder})"
        )
    return Stream(spec, (stamps - origin_ns) / NS, values[: len(stamps)])


def _whole(file: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """All whole samples of a file; a last one that was cut short is left out."""
    size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    return np.fromfile(file, np.uint8, file.stat().st_size // size * size).view(dtype).reshape(-1, *shape)
