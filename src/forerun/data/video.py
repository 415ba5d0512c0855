"""Frames of a video file, by index or by time, and writing frames back.

A file is first indexed: every packet's time stamp and key flag, nothing decoded. Requests are then sorted,
neighbouring frames share one seek, and a small pool of open decoders serves repeated requests.
Pictures are (N, height, width, 3) uint8 RGB.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from PIL import Image

from forerun.data.episode import Stream
from forerun.data.tables import need_file
from forerun.types import DataError

VIDEO_SUFFIXES = (".mp4", ".webm", ".avi", ".gif", ".mkv", ".mov", ".m4v")
"""File names the folder reader takes for video."""

_MAX_OPEN_DECODERS = 8
"""Per thread. An open 720p decoder holds about 20 MB of reference frames."""


@dataclass(frozen=True)
class VideoIndex:
    """What a video file holds, found without decoding it."""

    path: Path
    height: int
    width: int
    codec: str
    pix_fmt: str
    times_s: np.ndarray
    """(N,) float64, seconds since the first frame, in order of display."""
    pts: np.ndarray
    """(N,) int64, presentation stamps in the container's own unit, in order of display."""
    key_frames: np.ndarray
    """(K,) int64, indices of the frames where decoding can begin."""

    @property
    def num_frames(self) -> int:
        return len(self.pts)

    @cached_property
    def rate_hz(self) -> float:
        """Mean rate over the file; 0 for a single picture."""
        return (self.num_frames - 1) / float(self.times_s[-1]) if self.num_frames > 1 else 0.0

    @cached_property
    def constant_rate(self) -> bool:
        """Whether frame k lies within a quarter of a frame of k / rate_hz."""
        even = np.arange(self.num_frames) / (self.rate_hz or 1.0)
        return bool(np.abs(self.times_s - even).max() * self.rate_hz < 0.25)

    def frames_at(self, times_s: np.ndarray) -> np.ndarray:
        """Index of the frame shown at each time; by index where the rate is constant, else by time stamp.

        Raises:
            DataError: where the nearest frame is more than half a frame away, as happens when a video is
                shorter than the table beside it.
        """
        period = 1.0 / self.rate_hz if self.rate_hz else 1.0
        if self.constant_rate and self.rate_hz:
            index = np.rint(times_s * self.rate_hz).astype(np.int64)
        else:
            right = np.searchsorted(self.times_s, times_s).clip(1, max(self.num_frames - 1, 1))
            right = np.minimum(right, self.num_frames - 1)
            left = np.maximum(right - 1, 0)
            nearer = np.abs(times_s - self.times_s[left]) <= np.abs(self.times_s[right] - times_s)
            index = np.where(nearer, left, right)
        index = index.clip(0, self.num_frames - 1)
        away = np.abs(self.times_s[index] - times_s) > 0.5 * period + 1e-3
        if away.any():
            raise DataError(
                f"the video {self.path.name} has {self.num_frames} frames and ends at "
                f"{self.times_s[-1]:.3f} s, but the table beside it expects {away.sum()} more, the first at "
                f"{times_s[away][0]:.3f} s: rows and frames are out of step. Run: forerun data doctor PATH "
                f"--fix COPY ({self.path})"
            )
        return index


def index_video(path: str | Path) -> VideoIndex:
    """Read the frame table of a video; cached until the file changes.

    Raises:
        DataError: if the file is absent, empty, truncated or no video.
    """
    path = Path(path)
    need_file(path, "a video stream is to be read from it")
    stat = path.stat()
    return _index(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4096)
def _index(path: Path, _mtime_ns: int, _size: int) -> VideoIndex:
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            if not container.streams.video:
                raise DataError(
                    f"{path.name} has no picture track; expected a video. Record it again ({path})"
                )
            stream = container.streams.video[0]
            promised, context, unit = stream.frames, stream.codec_context, float(stream.time_base or 1)
            stamps, keys = _packet_table(container, stream)
            shape = context.height, context.width, context.codec.canonical_name, context.pix_fmt or ""
    except (FFmpegError, OSError) as cause:
        raise DataError(
            f"the video {path.name} ({path.stat().st_size} bytes) cannot be opened: {_reason(cause)}. It is "
            f"truncated or no video; record or copy it again ({path})"
        ) from cause
    if len(stamps) == 0 or len(stamps) < promised:
        raise DataError(
            f"the video {path.name} holds {len(stamps)} frames where its header promises "
            f"{promised or 'some'}: it is truncated. Record or copy it again ({path})"
        )
    return VideoIndex(path, *shape, times_s=(stamps - stamps[0]) * unit, pts=stamps, key_frames=keys)


def _packet_table(container: Any, stream: Any) -> tuple[np.ndarray, np.ndarray]:
    """Presentation stamps in display order, and the indices of key frames."""
    packets = [p for p in container.demux(stream) if p.size and not p.is_discard]
    stamps = [p.pts for p in packets]
    if any(s is None for s in stamps):  # AVI stores only decoding order: count frames instead
        stamps = [p.dts if p.dts is not None else i for i, p in enumerate(packets)]
    pts = np.asarray(stamps, dtype=np.int64)
    order = np.argsort(pts, kind="stable")
    key = np.asarray([p.is_keyframe for p in packets], dtype=bool)[order]
    return pts[order], np.flatnonzero(key)


def _reason(cause: BaseException) -> str:
    return getattr(cause, "strerror", None) or str(cause)


class _Decoder:
    """One open file, remembering which frame comes out next."""

    def __init__(self, path: Path) -> None:
        self.index = index_video(path)
        self.signature = path.stat().st_mtime_ns
        self.scaler = VideoReformatter()
        self._open()

    def _open(self) -> None:
        self.container = av.open(str(self.index.path), metadata_errors="ignore")
        self.stream = self.container.streams.video[0]
        self.stream.codec_context.thread_count = 1  # training shares the cores; workers give parallelism
        self._restart()

    def _restart(self) -> None:
        self.coming: Iterator[av.VideoFrame] = self.container.decode(self.stream)
        self.position = -1

    def close(self) -> None:
        self.container.close()

    def _seek(self, frame: int, keys_back: int) -> None:
        """Go to the key frame before ``frame``, or ``keys_back`` earlier, unless decoding on gets there
        sooner."""
        keys = self.index.key_frames
        rank = int(np.searchsorted(keys, frame, side="right")) - 1
        before = int(keys[rank - keys_back]) if rank >= keys_back else 0
        if not keys_back and self.position < frame and before <= self.position + 1:
            return
        if before == 0:
            self.close()  # a GIF cannot seek; opening again always works
            self._open()
        else:
            self.container.seek(int(self.index.pts[before]), stream=self.stream)
            self._restart()

    def _advance(self, frame: int) -> av.VideoFrame | None:
        """Decode up to ``frame``; None when it never came."""
        for picture in self.coming:
            stamp = picture.pts if picture.pts is not None else picture.dts
            self.position = (
                self.position + 1 if stamp is None else int(np.searchsorted(self.index.pts, stamp))
            )
            if self.position == frame:
                return picture
            if self.position > frame:
                return None
        return None

    def frame(self, frame: int, height: int, width: int) -> np.ndarray:
        """One picture (height, width, 3) uint8 RGB, averaged over areas when made smaller."""
        try:
            picture = None
            for keys_back in (
                0,
                1,
                8,
                len(self.index.key_frames),
            ):  # AVI seeks by decoding order, and lands late
                self._seek(frame, keys_back)
                picture = self._advance(frame)
                if picture is not None:
                    break
        except FFmpegError as cause:
            raise self._damaged(frame, _reason(cause)) from cause
        if picture is None:
            raise self._damaged(frame, f"decoding stopped at frame {self.position}")
        rgb = self.scaler.reformat(picture, width=width, height=height, format="rgb24", interpolation="AREA")
        return rgb.to_ndarray()

    def _damaged(self, frame: int, reason: str) -> DataError:
        path = self.index.path
        return DataError(
            f"frame {frame} of {path.name} cannot be decoded: {reason}. Its table lists "
            f"{self.index.num_frames} frames; the file is damaged, record or copy it again ({path})"
        )


class _Pool(threading.local):
    """Open decoders of this thread, least recently used first. A forked child starts with an empty pool."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.open: OrderedDict[Path, _Decoder] = OrderedDict()

    def get(self, path: Path) -> _Decoder:
        if self.pid != os.getpid():
            self.__init__()
        decoder = self.open.pop(path, None)
        if decoder is not None and (not path.exists() or path.stat().st_mtime_ns != decoder.signature):
            decoder.close()
            decoder = None
        self.open[path] = decoder or _Decoder(path)
        while len(self.open) > _MAX_OPEN_DECODERS:
            self.open.popitem(last=False)[1].close()
        return self.open[path]

    def drop(self, path: Path) -> None:
        decoder = self.open.pop(path, None)
        if decoder is not None:
            decoder.close()


_pool = _Pool()


def read_frames(
    path: str | Path, indices: np.ndarray, *, height: int | None = None, width: int | None = None
) -> np.ndarray:
    """Frames at ``indices`` in that order: (N, height, width, 3) uint8 RGB.

    Each frame is decoded once; a run of neighbours costs one seek. ``height`` and ``width`` (both or none)
    scale while decoding, averaging areas.

    Raises:
        DataError: if the file is damaged or has fewer frames than asked for.
    """
    path, indices = Path(path), np.asarray(indices, dtype=np.int64)
    index = index_video(path)
    height, width = height or index.height, width or index.width
    if indices.size and (indices.min() < 0 or indices.max() >= index.num_frames):
        raise DataError(
            f"frame {int(indices.max())} was asked for; the video {path.name} has {index.num_frames} frames "
            f"(0 to {index.num_frames - 1}). Run: forerun data doctor PATH ({path})"
        )
    wanted, place = np.unique(indices, return_inverse=True)
    frames = np.empty((len(wanted), height, width, 3), dtype=np.uint8)
    try:
        decoder = _pool.get(path)
        for rank, frame in enumerate(wanted):
            frames[rank] = decoder.frame(int(frame), height, width)
    except DataError:
        _pool.drop(path)
        raise
    return frames if np.array_equal(wanted, indices) else frames[place]


@dataclass(frozen=True)
class VideoFrames:
    """The values of a video stream: calling it with sample indices decodes those frames.

    Args:
        path: the video file, possibly shared by many episodes.
        height, width: size of the pictures returned.
        native: (height, width) of the file as the data set declares it; None when the file is trusted.
        times_s: (N,) seconds since the file's first frame, one per sample, or None where ``frames`` is given.
        frames: (N,) index in the file of every sample.
    """

    path: Path
    height: int
    width: int
    native: tuple[int, ...] | None = None
    times_s: np.ndarray | None = None
    frames: np.ndarray | None = None

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        return read_frames(self.path, self.frame_index()[indices], height=self.height, width=self.width)

    def frame_index(self) -> np.ndarray:
        """Index in the file of every sample of the stream: (N,).

        Raises:
            DataError: if the file is shorter than the stream, or its pictures are not of the declared size.
        """
        index = index_video(self.path)
        if self.native is not None and self.native != (index.height, index.width):
            raise DataError(
                f"the pictures in {self.path.name} are {index.height} x {index.width} (height x width); the "
                f"data set declares {self.native[0]} x {self.native[1]}. Correct its metadata or encode the "
                f"video again ({self.path})"
            )
        if self.frames is not None:
            return self.frames
        return np.arange(index.num_frames) if self.times_s is None else index.frames_at(self.times_s)

    def resized(self, height: int, width: int) -> VideoFrames:
        return replace(self, height=height, width=width)


def resize_video(stream: Stream, height: int, width: int) -> Stream:
    """The same video stream with pictures of (height, width), scaled while decoding where the source can."""
    spec = replace(stream.spec, shape=(height, width, 3))
    source: Any = stream.values
    if spec.shape == stream.spec.shape:
        return stream
    if hasattr(source, "resized"):
        return Stream(spec, stream.times_s, source.resized(height, width))

    def shrink(indices: np.ndarray) -> np.ndarray:
        pictures = [
            Image.fromarray(f).resize((width, height), Image.Resampling.BOX) for f in stream.read(indices)
        ]
        return (
            np.stack([np.asarray(p) for p in pictures]) if pictures else np.empty((0, *spec.shape), np.uint8)
        )

    return Stream(spec, stream.times_s, shrink)
