"""Are the statistics that a LeRobot folder ships those of the data it ships?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from forerun.data.episode import Episode, Recordings
from forerun.data.findings import Finding
from forerun.types import DataError

HALF_LEVEL = 0.5 / 255  # no difference in a picture's spread below this is worth a word
NUMBERS = 1e-2  # of a channel's spread: rounding to float32 and sums in another order stay far below
PICTURE_MEAN = 0.01  # of full scale: decoders differ by about 0.005 in converting colours
PICTURE_SPREAD = 0.01  # relative: the same frames give the same spread within 0.3 %


def statistics_findings(recordings: Recordings, root: Path, full: bool) -> Iterator[Finding]:
    """Compare min, max, mean and std of some episodes (all with ``full``) with the stored ones."""
    try:
        per_episode, whole = _stored(root)
    except (OSError, ValueError, KeyError) as cause:
        yield _stale("fault", None, None, f"the statistics cannot be read: {cause}", "readable JSON")
        return
    if not per_episode and not whole:
        yield _stale("warning", None, None, "no statistics are stored", "statistics of every feature")
        return
    count = len(recordings)
    picked = range(count) if full else sorted({int(i) for i in np.linspace(0, count - 1, min(count, 2))})
    for i in picked if per_episode else ():
        try:
            yield from _episode(recordings.load(i), per_episode.get(i, {}))
        except DataError:
            continue  # reported as unreadable already
    if whole:
        yield from _whole(recordings, whole, range(count) if full or count <= 50 else picked, full)


def _stored(root: Path) -> tuple[dict[int, dict[str, Any]], dict[str, Any]]:
    """Statistics per episode (v2.1) and of the whole set (v3.0, v2.0)."""
    lines, whole = root / "meta" / "episodes_stats.jsonl", root / "meta" / "stats.json"
    per_episode = {}
    if lines.is_file():
        rows = [json.loads(line) for line in lines.read_text().splitlines() if line.strip()]
        per_episode = {int(row["episode_index"]): row["stats"] for row in rows}
    return per_episode, json.loads(whole.read_text()) if whole.is_file() else {}


def _episode(episode: Episode, stored: dict[str, Any]) -> Iterator[Finding]:
    for name, stream in episode.streams.items():
        said = stored.get(name)
        if said is None or stream.spec.kind == "text":
            continue
        if stream.spec.kind == "video":
            count = int(np.ravel(said.get("count", 100))[0])
            indices = np.round(np.linspace(0, len(stream) - 1, min(count, len(stream)))).astype(int)
            yield from _pictures(stream.read(indices), said, name, episode.name)
        else:
            yield from _numbers(stream.read().reshape(len(stream), -1), said, name, episode.name)


def _whole(recordings: Recordings, stored: dict[str, Any], picked: Any, full: bool) -> Iterator[Finding]:
    values: dict[str, list[np.ndarray]] = {}
    for i in picked:
        try:
            for name, stream in recordings.load(i).streams.items():
                if name in stored and stream.spec.kind not in ("text", "video"):
                    values.setdefault(name, []).append(stream.read().reshape(len(stream), -1))
                elif name in stored and stream.spec.kind == "video":
                    step = 1 if full else max(1, len(stream) // 20)
                    values.setdefault(name, []).append(_thin(stream.read(np.arange(0, len(stream), step))))
        except DataError:
            return  # statistics of what is left cannot be compared
    for name, parts in values.items():
        joined = np.concatenate(parts)
        if joined.ndim == 4:
            yield from _pictures(joined, stored[name], name, None)
        elif len(picked) == len(recordings):
            yield from _numbers(joined, stored[name], name, None)


def _thin(frames: np.ndarray) -> np.ndarray:
    """Every few pixels: the spread stays, the memory does not."""
    step = max(1, min(frames.shape[1:3]) // 120)
    return frames[:, ::step, ::step]


def _numbers(values: np.ndarray, said: dict[str, Any], name: str, episode: str | None) -> Iterator[Finding]:
    values = values.astype(np.float64)
    spread = np.maximum(values.std(axis=0), 1e-6)
    for key in ("min", "max", "mean", "std"):
        if key not in said:
            continue
        true, told = getattr(values, key)(axis=0), np.ravel(np.asarray(said[key], dtype=np.float64))
        if told.shape != true.shape:
            yield _stale("fault", episode, name, f"{key} has {told.size} channels", f"{true.size}")
            return
        off = np.abs(true - told) / spread
        worst = int(off.argmax())
        if not off.max() <= NUMBERS:
            found = f"the stored {key} of channel {worst} is {told[worst]:.6g}"
            yield _stale("fault", episode, name, found, f"{true[worst]:.6g}, as the data gives")
            return


def _pictures(frames: np.ndarray, said: dict[str, Any], name: str, episode: str | None) -> Iterator[Finding]:
    scaled = frames.reshape(-1, 3) / np.float32(255)
    mean, std = scaled.mean(axis=0, dtype=np.float64), scaled.std(axis=0, dtype=np.float64)
    told_mean, told_std = (np.ravel(np.asarray(said.get(k, v))) for k, v in (("mean", mean), ("std", std)))
    if told_mean.shape != (3,) or told_std.shape != (3,):
        yield _stale("fault", episode, name, f"statistics of {told_mean.size} colours", "3")
        return
    off_mean = np.abs(mean - told_mean)
    off_std = (
        np.abs(std - told_std) * (np.abs(std - told_std) > HALF_LEVEL) / np.maximum(told_std, HALF_LEVEL)
    )
    if off_mean.max() > PICTURE_MEAN or off_std.max() > PICTURE_SPREAD:
        channel = int(off_std.argmax())
        found = (
            f"mean {told_mean[channel]:.4f} and std {told_std[channel]:.4f} are stored for {'RGB'[channel]}"
        )
        found += (
            " (of pictures of another size or encoding, by the look of it)" if off_std.max() < 0.1 else ""
        )
        yield _stale(
            "warning", episode, name, found, f"{mean[channel]:.4f} and {std[channel]:.4f}, as the frames give"
        )


def _stale(severity: Any, episode: str | None, stream: str | None, found: str, expected: str) -> Finding:
    return Finding(
        severity=severity,
        check="statistics",
        episode=episode,
        stream=stream,
        found=found,
        expected=expected,
        advice="forerun computes its own; for other tools recompute them in a copy: "
        "forerun data doctor PATH --fix COPY",
    )
