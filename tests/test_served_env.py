"""Served worlds behave like environments, alone and in numbers, and policies of other projects drive them."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from forerun.serving.client import Refusal, ServerGoneError, connect
from forerun.serving.env import ServedEnv, ServedVectorEnv
from forerun.serving.openpi import OpenpiPolicy, PolicyError, policy_server, rollout
from forerun.serving.registry import Limits
from forerun.serving.scheduler import Level, Scheduler
from forerun.types import ConfigError, ShapeError
from served import served
from tiny_worlds import ACTION, ACTIONS, ARM, JOINTS, SIDE, world

N, STEPS, MOST = 8, 9, 4  # worlds, steps, steps of an episode


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """Of a server whose passes are all of one shape: no bit of a world depends on its neighbours."""
    with served(max_rows=N, shape="fixed") as found:
        yield found.url


def random_actions(count: int) -> np.ndarray:
    """(count, N, A)"""
    return np.random.default_rng(0).normal(size=(count, N, ACTIONS)).astype(np.float32)


def check(env: ServedEnv) -> None:
    """gymnasium's checker; it finds unbounded spaces unusual, and a robot has what bounds it has."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(A Box|For Box) .*")
        check_env(env)
    env.close()


@pytest.mark.parametrize("pictures", [False, True])
def test_the_environment_passes_gymnasiums_checker(url: str, pictures: bool) -> None:
    check(ServedEnv(url, pictures=pictures))
    check(ServedEnv(url, pictures=pictures, render_mode="rgb_array"))


def test_observations_hold_every_stream_and_pictures_only_if_asked_for(url: str) -> None:
    blind, seeing = ServedEnv(url), ServedEnv(url, pictures=True)
    seen, info = blind.reset(seed=0)
    assert {name: part.shape for name, part in seen.items()} == {"arm.position": (JOINTS,)}
    assert info["heads"]["uncertainty"] >= 0
    assert info["level"] == "full"
    seen, _ = seeing.reset(seed=0)
    assert seen["camera"].shape == (SIDE, SIDE, 3)
    for env in (blind, seeing):
        env.close()


def test_a_seed_chooses_the_start_and_an_option_overrides_it(url: str) -> None:
    env = ServedEnv(url)
    chosen = [env.reset(seed=seed)[1]["start"] for seed in range(20)]
    assert set(chosen) == set(range(4))
    assert chosen == [env.reset(seed=seed)[1]["start"] for seed in range(20)]
    assert env.reset(seed=0, options={"start": 2})[1]["start"] == 2
    with pytest.raises(Refusal, match="start 99 was asked for; there are 4"):
        env.reset(options={"start": 99})
    with pytest.raises(ConfigError, match="'begin' of reset is unknown"):
        env.reset(options={"begin": 2})
    env.close()


def test_an_episode_is_truncated_after_its_steps_and_not_continued(url: str) -> None:
    env = ServedEnv(url, max_steps=MOST)
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(ACTIONS))
    env.reset(seed=0)
    ends = [env.step(np.zeros(ACTIONS))[2:4] for _ in range(MOST)]
    assert ends == [(False, False)] * (MOST - 1) + [(False, True)]
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(ACTIONS))
    env.close()


def test_the_reward_is_what_the_user_says_of_observation_and_info(url: str) -> None:
    env = ServedEnv(url, reward=lambda seen, info: seen["arm.position"][1] - info["heads"]["uncertainty"])
    env.reset(seed=0)
    seen, reward, _, _, info = env.step(np.ones(ACTIONS))
    assert reward == pytest.approx(float(seen["arm.position"][1] - info["heads"]["uncertainty"]))
    plain = ServedEnv(url)
    plain.reset(seed=0)
    assert plain.step(np.ones(ACTIONS))[1] == 0.0
    for one in (env, plain):
        one.close()


def play_alone(url: str, seed: int, actions: np.ndarray) -> list[tuple[np.ndarray, float, bool, bool]]:
    """What one environment gives for actions (steps, A), reset when its episode is over, at the next step."""
    env = ServedEnv(url, max_steps=MOST, reward=lambda seen, info: float(seen["arm.position"][0]))
    seen, _ = env.reset(seed=seed)
    rows, over = [(seen["arm.position"], 0.0, False, False)], False
    for action in actions:
        if over:
            seen, reward, terminated, truncated = env.reset()[0], 0.0, False, False
        else:
            seen, reward, terminated, truncated, _ = env.step(action)
        over = terminated or truncated
        rows.append((seen["arm.position"], reward, terminated, truncated))
    env.close()
    return rows


def test_a_vector_of_eight_equals_eight_single_environments_step_by_step(url: str) -> None:
    actions = random_actions(STEPS)
    actions[1, 3] = 1e30  # the model cannot take it: this world begins anew, and no other notices
    env = ServedVectorEnv(url, N, max_steps=MOST, reward=lambda seen, info: float(seen["arm.position"][0]))
    seen, _ = env.reset(seed=5)
    zeros = np.zeros(N)
    together = [(seen["arm.position"], zeros, zeros, zeros)]
    for action in actions:
        seen, reward, terminated, truncated, _ = env.step(action)
        together.append((seen["arm.position"], reward, terminated, truncated))
    env.close()
    for k in range(N):
        alone = play_alone(url, 5 + k, actions[:, k])
        assert alone[2][2] == (k == 3)
        for one, many in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], many[0][k])
            assert one[1:] == tuple(part[k] for part in many[1:])


def test_a_vector_gives_what_its_spaces_and_gymnasium_promise(url: str) -> None:
    env = ServedVectorEnv(url, N, max_steps=MOST, pictures=True, render_mode="rgb_array", best_effort=True)
    seen, info = env.reset(seed=0, options={"start": [0, 1, 2, 0, 1, 2, 0, 1]})
    assert seen in env.observation_space
    assert info["start"].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    for step in range(MOST + 1):
        seen, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert seen in env.observation_space
        assert reward.dtype == np.float64
        assert terminated.dtype == truncated.dtype == np.bool_
        assert truncated.all() == (step == MOST - 1)
        assert info["heads"]["uncertainty"].shape == (N,)
    assert info["_start"].all()  # the step after the last of an episode begins the next one
    pictures = env.render()
    assert pictures is not None
    np.testing.assert_array_equal(pictures[2], seen["camera"][2])
    env.close()
    env.close()


class Busy(Scheduler):
    """Never has time for pictures."""

    def __bool__(self) -> bool:
        return True  # an empty one is false, and `Engine` would take another

    @property
    def level(self) -> Level:
        return Level.NUMBERS


def test_where_a_busy_server_leaves_pictures_out_the_last_one_stands_and_is_the_callers_own() -> None:
    with served(scheduler=Busy()) as found:
        env = ServedEnv(found.url, pictures=True)
        first = env.reset(seed=0)[0]["camera"].copy()
        for _ in range(3):
            seen, *_, info = env.step(np.ones(ACTIONS))
            assert info["level"] == "numbers"
            np.testing.assert_array_equal(seen["camera"], first)
            seen["camera"][:] = 0
        env.close()
        with (
            policy_server(towards_zero) as there,
            connect(found.url) as server,
            OpenpiPolicy(there) as policy,
        ):
            world, extra = server.open(0, picture="raw"), {"prompt": "hold still"}
            assert len(rollout(world, policy, 2, rename=NAMES, extra=extra, execute=1).actions) == 2


def test_the_worlds_of_a_vector_share_passes_of_the_model(url: str) -> None:
    with_others = 0
    env = ServedVectorEnv(url, N)
    env.reset(seed=0)
    for action in random_actions(4 * STEPS):
        with_others = max(with_others, env.step(action)[4]["timing"]["rows"].max())
    env.close()
    assert 1 < with_others <= N


def test_a_client_holds_no_more_worlds_than_it_plays() -> None:
    with served(limits=Limits(per_client=1)) as found:
        env = ServedEnv(found.url)
        for _ in range(3):  # the last world is closed before the next one is opened
            env.reset()
        with pytest.raises(ConfigError, match="have 1 worlds"):
            ServedVectorEnv(found.url, 2)
        env.close()


def test_a_world_that_the_server_began_anew_ends_its_episode(url: str) -> None:
    env = ServedEnv(url)
    env.reset(seed=0)
    before, *_ = env.step(np.ones(ACTIONS))
    after, _, terminated, truncated, info = env.step(np.full(ACTIONS, 1e30))
    assert (terminated, truncated) == (True, False)
    assert "became NaN" in info["reset"]
    np.testing.assert_array_equal(before["arm.position"], after["arm.position"])
    with pytest.raises(ResetNeeded):
        env.step(np.ones(ACTIONS))
    assert "reset" not in env.reset()[1]
    env.close()


def test_an_action_of_another_shape_is_refused_in_words_and_nothing_moves(url: str) -> None:
    env, many = ServedEnv(url), ServedVectorEnv(url, N)
    with pytest.raises(ResetNeeded):
        many.step(np.zeros((N, ACTIONS)))
    env.reset(seed=0)
    many.reset(seed=0)
    with pytest.raises(Refusal, match=r"\(3,\) arrived; expected \(2,\): left, right in rad/s"):
        env.step(np.zeros(3))
    with pytest.raises(Refusal, match="not finite"):
        env.step(np.full(ACTIONS, np.nan))
    with pytest.raises(Refusal, match=r"\(7, 2\) arrived; expected \(8, 2\), a row per world"):
        many.step(np.zeros((N - 1, ACTIONS)))
    with pytest.raises(Refusal, match="not finite"):
        many.step(np.full((N, ACTIONS), np.nan))
    alone, together = env.step(np.ones(ACTIONS))[0], many.step(np.ones((N, ACTIONS)))[0]
    np.testing.assert_array_equal(alone["arm.position"], together["arm.position"][0])
    env.close()
    many.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_steps": 0}, "max_steps is 0"),
        ({"render_mode": "human"}, "'human'; expected None or 'rgb_array'"),
        ({"picture": "jpeg"}, "'picture' is unknown; expected one of best_effort"),
    ],
)
def test_a_setting_without_sense_is_refused_in_words(url: str, settings: dict[str, Any], words: str) -> None:
    for make in (ServedEnv, ServedVectorEnv):
        with pytest.raises(ConfigError, match=words):
            make(url, **settings)


def test_worlds_that_cannot_be_environments_say_why() -> None:
    with served(model=world(streams=(ARM,)), starts=0) as blind:
        with pytest.raises(ConfigError, match="without a camera"):
            ServedEnv(blind.url, pictures=True)
        with pytest.raises(ConfigError, match="without a camera"):
            ServedEnv(blind.url, render_mode="rgb_array")
        env = ServedEnv(blind.url)
        with pytest.raises(ConfigError, match="no recorded starts"):
            env.reset(seed=0)
        env.close()
    with served(model=world(action=None)) as passive, pytest.raises(ConfigError, match="without actions"):
        ServedEnv(passive.url)
    with pytest.raises(ServerGoneError, match="forerun serve MODEL"):
        ServedEnv(passive.url)


def test_bounds_of_the_action_space_are_the_robots() -> None:
    bounded = replace(ACTION, low=(-1.0, -2.0), high=(1.0, 2.0))
    with served(model=world(action=bounded)) as found:
        env = ServedEnv(found.url)
        assert isinstance(env.action_space, spaces.Box)
        assert env.action_space.low.tolist() == [-1.0, -2.0]
        assert env.action_space.high.tolist() == [1.0, 2.0]
        check(env)


@pytest.mark.parametrize("module", ["client", "env", "openpi"])
def test_clients_do_without_torch(module: str) -> None:
    code = f"import sys, forerun.serving.{module}; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


NAMES = {"camera": "observation/image", "arm.position": "observation/state"}
H, TICKS, K = 5, 7, 3  # actions of a chunk, ticks of a rollout, actions carried out of each chunk


def towards_zero(seen: dict[str, Any]) -> dict[str, Any]:
    """A policy: a chunk that pushes against the first joints, less and less."""
    assert seen["observation/image"].shape == (SIDE, SIDE, 3)
    assert seen["prompt"] == "hold still"
    fade = np.linspace(1, 0, H, dtype=np.float32)[:, None]
    return {"actions": -fade * seen["observation/state"][None, :ACTIONS]}


def test_a_policy_in_openpi_form_drives_a_world(url: str) -> None:
    with policy_server(towards_zero, {"robot": "tiny"}) as there, connect(url) as server:
        with OpenpiPolicy(there) as policy:
            assert policy.metadata == {"robot": "tiny"}
            world = server.open(0, picture="raw")
            extra = {"prompt": "hold still"}
            done = rollout(world, policy, TICKS, rename=NAMES, extra=extra, execute=K)
        again = server.open(0)
        replayed = [again.observation, *(again.step(action) for action in done.actions)]
    assert done.actions.shape == (TICKS, ACTIONS)
    assert len(done.observations) == TICKS + 1
    assert len(done.infer_s) == -(-TICKS // K)
    for first in range(0, TICKS, K):  # each chunk answers what was seen at its first tick
        state = done.observations[first].streams["arm.position"]
        fade = np.linspace(1, 0, H, dtype=np.float32)[:, None]
        chunk = (-fade * state[:ACTIONS])[: min(K, TICKS - first)]
        np.testing.assert_array_equal(done.actions[first : first + K], chunk)
    for seen, same in zip(done.observations, replayed, strict=True):
        np.testing.assert_array_equal(seen.streams["arm.position"], same.streams["arm.position"])


class Fixed:
    """A policy in this process that always gives the same answer."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        return self.answer


def test_a_rollout_that_cannot_work_says_why(url: str) -> None:
    state = {"arm.position": "state"}
    still = Fixed({"actions": np.zeros((H, ACTIONS), np.float32)})
    with connect(url) as server:
        blind, packed = server.open(0), server.open(0, picture="jpeg")
        assert rollout(blind, still, 2, rename=state).actions.shape == (2, ACTIONS)
        with pytest.raises(ConfigError, match=r"names 'camera'; .* only if it was opened with picture='raw'"):
            rollout(blind, still, 2, rename=NAMES)
        with pytest.raises(ConfigError, match="come as JPEG"):
            rollout(packed, still, 2, rename=NAMES)
        with pytest.raises(ConfigError, match="6 actions of each chunk were to be carried out; it has 5"):
            rollout(blind, still, 2, rename=state, execute=H + 1)
        with pytest.raises(ConfigError, match="steps is 0"):
            rollout(blind, still, 0, rename=state)
        with pytest.raises(
            ShapeError, match=r"shape \(5, 3\); this world takes \(H, 2\): left, right in rad/s"
        ):
            rollout(blind, Fixed({"actions": np.zeros((H, 3))}), 2, rename=state)
        with pytest.raises(PolicyError, match="expected 'actions'"):
            rollout(blind, Fixed({"motions": 1}), 2, rename=state)


def test_a_failing_policy_is_told_with_its_traceback() -> None:
    with policy_server(lambda seen: {"actions": seen["nothing of that name"]}) as there:
        with OpenpiPolicy(there) as policy:
            with pytest.raises(PolicyError, match="KeyError: 'nothing of that name'"):
                policy.infer({"state": np.zeros(3)})
            with pytest.raises(ServerGoneError, match="is gone"):
                policy.infer({"state": np.zeros(3)})
        with OpenpiPolicy(there) as policy, pytest.raises(ShapeError, match="only numbers"):
            policy.infer({"state": np.array(["a"])})
    with pytest.raises(ServerGoneError, match="no policy server answers"):
        OpenpiPolicy(there)
