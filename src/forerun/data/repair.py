"""Mend a copy of a data set: what cannot be mended safely is left out, and every change is said."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from forerun.data.convert import convert
from forerun.data.doctor import examine
from forerun.data.findings import Report
from forerun.data.formats import open_recordings
from forerun.data.repair_lerobot import LeRobotRepair
from forerun.types import DataError, Error, StorageError

LEAVE_OUT = {
    "readable": "cannot be read",
    "absent": "lacks a file",
    "finite": "holds values that are not finite",
    "duplicate": "repeats another episode",
    "split": "is in a training and a held-out split at once",
    "span": "lies at an uncertain place of its video",
}
"""Checks whose fault or warning on an episode means that the copy goes without it."""


def fix(
    path: str | Path,
    copy: str | Path,
    *,
    report: Report | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Write a repaired copy and say, line by line, what was changed.

    A LeRobot folder keeps its version and its video bytes: clocks that run backwards are put at frame_index
    / fps, rows without a frame and frames without a row are cut at the end, index columns renumbered,
    statistics computed anew. Any other format becomes a LeRobot v3.0 folder. Episodes that cannot be read,
    hold values that are not finite, repeat another one, or are both trained on and held out are left out.

    Args:
        path: the data set; it is only read.
        copy: the folder to make; it must not exist.
        report: what ``examine`` found, if it ran already.
        progress: called with (episodes done, episodes in all).

    Raises:
        DataError: the set cannot be opened, or no sound episode is left.
        StorageError: ``copy`` exists or cannot be written; nothing half-written stays.
    """
    path, copy = Path(path), Path(copy)
    if copy.exists():
        raise StorageError(f"'{copy.name}' exists already; name a new folder for the repaired copy: {copy}")
    recordings = open_recordings(path)
    report = report or examine(path)
    faulty = _left_out(report)
    if recordings.format.startswith("lerobot"):
        with _folder(copy) as partial:
            return LeRobotRepair(recordings.path, partial, faulty).run(progress)
    names = _names(recordings)
    drop = [i for i, name in enumerate(names) if name in faulty]
    if len(drop) == len(names):
        raise DataError(f"none of the {len(names)} episodes is sound, so there is nothing to copy: {path}")
    convert(recordings, copy, drop=drop, progress=progress)
    said = [f"left out {names[i]}: it {faulty[names[i]]}" for i in drop]
    return [*said, f"wrote {len(names) - len(drop)} episodes as LeRobot v3.0, statistics included"]


def _left_out(report: Report) -> dict[str, str]:
    """Name of every episode to go without, and why."""
    return {
        f.episode: LEAVE_OUT[f.check]
        for f in report.findings
        if f.episode is not None and f.check in LEAVE_OUT and f.severity in ("fault", "warning")
    }


def _names(recordings) -> list[str]:
    names = []
    for i in range(len(recordings)):
        try:
            names.append(recordings.load(i).name)
        except Error:
            names.append(f"episode {i}")
    return names


@contextmanager
def _folder(final: Path) -> Iterator[Path]:
    """A folder that takes its final name only if all went well."""
    partial = final.with_name(f".{final.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(final)
    except OSError as cause:
        if isinstance(cause, Error):
            raise
        reason = (cause.strerror or str(cause)).lower()
        raise StorageError(
            f"the repaired copy cannot be written: {reason}; nothing half-written was kept. Free some space "
            f"or choose another place: {final}"
        ) from cause
    finally:
        shutil.rmtree(partial, ignore_errors=True)
