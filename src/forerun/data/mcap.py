"""MCAP files, one episode each, read through the package mcap (the extra ``ros``).

Files of `forerun.data.mcap_writer` come back as they were. Others may hold any JSON or ROS 2 messages:
their numbers become vectors, named after the fields, stamped with the message's own header if that clock
agrees with the log's, else with the moment of logging.
"""

from __future__ import annotations

import json
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from forerun.data.episode import Episode, Recordings, Stream
from forerun.data.mcap_messages import NS, Decoder, Heard, decoder_for
from forerun.data.naming import kind_of
from forerun.types import DataError, StreamSpec, require

PURPOSE = "reading MCAP"
WRENCH = [[part, axis] for part in ("force", "torque") for axis in "xyz"]
LATEST_S = 10.0
"""A message logged longer after its own stamp than this has a stamp of another clock."""


def mcap_files(path: Path) -> list[Path]:
    """MCAP files at ``path`` or directly below it, by name."""
    return [path] if path.suffix.lower() == ".mcap" else sorted(path.glob("*.mcap"))


def open_mcap(path: str | Path) -> Recordings:
    """Open an MCAP file, or a folder of them.

    Raises:
        MissingExtraError: without the package mcap, or rosbags for ROS 2 messages.
        DataError: a file is cut short or is no MCAP, or has no message with a number or picture.
    """
    files = mcap_files(Path(path))
    load = lru_cache(maxsize=2)(lambda i: _load(files[i]))
    first, notes = load(0)
    specs = {name: stream.spec for name, stream in first.streams.items()}
    return Recordings(Path(path), "mcap", specs, len(files), lambda i: load(i)[0], notes)


class _Channel:
    """What one topic said, message by message."""

    def __init__(self, topic: str, about: dict[str, str], decode: Decoder) -> None:
        self.topic, self.name = topic, topic.strip("/").replace("/", ".")
        self.decode = decode
        self.spec = StreamSpec.from_json(json.loads(about["spec"])) if "spec" in about else None
        self.dtype = np.dtype(about.get("dtype", "float32"))
        self.heard: list[Heard] = []
        self.skipped = 0
        self.published_ns: list[int] = []
        self.logged_ns: list[int] = []

    def add(self, message: Any) -> None:
        heard = self.decode(message.data)
        if heard is None or (self.heard and heard.value.shape != self.heard[0].value.shape):
            self.skipped += 1  # text, or a list that changes its length
        else:
            self.heard.append(heard)
            self.published_ns.append(message.publish_time)
            self.logged_ns.append(message.log_time)

    def stream(self, origin_ns: int) -> Stream:
        """Everything heard, on a clock that begins at ``origin_ns``."""
        if self.spec is not None:
            stamps, spec = np.array(self.published_ns, dtype=np.int64), self.spec
        else:
            stamps, spec = self._foreign()
        times_s = (stamps - origin_ns) / NS
        values = [h.value.reshape(spec.shape) for h in self.heard]
        empty = np.empty((0, *spec.shape), self.dtype)
        return Stream(spec, times_s, np.stack(values).astype(self._dtype()) if values else empty)

    def _dtype(self) -> np.dtype:
        return np.dtype(np.uint8) if self.heard[0].value.dtype == np.uint8 else self.dtype

    def _foreign(self) -> tuple[np.ndarray, StreamSpec]:
        """Stamps and spec of a message nobody described."""
        first, logged = self.heard[0], np.array(self.logged_ns, dtype=np.int64)
        own = [h.stamp_ns for h in self.heard]
        late = np.array([0 if s is None else log - s for s, log in zip(own, self.logged_ns, strict=True)])
        trusted = None not in own and 0 <= np.median(late) < LATEST_S * NS
        stamps = np.array(own, dtype=np.int64) if trusted else logged
        drawn = first.value.dtype == np.uint8
        wrench = [n.split(".")[-2:] for n in first.names] == [
            [p, a] for p in ("force", "torque") for a in "xyz"
        ]
        spec = StreamSpec(
            name=self.name,
            kind="video" if drawn else "touch" if wrench else kind_of(self.name),
            shape=first.value.shape,
            unit="rgb" if drawn else "N, N m" if wrench else "",
            names=first.names,
            rate_hz=_rate_hz(stamps),
            family="wrench" if wrench else None,
            delay_s=float(np.median(late)) / NS if trusted else 0.0,
            frame=first.frame,
        )
        return stamps, spec


def _rate_hz(stamps: np.ndarray) -> float | None:
    return None if len(stamps) < 2 else round(NS / float(np.median(np.diff(stamps))), 3)


def _load(file: Path) -> tuple[Episode, tuple[str, ...]]:
    reader, exceptions = _library()
    channels: dict[int, _Channel] = {}
    skipped: dict[str, int] = defaultdict(int)
    about: dict[str, Any] = {}
    try:
        with file.open("rb") as source:
            opened = reader.make_reader(source)
            for record in opened.iter_metadata():
                about = json.loads(record.metadata["episode"]) if record.name == "forerun" else about
            summary = opened.get_summary()
            for known in summary.channels.values() if summary else ():
                _channel(channels, summary.schemas.get(known.schema_id), known)
            for schema, channel, message in opened.iter_messages():
                found = _channel(channels, schema, channel)
                if found is None:
                    skipped[channel.topic] += 1
                else:
                    found.add(message)
    except (exceptions.McapError, EOFError, ValueError, KeyError) as cause:
        raise _damaged(file, cause) from cause
    skipped |= {c.topic: c.skipped for c in channels.values() if c.skipped}
    heard = [c for c in channels.values() if c.heard or c.spec is not None]
    if not any(c.heard for c in heard):
        raise DataError(
            f"'{file.name}' holds no message with a number or a picture; expected JSON or ROS 2 messages. "
            f"Found {', '.join(skipped) or 'no message at all'} ({file})"
        )
    stamps = [c.published_ns[0] for c in heard if c.published_ns]
    origin_ns = int(about.get("origin_ns", min(stamps)))
    streams = {c.name: c.stream(origin_ns) for c in heard}
    streams = {s.spec.name: s for s in streams.values()}
    metadata = dict(about.get("metadata") or {}) | {"origin_ns": origin_ns}
    name = about.get("name", file.stem)
    episode = Episode(name, streams, about.get("task", ""), about.get("success"), metadata)
    words = "are left out: no numbers, or not as many as in the first"
    return episode, tuple(f"{n} messages of '{topic}' {words}" for topic, n in skipped.items())


def _channel(channels: dict[int, _Channel], schema: Any, channel: Any) -> _Channel | None:
    if channel.id not in channels:
        name, definition = (schema.name, schema.data) if schema else ("", b"")
        decode = decoder_for(channel.message_encoding, name, definition)
        if decode is None:
            return None
        channels[channel.id] = _Channel(channel.topic, channel.metadata, decode)
    return channels[channel.id]


def _library() -> tuple[Any, Any]:
    return require("mcap.reader", "ros", PURPOSE), require("mcap.exceptions", "ros", PURPOSE)


def _damaged(file: Path, cause: Exception) -> DataError:
    """Say how much of a file can still be read."""
    reader, exceptions = _library()
    whole, last_ns, first_ns = 0, 0, 0
    try:
        with file.open("rb") as source:
            for _, _, message in reader.NonSeekingReader(source).iter_messages(log_time_order=False):
                whole, last_ns = whole + 1, message.log_time
                first_ns = first_ns or message.log_time
    except (exceptions.McapError, EOFError, ValueError, KeyError):
        pass
    seconds = (last_ns - first_ns) / NS
    kept = f"{whole} messages over {seconds:.3g} s can be read" if whole else "nothing can be read"
    return DataError(
        f"'{file.name}' is damaged or cut short ({type(cause).__name__}): {kept}; expected a whole MCAP file "
        "with its footer. Save what is left with the mcap command line tool: "
        f"mcap recover {file.name} -o whole.mcap ({file})"
    )
