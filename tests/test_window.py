"""Which rows a training step reads, and stretches of an episode asked for in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forerun.data import Episode, Recordings
from forerun.data.cache import TickCache, build_cache
from forerun.data.hindsight import Hindsight
from forerun.data.window import (
    WindowSampler,
    WindowSpec,
    gather,
    read_window,
    split_episodes,
    window_starts,
)
from forerun.types import ConfigError, DataError
from sample_recordings import stream

LENGTHS = (12, 5, 20, 9, 30, 12)
T, B = 6, 4
SAME = (0, 5)  # episodes of equal content


def make_cache(folder: Path) -> TickCache:
    """State is (content, row); two episodes hold the same."""

    def load(i: int) -> Episode:
        number = SAME[0] if i in SAME else i
        rows = np.arange(LENGTHS[i])
        state = np.stack([np.full(LENGTHS[i], number), rows], axis=1).astype(np.float32)
        touch = stream("touch", "touch", rows[:, None].astype(np.float32), rows / 10)
        return Episode(f"run_{i}", {"state": stream("state", "vector", state, rows / 10), "touch": touch})

    specs = {name: s.spec for name, s in load(0).streams.items()}
    return build_cache(Recordings(Path("nowhere"), "memory", specs, len(LENGTHS), load), folder, tick_s=0.1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> TickCache:
    return make_cache(tmp_path_factory.mktemp("cache"))


EVERYONE = range(len(LENGTHS))


def test_windows_never_cross_from_one_episode_into_the_next(cache: TickCache) -> None:
    starts = window_starts(cache, EVERYONE, T)
    windows = gather(cache, starts, T, ["state"])["state"]
    assert len(starts) == sum(max(0, n - T + 1) for n in LENGTHS)
    assert (windows[..., 0] == windows[:, :1, 0]).all()
    assert (np.diff(windows[..., 1], axis=1) == 1).all()


def test_every_epoch_visits_every_window_once_in_another_order(cache: TickCache) -> None:
    sampler = WindowSampler(cache, EVERYONE, T, B, seed=3)
    stream_of_rows = np.concatenate([sampler.batch(step) for step in range(len(sampler))])
    epochs = stream_of_rows[: B * len(sampler)].reshape(B, len(sampler))
    for epoch in epochs:
        assert sorted(epoch) == sorted(sampler.starts)
    assert (epochs[0] != epochs[1]).any()


def test_a_batch_depends_on_seed_and_step_alone(cache: TickCache) -> None:
    forward = WindowSampler(cache, EVERYONE, T, B, seed=3)
    resumed = WindowSampler(cache, EVERYONE, T, B, seed=3)
    other = WindowSampler(cache, EVERYONE, T, B, seed=4)
    batches = [forward.batch(step) for step in range(60)]
    assert all(np.array_equal(resumed.batch(step), batches[step]) for step in (59, 0, 31, 30))
    assert not all(np.array_equal(other.batch(step), batches[step]) for step in range(5))


def test_only_the_given_episodes_are_sampled(cache: TickCache) -> None:
    sampler = WindowSampler(cache, [2, 4], T, B)
    rows = np.concatenate([sampler.batch(step) for step in range(20)])
    assert set(np.asarray(cache.streams["state"])[rows, 0].tolist()) == {2.0, 4.0}


def test_a_window_longer_than_every_episode_is_refused(cache: TickCache) -> None:
    with pytest.raises(DataError, match=r"takes 31 ticks of 0\.1 s, but the longest episode has 30"):
        WindowSampler(cache, EVERYONE, 31, B)
    with pytest.raises(ConfigError, match="batches of 0"):
        WindowSampler(cache, EVERYONE, T, 0)


def with_a_gap(folder: Path, kind: str = "vector") -> TickCache:
    """Rows 10 to 19 of 30 have no sample of their own."""
    rows = np.array([k for k in range(30) if not 10 <= k < 20])
    gap = stream("gap", kind, rows[:, None].astype(np.float32), rows / 10, rate_hz=10.0)
    whole = stream("whole", "vector", np.arange(30, dtype=np.float32)[:, None], np.arange(30) / 10)
    source = Episode("run", {"gap": gap, "whole": whole})
    specs = {name: s.spec for name, s in source.streams.items()}
    return build_cache(Recordings(Path("nowhere"), "memory", specs, 1, lambda _: source), folder, tick_s=0.1)


@pytest.mark.parametrize(("kind", "kept"), [("vector", False), ("privileged", True), ("touch", True)])
def test_windows_with_stale_rows_are_passed_over(tmp_path: Path, kind: str, kept: bool) -> None:
    cache = with_a_gap(tmp_path, kind)
    stale = np.flatnonzero(~np.asarray(cache.valid["gap"]))
    assert stale.size
    starts = window_starts(cache, [0], 4)
    windows = starts[:, None] + np.arange(4)
    assert np.isin(windows, stale).any() == kept
    untouched = [k for k in range(cache.num_rows - 3) if kept or not np.isin(range(k, k + 4), stale).any()]
    assert starts.tolist() == untouched


def test_a_set_of_gaps_says_so_instead_of_being_too_short(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"every stretch of 15 ticks of 0\.1 s has a gap"):
        WindowSampler(with_a_gap(tmp_path), [0], 15, batch_size=2)


def test_gathered_windows_are_slices_of_the_table(cache: TickCache) -> None:
    rows = np.array([40, 3, 40])
    found = gather(cache, rows, T, ["state", "touch", "touch.valid"])
    assert {name: a.shape for name, a in found.items()} == {
        "state": (3, T, 2),
        "touch": (3, T, 4),
        "touch.valid": (3, T),
    }
    for row, window in zip(rows, found["state"], strict=True):
        assert np.array_equal(window, cache.streams["state"][row : row + T])
    with pytest.raises(ConfigError, match="no stream 'camera'; it has state, touch"):
        gather(cache, rows, T, ["camera"])


@pytest.mark.parametrize("seed", range(12))
def test_episodes_of_equal_content_are_never_on_both_sides(cache: TickCache, seed: int) -> None:
    train, held = split_episodes(cache, holdout=0.34, seed=seed)
    assert sorted([*train, *held]) == list(EVERYONE)
    assert len(held) in (2, 3)
    assert (SAME[0] in held) == (SAME[1] in held)


def test_the_split_is_the_same_for_the_same_seed_and_differs_for_others(cache: TickCache) -> None:
    sides = {tuple(split_episodes(cache, 0.34, seed)[1]) for seed in range(12)}
    assert len(sides) > 1
    assert np.array_equal(split_episodes(cache, 0.34, 5)[1], split_episodes(cache, 0.34, 5)[1])


def test_nothing_or_something_is_held_out_as_asked(cache: TickCache) -> None:
    assert len(split_episodes(cache, holdout=0)[1]) == 0
    assert len(split_episodes(cache, holdout=0.01)[1]) >= 1
    assert len(split_episodes(cache, holdout=0.99)[0]) >= 1
    with pytest.raises(ConfigError, match="held-out share is 1"):
        split_episodes(cache, holdout=1)


def test_one_episode_cannot_be_split(tmp_path: Path) -> None:
    state = stream("state", "vector", np.arange(5.0)[:, None])
    source = Recordings(
        Path("nowhere"), "memory", {"state": state.spec}, 1, lambda i: Episode("x", {"state": state})
    )
    with pytest.raises(DataError, match="only 1 of different content"):
        split_episodes(build_cache(source, tmp_path, tick_s=0.1))


def touch_and_camera() -> Episode:
    fast, slow = np.arange(1000) / 500, np.arange(20) / 10
    streams = [
        stream("touch", "touch", np.arange(1000.0)[:, None], fast),
        stream("state", "vector", np.arange(20.0)[:, None], slow),
    ]
    return Episode("x", {s.spec.name: s for s in streams})


def test_a_raw_window_holds_every_sample_of_its_stretch() -> None:
    window = read_window(touch_and_camera(), 1.0, {"touch": WindowSpec(seconds_back=0.1)})["touch"]
    assert window.values.ravel().tolist() == list(range(451, 501))
    assert window.times_s[-1] == 1.0
    assert window.valid.all()


def test_windows_that_follow_each_other_share_no_sample_and_lose_none() -> None:
    spec = {"touch": WindowSpec(seconds_back=0.1)}
    parts = [read_window(touch_and_camera(), 0.1 * k, spec)["touch"].values for k in range(1, 10)]
    assert np.concatenate(parts).ravel().tolist() == list(range(1, 451))


def test_reading_a_stream_on_its_own_clock_changes_nothing() -> None:
    spec = {"state": WindowSpec(seconds_back=0.5, seconds_ahead=0.2, rate_hz=10)}
    window = read_window(touch_and_camera(), 1.0, spec)["state"]
    assert window.values.ravel().tolist() == [6, 7, 8, 9, 10, 11, 12]
    np.testing.assert_allclose(window.age_s, 0, atol=1e-9)


def test_another_clock_reads_the_newest_sample_and_says_how_old_it_is() -> None:
    spec = {"state": WindowSpec(seconds_back=0.1, rate_hz=40, max_age_s=0.07)}
    window = read_window(touch_and_camera(), 1.09, spec)["state"]
    np.testing.assert_allclose(window.age_s, [0.015, 0.04, 0.065, 0.09], atol=1e-9)
    assert window.valid.tolist() == [True, True, True, False]
    assert window.values.ravel().tolist() == [10, 10, 10, 0]


def test_before_the_first_sample_nothing_is_valid() -> None:
    window = read_window(touch_and_camera(), 0.1, {"state": WindowSpec(seconds_back=0.4, rate_hz=10)})[
        "state"
    ]
    assert window.valid.tolist() == [False, False, True, True]
    assert np.isinf(window.age_s[:2]).all()


def test_an_empty_window_and_an_unknown_stream_are_refused() -> None:
    with pytest.raises(ConfigError, match="is empty"):
        WindowSpec(seconds_back=0)
    with pytest.raises(ConfigError, match="rate of 0 Hz"):
        WindowSpec(seconds_back=1, rate_hz=0)
    with pytest.raises(DataError, match="no stream 'sound'; it has touch, state"):
        read_window(touch_and_camera(), 1.0, {"sound": WindowSpec(seconds_back=1)})


@pytest.mark.parametrize("near", [0.0, 1.0])
def test_hindsight_goals_lie_ahead_in_the_same_episode(cache: TickCache, near: float) -> None:
    hindsight, horizon = Hindsight(cache, EVERYONE), 8
    rows = window_starts(cache, EVERYONE, 2).repeat(200)
    ahead = hindsight.later(rows, horizon, np.random.default_rng(0), near) - rows
    assert set(ahead) == set(range(1, horizon + 1))
    assert (rows + ahead <= hindsight.last[rows]).all()
    few = (ahead[rows + horizon <= hindsight.last[rows]] <= 2).mean()
    assert few == pytest.approx(np.log(3) / np.log(9) if near else 2 / 8, abs=0.03)


def test_a_picture_of_a_camera_that_hung_is_no_goal(tmp_path: Path) -> None:
    cache = with_a_gap(tmp_path)
    hindsight, random = Hindsight(cache, [0]), np.random.default_rng(0)
    rows = window_starts(cache, [0], 2).repeat(50)
    later = hindsight.later(rows, 20, random)
    assert (later > rows).all()
    for goals in (later, hindsight.anywhere(500, random)):
        assert np.asarray(cache.valid["gap"])[goals].all()
