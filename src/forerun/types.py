"""What every room speaks: stream and action specifications, and the errors a user may meet.

A robot is described by named streams. Each stream carries its own unit, shape and clock; time is in
seconds since the episode began. Nothing in this file needs torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["video", "vector", "touch", "action", "privileged", "text"]
"""What a stream is for. ``privileged`` (simulator state, labels) is stored and never shown to a model."""
Family = Literal["wrench", "taxels", "tactile_image", "magnetometer"]
"""What measures touch: forces and torques (6, N and N m); C x H x W taxels; pictures of a gel (uint8 RGB);
magnets in a skin (3 per site, T)."""


class Error(Exception):
    """A mistake forerun can explain. The message says what was found, what was expected, what to do."""


class DataError(Error, ValueError):
    """A recording is missing, truncated, out of step, or holds values no model should see."""


class ClockError(DataError):
    """A stream's time stamps run backwards, repeat, or are not finite."""


class ShapeError(Error, ValueError):
    """Two parties disagree about the shape, unit or names of a stream or an action."""


class CheckpointError(Error, ValueError):
    """A checkpoint is absent, corrupt, foreign, or of another architecture."""


class ConfigError(Error, ValueError):
    """A setting is unknown, out of range, or would have no effect."""


class StorageError(Error, OSError):
    """The disk is full, the folder is read-only, or an output already exists."""


class MissingExtraError(Error, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class RenderError(Error, RuntimeError):
    """No OpenGL platform is available to draw camera pictures."""


def require(module: str, extra: str, purpose: str) -> Any:
    """Import an optional dependency, or say in one sentence which extra brings it."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as cause:
        raise MissingExtraError(
            f"{purpose} needs the package '{module.split('.')[0]}', which is not installed: "
            f"pip install 'forerun[{extra}]'"
        ) from cause


@dataclass(frozen=True, kw_only=True)
class StreamSpec:
    """One named stream of a robot: what a single sample looks like, and in which unit."""

    name: str
    kind: Kind
    shape: tuple[int, ...]
    """Shape of one sample; video is (height, width, 3) uint8 RGB, 0..255."""
    unit: str = ""
    """SI where it has one: "m", "rad", "N", "N m"; "" where it has none; "rgb" for video."""
    names: tuple[str, ...] = ()
    """One name per channel of a vector, or empty."""
    rate_hz: float | None = None
    """Nominal rate; the time stamps are the truth."""
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    """Bounds per channel: what an action may be, where a sensor saturates."""
    family: Family | None = None
    """Of touch, if known."""
    bias: tuple[float, ...] | None = None
    """What each channel reads while nothing is touched, in its unit; still in the samples."""
    delay_s: float = 0.0
    """From a sample's stamp, which is when it was captured, to its arrival; nobody knew it before."""
    frame: str = ""
    """Coordinate frame that vectors are in, such as "wrist"."""

    def __post_init__(self) -> None:
        if self.names and len(self.names) != int(np.prod(self.shape)):
            raise ShapeError(
                f"stream '{self.name}' has shape {self.shape} but {len(self.names)} channel names; "
                "give one name per channel, or none"
            )
        if self.bias is not None and len(self.bias) != self.size:
            raise ShapeError(
                f"stream '{self.name}' has {self.size} channels but a bias of {len(self.bias)} numbers; give "
                "one per channel, or none"
            )
        if not 0 <= self.delay_s < 60:
            raise ShapeError(
                f"stream '{self.name}' is said to arrive {self.delay_s} s after it was captured; expected 0 "
                "to 60 s. Stamps must say when a sample was captured, in seconds"
            )
        self._check_family()

    def _check_family(self) -> None:
        wanted = {
            "wrench": self.shape == (6,),
            "taxels": len(self.shape) == 3,
            "tactile_image": len(self.shape) == 3 and self.shape[-1] == 3,
            "magnetometer": bool(self.shape) and self.shape[-1] == 3,
        }
        if self.family is not None and (self.kind != "touch" or not wanted[self.family]):
            raise ShapeError(
                f"stream '{self.name}' of kind '{self.kind}' and shape {self.shape} is called {self.family}; "
                "expected kind 'touch' and (6,) of a wrench, (C, H, W) of taxels, (H, W, 3) of a tactile "
                "image, (..., 3) of magnetometers"
            )

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> StreamSpec:
        tuples: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**tuples)


def check_clock(times_s: np.ndarray, stream: str) -> None:
    """Raise ClockError unless ``times_s`` (N,) is finite and strictly increasing, in seconds."""
    if not np.isfinite(times_s).all():
        first = int(np.flatnonzero(~np.isfinite(times_s))[0])
        raise ClockError(
            f"stream '{stream}' has a time stamp that is not a number at sample {first}; every sample needs "
            "a finite time in seconds. Run: forerun data doctor PATH"
        )
    backwards = np.flatnonzero(np.diff(times_s) <= 0)
    if backwards.size:
        i = int(backwards[0])
        raise ClockError(
            f"the clock of stream '{stream}' runs backwards or stands still at sample {i + 1} "
            f"({times_s[i]:.6f} s, then {times_s[i + 1]:.6f} s; {backwards.size} such places); time must "
            "strictly increase. Run: forerun data doctor PATH --fix COPY"
        )
