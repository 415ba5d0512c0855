"""Windows of time: which rows a training step reads, and any stretch of an episode asked for in seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from forerun.data.cache import TickCache
from forerun.data.episode import Episode, Stream, align
from forerun.data.fingerprint import digest
from forerun.types import ConfigError, DataError


def split_episodes(cache: TickCache, holdout: float = 0.1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Episode indices (train, held out), each sorted; the same for the same content, seed and share.

    Episodes of equal content go to the same side, so a duplicate never leaks into the held-out part.

    Raises:
        ConfigError: the share is outside [0, 1).
        DataError: fewer than two different episodes, so nothing can be held out.
    """
    if not 0 <= holdout < 1:
        raise ConfigError(
            f"the held-out share is {holdout}; it must be at least 0 and below 1, for example 0.1"
        )
    groups: dict[str, list[int]] = {}
    for index, episode in enumerate(cache.episodes):
        groups.setdefault(episode["hash"], []).append(index)
    if holdout == 0:
        return np.arange(cache.num_episodes), np.empty(0, dtype=np.int64)
    if len(groups) < 2:
        raise DataError(
            f"the set has {cache.num_episodes} episode(s) but only {len(groups)} of different content, so "
            "none can be held out for testing; record more episodes, or train on all with --holdout 0 and "
            "test elsewhere"
        )
    ranked = sorted(groups, key=lambda content: hashlib.blake2b(f"{seed}/{content}".encode()).digest())
    held: list[int] = []
    for content in ranked[:-1]:  # at least one group is left to train on
        if held and len(held) + len(groups[content]) / 2 > holdout * cache.num_episodes:
            break
        held += groups[content]
    train = np.setdiff1d(np.arange(cache.num_episodes), held)
    return train, np.sort(np.asarray(held, dtype=np.int64))


class WindowSampler:
    """Shuffled windows of ``length`` rows that never cross from one episode into the next.

    ``batch(step)`` depends on nothing but the arguments here and ``step``: to resume, remember the step.
    Each epoch visits every window once, in an order drawn from (seed, epoch); batches may reach into the
    next epoch.

    Raises:
        DataError: no episode is as long as a window.
    """

    def __init__(
        self,
        cache: TickCache,
        episodes: np.ndarray | Sequence[int],
        length: int,
        batch_size: int,
        seed: int = 0,
    ):
        if length < 1 or batch_size < 1:
            raise ConfigError(
                f"windows of {length} rows in batches of {batch_size} were asked for; both must be at least 1"
            )
        self.cache, self.episodes = cache, np.asarray(episodes, dtype=np.int64)
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.starts = window_starts(cache, episodes, length)
        longest = int(np.diff(cache.episode_starts)[self.episodes].max(initial=0))
        if not self.starts.size and longest >= length:
            raise DataError(
                f"every stretch of {length} ticks of {cache.tick_s:g} s has a gap in a picture, vector or "
                "action, so there is nothing to learn from; choose a longer --tick, leave the stream with "
                "gaps out with --streams, or look for it with: forerun data inspect PATH"
            )
        if not self.starts.size:
            raise DataError(
                f"a window takes {length} ticks of {cache.tick_s:g} s, but the longest episode has "
                f"{longest}; choose a shorter --tick, or record longer episodes"
            )
        self._orders: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        """Number of different windows."""
        return len(self.starts)

    def batch(self, step: int) -> np.ndarray:
        """(batch_size,) int64 first rows of the windows of training step ``step`` >= 0."""
        position = step * self.batch_size + np.arange(self.batch_size)
        epochs, offsets = np.divmod(position, len(self.starts))
        rows = np.empty(self.batch_size, dtype=np.int64)
        for epoch in np.unique(epochs):
            inside = epochs == epoch
            rows[inside] = self.starts[self._order(int(epoch))[offsets[inside]]]
        return rows

    def describe(self) -> dict[str, Any]:
        """For `Learner.describe`: the table and its episodes, as short hashes, and how windows are drawn."""
        content = [self.cache.episodes[i]["hash"].encode() for i in self.episodes.tolist()]
        return {
            "data": self.cache.hash,
            "episodes": digest(*content),
            "batch_size": self.batch_size,
            "seed": self.seed,
        }

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            self._orders = {e: order for e, order in self._orders.items() if abs(e - epoch) <= 1}
            self._orders[epoch] = np.random.default_rng([self.seed, epoch]).permutation(len(self.starts))
        return self._orders[epoch]


def window_starts(cache: TickCache, episodes: np.ndarray | Sequence[int], length: int) -> np.ndarray:
    """First rows of every window of ``length`` rows inside one of the episodes, in order.

    A window is passed over if a picture, vector or action in it is stale: a camera that hung shows a world
    that stands still while the robot moves.
    """
    spans = [np.empty(0, dtype=np.int64)]
    for e in np.asarray(episodes):
        first, end = int(cache.episode_starts[e]), int(cache.episode_starts[e + 1])
        spans.append(np.arange(first, max(first, end - length + 1)))
    starts = np.concatenate(spans)
    stale = np.concatenate([[0], np.cumsum(~fresh(cache))])
    return starts[stale[starts + length] == stale[starts]]


def fresh(cache: TickCache) -> np.ndarray:
    """(rows,) bool: every picture, vector and action was valid.

    Touch does not count: at about one sample per tick, many a tick has none although nothing is wrong.
    """
    names = [name for name, spec in cache.specs.items() if spec.kind in ("video", "vector", "action")]
    return np.all([cache.valid[n] for n in names], axis=0) if names else np.ones(cache.num_rows, dtype=bool)


def gather(cache: TickCache, rows: np.ndarray, length: int, streams: Sequence[str]) -> dict[str, np.ndarray]:
    """Copy windows out of the table.

    Args:
        cache: the table.
        rows: (B,) first rows, as the sampler gives them.
        length: T rows each.
        streams: names; "NAME.valid" asks for a stream's validity.

    Returns:
        (B, T, *shape) per name.
    """
    index = np.asarray(rows)[:, None] + np.arange(length)
    return {name: np.take(_table(cache, name), index, axis=0) for name in streams}


def _table(cache: TickCache, name: str) -> np.ndarray:
    table = cache.streams.get(name)
    if table is None and name.endswith(".valid"):
        table = cache.valid.get(name.removesuffix(".valid"))
    if table is None:
        raise ConfigError(f"the cache has no stream '{name}'; it has {', '.join(cache.streams)}")
    return np.asarray(table)


@dataclass(frozen=True, kw_only=True)
class WindowSpec:
    """How much of one stream to read around a moment: the half-open stretch (t - back, t + ahead]."""

    seconds_back: float
    seconds_ahead: float = 0.0
    """Beyond the moment itself: for targets and for actions still to be applied."""
    rate_hz: float | Literal["raw"] = "raw"
    """Clock to read on, or "raw" for every recorded sample at its own time."""
    max_age_s: float = float("inf")
    """Older samples are marked invalid."""

    def __post_init__(self) -> None:
        if min(self.seconds_back, self.seconds_ahead) < 0 or self.seconds_back + self.seconds_ahead <= 0:
            raise ConfigError(
                f"a window of {self.seconds_back} s back and {self.seconds_ahead} s ahead is empty; neither "
                "may be negative and one must be positive"
            )
        if self.rate_hz != "raw" and not self.rate_hz > 0:
            raise ConfigError(f'a rate of {self.rate_hz} Hz was asked for; give a positive rate, or "raw"')


class Window(NamedTuple):
    """One stream over a stretch of time."""

    times_s: np.ndarray
    """(T,) seconds on the episode's clock."""
    values: np.ndarray
    """(T, *shape); zero where not valid."""
    valid: np.ndarray
    """(T,) bool."""
    age_s: np.ndarray
    """(T,) how old the sample is at its time, >= 0; zero for raw samples, inf where there is none."""


def read_window(episode: Episode, t_s: float, spec: dict[str, WindowSpec]) -> dict[str, Window]:
    """Read several streams around the moment ``t_s``, each at its own rate, never looking ahead of a query.

    Raises:
        DataError: the episode has no such stream.

    Example:
        >>> window = read_window(episode, 2.0, {"touch": WindowSpec(seconds_back=0.1)})
        >>> window["touch"].values.shape  # 100 ms at 500 Hz, 6 channels
        (50, 6)
    """
    absent = [name for name in spec if name not in episode.streams]
    if absent:
        raise DataError(
            f"episode '{episode.name}' has no stream '{absent[0]}'; it has {', '.join(episode.streams)}"
        )
    return {name: _read(episode.streams[name], t_s, wanted) for name, wanted in spec.items()}


def _read(stream: Stream, t_s: float, spec: WindowSpec) -> Window:
    if spec.rate_hz == "raw":
        first, last = t_s - spec.seconds_back, t_s + spec.seconds_ahead
        index = np.arange(*np.searchsorted(stream.times_s, (first + 1e-6, last + 1e-6), side="right"))
        return Window(
            stream.times_s[index],
            stream.read(index),
            np.ones(len(index), dtype=bool),
            np.zeros(len(index)),
        )
    back, ahead = (round(seconds * spec.rate_hz) for seconds in (spec.seconds_back, spec.seconds_ahead))
    times_s = t_s + np.arange(1 - back, ahead + 1) / spec.rate_hz
    return Window(times_s, *align(stream, times_s, max_age_s=spec.max_age_s))
