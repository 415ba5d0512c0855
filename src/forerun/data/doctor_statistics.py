"""Are the statistics that a LeRobot folder ships those of the data it ships?"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from forerun.data.episode import Episode, Recordings
from forerun.data.findings import Finding
from forerun.data.lerobot_stats import QUANTILES, PooledVector, Statistics, vector_statistics
from forerun.data.tables import open_parquet, read_json_lines
from forerun.types import DataError

HALF_LEVEL = 0.5 / 255  # no difference in a picture's spread below this is worth a word
NUMBERS = 1e-2  # of a channel's spread: rounding to float32 and sums in another order stay far below
SAMPLED = 0.5  # of a channel's spread: the figures of so many episodes lie far nearer to those of all
MANY_EPISODES = 1000
RANK = 0.02  # of all samples, between a quantile by interpolation and one by a histogram
PICTURE_MEAN = 0.01  # of full scale: decoders differ by about 0.005 in converting colours
PICTURE_SPREAD = 0.01  # relative: the same frames give the same spread within 0.3 %
FEW_EPISODES = 50  # whose pictures are all decoded for the statistics of the whole set unless full

PerEpisode = Callable[[int], dict[str, Any]]


class StatisticsExaminer:
    """Compares the stored statistics with the data, one episode after the other.

    Of numbers, min, max, mean, std and count are compared with the stored ones of each episode and of the
    whole set, quantiles with those of each episode: how to pool them is a matter of convention.
    """

    def __init__(self, root: Path) -> None:
        self.pooled: dict[str, PooledVector] = defaultdict(PooledVector)
        self.num_read: Counter[str] = Counter()
        self.trouble: Finding | None = None
        self.per_episode, self.whole = None, {}
        try:
            self.per_episode, self.whole = _stored(root)
        except (DataError, OSError, ValueError, KeyError) as cause:
            found = f"the statistics cannot be read: {cause}"
            self.trouble = _stale("fault", None, None, found, "readable statistics")
        else:
            if self.per_episode is None and not self.whole:
                found = "no statistics are stored"
                self.trouble = _stale("warning", None, None, found, "statistics of every feature")

    def add(self, index: int, episode: Episode, numbers: dict[str, np.ndarray]) -> Iterator[Finding]:
        """``index`` is the episode's in the folder, ``numbers`` its streams but pictures, (N, C) each."""
        stored = self.per_episode(index) if self.per_episode else {}
        for name, values in numbers.items():
            if (name in stored or name in self.whole) and np.isfinite(values).all():
                true = vector_statistics(values)
                self.pooled[name].add(true)
                self.num_read[name] += 1
                told = stored.get(name, {})
                yield from _numbers(true, told, name, episode.name)
                yield from _quantiles(values, true, told, name, episode.name)

    def findings(self, recordings: Recordings, full: bool) -> Iterator[Finding]:
        """What the whole set tells, and pictures of two episodes (of all with ``full``)."""
        if self.trouble is not None:
            yield self.trouble
        for name, pool in self.pooled.items():
            if self.num_read[name] == len(recordings):
                yield from _numbers(pool.statistics(), self.whole.get(name, {}), name, None)
            elif self.num_read[name] >= MANY_EPISODES:
                told = {k: v for k, v in self.whole.get(name, {}).items() if k in ("mean", "std")}
                yield from _numbers(pool.statistics(), told, name, None, tolerance=SAMPLED)
        count = len(recordings)
        if self.per_episode is not None:
            for i in range(count) if full else sorted({0, count - 1}):
                yield from _episode_pictures(recordings, i, self.per_episode(i))
        if full or count <= FEW_EPISODES:
            yield from _whole_pictures(recordings, self.whole, full)


def _stored(root: Path) -> tuple[PerEpisode | None, dict[str, Any]]:
    """Statistics per episode, {feature: {statistic: value}} by index, and of the whole set (v3.0, v2.0)."""
    lines, whole = root / "meta" / "episodes_stats.jsonl", root / "meta" / "stats.json"
    per_episode = None
    if lines.is_file():
        rows = {int(row["episode_index"]): row["stats"] for row in read_json_lines(lines)}
        per_episode = lambda i: rows.get(i, {})  # noqa: E731
    elif files := sorted((root / "meta" / "episodes").glob("**/*.parquet")):
        per_episode = _stored_columns(files)
    return per_episode, json.loads(whole.read_text()) if whole.is_file() else {}


def _stored_columns(files: list[Path]) -> PerEpisode | None:
    """The columns "stats/FEATURE/STATISTIC" of v3.0's episode table, if it has any."""
    tables = []
    for file in files:
        parquet = open_parquet(file)
        wanted = [n for n in parquet.schema_arrow.names if n.startswith("stats/") or n == "episode_index"]
        tables.append(parquet.read(wanted))
    table = pa.concat_tables(tables, promote_options="permissive")
    row = {index: k for k, index in enumerate(table.column("episode_index").to_pylist())}
    names = [n for n in table.column_names if n.startswith("stats/")]

    def per_episode(index: int) -> dict[str, Any]:
        stored: dict[str, Any] = defaultdict(dict)
        for name in names if index in row else ():
            feature, _, statistic = name.removeprefix("stats/").rpartition("/")
            value = table.column(name)[row[index]].as_py()
            if value is not None:
                stored[feature][statistic] = value
        return stored

    return per_episode if names else None


def _numbers(
    true: Statistics, said: dict[str, Any], name: str, episode: str | None, tolerance: float = NUMBERS
) -> Iterator[Finding]:
    spread = np.maximum(true["std"], 1e-6)
    for key in ("count", "min", "max", "mean", "std"):
        if key not in said:
            continue
        told = np.ravel(np.asarray(said[key], dtype=np.float64))
        if told.shape != true[key].shape:
            yield _stale("fault", episode, name, f"{key} has {told.size} channels", f"{true[key].size}")
            return
        off = np.abs(true[key] - told) / (1.0 if key == "count" else spread)
        worst = int(off.argmax())
        if not off.max() <= tolerance:
            found = f"the stored {key}{'' if key == 'count' else f' of channel {worst}'} is {told[worst]:.6g}"
            yield _stale("fault", episode, name, found, f"{true[key][worst]:.6g}, as the data gives")
            return


def _quantiles(
    values: np.ndarray, true: Statistics, said: dict[str, Any], name: str, episode: str
) -> Iterator[Finding]:
    """Is as large a share of the samples below a quantile as it says? So any way to interpolate is right."""
    slack = NUMBERS * np.maximum(true["std"], 1e-6)
    for key, share in QUANTILES.items():
        told = np.ravel(np.asarray(said.get(key, true[key]), dtype=np.float64))
        if told.shape != true[key].shape:
            yield _stale("fault", episode, name, f"{key} has {told.size} channels", f"{true[key].size}")
            return
        below, up_to = (values < told - slack).mean(axis=0), (values <= told + slack).mean(axis=0)
        outside = (told < true["min"] - slack) | (told > true["max"] + slack)
        off = np.where(outside, 1.0, np.maximum(below - share, share - up_to))
        worst = int(off.argmax())
        if off.max() > RANK + 1 / len(values):
            found = f"the stored {key} of channel {worst} is {told[worst]:.6g}"
            yield _stale("fault", episode, name, found, f"{true[key][worst]:.6g}, as the data gives")
            return


def _episode_pictures(recordings: Recordings, i: int, stored: dict[str, Any]) -> Iterator[Finding]:
    try:
        episode = recordings.load(i)
        for stream in episode.of_kind("video"):
            if (said := stored.get(stream.spec.name)) is not None:
                count = min(int(np.ravel(said.get("count", 100))[0]), len(stream))
                indices = np.round(np.linspace(0, len(stream) - 1, count)).astype(int)
                yield from _pictures(stream.read(indices), said, stream.spec.name, episode.name)
    except DataError:
        return  # reported as unreadable already


def _whole_pictures(recordings: Recordings, stored: dict[str, Any], full: bool) -> Iterator[Finding]:
    frames: dict[str, list[np.ndarray]] = defaultdict(list)
    for i in range(len(recordings)):
        try:
            for stream in recordings.load(i).of_kind("video"):
                if stream.spec.name in stored:
                    step = 1 if full else max(1, len(stream) // 20)
                    frames[stream.spec.name].append(_thin(stream.read(np.arange(0, len(stream), step))))
        except DataError:
            return  # statistics of what is left cannot be compared
    for name, parts in frames.items():
        yield from _pictures(np.concatenate(parts), stored[name], name, None)


def _thin(frames: np.ndarray) -> np.ndarray:
    """Every few pixels: the spread stays, the memory does not."""
    step = max(1, min(frames.shape[1:3]) // 120)
    return frames[:, ::step, ::step]


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
