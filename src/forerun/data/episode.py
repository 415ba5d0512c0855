"""One recorded episode: named streams, each with its own time stamps.

Readers build these; everything else only reads them. Pictures stay compressed until somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from forerun.types import DataError, ShapeError, StreamSpec, check_clock


@dataclass(frozen=True)
class Stream:
    """Samples with their own clock.

    Args:
        spec: name, kind, unit and shape of one sample.
        times_s: (N,) float64, strictly increasing, seconds since the episode began.
        values: (N, *spec.shape) array, or a function that reads the samples at given indices (a video
            decodes only what is asked for).
    """

    spec: StreamSpec
    times_s: np.ndarray
    values: np.ndarray | Callable[[np.ndarray], np.ndarray]

    def __post_init__(self) -> None:
        check_clock(self.times_s, self.spec.name)
        if isinstance(self.values, np.ndarray) and self.values.shape != (len(self), *self.spec.shape):
            raise ShapeError(
                f"stream '{self.spec.name}' holds values of shape {self.values.shape}; its clock has "
                f"{len(self)} samples of shape {self.spec.shape}"
            )

    def __len__(self) -> int:
        return len(self.times_s)

    def read(self, indices: np.ndarray | None = None) -> np.ndarray:
        """Samples at ``indices`` (all by default), in that order: (len(indices), *shape)."""
        if indices is None:
            indices = np.arange(len(self))
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and (indices.min() < 0 or indices.max() >= len(self)):
            raise DataError(
                f"stream '{self.spec.name}' was asked for sample {int(indices.max())} of {len(self)}"
            )
        return self.values[indices] if isinstance(self.values, np.ndarray) else self.values(indices)


class Aligned(NamedTuple):
    """One stream read at the times of another clock."""

    values: np.ndarray
    """(T, *shape); zero where not valid."""
    valid: np.ndarray
    """(T,) bool: a sample existed and was young enough."""
    age_s: np.ndarray
    """(T,) seconds between the query and the sample, >= 0; inf where there was none."""


def newest_before(times_s: np.ndarray, queries_s: np.ndarray, tolerance_s: float = 1e-6) -> np.ndarray:
    """Index of the newest sample at or before each query; -1 where there is none.

    ``tolerance_s`` forgives the rounding of float32 clocks; it is far below any sensor's period.
    """
    return np.searchsorted(times_s, queries_s + tolerance_s, side="right") - 1


def align(
    stream: Stream, times_s: np.ndarray, *, max_age_s: float = float("inf"), tolerance_s: float = 1e-6
) -> Aligned:
    """Read one stream at the times of another clock, never looking ahead.

    Each query takes the newest sample at or before it. A query whose newest sample is older than
    ``max_age_s`` seconds is marked invalid and left zero; it is never interpolated.
    """
    index = newest_before(stream.times_s, times_s, tolerance_s)
    age_s = np.where(index >= 0, times_s - stream.times_s[np.maximum(index, 0)], np.inf)
    valid = age_s <= max_age_s
    valid &= index >= 0
    values = stream.read(np.maximum(index, 0))
    if not valid.all():
        values = values.copy()
        values[~valid] = 0
    return Aligned(values, valid, np.maximum(age_s, 0.0))


@dataclass(frozen=True)
class Episode:
    """One recording from start to end."""

    name: str
    streams: dict[str, Stream]
    task: str = ""
    success: bool | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        """Seconds from time zero to the last sample of any stream."""
        return max((float(s.times_s[-1]) for s in self.streams.values() if len(s)), default=0.0)

    def of_kind(self, kind: str) -> list[Stream]:
        return [s for s in self.streams.values() if s.spec.kind == kind]


@dataclass(frozen=True)
class Recordings(Sequence[Episode]):
    """A data set on disk, opened: episodes are read only when indexed.

    Args:
        path: where it lies.
        format: "lerobot-v3.0", "lerobot-v2.1", "rlds", "hdf5", "folder", ...
        specs: the streams every episode is expected to have, by name.
        num_episodes: how many.
        load: reads one episode by its index.
        notes: what the reader noticed and a person should know.
    """

    path: Path
    format: str
    specs: dict[str, StreamSpec]
    num_episodes: int
    load: Callable[[int], Episode]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.num_episodes

    @overload
    def __getitem__(self, index: int) -> Episode: ...

    @overload
    def __getitem__(self, index: slice) -> list[Episode]: ...

    def __getitem__(self, index: int | slice) -> Episode | list[Episode]:
        if isinstance(index, slice):
            return [self.load(i) for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"episode {index} of {len(self)}")
        return self.load(index)

    def __iter__(self) -> Iterator[Episode]:
        return (self.load(i) for i in range(len(self)))
