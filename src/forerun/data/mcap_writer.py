"""Write episodes as MCAP files that Foxglove plots and `forerun.data.mcap` reads back bit for bit.

One channel per stream in JSON, pictures as PNG, each stream's spec in its channel's metadata: unit, family,
bias, range, delay, frame. A message's publish time is when its sample was captured, its log time when it
arrived, both in whole nanoseconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from forerun.data.episode import Episode, Stream
from forerun.data.mcap_messages import (
    NS,
    OWN_JSON,
    OWN_SCHEMA,
    PICTURE_JSON,
    PICTURE_SCHEMA,
    own_message,
    picture_message,
)
from forerun.types import DataError, StorageError, StreamSpec, require


def write_mcaps(
    folder: str | Path, episodes: Iterable[Episode], progress: Callable[[int], None] | None = None
) -> Path:
    """Write every episode to FOLDER/NAME.mcap.

    Raises:
        StorageError: the folder exists, or the disk is full; whole files written before stay.
        DataError: a stream holds what MCAP's JSON cannot: text, or infinite numbers.
        MissingExtraError: without the package mcap.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True)
        for done, episode in enumerate(episodes):
            write_mcap(folder / f"{episode.name}.mcap", episode)
            if progress:
                progress(done + 1)
    except FileExistsError as cause:
        raise StorageError(
            f"{folder.name} exists already and is not overwritten; choose another name ({folder})"
        ) from cause
    return folder


def write_mcap(path: str | Path, episode: Episode) -> Path:
    """Write one episode; ``metadata["origin_ns"]`` says when its clocks were zero, 0 if it does not.

    Raises:
        As `write_mcaps`.
    """
    library: Any = require("mcap.writer", "ros", "writing MCAP")
    path = Path(path)
    if path.exists():
        raise StorageError(f"{path.name} exists already and is not overwritten; choose another name ({path})")
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        with partial.open("wb") as file:
            writer = library.Writer(file)
            writer.start(profile="", library="forerun")
            _write(writer, episode)
            writer.finish()
        partial.rename(path)
    except OSError as cause:
        raise StorageError(
            f"{path.name} cannot be written: {cause.strerror or cause}. Free some space, or choose a folder "
            f"that may be written ({path})"
        ) from cause
    finally:
        partial.unlink(missing_ok=True)
    return path


def _write(writer: Any, episode: Episode) -> None:
    origin_ns = int(episode.metadata.get("origin_ns", 0))
    about = {"name": episode.name, "task": episode.task, "success": episode.success, "origin_ns": origin_ns}
    about["metadata"] = episode.metadata
    writer.add_metadata("forerun", {"episode": json.dumps(about, default=str)})
    schemas = {
        name: writer.register_schema(name, "jsonschema", json.dumps(definition).encode())
        for name, definition in ((OWN_SCHEMA, OWN_JSON), (PICTURE_SCHEMA, PICTURE_JSON))
    }
    for name, stream in episode.streams.items():
        values = stream.read()
        if values.dtype.kind not in "fiub" or (values.dtype.kind == "f" and np.isinf(values).any()):
            raise DataError(
                f"stream '{name}' of episode '{episode.name}' holds text or infinite numbers; expected "
                "finite numbers or pictures: JSON can say no others. Leave it out with --streams"
            )
        drawn = _is_picture(stream.spec, values)
        about = {"spec": json.dumps(stream.spec.to_json()), "dtype": values.dtype.str}
        schema = schemas[PICTURE_SCHEMA if drawn else OWN_SCHEMA]
        channel = writer.register_channel(f"/{name}", "json", schema, about)
        say = picture_message if drawn else own_message
        late_ns = round(stream.spec.delay_s * NS)
        for stamp_ns, value in zip(_stamps_ns(stream, origin_ns), values, strict=True):
            data = say(stamp_ns, value, stream.spec.frame)
            writer.add_message(channel, stamp_ns + late_ns, data, publish_time=stamp_ns)


def _stamps_ns(stream: Stream, origin_ns: int) -> list[int]:
    return [origin_ns + ns for ns in np.rint(stream.times_s * NS).astype(np.int64).tolist()]


def _is_picture(spec: StreamSpec, values: np.ndarray) -> bool:
    return values.dtype == np.uint8 and len(spec.shape) == 3 and spec.shape[-1] == 3
