"""Streams as LeRobot features and Arrow columns."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from forerun.data.lerobot_meta import INDEX_COLUMNS
from forerun.data.lerobot_stats import NAMES
from forerun.data.video_writer import Encoding
from forerun.types import StreamSpec

_CODECS = {"libx264": "h264", "libx265": "hevc", "libsvtav1": "av1", "libaom-av1": "av1", "libvpx-vp9": "vp9"}


def feature_of(spec: StreamSpec, first: np.ndarray | None, fps: float, encoding: Encoding) -> dict[str, Any]:
    """The entry of a stream in info.json; ``first`` is one sample (1, *shape), None for video."""
    if first is None:
        height, width, channels = spec.shape
        described = {
            "video.height": height,
            "video.width": width,
            "video.codec": _CODECS.get(encoding.codec, encoding.codec),
            "video.pix_fmt": encoding.pix_fmt,
            "video.is_depth_map": False,
            "video.fps": fps,
            "video.channels": channels,
            "video.g": encoding.gop,
            "video.crf": encoding.crf,
            "has_audio": False,
        }
        axes = ["height", "width", "channels"]
        return {"dtype": "video", "shape": list(spec.shape), "names": axes, "info": described}
    dtype = "string" if first.dtype == object else str(first.dtype)
    return {"dtype": dtype, "shape": list(spec.shape) or [1], "names": list(spec.names) or None}


def index_features() -> dict[str, Any]:
    """The columns that every LeRobot table has."""
    return {
        name: {"dtype": "float32" if name == "timestamp" else "int64", "shape": [1], "names": None}
        for name in INDEX_COLUMNS
    }


def to_arrow(values: np.ndarray) -> pa.Array:
    """(N, *shape) as a column: plain for one number, fixed-size lists for vectors, nested lists beyond."""
    if values.dtype == object:
        return pa.array([str(v) for v in values], type=pa.string())
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    shape = values.shape[1:]
    if np.prod(shape, dtype=int) == 1:
        return flat
    if len(shape) == 1:
        return pa.FixedSizeListArray.from_arrays(flat, shape[0])
    for size in reversed(shape):
        offsets = np.arange(0, len(flat) + 1, size, dtype=np.int32)
        flat = pa.ListArray.from_arrays(pa.array(offsets), flat)
    return flat


def tasks_table(tasks: list[str]) -> pa.Table:
    """A pandas table whose index is the text, as lerobot expects meta/tasks.parquet."""
    text = {"metadata": None, "numpy_type": "object", "pandas_type": "unicode"}
    number = {"metadata": None, "numpy_type": "int64", "pandas_type": "int64"}
    described = {
        "index_columns": ["__index_level_0__"],
        "column_indexes": [{"name": None, "field_name": None, **text}],
        "columns": [
            {"name": "task_index", "field_name": "task_index", **number},
            {"name": None, "field_name": "__index_level_0__", **text},
        ],
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "__index_level_0__": tasks})
    return table.replace_schema_metadata({"pandas": json.dumps(described)})


def episode_schema(
    table: dict[str, StreamSpec], side: dict[str, StreamSpec], features: dict[str, Any]
) -> pa.Schema:
    """Columns of the episode table, in LeRobot's names."""
    whole, text = pa.int64(), pa.string()
    columns: list[tuple[str, Any]] = [
        ("episode_index", whole),
        ("tasks", pa.list_(text)),
        ("length", whole),
        ("data/chunk_index", whole),
        ("data/file_index", whole),
        ("dataset_from_index", whole),
        ("dataset_to_index", whole),
    ]
    for key, spec in table.items():
        if spec.kind == "video":
            columns += [(f"videos/{key}/{name}", whole) for name in ("chunk_index", "file_index")]
            columns += [(f"videos/{key}/{name}", pa.float64()) for name in ("from_timestamp", "to_timestamp")]
    for key, feature in features.items():
        if feature["dtype"] == "string":
            continue
        nested: Any = pa.float64()
        for _ in range(3 if feature["dtype"] == "video" else max(1, len(feature["shape"]))):
            nested = pa.list_(nested)
        columns += [(f"stats/{key}/{name}", pa.list_(whole) if name == "count" else nested) for name in NAMES]
    columns += [("meta/episodes/chunk_index", whole), ("meta/episodes/file_index", whole)]
    columns += [("forerun/name", text), ("forerun/success", pa.bool_()), ("forerun/metadata", text)]
    for key in side:
        columns += [(f"forerun/streams/{key}/{name}", whole) for name in ("chunk_index", "file_index")]
    return pa.schema(columns)
