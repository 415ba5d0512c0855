"""Look for what is commonly wrong with recordings, before a model learns it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from forerun.data.doctor_lerobot import folder_findings, name_of, split_of
from forerun.data.doctor_set import SetExaminer, moving, splits_of
from forerun.data.doctor_statistics import StatisticsExaminer
from forerun.data.doctor_streams import clock_findings, picture_findings, unreadable, value_findings
from forerun.data.episode import Episode, Recordings
from forerun.data.findings import Finding, Report
from forerun.data.formats import open_recordings
from forerun.data.lerobot_meta import LeRobotMeta, read_meta
from forerun.types import Error

SAMPLED_EPISODES = 2000  # whose numbers are read unless full
SAMPLED_VIDEOS = 40  # episodes from which frames are decoded unless full
SAMPLED_FRAMES = 3  # of each camera of those


def examine(
    path: str | Path, *, full: bool = False, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Run every check on a data set of any known format.

    By default numbers of up to 2000 episodes are read and three frames per camera of up to 40 are decoded;
    ``full`` reads all numbers and decodes every frame. A set that cannot be opened is a report with one
    fault, no exception.

    Raises:
        DataError: there is nothing at ``path``.
    """
    path = Path(path)
    report = Report(path)
    try:
        recordings = open_recordings(path)
    except Error as cause:
        if not path.exists():
            raise
        report.add(unreadable(str(cause), None))
        return report
    report.format, report.num_episodes = recordings.format, len(recordings)
    report.add(*(_note(text) for text in recordings.notes), *_absent_shards(recordings.path))
    meta = read_meta(recordings.path) if recordings.format.startswith("lerobot") else None
    if meta is not None:
        report.add(*folder_findings(meta, [meta.entry(i) for i in range(meta.num_episodes)]))
    examiner = SetExaminer()
    statistics = StatisticsExaminer(recordings.path) if meta is not None else None
    for done, i in enumerate(
        chosen := _spread(len(recordings), len(recordings) if full else SAMPLED_EPISODES)
    ):
        read = _one_episode(report, recordings, i, meta, full)
        if read is not None:
            examiner.add(*read)
        if read is not None and meta is not None and statistics is not None:
            report.add(*statistics.add(meta.entry(i).index, *read[:2]))
        if progress:
            progress(done + 1, len(chosen))
    report.add(*examiner.findings(recordings))
    if statistics is not None and len(recordings):
        report.add(*statistics.findings(recordings, full))
    if not len(recordings):
        report.add(unreadable("the set holds no episode", None))
    return report


def _spread(count: int, at_most: int) -> list[int]:
    """Evenly spaced episode numbers, the first and the last among them."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, at_most))}) if count else []


def _note(text: str) -> Finding:
    return Finding(
        severity="note",
        check="readable",
        found=text,
        expected="nothing to remark",
        advice="noticed while opening the set",
    )


def _one_episode(
    report: Report, recordings: Recordings, i: int, meta: LeRobotMeta | None, full: bool
) -> tuple[Episode, dict[str, np.ndarray], dict[str, np.ndarray]] | None:
    """Checks of one episode alone; what checks of the whole set go on with, or None if it cannot be read."""
    known = {f.episode for f in report.of("fault")}
    try:
        episode = recordings.load(i)
    except Error as cause:
        name = name_of(meta.entry(i)) if meta else f"episode {i}"
        if name not in known:
            report.add(unreadable(str(cause), name))
        return None
    if meta is not None and not splits_of(episode):
        episode.metadata["split"] = split_of(meta.info, i)
    report.num_examined += 1
    report.add(*clock_findings(episode))
    numbers = {}
    for name, stream in episode.streams.items():
        if stream.spec.kind in ("video", "text") or not len(stream):
            continue
        values = stream.read()
        if values.dtype != object:
            numbers[name] = values.reshape(len(values), -1).astype(np.float64)
            report.add(*value_findings(stream, numbers[name], episode.name))
    decode = full or i in _spread(len(recordings), SAMPLED_VIDEOS) or not moving(episode, numbers)
    pictures = _pictures(report, episode, full, skip=episode.name in known) if decode else {}
    return episode, numbers, pictures


def _pictures(report: Report, episode: Episode, full: bool, skip: bool) -> dict[str, np.ndarray]:
    """Decode some or all frames of every camera; the mean colour of each frame, (N, 3) per camera."""
    seen = {}
    for stream in () if skip else episode.of_kind("video"):
        count, colours = len(stream), []
        blocks = [np.arange(a, min(a + 64, count)) for a in range(0, count, 64)]
        for block in blocks if full else [np.array(_spread(count, SAMPLED_FRAMES))]:
            findings, means = picture_findings(stream, episode.name, block)
            report.num_frames_decoded += len(means)
            colours.append(means)
            report.add(*findings)
            if any(f.severity == "fault" for f in findings):
                break
        if sum(map(len, colours)):
            seen[stream.spec.name] = np.concatenate(colours)
    return seen


def _absent_shards(path: Path) -> list[Finding]:
    """RLDS shards that dataset_info.json names and nobody copied."""
    findings = []
    for about in sorted(path.rglob("dataset_info.json"))[:10] if path.is_dir() else ():
        try:
            info = json.loads(about.read_text())
            splits = [(s["name"], len(s["shardLengths"])) for s in info.get("splits", [])]
        except (ValueError, KeyError, TypeError) as cause:
            findings.append(unreadable(f"dataset_info.json cannot be read: {cause}", None))
            continue
        for split, shards in splits:
            there = len(list(about.parent.glob(f"*-{split}.*-of-{shards:05d}")))
            if there < shards:
                findings.append(
                    Finding(
                        severity="warning",
                        check="absent",
                        found=f"{there} of {shards} shards of the split '{split}' are there",
                        expected="every shard that dataset_info.json names",
                        advice="fetch the rest, or go on without them: what is there is read",
                    )
                )
    return findings
