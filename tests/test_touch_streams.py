"""Touch of every family is a stream: bias, delay and clock survive, and nothing is felt before it arrived."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from forerun.data import Episode, Recordings, Stream, arrived, blocks, felt_at, open_recordings, write_lerobot
from forerun.data.cache import build_cache
from forerun.data.mcap_writer import write_mcaps
from forerun.types import ClockError, DataError, Kind, ShapeError, StorageError, StreamSpec

ORIGIN_NS = 1_790_000_000_123_456_789
WRENCH = StreamSpec(
    name="wrench",
    kind="touch",
    shape=(6,),
    unit="N, N m",
    family="wrench",
    bias=(0.5, 0.0, -1.0, 0.0, 0.0, 0.01),
    delay_s=0.004,
    frame="wrist",
    low=(-100.0,) * 6,
    high=(100.0,) * 6,
    rate_hz=500.0,
)
FAMILIES = {
    "wrench": (WRENCH, np.float32, 500.0),
    "skin": (
        StreamSpec(name="skin", kind="touch", shape=(3, 4, 4), unit="N", family="taxels", delay_s=0.002),
        np.float64,
        100.0,
    ),
    "gel": (
        StreamSpec(name="gel", kind="touch", shape=(8, 8, 3), family="tactile_image", delay_s=0.03),
        np.uint8,
        30.0,
    ),
    "magnets": (
        StreamSpec(name="magnets", kind="touch", shape=(5, 3), unit="T", family="magnetometer", frame="tip"),
        np.float32,
        200.0,
    ),
}


def episode() -> Episode:
    """One second of every family, on jittery clocks of whole nanoseconds."""
    rng = np.random.default_rng(0)
    streams = {}
    for name, (spec, dtype, rate_hz) in FAMILIES.items():
        count = int(rate_hz)
        ns = (np.arange(count) * 1e9 / rate_hz).astype(np.int64) + rng.integers(0, 200_000, count)
        values = rng.normal(size=(count, *spec.shape)) * 50 + 100
        streams[name] = Stream(spec, ns / 1e9, values.astype(dtype))
    action = StreamSpec(name="action", kind="action", shape=(2,), rate_hz=50.0)
    streams["action"] = Stream(action, np.arange(50) / 50, rng.normal(size=(50, 2)).astype(np.float32))
    return Episode("touched", streams, "wipe", True, {"origin_ns": ORIGIN_NS})


def same(a: Episode, b: Episode) -> None:
    assert set(a.streams) == set(b.streams)
    for name, stream in a.streams.items():
        other = b.streams[name]
        assert replace(other.spec, rate_hz=None) == replace(stream.spec, rate_hz=None)
        np.testing.assert_array_equal(other.times_s, stream.times_s)
        np.testing.assert_array_equal(other.read(), stream.read())
        assert other.read().dtype == stream.read().dtype


def test_every_family_comes_back_from_mcap_bit_for_bit(tmp_path: Path) -> None:
    folder = write_mcaps(tmp_path / "set", [episode()])
    (found,) = open_recordings(folder)
    same(episode(), found)
    assert (found.task, found.success, found.metadata["origin_ns"]) == ("wipe", True, ORIGIN_NS)


def test_every_family_comes_back_from_parquet_with_its_spec(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    whole = episode()
    kept = {name: s for name, s in whole.streams.items() if name != "gel"}  # pictures are video there
    numbers = Episode(whole.name, kept)
    write_lerobot(tmp_path / "set", [numbers], fps=50)
    (found,) = open_recordings(tmp_path / "set")
    for name, stream in numbers.streams.items():
        assert replace(found.streams[name].spec, rate_hz=None) == replace(stream.spec, rate_hz=None)
        np.testing.assert_array_equal(found.streams[name].times_s, stream.times_s)
        np.testing.assert_array_equal(found.streams[name].read(), stream.read())


def test_a_sample_is_not_felt_before_it_arrived() -> None:
    times_s = np.arange(10) * 0.01
    stream = Stream(replace(WRENCH, bias=None), times_s, np.arange(60, dtype=np.float32).reshape(10, 6))
    just_before = np.nextafter(times_s[3] + 0.004, 0)
    index = felt_at(stream, np.array([just_before, times_s[3] + 0.004])).values[:, 0] / 6
    assert index.tolist() == [2, 3]
    assert felt_at(stream, np.array([0.003])).valid.tolist() == [False]
    assert felt_at(stream, np.array([times_s[3] + 0.006])).age_s[0] == pytest.approx(0.006)


def test_what_is_not_touched_reads_zero_once_the_bias_is_off() -> None:
    stream = Stream(WRENCH, np.arange(5) * 0.002, np.tile(np.float32(WRENCH.bias), (5, 1)))
    felt = arrived(stream)
    assert not felt.read().any()
    assert felt.spec.bias is None
    assert felt.spec.delay_s == 0.0
    np.testing.assert_allclose(felt.times_s, stream.times_s + 0.004)


def test_blocks_hold_mean_extremes_and_power_of_what_arrived_in_them() -> None:
    spec = StreamSpec(name="pad", kind="touch", shape=(1,), delay_s=0.5)
    stream = Stream(spec, np.array([0.0, 1.0, 2.0, 5.0]), np.array([[1.0], [-3.0], [2.0], [7.0]]))
    found = blocks(stream, np.array([0.0, 2.5, 4.0, 6.0]))
    assert found.count.tolist() == [3, 0, 1]
    np.testing.assert_allclose(found.statistics[0, :, 0], [0.0, -3.0, 2.0, np.sqrt(14 / 3)])
    assert np.isnan(found.statistics[1]).all()
    with pytest.raises(ClockError, match="runs backwards"):
        blocks(stream, np.array([0.0, 2.0, 1.0]))


def test_a_model_sees_touch_when_it_arrived_and_without_its_bias(tmp_path: Path) -> None:
    pad = StreamSpec(name="pad", kind="touch", shape=(1,), delay_s=0.05, bias=(10.0,))
    place = StreamSpec(name="place", kind="vector", shape=(1,))
    fast, slow = np.arange(0, 1, 0.01), np.arange(0, 1.05, 0.1)
    streams = {
        "pad": Stream(pad, fast, 10 + (fast[:, None] >= 0.5).astype(np.float32)),
        "place": Stream(place, slow, slow[:, None].astype(np.float32)),
    }
    specs = {name: s.spec for name, s in streams.items()}
    made = Recordings(tmp_path, "memory", specs, 1, lambda _: Episode("one", streams))
    cache = build_cache(made, tmp_path, tick_s=0.1)
    times_s = 0.1 + 0.1 * np.arange(cache.num_rows)  # from the first tick at which both streams have arrived
    pressed = cache.streams["pad"][:, 2]
    assert pressed[times_s < 0.545].max() == pytest.approx(0.0, abs=1e-5)
    assert pressed[times_s > 0.555].min() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bias": (1.0,)}, "bias of 1 numbers"),
        ({"delay_s": -0.1}, "expected 0 to 60 s"),
        ({"delay_s": float("nan")}, "expected 0 to 60 s"),
        ({"family": "taxels"}, "is called taxels"),
        ({"kind": "vector"}, "expected kind 'touch'"),
    ],
)
def test_a_touch_stream_that_contradicts_itself_is_refused(changes: dict, reason: str) -> None:
    with pytest.raises(ShapeError, match=reason):
        replace(WRENCH, **changes)


def test_an_older_spec_without_touch_fields_still_reads() -> None:
    old = {"name": "a", "kind": "touch", "shape": [2], "unit": "N", "names": [], "rate_hz": 100.0}
    spec = StreamSpec.from_json({**old, "low": None, "high": None})
    assert (spec.family, spec.bias, spec.delay_s, spec.frame) == (None, None, 0.0, "")
    assert StreamSpec.from_json(WRENCH.to_json()) == WRENCH


def test_a_shortened_mcap_says_how_much_is_left(tmp_path: Path) -> None:
    folder = write_mcaps(tmp_path / "set", [episode()])
    (file,) = folder.glob("*.mcap")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DataError, match=r"cut short.*mcap recover"):
        open_recordings(folder)
    file.write_bytes(b"no mcap at all")
    with pytest.raises(DataError, match="nothing can be read"):
        open_recordings(folder)


def test_nothing_is_overwritten_and_nothing_unsayable_is_written(tmp_path: Path) -> None:
    folder = write_mcaps(tmp_path / "set", [episode()])
    with pytest.raises(StorageError, match="not overwritten"):
        write_mcaps(folder, [episode()])
    spec = StreamSpec(name="x", kind="vector", shape=(1,))
    endless = Episode("endless", {"x": Stream(spec, np.zeros(1), np.array([[np.inf]]))})
    with pytest.raises(DataError, match="infinite"):
        write_mcaps(tmp_path / "other", [endless])
    assert not list((tmp_path / "other").iterdir())


def test_a_missing_number_stays_missing(tmp_path: Path) -> None:
    spec = StreamSpec(name="x", kind="vector", shape=(2,))
    values = np.array([[1.0, np.nan], [np.nan, 2.0]], np.float32)
    folder = write_mcaps(tmp_path / "set", [Episode("gaps", {"x": Stream(spec, np.arange(2.0), values)})])
    np.testing.assert_array_equal(open_recordings(folder)[0].streams["x"].read(), values)


def test_a_ros_wrench_becomes_touch_with_its_frame_and_delay(tmp_path: Path) -> None:
    writer_module = pytest.importorskip("mcap.writer")
    typesys = pytest.importorskip("rosbags.typesys")
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    kind = "geometry_msgs/msg/WrenchStamped"
    of = store.types
    definition, _ = store.generate_msgdef(kind)
    with (tmp_path / "bag.mcap").open("wb") as file:
        writer = writer_module.Writer(file)
        writer.start(profile="ros2", library="test")
        schema = writer.register_schema(kind, "ros2msg", definition.encode())
        channel = writer.register_channel("/wrist/ft", "cdr", schema)
        for k in range(20):
            stamp = ORIGIN_NS + k * 2_000_000
            time = of["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
            header = of["std_msgs/msg/Header"](stamp=time, frame_id="tool0")
            vector = of["geometry_msgs/msg/Vector3"]
            wrench = of["geometry_msgs/msg/Wrench"](
                force=vector(x=1.0 * k, y=0.0, z=-2.0), torque=vector(x=0.0, y=0.25, z=0.0)
            )
            data = bytes(store.serialize_cdr(of[kind](header=header, wrench=wrench), kind))
            writer.add_message(channel, stamp + 3_000_000, data, publish_time=stamp + 3_000_000)
        writer.finish()
    stream = open_recordings(tmp_path / "bag.mcap")[0].streams["wrist.ft"]
    assert (stream.spec.kind, stream.spec.family, stream.spec.frame) == ("touch", "wrench", "tool0")
    assert stream.spec.delay_s == pytest.approx(0.003)
    assert stream.spec.rate_hz == pytest.approx(500.0)
    np.testing.assert_allclose(stream.read()[:, 0], np.arange(20))
    np.testing.assert_allclose(stream.read()[:, 4], 0.25)


def test_kinds_are_those_of_the_specs() -> None:
    assert {spec.kind for spec, _, _ in FAMILIES.values()} <= set(Kind.__args__)
