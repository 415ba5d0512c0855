"""Recordings decoded once into a memory-mapped table on the world model's clock, ready to train on.

A cache is a folder of .npy files and a cache.json, named after the hash of its sources and settings. It is
written beside its final place and renamed when complete, so a folder with a cache.json is whole.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from forerun.data.episode import Episode, Recordings
from forerun.data.fingerprint import digest, source_hash
from forerun.data.ticks import (
    RowPlan,
    picture_freshness,
    plan_rows,
    read_pictures,
    read_rows,
    tick_times,
)
from forerun.data.touch import arrived
from forerun.types import ConfigError, DataError, StorageError, StreamSpec

LAYOUT = 1  # raise when the meaning of a row changes
GIB = 2**30


@dataclass(frozen=True)
class TickCache:
    """All episodes, end to end, one row per tick.

    Row k of an episode is at ``start_s + k * tick_s``. Pictures and vectors are the newest sample at or
    before it, bursts the statistics of the tick that ends there, actions the mean over the tick that begins
    there.
    """

    directory: Path
    tick_s: float
    specs: dict[str, StreamSpec]
    """Of the cached entries; all action streams are joined under "action"."""
    streams: dict[str, np.ndarray]
    """(N, *shape) memory-mapped: uint8 pictures, float32 otherwise."""
    valid: dict[str, np.ndarray]
    """(N,) bool per stream: false where the newest sample was stale or the burst empty."""
    action_names: list[str]
    """Recorded action streams in the order they are joined; empty if the set has none."""
    episode_starts: np.ndarray
    """(E + 1,) int64: rows of episode e are ``episode_starts[e]:episode_starts[e + 1]``."""
    episodes: list[dict[str, Any]]
    """Per episode: name, task, success, start_s (s on the episode's clock), hash of its content."""
    hash: str

    @classmethod
    def open(cls, directory: str | Path) -> TickCache:
        """Map a finished cache.

        Raises:
            DataError: not a cache, of another version, or a file is absent or cut short.
        """
        directory = Path(directory)
        try:
            about = json.loads((directory / "cache.json").read_text())
            if about["layout"] != LAYOUT:
                raise ValueError(f"layout {about['layout']}, expected {LAYOUT}")
            specs = {name: StreamSpec.from_json(spec) for name, spec in about["specs"].items()}
            rows = int(about["episode_starts"][-1])
            streams = {
                name: _map(directory / f"{name}.npy", (rows, *spec.shape)) for name, spec in specs.items()
            }
            valid = {name: _map(directory / f"{name}.valid.npy", (rows,)) for name in specs}
        except (OSError, ValueError, KeyError, TypeError) as cause:
            raise DataError(
                f"this folder is not a complete cache of ticks ({cause}); delete it and run the same command "
                f"again to rebuild it: {directory}"
            ) from cause
        return cls(
            directory=directory,
            tick_s=about["tick_s"],
            specs=specs,
            streams=streams,
            valid=valid,
            action_names=about["action_names"],
            episode_starts=np.asarray(about["episode_starts"], dtype=np.int64),
            episodes=about["episodes"],
            hash=about["hash"],
        )

    @property
    def num_rows(self) -> int:
        return int(self.episode_starts[-1])

    @property
    def num_episodes(self) -> int:
        return len(self.episodes)

    @property
    def has_action(self) -> bool:
        return "action" in self.specs

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in (*self.streams.values(), *self.valid.values()))

    def rows_of(self, episodes: np.ndarray | Sequence[int]) -> np.ndarray:
        """All row numbers of the given episodes, in order."""
        starts = self.episode_starts.tolist()
        spans = [np.arange(starts[e], starts[e + 1]) for e in np.asarray(episodes)]
        return np.concatenate(spans) if spans else np.empty(0, dtype=np.int64)


def _map(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.shape != shape:
        raise ValueError(f"{path.name} holds {array.shape}, expected {shape}")
    return array


def build_cache(
    recordings: Recordings,
    directory: str | Path,
    *,
    tick_s: float,
    image_size: int = 64,
    streams: Sequence[str] | None = None,
    byte_budget: int = 8 * GIB,
    burst_samples: float = 8.0,
    progress: Callable[[int, int], None] | None = None,
) -> TickCache:
    """Decode recordings into ``directory/HASH``, or open the cache that is there already.

    Args:
        recordings: one or more episodes.
        directory: where caches lie; made if absent.
        tick_s: seconds per row.
        image_size: pictures become ``image_size`` x ``image_size`` by area averaging; other aspects are
            squashed.
        streams: which to keep; all but text by default.
        byte_budget: refuse, before decoding, to write more than this.
        burst_samples: a vector stream with more samples per tick than this becomes burst statistics; touch
            does from one sample per tick.
        progress: called with (episodes done, episodes in all).

    Raises:
        ConfigError: unknown stream, a setting out of range, or the table would pass the budget.
        DataError: a chosen stream is absent, not finite, or out of step.
        StorageError: the disk is full or read-only. Nothing half-written stays.
    """
    _check_settings(recordings, tick_s, image_size)
    directory = Path(directory)
    plans = plan_rows(
        recordings, tick_s=tick_s, image_size=image_size, streams=streams, burst_samples=burst_samples
    )
    settings = {
        "layout": LAYOUT,
        "tick_s": tick_s,
        "image_size": image_size,
        "plans": {name: (plan.mode, plan.spec.to_json()) for name, plan in plans.items()},
    }
    key = digest(json.dumps(settings).encode(), source_hash(recordings).encode())
    final = directory / key
    if (final / "cache.json").exists():
        return TickCache.open(final)
    clocks = [tick_times(episode, list(plans), tick_s) for episode in recordings]
    needed = _check_budget(sum(map(len, clocks)), plans, byte_budget, tick_s, image_size)
    _check_space(directory, needed)
    with _folder(final) as partial:
        about = _write(recordings, partial, plans, clocks, tick_s, progress)
        (partial / "cache.json").write_text(json.dumps({**settings, **about, "hash": key}, indent=1))
    return TickCache.open(final)


def _check_settings(recordings: Recordings, tick_s: float, image_size: int) -> None:
    if not (np.isfinite(tick_s) and tick_s > 0):
        raise ConfigError(f"the tick is {tick_s} s; it must be a positive number of seconds, for example 0.1")
    if not 8 <= image_size <= 2048:
        raise ConfigError(
            f"the image size is {image_size}; it must be between 8 and 2048 pixels, for example 64"
        )
    if not len(recordings):
        raise DataError(f"the set holds no episode; there is nothing to train on: {recordings.path}")


def _check_budget(rows: int, plans: dict[str, RowPlan], budget: int, tick_s: float, image_size: int) -> int:
    """Bytes of the table."""
    needed = rows * sum(plan.row_bytes for plan in plans.values())
    if needed > budget:
        raise ConfigError(
            f"the cache would take {needed / GIB:.2f} GiB ({rows} ticks of {tick_s:g} s, pictures at "
            f"{image_size} x {image_size}); the budget is {budget / GIB:.2f} GiB. Choose a smaller "
            "--image-size, a longer --tick, fewer --streams, or a larger --cache-gb"
        )

    return needed


def _check_space(directory: Path, needed: int) -> None:
    """Fail before minutes of decoding, not after."""
    there = next(parent for parent in (directory, *directory.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise StorageError(
            f"the cache takes {needed / GIB:.2f} GiB and the disk has {free / GIB:.2f} GiB free; free some "
            f"space or choose another place with --cache: {directory}"
        )


@contextmanager
def _folder(final: Path) -> Iterator[Path]:
    """A folder to fill that takes its final name only if all went well."""
    partial = final.parent / f".{final.name}.partial-{os.getpid()}"
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _sweep(final)
        partial.mkdir()
        yield partial
        partial.rename(final)
    except OSError as cause:
        if (final / "cache.json").exists():  # another process was faster with the same table
            return
        reason = "the disk is full" if cause.errno == errno.ENOSPC else (cause.strerror or str(cause)).lower()
        raise StorageError(
            f"the cache could not be written: {reason}; nothing half-written was kept. Free some space or "
            f"choose another place with --cache: {final.parent}"
        ) from cause
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sweep(final: Path, untouched_s: float = 600.0) -> None:
    """Remove what a killed build of the same table left behind."""
    for leftover in final.parent.glob(f".{final.name}.partial-*"):
        touched = max((f.stat().st_mtime for f in leftover.iterdir()), default=leftover.stat().st_mtime)
        if time.time() - touched > untouched_s:
            shutil.rmtree(leftover, ignore_errors=True)


class _Table:
    """Appends rows to .npy files of a length known beforehand.

    Ordinary writes, not a memory map: on a full disk a map ends the process with a bus error.
    """

    def __init__(self, folder: Path, rows: int):
        self.folder, self.rows = folder, rows
        self.files: dict[str, BinaryIO] = {}

    def append(self, name: str, values: np.ndarray) -> None:
        if name not in self.files:
            self.files[name] = (self.folder / f"{name}.npy").open("wb")
            header = {
                "descr": values.dtype.str,
                "fortran_order": False,
                "shape": (self.rows, *values.shape[1:]),
            }
            np.lib.format.write_array_header_2_0(self.files[name], header)
        self.files[name].write(np.ascontiguousarray(values).data)

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.files.values():
            file.close()


def _write(
    recordings: Recordings,
    folder: Path,
    plans: dict[str, RowPlan],
    clocks: list[np.ndarray],
    tick_s: float,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    """Fill the table episode by episode; what cache.json says about it."""
    episodes = []
    with _Table(folder, sum(map(len, clocks))) as table:
        for i, (episode, times_s) in enumerate(zip(recordings, clocks, strict=True)):
            content = _write_episode(table, episode, plans, times_s, tick_s)
            facts = {"name": episode.name, "task": episode.task, "success": episode.success}
            episodes.append({**facts, "start_s": float(times_s[0]), "hash": content})
            if progress:
                progress(i + 1, len(recordings))
    specs = {name: plan.spec for name, plan in plans.items() if plan.mode != "action"}
    actions = [plan.spec for plan in plans.values() if plan.mode == "action"]
    if actions:
        specs["action"] = join_actions(actions)
    return {
        "specs": {name: spec.to_json() for name, spec in specs.items()},
        "action_names": [spec.name for spec in actions],
        "episode_starts": [0, *np.cumsum([len(c) for c in clocks]).tolist()],
        "episodes": episodes,
    }


def _write_episode(
    table: _Table, episode: Episode, plans: dict[str, RowPlan], times_s: np.ndarray, tick_s: float
) -> str:
    """Append one episode and return the hash of its content.

    Pictures count only if nothing else moves: a re-encoded copy of an episode is still a copy.
    """
    entries = read_rows(episode, plans, times_s, tick_s)
    numbers, pictures = hashlib.blake2b(digest_size=16), hashlib.blake2b(digest_size=16)
    for name, entry in _joined(entries, plans).items():
        table.append(name, entry[0])
        table.append(f"{name}.valid", entry[1])
        numbers.update(entry[0].tobytes())
    for name, plan in plans.items():
        if plan.mode == "picture":
            stream = arrived(episode.streams[name])
            for frames in read_pictures(stream, times_s, tick_s, plan.spec.shape[0]):
                table.append(name, frames)
                pictures.update(frames.tobytes())
            table.append(f"{name}.valid", picture_freshness(stream, times_s, tick_s))
    if not any(np.ptp(entry.values, axis=0).any() for entry in entries.values()):
        numbers.update(pictures.digest())
    return numbers.hexdigest()


def _joined(entries: dict[str, Any], plans: dict[str, RowPlan]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Values and validity per cached stream, with all actions side by side under one name."""
    joined = {n: (e.values, e.valid) for n, e in entries.items() if plans[n].mode != "action"}
    actions = [entries[n] for n, plan in plans.items() if plan.mode == "action"]
    if actions:
        values = np.concatenate([a.values.reshape(len(a.values), -1) for a in actions], axis=1)
        joined["action"] = (values, np.all([a.valid for a in actions], axis=0))
    return joined


def join_actions(specs: Sequence[StreamSpec]) -> StreamSpec:
    """One action vector out of several: names and bounds side by side, the unit only if they share it."""
    size = sum(spec.size for spec in specs)
    if len(specs) == 1:
        return replace(specs[0], name="action", shape=(size,))
    names = [f"{spec.name}.{n}" for spec in specs for n in (spec.names or [str(i) for i in range(spec.size)])]
    bounded = all(spec.low is not None and spec.high is not None for spec in specs)
    units = {spec.unit for spec in specs}
    return replace(
        specs[0],
        name="action",
        shape=(size,),
        names=tuple(names),
        unit=units.pop() if len(units) == 1 else "mixed",
        low=tuple(v for spec in specs for v in spec.low or ()) if bounded else None,
        high=tuple(v for spec in specs for v in spec.high or ()) if bounded else None,
    )
