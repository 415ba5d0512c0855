"""Which streams of an episode share LeRobot's table, and which keep a clock of their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from forerun.data.episode import Episode, Stream
from forerun.data.lerobot import TOLERANCE_S
from forerun.data.lerobot_meta import INDEX_COLUMNS
from forerun.data.lerobot_tables import feature_of, index_features
from forerun.data.video_writer import Encoding
from forerun.types import DataError, StreamSpec


@dataclass(frozen=True)
class Plan:
    """Decided by the first episode, binding for all."""

    fps: float
    table: dict[str, StreamSpec]
    """Streams on the common clock, by feature key."""
    side: dict[str, StreamSpec]
    """Streams on other clocks, by key."""
    features: dict[str, Any]
    """Of info.json."""
    order: tuple[str, ...]
    """Keys in the order of the first episode."""

    def check(self, episode: Episode) -> int:
        """The number of table rows of an episode.

        Raises:
            DataError: if a stream is new, differs from the first episode's, or left the common clock.
        """
        known = {s.name: s for s in (*self.table.values(), *self.side.values())}
        for name, stream in episode.streams.items():
            _same(name, stream.spec, known.get(name), f"episode '{episode.name}'")
        lengths = {spec.name: self._rows(episode, spec.name) for spec in self.table.values()}
        if len(set(lengths.values())) > 1:
            raise DataError(
                f"the streams of episode '{episode.name}' differ in length: {lengths}; rows of one table "
                "are equally many. Trim them, or pass the odd one under side=[...]"
            )
        return max(lengths.values(), default=int(episode.duration_s * self.fps + 1e-6) + 1)

    def _rows(self, episode: Episode, name: str) -> int:
        stream = episode.streams.get(name)
        if stream is None or not on_grid(stream, self.fps):
            found = "has none" if stream is None else f"has {len(stream)} samples off it"
            raise DataError(
                f"the first episode has stream '{name}' on the common clock, {self.fps:g} Hz from time "
                f"zero; episode '{episode.name}' {found}. Pass side=['{name}'] to store it on its own clock"
            )
        return len(stream)


def plan(episode: Episode, fps: float, forced_side: Iterable[str], encoding: Encoding) -> Plan:
    """Streams on the clock k / fps and of the most common length go into the table, the others beside it.

    Raises:
        DataError: if a stream's name is one of LeRobot's own columns.
    """
    forced = set(forced_side)
    together = [n for n, s in episode.streams.items() if n not in forced and on_grid(s, fps)]
    lengths = [len(episode.streams[n]) for n in together]
    length = max(lengths, key=lambda n: (lengths.count(n), n), default=0)
    table: dict[str, StreamSpec] = {}
    side: dict[str, StreamSpec] = {}
    for name, stream in episode.streams.items():
        key = name.replace("/", ".")  # a slash would break LeRobot's column names
        if key in INDEX_COLUMNS or key in table or key in side:
            raise DataError(
                f"the stream name '{name}' is taken by LeRobot or by another stream; rename the stream"
            )
        (table if name in together and len(stream) == length else side)[key] = stream.spec
    features = {}
    for key, spec in table.items():
        first = None if spec.kind == "video" else episode.streams[spec.name].read(np.arange(1))
        features[key] = feature_of(spec, first, fps, encoding)
    order = tuple(name.replace("/", ".") for name in episode.streams)
    return Plan(fps, table, side, features | index_features(), order)


def on_grid(stream: Stream, fps: float) -> bool:
    """Whether sample k lies at k / fps, within LeRobot's tolerance."""
    grid = np.arange(len(stream)) / fps
    return len(stream) > 0 and bool((np.abs(stream.times_s - grid) <= TOLERANCE_S).all())


def _same(name: str, spec: StreamSpec, first: StreamSpec | None, label: str) -> None:
    if first is None:
        raise DataError(
            f"{label} has the stream '{name}', which the first episode lacks; leave it out of all"
        )
    if spec != first:
        differ = [k for k, v in spec.to_json().items() if v != first.to_json()[k]]
        raise DataError(
            f"stream '{name}' of {label} has {_show(spec, differ)}; the first episode has "
            f"{_show(first, differ)}. A data set has one description per stream: convert the stream, or "
            "write two data sets"
        )


def _show(spec: StreamSpec, keys: list[str]) -> str:
    return ", ".join(f"{k} = {spec.to_json()[k]!r}" for k in keys)
