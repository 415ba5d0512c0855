"""What a data set holds, as one short text: equal exactly when the content is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from forerun.data.episode import Episode, Recordings

WHOLE_HASH_BYTES = 2 * 2**30  # sources up to this size are hashed byte by byte


def source_hash(recordings: Recordings) -> str:
    """Hash of what the recordings hold: their files, or for a set made in memory, their values."""
    about = {name: spec.to_json() for name, spec in recordings.specs.items()}
    parts = [json.dumps([recordings.format, len(recordings), about]).encode()]
    if recordings.path.exists():
        parts += _hash_files(recordings.path)
    else:
        parts += [_hash_episode(episode) for episode in recordings]
    return digest(*parts)


def _hash_files(path: Path) -> Iterator[bytes]:
    """One entry per file. Very large sets are known by name, size and date, so that starting stays quick."""
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    files = [f for f in files if not (f.parent / "cache.json").exists()]  # our own tables are no source
    whole = sum(f.stat().st_size for f in files) <= WHOLE_HASH_BYTES
    for file in files:
        name, stat = str(file.relative_to(path)), file.stat()
        if whole:
            with file.open("rb") as opened:
                yield name.encode() + hashlib.file_digest(opened, "sha256").digest()
        else:
            yield f"{name} {stat.st_size} {stat.st_mtime_ns}".encode()


def _hash_episode(episode: Episode) -> bytes:
    state = hashlib.blake2b(episode.name.encode(), digest_size=16)
    for name, stream in sorted(episode.streams.items()):
        state.update(name.encode() + stream.times_s.tobytes())
        state.update(np.ascontiguousarray(stream.read()).tobytes())
    return state.digest()


def digest(*parts: bytes) -> str:
    """Hash of an ordered list of parts: 24 hexadecimal characters."""
    state = hashlib.blake2b(digest_size=12)
    for part in parts:
        state.update(len(part).to_bytes(8, "little") + part)
    return state.hexdigest()
