"""Whatever bytes arrive, they become a request or a refusal in words; and arrays cross unchanged."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays

from forerun.serving.messages import pack, unpack
from forerun.serving.parsing import parse
from forerun.serving.protocol import Refusal
from forerun.types import ShapeError
from live_worlds import Bench
from tiny_worlds import ACTION, ACTIONS

EXAMPLES = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
NUMBERS = some.one_of(some.integers(-2, 5), some.integers(), some.floats(), some.none(), some.booleans())
ARRAYS = arrays.arrays(
    some.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_]),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
VALUES = some.recursive(
    some.one_of(NUMBERS, some.text(max_size=8), some.binary(max_size=16), ARRAYS),
    lambda inner: some.one_of(
        some.lists(inner, max_size=4), some.dictionaries(some.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=6,
)
KINDS = ["open", "step", "fork", "select", "rollback", "snapshot", "restore", "close"]
FIELDS = ["id", "seq", "action", "start", "context", "actions", "picture", "observe", "period_s", "into",
          "count", "rows", "ticks", "name", "data", "goal", "judge", "follow", "quality",
          "tick_s"]  # fmt: skip
GOOD = {
    "id": some.integers(0, 3),
    "seq": some.integers(0, 10_000),
    "start": some.integers(0, 4),
    "action": arrays.arrays(np.float32, (ACTIONS,), elements=some.floats(-9, 9, width=32)),
    "into": some.integers(0, 5),
    "count": some.integers(1, 5),
    "ticks": some.integers(1, 3),
    "rows": some.lists(some.integers(0, 3), min_size=1, max_size=3),
}


def message() -> some.SearchStrategy[dict[str, Any]]:
    """Maps that are nearly requests: any field may be right, wrong, or missing."""
    fields = {name: some.one_of(GOOD.get(name, VALUES), GOOD.get(name, VALUES), VALUES) for name in FIELDS}
    return some.fixed_dictionaries({"type": some.sampled_from(KINDS)}, optional=fields)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.uint8, np.bool_])
def test_an_array_arrives_as_it_was_sent(dtype: type) -> None:
    sent = (np.random.default_rng(0).standard_normal((3, 0, 2)) > 0).astype(dtype)
    for shape in ((3, 0, 2), ()):
        value = np.resize(sent, shape).astype(dtype)
        back = unpack(pack({"a": value}))["a"]
        assert back.dtype == value.dtype
        assert np.array_equal(back, value)


def test_objects_do_not_cross() -> None:
    with pytest.raises(ShapeError, match="only numbers"):
        pack({"a": np.array([object()])})
    lying = {b"__ndarray__": True, b"data": b"1234", b"dtype": "|O", b"shape": [1]}
    with pytest.raises(ShapeError, match="dtype"):
        unpack(pack(lying))
    with pytest.raises(ShapeError, match="takes"):
        unpack(pack({**lying, b"dtype": "<f8", b"shape": [2**40, 2**40]}))


@EXAMPLES
@given(some.binary(max_size=200))
def test_any_bytes_are_a_message_or_are_refused(data: bytes) -> None:
    with contextlib.suppress(ShapeError, Refusal):
        parse(unpack(data), ACTION)


@EXAMPLES
@given(some.lists(message(), min_size=1, max_size=12))
def test_no_message_stops_the_engine(messages: list[dict[str, Any]]) -> None:
    bench = Bench(slots=4, max_rows=4)
    bench.open(0)
    for each in messages:
        try:
            request = parse(unpack(pack(each)), ACTION)
        except (Refusal, ShapeError):
            continue
        replies = bench.answers(request)
        assert replies
        assert all(reply.get("code") != "internal" for reply in replies), replies
    assert bench.open(99, client="somebody else")["type"] in ("opened", "error")
