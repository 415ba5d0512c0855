"""MessagePack with arrays, in the form that openpi's policy server speaks; nothing here needs torch.

An array is a map of ``b"__ndarray__"``, its bytes, its dtype and its shape. Only plain numbers are taken:
no objects, no pickles.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from forerun.types import ShapeError, require

ARRAY = b"__ndarray__"
SCALAR = b"__npgeneric__"
PLAIN = frozenset("biuf")
"""Kinds of dtype that cross the wire: bool, integers, floats."""

_msgpack = require("msgpack", "serve", "serving")
_packer = _msgpack.Packer(default=lambda value: _from_numpy(value), use_bin_type=True)


def pack(message: Any) -> bytes:
    """A message of maps, lists, texts, numbers, bytes and numpy arrays as bytes."""
    return _packer.pack(message)


def unpack(data: bytes, limit: int | None = None) -> Any:
    """The message in ``data``.

    Args:
        limit: elements that any map or list may hold; by default as many as fit in the bytes.

    Raises:
        ShapeError: these bytes are no such message.
    """
    sizes = {} if limit is None else {"max_map_len": limit, "max_array_len": limit}
    try:
        return _msgpack.unpackb(data, object_hook=_to_numpy, raw=False, strict_map_key=False, **sizes)
    except ShapeError:
        raise
    except (_msgpack.UnpackException, ValueError, TypeError, OverflowError, RecursionError) as cause:
        about = f"{type(cause).__name__}: {cause}".rstrip(": ")
        raise ShapeError(
            f"{len(data)} bytes arrived that are no MessagePack map ({about[:120]}); expected one message "
            "per WebSocket frame, packed as openpi packs arrays"
        ) from cause


def _from_numpy(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in PLAIN:
        raise ShapeError(f"an array of {value.dtype} cannot be sent; only numbers can")
    if isinstance(value, np.ndarray):
        return {ARRAY: True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {SCALAR: True, b"data": value.item(), b"dtype": value.dtype.str}
    raise ShapeError(
        f"a {type(value).__name__} cannot be sent; only numbers, texts, bytes, lists and maps can"
    )


def _to_numpy(found: dict[Any, Any]) -> Any:
    if ARRAY in found:
        return _array(found)
    if SCALAR in found:
        return _dtype(found).type(found[b"data"])
    return found


def _array(found: dict[Any, Any]) -> np.ndarray:
    """A read-only view of the bytes; they must be as many as dtype and shape say."""
    dtype, data, shape = _dtype(found), found.get(b"data"), found.get(b"shape")
    if not isinstance(data, bytes) or not isinstance(shape, list | tuple):
        raise ShapeError("an array arrived without its bytes or its shape")
    if any(type(side) is not int or side < 0 for side in shape) or len(shape) > 8:
        raise ShapeError(
            f"an array arrived with shape {str(shape)[:80]}; expected up to 8 sizes, none below 0"
        )
    wanted = dtype.itemsize
    for side in shape:
        wanted *= side
    if wanted != len(data):
        raise ShapeError(
            f"an array arrived with {len(data)} bytes; its shape {tuple(shape)} of {dtype} takes {wanted}"
        )
    return np.frombuffer(data, dtype).reshape(shape)


def _dtype(found: dict[Any, Any]) -> np.dtype:
    name = found.get(b"dtype")
    try:
        dtype = np.dtype(name.decode() if isinstance(name, bytes) else name)
    except (TypeError, ValueError, UnicodeDecodeError, AttributeError, SyntaxError) as cause:
        raise ShapeError(
            f"an array arrived with dtype {str(name)[:40]!r}; expected one of numpy's"
        ) from cause
    if not isinstance(name, bytes | str) or dtype.kind not in PLAIN:
        raise ShapeError(f"an array arrived with dtype {str(name)[:40]!r}; only numbers are taken")
    return dtype
