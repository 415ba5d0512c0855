"""Checks of a LeRobot folder's files against its own metadata, before any reader smooths them over."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from forerun.data.findings import Finding
from forerun.data.lerobot_meta import EpisodeEntry, LeRobotMeta
from forerun.data.tables import open_parquet, to_array
from forerun.data.video import VideoIndex, index_video
from forerun.types import DataError

INDEX = ("timestamp", "frame_index", "episode_index", "index", "task_index")


def folder_findings(meta: LeRobotMeta, entries: list[EpisodeEntry]) -> Iterator[Finding]:
    """Files that are named but absent, rows against frames, index columns, time stamps, video rates."""
    yield from _totals(meta, entries)
    yield from _spans(entries, meta.fps)
    absent: set[Path] = set()
    next_index: int | None = None
    for entry in entries:
        for file in [entry.data_file, *(video for video, _ in entry.cameras.values())]:
            if not file.is_file() and file not in absent:
                absent.add(file)
                yield _absent(file, meta.path, entry)
        if entry.data_file in absent:
            next_index = None
            continue
        try:
            rows = _index_rows(entry.data_file, entry.data_file.stat().st_mtime_ns, entry.index)
        except DataError as cause:
            yield _fault("readable", entry, None, str(cause), "a readable table", "restore the file")
            continue
        yield from _rows(entry, rows, meta.fps, next_index)
        next_index = int(rows["index"][-1]) + 1 if len(rows.get("index", ())) else None
        for camera, (video, start_s) in entry.cameras.items():
            if video not in absent:
                yield from _frames(
                    entry, camera, video, start_s, meta.fps, shared=meta.version.startswith("v3")
                )


def name_of(entry: EpisodeEntry) -> str:
    return str(entry.extra.get("name") or f"episode_{entry.index:06d}")


def _fault(
    check: str, entry: EpisodeEntry, stream: str | None, found: str, expected: str, advice: str
) -> Finding:
    return Finding(
        severity="fault",
        check=check,
        episode=name_of(entry),
        stream=stream,
        found=found,
        expected=expected,
        advice=f"{advice}, or repair a copy: forerun data doctor PATH --fix COPY",
    )


def _absent(file: Path, root: Path, entry: EpisodeEntry) -> Finding:
    place = file.relative_to(root) if file.is_relative_to(root) else file
    return _fault(
        "absent", entry, None, f"{place} is not there", "every file the metadata names", "restore the file"
    )


def _totals(meta: LeRobotMeta, entries: list[EpisodeEntry]) -> Iterator[Finding]:
    frames, said = sum(e.length for e in entries), meta.info.get("total_frames")
    complete = len(entries) == meta.num_episodes
    if complete and said is not None and said != frames:
        yield Finding(
            severity="warning",
            check="index",
            found=f"info.json counts {said} frames, the episode table {frames}",
            expected="the same number",
            advice="correct total_frames in meta/info.json, or repair a copy with --fix COPY",
        )
    indices = [e.index for e in entries]
    if complete and indices != list(range(len(indices))):
        odd = next(i for i, index in enumerate(indices) if index != i)
        yield Finding(
            severity="fault",
            check="index",
            found=f"the episode at place {odd} of the table has index {indices[odd]}",
            expected="episodes numbered 0, 1, 2, ... without holes or repetition",
            advice="repair a copy: forerun data doctor PATH --fix COPY",
        )


def _spans(entries: list[EpisodeEntry], fps: float) -> Iterator[Finding]:
    """Stretches of shared videos that are not as long as their episode, or reach into each other."""
    by_file: dict[tuple[str, Path], list[tuple[float, float, EpisodeEntry]]] = {}
    for entry in entries:
        for camera, end_s in entry.ends_s.items():
            video, start_s = entry.cameras[camera]
            if abs((end_s - start_s) * fps - entry.length) < 0.5:
                by_file.setdefault((camera, video), []).append((start_s, end_s, entry))
            else:
                found = f"its stretch of the video, {start_s:.3f} to {end_s:.3f} s, "
                found += f"is {(end_s - start_s) * fps:.1f} frames long and it has {entry.length} rows"
                yield _span(entry, camera, found, "one frame per row")
    for (camera, video), stretches in by_file.items():
        yield from _overlaps(camera, video, sorted(stretches, key=lambda stretch: stretch[:2]), fps)


def _overlaps(
    camera: str, video: Path, stretches: list[tuple[float, float, EpisodeEntry]], fps: float
) -> Iterator[Finding]:
    """Both of two episodes that claim the same frames: which of them is right nobody can tell."""
    reaching = stretches[0]
    for stretch in stretches[1:]:
        if stretch[0] < reaching[1] - 0.5 / fps:
            for (start_s, end_s, entry), (_, _, rival) in ((reaching, stretch), (stretch, reaching)):
                found = f"its stretch of {video.name}, {start_s:.3f} to {end_s:.3f} s, "
                found += f"overlaps that of {name_of(rival)}"
                yield _span(entry, camera, found, "frames of its own")
        reaching = max(reaching, stretch, key=lambda s: s[1])


def _span(entry: EpisodeEntry, camera: str, found: str, expected: str) -> Finding:
    advice = "correct from_timestamp and to_timestamp in meta/episodes"
    return _fault("span", entry, camera, found, expected, advice)


@lru_cache(maxsize=4)
def _index_columns(file: Path, _mtime_ns: int) -> dict[str, np.ndarray]:
    parquet = open_parquet(file)
    try:
        table = parquet.read([n for n in INDEX if n in parquet.schema_arrow.names])
    except (pa.ArrowException, OSError) as cause:
        raise DataError(f"{file.name} cannot be read: {str(cause).splitlines()[0]}") from cause
    return {name: to_array(table.column(name)).reshape(-1) for name in table.column_names}


def _index_rows(file: Path, mtime_ns: int, episode: int) -> dict[str, np.ndarray]:
    columns = _index_columns(file, mtime_ns)
    if "episode_index" not in columns:
        raise DataError(f"{file.name} has no column episode_index")
    mine = columns["episode_index"] == episode
    return {name: column[mine] for name, column in columns.items()}


def _rows(
    entry: EpisodeEntry, rows: dict[str, np.ndarray], fps: float, next_index: int | None
) -> Iterator[Finding]:
    count = len(rows["episode_index"])
    if count != entry.length:
        found, expected = f"{count} rows in the table", f"{entry.length}, as the episode table says"
        yield _fault("frames", entry, None, found, expected, "restore the table")
    if "frame_index" in rows and not np.array_equal(rows["frame_index"], np.arange(count)):
        first = int(np.flatnonzero(rows["frame_index"] != np.arange(count))[0])
        found = f"frame_index is {rows['frame_index'][first]} at row {first}"
        yield _fault("index", entry, None, found, "0, 1, 2, ... in every episode", "renumber the rows")
    if "index" in rows and count:
        start = int(rows["index"][0]) if next_index is None else next_index
        if not np.array_equal(rows["index"], start + np.arange(count)):
            found = f"the column index runs from {rows['index'][0]} to {rows['index'][-1]}"
            yield _fault("index", entry, None, found, f"{start} to {start + count - 1}", "renumber the rows")
    if "timestamp" in rows and count > 1:
        yield from _stamps(entry, rows["timestamp"].astype(np.float64), fps)


def _stamps(entry: EpisodeEntry, stamps: np.ndarray, fps: float) -> Iterator[Finding]:
    wrong = np.flatnonzero(~(np.diff(stamps) > 0))
    if wrong.size:
        i = int(wrong[0])
        found = f"{wrong.size} steps stand still or run backwards, the first from {stamps[i]:.4f} s to "
        found += f"{stamps[i + 1]:.4f} s at row {i + 1}"
        yield _fault("clock", entry, None, found, "strictly increasing time stamps", "restore the table")
        return
    off = np.abs(stamps - np.arange(len(stamps)) / fps)
    if off.max() > 1e-4 + np.spacing(np.float32(stamps[-1])):
        yield Finding(
            severity="warning",
            check="rate",
            episode=name_of(entry),
            found=f"time stamps lie up to {1e3 * off.max():.2f} ms from frame_index / fps",
            expected="within 0.1 ms, LeRobot's tolerance",
            advice="forerun reads the true stamps; lerobot refuses them. Check fps in meta/info.json",
        )


def _frames(
    entry: EpisodeEntry, camera: str, video: Path, start_s: float, fps: float, *, shared: bool
) -> Iterator[Finding]:
    try:
        index = index_video(video)
    except DataError as cause:
        yield _fault("readable", entry, camera, str(cause), "a readable video", "restore the file")
        return
    first = round(start_s * fps)
    there = index.num_frames - first
    if there < entry.length:
        found = f"{max(there, 0)} frames for {entry.length} rows"
        yield _fault("frames", entry, camera, found, "one frame per row", "record or export the video again")
    elif there > entry.length and not shared:
        yield Finding(
            severity="warning",
            check="frames",
            episode=name_of(entry),
            stream=camera,
            found=f"{there} frames for {entry.length} rows",
            expected="one frame per row",
            advice="the frames beyond the last row are not read; check that rows and frames begin together",
        )
    yield from _video_rate(entry, camera, index, fps)


def _video_rate(entry: EpisodeEntry, camera: str, index: VideoIndex, fps: float) -> Iterator[Finding]:
    if index.rate_hz and abs(index.rate_hz / fps - 1) > 0.01:
        found = f"the video runs at {index.rate_hz:.2f} frames per second"
        yield _fault("rate", entry, camera, found, f"{fps:g}, as info.json says", "correct one of them")


def split_of(info: dict[str, Any], episode: int) -> str:
    """Name of the split that holds an episode, from info.json's {"train": "0:50", ...}; "" if none."""
    for name, span in (info.get("splits") or {}).items():
        first, _, last = str(span).partition(":")
        if first.isdigit() and last.isdigit() and int(first) <= episode < int(last):
            return str(name)
    return ""


def num_rows(file: Path) -> int:
    """Rows of a parquet file, from its footer."""
    return pq.read_metadata(file).num_rows
