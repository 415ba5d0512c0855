"""Write pictures as a video file: whole, or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import PictureType

from forerun.types import ConfigError, DataError, StorageError


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How pictures are compressed."""

    codec: str = "libx264"
    """An FFmpeg encoder: "libx264" plays everywhere, "libsvtav1" is smaller and slower."""
    crf: int = 23
    """Constant quality, lower is better; about 12 keeps a 64 x 64 simulator picture."""
    pix_fmt: str = "yuv420p"
    """ "yuv444p" keeps full colour resolution; "yuv420p" halves it and plays in browsers."""
    gop: int = 10
    """A key frame every so many frames: what a random read costs at most."""

    def __post_init__(self) -> None:
        worst = 51 if "26" in self.codec else 63
        if not 0 <= self.crf <= worst:
            raise ConfigError(
                f"the video quality crf is {self.crf}; {self.codec} takes 0 (best) to {worst} (worst). "
                "Choose 12 for small pictures, 23 for others"
            )


def _options(encoding: Encoding) -> dict[str, str]:
    crf = {"crf": str(encoding.crf)}
    if "264" in encoding.codec:
        return crf | {"preset": "veryfast"}
    if encoding.codec == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # errors only; it prints its settings otherwise
        return crf | {"preset": "8", "svtav1-params": "lp=1"}
    return crf | {"b": "0", "deadline": "realtime", "cpu-used": "8"} if "vp9" in encoding.codec else {}


class VideoWriter:
    """An encoder that takes pictures as they come; the file can be played after ``close`` only.

    Raises:
        ConfigError: if the encoder is unknown or does not take such pictures.
    """

    def __init__(self, path: Path, height: int, width: int, fps: float, encoding: Encoding) -> None:
        if encoding.pix_fmt == "yuv420p" and (height % 2 or width % 2):
            raise ConfigError(
                f"pictures of {height} x {width} cannot be stored as yuv420p, which needs even sides; pass "
                "pix_fmt='yuv444p', or crop the pictures"
            )
        self.path, self.shape, self.num_frames = path, (height, width, 3), 0
        self.num_bytes = 0
        self.rate = Fraction(fps).limit_denominator(100_000)
        self.container = self._open(path, encoding)
        self.stream.width, self.stream.height, self.stream.pix_fmt = width, height, encoding.pix_fmt
        self.stream.options = _options(encoding)
        context = self.stream.codec_context
        context.gop_size, context.thread_count = encoding.gop, 1
        context.max_b_frames = 0  # a frame then depends on earlier ones only

    def _open(self, path: Path, encoding: Encoding) -> Any:
        index_first = {"movflags": "faststart"} if path.suffix in (".mp4", ".mov", ".m4v") else {}
        container = av.open(str(path), "w", options=index_first)
        try:
            self.stream: Any = container.add_stream(encoding.codec, rate=self.rate)
        except (FFmpegError, ValueError) as cause:
            container.close()
            raise ConfigError(
                f"the video encoder '{encoding.codec}' is not in this FFmpeg, or does not go into a "
                f"{path.suffix} file; use 'libx264' or 'libsvtav1' with .mp4"
            ) from cause
        return container

    def write(self, frames: np.ndarray, *, new_run: bool = False) -> None:
        """Append (N, height, width, 3) uint8 RGB; ``new_run`` begins with a key frame."""
        if frames.shape[1:] != self.shape or frames.dtype != np.uint8:
            raise DataError(
                f"pictures of shape {frames.shape[1:]} and type {frames.dtype} were given; the video takes "
                f"{self.shape} uint8 RGB like its first picture. Resize them ({self.path})"
            )
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = self.num_frames, 1 / self.rate
            if new_run and i == 0:
                frame.pict_type = PictureType.I
            self._mux(frame)
            self.num_frames += 1

    def _mux(self, frame: av.VideoFrame | None) -> None:
        for packet in self.stream.encode(frame):
            self.num_bytes += packet.size
            self.container.mux(packet)

    def close(self) -> None:
        """Write what the encoder still holds, and the index."""
        self._mux(None)
        self.container.close()

    def abort(self) -> None:
        """Let go of the file without finishing it."""
        with contextlib.suppress(OSError, FFmpegError, ValueError):
            self.container.close()


def write_video(
    path: str | Path,
    frames: np.ndarray | Iterable[np.ndarray],
    fps: float,
    codec: str = "libx264",
    crf: int = 23,
    pix_fmt: str = "yuv420p",
    gop: int = 10,
) -> Path:
    """Write pictures (N, height, width, 3) uint8 RGB, or an iterable of single ones, at ``fps`` Hz.

    The file appears under its name only when complete.

    Raises:
        StorageError: if ``path`` exists, or cannot be written.
        DataError: if there is no picture, or they differ in size.
    """
    path = Path(path)
    if path.exists():
        raise StorageError(f"{path.name} exists already and is not overwritten; choose another name ({path})")
    partial = path.with_name(f".partial-{path.name}")
    encoding = Encoding(codec=codec, crf=crf, pix_fmt=pix_fmt, gop=gop)
    try:
        _encode(partial, frames, fps, encoding)
        partial.rename(path)
    except (OSError, FFmpegError) as cause:
        raise StorageError(
            f"{path.name} cannot be written: {cause.strerror or cause}. Free some space or choose a folder "
            f"that may be written ({path})"
        ) from cause
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    return path


def _encode(path: Path, frames: Iterable[np.ndarray], fps: float, encoding: Encoding) -> None:
    writer: VideoWriter | None = None
    try:
        for picture in frames:
            if writer is None:
                writer = VideoWriter(path, picture.shape[0], picture.shape[1], fps, encoding)
            writer.write(picture[None])
        if writer is None:
            raise DataError("there is no picture to write; a video needs at least one")
        writer.close()
    except BaseException:
        if writer is not None:
            writer.abort()
        raise
