"""Checks that compare episodes with each other: dead channels, action lag, duplicates, names and units."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from forerun.data.episode import Episode, Recordings, newest_before
from forerun.data.findings import Finding
from forerun.types import StreamSpec

MAX_LAG = 20  # samples either way


@dataclass
class Range:
    """Running extremes and power of one stream over episodes, per channel."""

    low: np.ndarray
    high: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    count: int

    @classmethod
    def of(cls, values: np.ndarray) -> Range:
        return cls(values.min(0), values.max(0), values.sum(0), (values**2).sum(0), len(values))

    def join(self, other: Range) -> Range:
        return Range(
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.total + other.total,
            self.squares + other.squares,
            self.count + other.count,
        )

    @property
    def std(self) -> np.ndarray:
        mean = self.total / self.count
        return np.sqrt(np.maximum(self.squares / self.count - mean**2, 0))


@dataclass
class SetExaminer:
    """Collects what the checks across episodes need, one episode after the other."""

    ranges: dict[str, Range] = field(default_factory=dict)
    correlations: dict[tuple[str, str], list[np.ndarray]] = field(default_factory=dict)
    copies: dict[tuple[str, str], float] = field(default_factory=dict)
    periods_s: dict[str, float] = field(default_factory=dict)
    contents: dict[str, list[tuple[str, set[str]]]] = field(default_factory=dict)
    """Hash of content: (episode, its splits) of everyone who has it."""
    leaks: list[Finding] = field(default_factory=list)

    def add(self, episode: Episode, numbers: dict[str, np.ndarray], pictures: dict[str, np.ndarray]) -> None:
        """``numbers`` are the streams but pictures, (N, C) each; ``pictures`` mean colours (N, 3) of frames
        of the cameras, none if nothing was decoded."""
        for name, values in numbers.items():
            finite = values[np.isfinite(values).all(axis=1)]
            if len(finite):
                found = Range.of(finite)
                self.ranges[name] = self.ranges[name].join(found) if name in self.ranges else found
        self._correlate(episode, numbers)
        splits = splits_of(episode)
        self.leaks += _leaks(episode.name, splits)
        evidence = moving(episode, numbers) or [*pictures.values(), *(numbers.values() if pictures else ())]
        if evidence:
            content = hashlib.blake2b(digest_size=16)
            for part in evidence:
                content.update(np.ascontiguousarray(part).tobytes())
            self.contents.setdefault(content.hexdigest(), []).append((episode.name, splits))

    def _correlate(self, episode: Episode, numbers: dict[str, np.ndarray]) -> None:
        actions = [n for n in numbers if episode.streams[n].spec.kind == "action"]
        states = [n for n in numbers if episode.streams[n].spec.kind == "vector"]
        for a in actions:
            times_s = episode.streams[a].times_s
            self.periods_s[a] = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
            for s in states:
                comparable = numbers[a].shape[1] == numbers[s].shape[1] and (
                    episode.streams[a].spec.unit == episode.streams[s].spec.unit
                )
                if not comparable or len(times_s) < 3 * MAX_LAG:
                    continue
                index = newest_before(episode.streams[s].times_s, times_s)
                action, state = numbers[a][index >= 0], numbers[s][index[index >= 0]]
                self.correlations.setdefault((a, s), []).append(lag_correlation(action, state))
                gap = float(np.abs(action - state).max())
                self.copies[a, s] = max(self.copies.get((a, s), 0.0), gap)

    def findings(self, recordings: Recordings) -> Iterator[Finding]:
        for name, found in self.ranges.items():
            spec = recordings.specs.get(name)
            if spec is not None and spec.kind != "privileged":
                yield from _dead(spec, found)
        yield from self._lags()
        yield from self._duplicates()
        yield from self.leaks
        yield from _names(recordings.specs)

    def _lags(self) -> Iterator[Finding]:
        for action in {a for a, _ in self.correlations}:
            pairs = {
                s: np.mean(curves, axis=0) for (a, s), curves in self.correlations.items() if a == action
            }
            state = max(pairs, key=lambda s: float(pairs[s].max()))
            yield from self._lag(action, state, pairs[state])

    def _lag(self, action: str, state: str, curve: np.ndarray) -> Iterator[Finding]:
        best = int(curve.argmax()) - MAX_LAG
        lag_s, related = best * self.periods_s[action], float(curve.max()) > 0.2
        if self.copies[action, state] == 0:
            yield Finding(
                severity="warning",
                check="lag",
                stream=action,
                found=f"it equals '{state}' at every sample",
                expected="commands, which the state follows later",
                advice="these are no commands: find the real ones, or use the next state as target knowingly",
            )
        elif related and best < 0:
            yield Finding(
                severity="warning",
                check="lag",
                stream=action,
                found=f"it moves {-lag_s:.3f} s after '{state}' (cross-correlation of changes)",
                expected="the state to follow the action",
                advice="the action clock is late, or actions were computed from states; shift it first",
            )
        elif related and best > 0:
            late = lag_s > 0.5
            yield Finding(
                severity="warning" if late else "note",
                check="lag",
                stream=action,
                found=f"'{state}' follows it by {lag_s:.3f} s (cross-correlation of changes)",
                expected="a lag below 0.5 s",
                advice="check both clocks" if late else "nothing to do: the usual lag of a controller",
            )

    def _duplicates(self) -> Iterator[Finding]:
        for same in self.contents.values():
            if len(same) < 2:
                continue
            original, home = same[0]
            for name, splits in same[1:]:
                across = _apart(home, splits)
                yield Finding(
                    severity="fault" if across else "warning",
                    check="duplicate",
                    episode=name,
                    found=f"same content as '{original}'" + (", which is in another split" if across else ""),
                    expected="every episode once",
                    advice="never train on one and test on the other; drop the copies with --fix COPY",
                )


def moving(episode: Episode, numbers: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Numbers that tell an episode from others: neither constants nor labels, which many have in common."""
    told = (v for name, v in numbers.items() if episode.streams[name].spec.kind != "privileged")
    return [v for v in told if len(v) > 1 and np.ptp(v, axis=0).any()]


def splits_of(episode: Episode) -> set[str]:
    """Splits that hold an episode, by the metadata of its reader; none if the set has no splits."""
    listed = episode.metadata.get("splits") or [episode.metadata.get("split")]
    return {str(name) for name in listed if name}


def _apart(one: set[str], other: set[str]) -> bool:
    """Whether splits separate two episodes. To be in a part of the other's split as well is no separation."""
    shared = one & other
    return one != other and (not shared or (shared != one and shared != other))


def _leaks(episode: str, splits: set[str]) -> Iterator[Finding]:
    """One episode that a split to train on and its counterpart both list."""
    for held_out in sorted(splits):
        trained = re.sub("validation|valid|val|test", "train", held_out)
        if trained != held_out and trained in splits:
            yield Finding(
                severity="fault",
                check="split",
                episode=episode,
                found=f"it is in the split '{trained}' and in '{held_out}'",
                expected="nothing that is trained on among what is held out",
                advice="correct the splits, or go without the episode: forerun data doctor PATH --fix COPY",
            )


def lag_correlation(action: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Correlation of the changes of two (N, C) streams at lags -MAX_LAG..MAX_LAG samples, mean of the
    channels.

    Positive lags mean that the state follows the action.
    """
    da, ds = np.diff(action, axis=0), np.diff(state, axis=0)
    norm = np.sqrt((da**2).sum(0) * (ds**2).sum(0))
    moving = norm > 1e-12
    curve = np.zeros(2 * MAX_LAG + 1)
    for i, lag in enumerate(range(-MAX_LAG, MAX_LAG + 1)):
        early, late = (da[: len(da) - lag], ds[lag:]) if lag >= 0 else (da[-lag:], ds[:lag])
        curve[i] = ((early * late).sum(0)[moving] / norm[moving]).sum() / max(int(moving.sum()), 1)
    return curve


def _dead(spec: StreamSpec, found: Range) -> Iterator[Finding]:
    label = spec.names or tuple(f"channel {i}" for i in range(len(found.low)))
    dead = np.flatnonzero(found.low == found.high)
    if dead.size and found.count > 1:
        listed = _few([f"{label[i]} = {found.low[i]:.4g}" for i in dead])
        yield Finding(
            severity="warning",
            check="dead",
            stream=spec.name,
            found=f"{dead.size} of {len(label)} channels never change: {listed}",
            expected="channels that move",
            advice="harmless for training; if the sensor should have moved, check its cable and driver",
        )
    typical = float(np.median(found.std[found.std > 0])) if (found.std > 0).any() else 0.0
    still = np.flatnonzero((found.std > 0) & (found.std < 0.02 * typical))
    if still.size:
        listed = _few([label[i] for i in still])
        yield Finding(
            severity="note",
            check="dead",
            stream=spec.name,
            found=f"{still.size} of {len(label)} channels hardly move: {listed}",
            expected="channels of comparable spread, where they share a unit",
            advice="nothing to do, unless that part of the robot should have moved",
        )


def _few(names: list[str], at_most: int = 6) -> str:
    return ", ".join(names[:at_most]) + (", ..." if len(names) > at_most else "")


def _names(specs: dict[str, StreamSpec]) -> Iterator[Finding]:
    numeric = [s for s in specs.values() if s.kind in ("vector", "touch", "action")]
    no_unit = [s.name for s in numeric if not s.unit]
    if no_unit:
        yield Finding(
            severity="note",
            check="units",
            found=f"no unit is stated for {_few(no_unit)}",
            expected="SI units, so that errors can be printed in them",
            advice='state them when converting, e.g. --unit "observation.state=rad"',
        )
    for spec in numeric:
        twice = sorted({n for n in spec.names if spec.names.count(n) > 1})
        if twice:
            yield Finding(
                severity="warning",
                check="units",
                stream=spec.name,
                found=f"the channel name '{twice[0]}' occurs {spec.names.count(twice[0])} times",
                expected="a name of its own for every channel",
                advice="correct the names in the metadata",
            )
