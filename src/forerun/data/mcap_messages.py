"""MCAP messages to samples and back: forerun's own, and any JSON or ROS 2 message with numbers or a picture.

Every decoder turns one message into a `Heard`: when it was captured, its numbers or its picture, their names.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from forerun.types import require

NS = 10**9
_STAMP = {"type": "object", "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}}}
_HEADER = {"timestamp": _STAMP, "frame_id": {"type": "string"}}
OWN_SCHEMA = "forerun.Samples"
OWN_JSON = {
    "title": OWN_SCHEMA,
    "description": "One sample of a stream; null stands for not a number.",
    "type": "object",
    "properties": {**_HEADER, "value": {"type": "array", "items": {"type": "number"}}},
}
PICTURE_SCHEMA = "foxglove.CompressedImage"
PICTURE_JSON = {
    "title": PICTURE_SCHEMA,
    "type": "object",
    "properties": {
        **_HEADER,
        "data": {"type": "string", "contentEncoding": "base64"},
        "format": {"type": "string"},
    },
}
_STAMPS = ("timestamp", "stamp", "header")


class Heard(NamedTuple):
    """One message."""

    stamp_ns: int | None
    """When it was captured, if it says so."""
    value: np.ndarray
    """(C,) float64, or a picture (H, W, 3) uint8."""
    names: tuple[str, ...] = ()
    frame: str = ""


def own_message(stamp_ns: int, value: np.ndarray, frame: str) -> bytes:
    """One sample as JSON; float32 and float64 come back bit for bit."""
    flat = value.reshape(-1).tolist()
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        flat = [number if np.isfinite(number) else None for number in flat]
    return json.dumps(_stamped(stamp_ns, frame) | {"value": flat}, separators=(",", ":")).encode()


def picture_message(stamp_ns: int, picture: np.ndarray, frame: str) -> bytes:
    """One picture (H, W, 3) uint8 as PNG, without loss."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    data = base64.b64encode(file.getvalue()).decode()
    return json.dumps(_stamped(stamp_ns, frame) | {"data": data, "format": "png"}).encode()


def _stamped(stamp_ns: int, frame: str) -> dict[str, Any]:
    sec, nsec = divmod(stamp_ns, 10**9)
    return {"timestamp": {"sec": sec, "nsec": nsec}, "frame_id": frame}


Decoder = Callable[[bytes], Heard | None]
"""None for a message with neither number nor picture."""


def decoder_for(encoding: str, schema: str, definition: bytes) -> Decoder | None:
    """How to read messages of a schema; None if nothing here can.

    Raises:
        MissingExtraError: ROS 2 messages without the package rosbags.
    """
    if encoding == "json":
        return lambda data: _from_fields(json.loads(data))
    if encoding == "cdr":
        return _ros2(schema, definition.decode("utf-8", "replace"))
    return None


def _ros2(schema: str, definition: str) -> Decoder:
    typesys: Any = require("rosbags.typesys", "ros", "reading ROS 2 messages")
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    name = schema if schema.count("/") == 2 else schema.replace("/", "/msg/", 1)
    found = typesys.get_types_from_msg(definition, name)
    store.register({k: v for k, v in found.items() if k not in store.fielddefs})
    return lambda data: _from_fields(_plain(store.deserialize_cdr(data, name)))


def _plain(message: Any) -> Any:
    """A ROS 2 message as nested dicts, arrays left as they are."""
    if hasattr(message, "__dataclass_fields__"):
        fields = (f for f in message.__dataclass_fields__ if not f.startswith("__"))
        return {name: _plain(getattr(message, name)) for name in fields}
    return message


def _from_fields(message: dict[str, Any]) -> Heard | None:
    header = message.get("header") or message
    stamp = header.get("stamp") or header.get("timestamp") or message.get("timestamp")
    stamp_ns, frame = _nanoseconds(stamp), str(header.get("frame_id") or "")
    if "data" in message and ("format" in message or "encoding" in message):
        picture = _picture(message)
        return None if picture is None else Heard(stamp_ns, picture, (), frame)
    leaves = list(_numbers({k: v for k, v in message.items() if k not in _STAMPS}))
    if not leaves:
        return None
    value = np.array([np.nan if number is None else number for _, number in leaves], dtype=np.float64)
    return Heard(stamp_ns, value, tuple(name for name, _ in leaves), frame)


def _nanoseconds(stamp: Any) -> int | None:
    if not isinstance(stamp, dict):
        return None
    found = int(stamp.get("sec", 0)) * 10**9 + int(stamp.get("nsec", stamp.get("nanosec", 0)))
    return found or None


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float | None]]:
    """Every number of nested fields with its dotted name; text is passed over."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list | tuple | np.ndarray):
        for i, inner in enumerate(value):
            yield from _numbers(inner, f"{name}.{i}")
    elif value is None or (isinstance(value, int | float | np.number | np.bool_)):
        yield name, None if value is None else float(value)


def _picture(message: dict[str, Any]) -> np.ndarray | None:
    """(H, W, 3) uint8 of a compressed picture, or of a raw one in RGB, BGR or grey."""
    data = message["data"]
    raw = base64.b64decode(data) if isinstance(data, str) else np.asarray(data, np.uint8).tobytes()
    if "format" in message:
        return np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"))
    channels = {"rgb8": 3, "bgr8": 3, "mono8": 1}.get(message["encoding"])
    if channels is None:
        return None
    rows = np.frombuffer(raw, np.uint8).reshape(message["height"], -1)[:, : message["width"] * channels]
    picture = rows.reshape(message["height"], message["width"], channels)
    picture = picture[..., ::-1] if message["encoding"] == "bgr8" else picture
    return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))
