"""RLDS (Open X-Embodiment, TFDS) folders, read without TensorFlow.

One TFRecord message is one episode; each feature is the concatenation over steps, shapes come from
features.json. Streams are called as in the data set, joined by dots ("observation.image_0"). RLDS stores no
clock: steps are put at the known rate of the data set (``RATES_HZ``) or at one second each, and a note says
so; a forerun.json with {"rate_hz": 10} beside features.json sets the rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from forerun.data.episode import Episode, Recordings, Stream
from forerun.data.naming import kind_of
from forerun.data.pictures import Pictures
from forerun.data.tables import read_json
from forerun.data.tfrecord import read_record, record_offsets
from forerun.types import DataError, StreamSpec

RATES_HZ = {"bridge": 5.0, "droid": 15.0, "fractal20220817": 3.0}
"""Control rates published with the data sets, by the beginning of their name."""

_STEP_MARKS = ("is_first", "is_last", "is_terminal")


@dataclass(frozen=True)
class Feature:
    """One entry of features.json."""

    shape: tuple[int, ...]
    dtype: str
    """A numpy name, "string", or "image"."""


def open_rlds(path: str | Path) -> Recordings:
    """Open the folder that holds features.json.

    Raises:
        DataError: if the metadata cannot be read or no shard is there. An absent shard is a note; a
            truncated one is an error of its episodes.
    """
    path = Path(path)
    features = _features(path / "features.json")
    info = read_json(path / "dataset_info.json")
    shards, notes = _shards(path, info)
    name = str(info.get("name", ""))
    rate_hz = next((r for n, r in RATES_HZ.items() if name.startswith(n)), None)
    notes.append(f"RLDS has no clock: steps are put at {f'{rate_hz:g} Hz' if rate_hz else 'one second each'}")
    specs, left_out = _specs(features, rate_hz)
    notes += [f"'{n}' is left out: forerun reads colour pictures and arrays of fixed shape" for n in left_out]
    starts = np.cumsum([0, *(count for _, count, _ in shards)])

    def load(i: int) -> Episode:
        s = int(np.searchsorted(starts, i, side="right")) - 1
        file, count, split = shards[s]
        return _load(file, i - int(starts[s]), count, split, features, specs, rate_hz)

    return Recordings(path, "rlds", specs, int(starts[-1]), load, tuple(notes))


def _features(path: Path) -> dict[str, Feature]:
    """Leaves of the feature tree by slash-joined name, as the records use it."""
    found: dict[str, Feature] = {}

    def walk(node: dict[str, Any], name: str) -> None:
        if "featuresDict" in node:
            for key, child in node["featuresDict"]["features"].items():
                walk(child, f"{name}/{key}" if name else key)
        elif "sequence" in node:
            walk(node["sequence"]["feature"], name)
        elif "image" in node:
            found[name] = Feature(_dimensions(node["image"]), "image")
        elif "text" in node:
            found[name] = Feature((), "string")
        elif "tensor" in node:
            found[name] = Feature(_dimensions(node["tensor"]), node["tensor"].get("dtype", "float32"))

    walk(read_json(path), "")
    if not any(n.startswith("steps/") for n in found):
        raise DataError(
            f"features.json lists {len(found)} features and none under 'steps'; an RLDS data set has steps. "
            f"It may be another kind of TFDS data set ({path})"
        )
    return found


def _dimensions(node: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(d) for d in node.get("shape", {}).get("dimensions", ()))


def _shards(path: Path, info: dict[str, Any]) -> tuple[list[tuple[Path, int, str]], list[str]]:
    """(file, episodes, split) of every shard that is there, and notes on those that are not."""
    shards, absent = [], []
    for split in info.get("splits", []):
        lengths = [int(n) for n in split["shardLengths"]]
        for i, length in enumerate(lengths):
            file = path / _shard_name(info, split, i, len(lengths))
            if file.is_file():
                shards.append((file, length, split["name"]))
            else:
                absent.append(f"shard {file.name} ({length} episodes of split '{split['name']}') is absent")
    if not shards:
        raise DataError(
            f"dataset_info.json lists {len(absent)} shards and none of them is here; expected files such as "
            f"{absent[0].split()[1] if absent else '*.tfrecord-00000-of-00001'}. Copy them ({path})"
        )
    return shards, absent


def _shard_name(info: dict[str, Any], split: dict[str, Any], index: int, count: int) -> str:
    template = split.get("filepathTemplate") or "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    return template.format(
        DATASET=info["name"],
        SPLIT=split["name"],
        FILEFORMAT=info.get("fileFormat", "tfrecord"),
        SHARD_X_OF_Y=f"{index:05d}-of-{count:05d}",
    )


def _stream_name(key: str) -> str:
    return key.removeprefix("steps/").replace("/", ".")


def _specs(features: dict[str, Feature], rate_hz: float | None) -> tuple[dict[str, StreamSpec], list[str]]:
    specs, left_out = {}, []
    for key, feature in features.items():
        name = _stream_name(key)
        if not key.startswith("steps/") or name in _STEP_MARKS or feature.dtype == "string":
            continue
        image = feature.dtype == "image"
        if any(d <= 0 for d in feature.shape) or (image and feature.shape[-1:] != (3,)):
            left_out.append(name)
            continue
        # a sentence's embedding says what was asked for, not what was seen
        kind = "privileged" if "language" in name else kind_of(name, feature.dtype)
        shape = feature.shape or (1,)
        specs[name] = StreamSpec(
            name=name, kind=kind, shape=shape, unit="rgb" if image else "", rate_hz=rate_hz
        )
    return specs, left_out


@lru_cache(maxsize=256)
def _offsets(file: Path, _mtime_ns: int) -> np.ndarray:
    return record_offsets(file)


def _load(
    file: Path,
    index: int,
    expected: int,
    split: str,
    features: dict[str, Feature],
    specs: dict[str, StreamSpec],
    rate_hz: float | None,
) -> Episode:
    offsets = _offsets(file, file.stat().st_mtime_ns)
    if len(offsets) < expected:
        raise DataError(
            f"shard {file.name} holds {len(offsets)} episodes; dataset_info.json lists {expected}. Copy the "
            f"shard again ({file})"
        )
    record = read_record(file, int(offsets[index, 0]), int(offsets[index, 1]))
    steps = len(record.get("steps/is_first", record.get("steps/is_last", ())))
    times_s = np.arange(steps) / (rate_hz or 1.0)
    streams = {}
    for key, feature in features.items():
        name = _stream_name(key)
        if name in specs:
            streams[name] = Stream(
                specs[name], times_s, _values(record, key, feature, specs[name], steps, file)
            )
    metadata = {k.rpartition("/")[2]: _plain(record[k]) for k in features if k in record and "metadata/" in k}
    return Episode(
        name=f"{split}/{index:05d}"
        if file.name.endswith("00000-of-00001")
        else f"{split}/{file.name[-14:]}/{index}",
        streams=streams,
        task=_instruction(record),
        success=bool(metadata["success"]) if "success" in metadata else None,
        metadata={"split": split} | metadata,
    )


def _values(
    record: dict[str, Any], key: str, feature: Feature, spec: StreamSpec, steps: int, file: Path
) -> Any:
    found = record.get(key, ())
    expected = steps if feature.dtype == "image" else steps * spec.size
    if len(found) != expected or steps == 0:
        raise DataError(
            f"feature '{key}' holds {len(found)} values in an episode of {steps} steps; {expected} are "
            f"expected from features.json. The shard or the metadata is damaged ({file})"
        )
    if feature.dtype == "image":
        return Pictures(found, spec.shape, spec.name, file.parent)
    return np.asarray(found).astype(feature.dtype).reshape(steps, *spec.shape)


def _instruction(record: dict[str, Any]) -> str:
    for key in ("steps/language_instruction", "steps/observation/natural_language_instruction"):
        if record.get(key):
            return record[key][0].decode(errors="replace")
    return ""


def _plain(values: Any) -> Any:
    first = values[0] if len(values) else None
    return (
        first.decode(errors="replace")
        if isinstance(first, bytes)
        else first
        if first is None
        else first.item()
    )
