"""Recordings decoded once: what a row holds, when a table is reused, what happens when it cannot be built."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forerun.data import Episode, Recordings, Stream, open_recordings
from forerun.data.cache import TickCache, build_cache
from forerun.types import ConfigError, DataError, ShapeError, StorageError
from sample_recordings import clip, real, stream

TICK_S = 0.1
SECONDS = 3.0
CAMERA_HZ, STATE_HZ, TOUCH_HZ, ACTION_HZ = 30.0, 50.0, 500.0, 20.0


def clock(rate_hz: float) -> np.ndarray:
    return np.arange(round(SECONDS * rate_hz)) / rate_hz


def numbers(rate_hz: float, channels: int, seed: int) -> np.ndarray:
    shape = (len(clock(rate_hz)), channels)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def episode(seed: int = 0, **changed: Stream) -> Episode:
    """A camera at 30 Hz, state at 50, touch at 500 and two actions at 20 Hz."""
    pictures = (
        clip(1, 0).repeat(len(clock(CAMERA_HZ)), axis=0)
        + np.arange(len(clock(CAMERA_HZ)), dtype=np.uint8)[:, None, None, None]
    )
    streams = [
        stream("camera", "video", pictures, clock(CAMERA_HZ), unit="rgb"),
        stream("state", "vector", numbers(STATE_HZ, 3, seed), clock(STATE_HZ), unit="rad"),
        stream(
            "touch", "touch", numbers(TOUCH_HZ, 2, seed + 1), clock(TOUCH_HZ), unit="N", names=("fx", "fy")
        ),
        stream(
            "action.arm",
            "action",
            numbers(ACTION_HZ, 2, seed + 2),
            clock(ACTION_HZ),
            low=(-1, -1),
            high=(1, 1),
        ),
        stream(
            "action.hand", "action", numbers(ACTION_HZ, 1, seed + 3), clock(ACTION_HZ), low=(0,), high=(1,)
        ),
    ]
    return Episode(f"run_{seed}", {s.spec.name: s for s in streams} | changed, "push", True)


def in_memory(*episodes: Episode) -> Recordings:
    specs = {name: s.spec for name, s in episodes[0].streams.items()}
    return Recordings(Path("nowhere"), "memory", specs, len(episodes), lambda i: episodes[i])


def edited(original: Stream, edit: Callable[[np.ndarray], None]) -> Stream:
    values = original.read().copy()
    edit(values)
    return replace(original, values=values)


def without_camera(source: Episode) -> Episode:
    return replace(source, streams={n: s for n, s in source.streams.items() if n != "camera"})


@pytest.fixture
def cache(tmp_path: Path) -> TickCache:
    return build_cache(in_memory(episode(0), episode(9)), tmp_path, tick_s=TICK_S, image_size=16)


def test_a_row_holds_the_newest_frame_and_sample_at_or_before_its_tick(cache: TickCache) -> None:
    rows = np.arange(int(cache.episode_starts[1]))
    ticks_s = rows * TICK_S
    frames = np.floor(ticks_s * CAMERA_HZ + 1e-6)
    assert cache.streams["camera"][rows].mean(axis=(1, 2, 3)).tolist() == frames.tolist()
    newest = np.floor(ticks_s * STATE_HZ + 1e-6).astype(int)
    assert np.array_equal(cache.streams["state"][rows], episode(0).streams["state"].read()[newest])


@pytest.mark.parametrize("name", ["camera", "state", "touch", "action.arm"])
def test_what_happens_later_cannot_change_an_earlier_row(tmp_path: Path, name: str) -> None:
    at_s, before = 1.5, episode()
    late = before.streams[name].times_s >= at_s

    def disturb(values: np.ndarray) -> None:
        values[late] += 100

    after = replace(before, streams=before.streams | {name: edited(before.streams[name], disturb)})
    one = build_cache(in_memory(before), tmp_path, tick_s=TICK_S, image_size=16)
    two = build_cache(in_memory(after), tmp_path, tick_s=TICK_S, image_size=16)
    key = "action" if name.startswith("action") else name
    first_free = round(at_s / TICK_S) - 1  # the action of a row reaches to the next tick
    assert np.array_equal(one.streams[key][: first_free + 1], two.streams[key][: first_free + 1])
    assert not np.array_equal(one.streams[key], two.streams[key])


def test_touch_becomes_mean_minimum_maximum_and_rms_of_the_tick_that_ends_here(cache: TickCache) -> None:
    touch = episode(0).streams["touch"]
    for row in (1, 7, 20):
        inside = (touch.times_s > row * TICK_S - TICK_S + 1e-9) & (touch.times_s <= row * TICK_S + 1e-9)
        burst = touch.read()[inside].astype(np.float64)
        expected = [burst.mean(0), burst.min(0), burst.max(0), np.sqrt((burst**2).mean(0))]
        assert len(burst) == TOUCH_HZ * TICK_S
        np.testing.assert_allclose(cache.streams["touch"][row], np.concatenate(expected), rtol=1e-5)
    assert cache.specs["touch"].names == tuple(
        f"{n} {s}" for s in ("mean", "min", "max", "rms") for n in ("fx", "fy")
    )


def test_a_slip_vibration_keeps_its_power(tmp_path: Path) -> None:
    slip = np.sin(2 * np.pi * 180 * clock(TOUCH_HZ))[:, None].astype(np.float32)
    touch = stream("touch", "touch", slip, clock(TOUCH_HZ))
    table = build_cache(in_memory(Episode("slip", {"touch": touch})), tmp_path, tick_s=TICK_S).streams[
        "touch"
    ]
    assert abs(table[5, 3] - np.sqrt(0.5)) < 0.01
    assert abs(table[5, 0]) < 0.02


def test_an_empty_burst_holds_the_last_sample_and_is_marked_invalid(tmp_path: Path) -> None:
    times_s = np.array([0.0, 0.05, 0.1, 0.5, 0.55])
    touch = stream("touch", "touch", np.arange(5.0)[:, None], times_s)
    cache = build_cache(in_memory(Episode("gap", {"touch": touch})), tmp_path, tick_s=TICK_S)
    assert cache.valid["touch"].tolist() == [True, True, False, False, False, True]
    assert cache.streams["touch"][3].tolist() == [2, 2, 2, 2]


def test_touch_slower_than_the_tick_is_held(tmp_path: Path) -> None:
    touch = stream("touch", "touch", np.arange(4.0)[:, None], np.arange(4.0))
    cache = build_cache(in_memory(Episode("slow", {"touch": touch})), tmp_path, tick_s=0.5)
    assert cache.streams["touch"].ravel().tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert cache.valid["touch"].all()


def test_a_vector_stream_after_a_gap_is_marked_stale(tmp_path: Path) -> None:
    times_s = np.concatenate([np.arange(5), np.arange(15, 20)]) * 0.1
    state = stream("state", "vector", np.arange(10.0)[:, None], times_s)
    cache = build_cache(in_memory(Episode("gap", {"state": state})), tmp_path, tick_s=TICK_S)
    assert cache.valid["state"].tolist() == [True] * 7 + [False] * 8 + [True] * 5


def test_the_action_of_a_row_is_the_mean_of_the_tick_that_begins_there(cache: TickCache) -> None:
    arm, hand = (episode(0).streams[n].read() for n in ("action.arm", "action.hand"))
    per_tick = round(ACTION_HZ * TICK_S)
    row = slice(4 * per_tick, 5 * per_tick)
    expected = np.concatenate([arm[row].mean(0), hand[row].mean(0)])
    np.testing.assert_allclose(cache.streams["action"][4], expected, rtol=1e-5)
    assert cache.action_names == ["action.arm", "action.hand"]
    assert cache.specs["action"].names == ("action.arm.0", "action.arm.1", "action.hand.0")
    assert cache.specs["action"].low == (-1, -1, 0)


def test_a_slow_action_is_held(tmp_path: Path) -> None:
    action = stream("action", "action", np.array([[1.0], [2.0]]), np.array([0.0, 1.0]))
    cache = build_cache(in_memory(Episode("slow", {"action": action})), tmp_path, tick_s=0.25)
    assert cache.streams["action"].ravel().tolist() == [1, 1, 1, 1, 2]


def test_recordings_without_actions_say_so(tmp_path: Path) -> None:
    cache = build_cache(in_memory(episode()), tmp_path, tick_s=TICK_S, image_size=16, streams=["camera"])
    assert not cache.has_action
    assert "action" not in cache.streams
    assert list(cache.specs) == ["camera"]


def test_a_fast_vector_stream_becomes_a_burst_only_beyond_the_stated_rate(tmp_path: Path) -> None:
    source = in_memory(without_camera(episode()))
    plain = build_cache(source, tmp_path, tick_s=TICK_S)
    burst = build_cache(source, tmp_path, tick_s=TICK_S, burst_samples=2)
    assert plain.specs["state"].shape == (3,)
    assert burst.specs["state"].shape == (12,)


def test_a_row_begins_where_every_stream_has_begun_and_ends_where_one_ends(tmp_path: Path) -> None:
    late = stream("late", "vector", np.arange(20.0)[:, None], 0.66 + np.arange(20) * 0.1)
    early = stream("early", "vector", np.arange(20.0)[:, None], np.arange(20) * 0.1)
    cache = build_cache(in_memory(Episode("x", {"late": late, "early": early})), tmp_path, tick_s=TICK_S)
    assert cache.episodes[0]["start_s"] == 0.66
    assert cache.num_rows == 13  # 0.66 ... 1.86 s; the early stream ends at 1.9 s


def test_a_clock_rounded_to_float32_loses_no_frame(tmp_path: Path) -> None:
    times_s = (np.arange(3000) / 30).astype(np.float32).astype(np.float64)
    state = stream("state", "vector", np.arange(3000.0)[:, None], times_s)
    cache = build_cache(in_memory(Episode("long", {"state": state})), tmp_path, tick_s=TICK_S)
    assert cache.streams["state"].ravel().tolist() == list(range(0, 3000, 3))


def test_frames_are_decoded_once_and_only_those_that_are_used(tmp_path: Path) -> None:
    pictures, decoded = clip(30, 0), []

    def read(indices: np.ndarray) -> np.ndarray:
        decoded.extend(indices.tolist())
        return pictures[indices]

    camera = replace(stream("camera", "video", pictures, np.arange(30) / 30), values=read)
    build_cache(in_memory(Episode("x", {"camera": camera})), tmp_path, tick_s=TICK_S, image_size=16)
    content = list(range(30))  # the set lies in no file, so its content is hashed
    assert decoded == content + list(range(0, 30, 3))


def test_a_second_build_opens_the_first(tmp_path: Path, cache: TickCache) -> None:
    before = (cache.directory / "cache.json").stat().st_mtime_ns
    again = build_cache(in_memory(episode(0), episode(9)), tmp_path, tick_s=TICK_S, image_size=16)
    assert again.directory == cache.directory
    assert (again.directory / "cache.json").stat().st_mtime_ns == before


def test_another_setting_or_another_source_gives_another_table(tmp_path: Path, cache: TickCache) -> None:
    slower = build_cache(in_memory(episode(0), episode(9)), tmp_path, tick_s=0.2, image_size=16)
    other = build_cache(in_memory(episode(0), episode(8)), tmp_path, tick_s=TICK_S, image_size=16)
    assert len({cache.hash, slower.hash, other.hash}) == 3


def test_a_table_beside_its_own_source_is_no_part_of_the_source(tmp_path: Path) -> None:
    np.savez(tmp_path / "recording.npz", x=np.arange(3))
    source = replace(in_memory(episode()), path=tmp_path)
    first = build_cache(source, tmp_path, tick_s=TICK_S, image_size=16)
    assert build_cache(source, tmp_path, tick_s=TICK_S, image_size=16).hash == first.hash
    np.savez(tmp_path / "recording.npz", x=np.arange(4))
    assert build_cache(source, tmp_path, tick_s=TICK_S, image_size=16).hash != first.hash


def test_too_large_a_table_is_refused_before_a_frame_is_decoded(tmp_path: Path) -> None:
    def never(indices: np.ndarray) -> np.ndarray:
        raise AssertionError("decoded")

    (tmp_path / "source").mkdir()
    camera = replace(stream("camera", "video", clip(30, 0), np.arange(30) / 30), values=never)
    source = replace(in_memory(Episode("x", {"camera": camera})), path=tmp_path / "source")
    with pytest.raises(ConfigError, match=r"0\.12 GiB .*budget is 0\.00 GiB.*--image-size.*--cache-gb"):
        build_cache(source, tmp_path / "caches", tick_s=TICK_S, image_size=2048, byte_budget=1000)
    assert not (tmp_path / "caches").exists()


def test_more_than_the_disk_has_is_refused_before_a_frame_is_decoded(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cache takes \d+\.\d\d GiB and the disk has"):
        build_cache(in_memory(episode()), tmp_path, tick_s=1e-5, image_size=2048, byte_budget=2**60)
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_is_not_a_number_is_named(tmp_path: Path) -> None:
    def spoil(values: np.ndarray) -> None:
        values[17, 1] = np.nan

    bad = edited(episode(3).streams["state"], spoil)
    with pytest.raises(DataError, match=r"'state' of episode 'run_3' .* at sample 17 "):
        build_cache(in_memory(episode(0), episode(3, state=bad)), tmp_path, tick_s=TICK_S, image_size=16)
    assert list(tmp_path.iterdir()) == []


def test_an_episode_without_a_stream_or_of_another_shape_is_named(tmp_path: Path) -> None:
    wide = stream("state", "vector", numbers(STATE_HZ, 4, 0), clock(STATE_HZ))
    with pytest.raises(ShapeError, match=r"'state' of episode 'run_5' has samples of shape \(4,\)"):
        build_cache(in_memory(episode(0), episode(5, state=wide)), tmp_path, tick_s=TICK_S, image_size=16)
    with pytest.raises(DataError, match="'run_7' has no samples of stream 'camera'"):
        build_cache(in_memory(episode(0), without_camera(episode(7))), tmp_path, tick_s=TICK_S)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tick_s": 0.0}, "tick is 0.0 s"),
        ({"tick_s": TICK_S, "image_size": 4}, "image size is 4"),
        ({"tick_s": TICK_S, "streams": ["gripper"]}, "no stream 'gripper'; choose .* camera, state"),
        ({"tick_s": TICK_S, "streams": []}, "no stream is chosen"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(tmp_path: Path, settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_cache(in_memory(episode()), tmp_path, **settings)


def test_an_interrupted_build_leaves_nothing_and_the_next_one_completes(tmp_path: Path) -> None:
    source = in_memory(episode(0), episode(1))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(source, tmp_path, tick_s=TICK_S, image_size=16, progress=stop)
    assert list(tmp_path.iterdir()) == []
    assert build_cache(source, tmp_path, tick_s=TICK_S, image_size=16).num_episodes == 2


def test_a_disk_that_takes_no_more_leaves_nothing_behind(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(StorageError, match="nothing half-written was kept"):
            build_cache(in_memory(episode()), tmp_path, tick_s=TICK_S, image_size=64)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("taken")
    with pytest.raises(StorageError, match="choose another place with --cache"):
        build_cache(in_memory(episode()), tmp_path / "file", tick_s=TICK_S, image_size=16)


def test_a_table_that_was_cut_short_is_refused(cache: TickCache) -> None:
    with (cache.directory / "state.npy").open("r+b") as file:
        file.truncate(200)
    with pytest.raises(DataError, match="not a complete cache"):
        TickCache.open(cache.directory)


def test_a_table_of_another_version_is_refused(cache: TickCache) -> None:
    about = json.loads((cache.directory / "cache.json").read_text())
    (cache.directory / "cache.json").write_text(json.dumps(about | {"layout": 0}))
    with pytest.raises(DataError, match="layout 0, expected"):
        TickCache.open(cache.directory)


def test_opening_a_table_gives_what_building_it_gave(cache: TickCache) -> None:
    again = TickCache.open(cache.directory)
    assert again.specs == cache.specs
    assert again.episodes == cache.episodes
    assert again.episodes[1] | {"hash": ""} == {
        "name": "run_9",
        "task": "push",
        "success": True,
        "start_s": 0.0,
        "hash": "",
    }
    assert again.rows_of([1]).tolist() == list(range(*cache.episode_starts[1:3]))
    assert again.nbytes == sum(a.nbytes for a in (*again.streams.values(), *again.valid.values()))


def test_real_rows_are_the_frames_that_the_reader_gives(tmp_path: Path) -> None:
    source = replace(open_recordings(real("unitree_g1_small_lerobot_v21")), num_episodes=2)
    cache = build_cache(source, tmp_path, tick_s=0.2, image_size=64)
    first = source[0]
    wanted = np.array([0, 6 * 7, 6 * 20])
    small = cache.streams["observation.images.cam_high"][[0, 7, 20]].astype(int)
    pictures = first.streams["observation.images.cam_high"].read(wanted)
    for row, picture in zip(small, pictures, strict=True):
        averaged = np.asarray(Image.fromarray(picture).resize((64, 64), Image.Resampling.BOX))
        assert np.abs(row - averaged).mean() < 2  # of 255: two programs that average areas round differently
    state = first.streams["observation.state"].read()[wanted]
    assert np.array_equal(cache.streams["observation.state"][[0, 7, 20]], state)
    assert all(valid.all() for valid in cache.valid.values())
