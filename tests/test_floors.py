"""The behaviour-cloning floor: what it may see, that it learns, and that it is kept whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from forerun.config import ModelConfig
from forerun.data.cache import TickCache
from forerun.evaluation.floors import (
    ClonedPolicy,
    CloningAgent,
    CloningConfig,
    CloningLearner,
    clone,
    equal_pictures,
)
from forerun.training.trainer import TrainConfig
from forerun.types import CheckpointError, ConfigError
from forerun.world_model import WorldModel
from moving_dot import BOUND, episode, table, tiny_config

TRAIN = np.arange(4)
HORIZON, B = 6, 32
CONFIG = CloningConfig(horizon=HORIZON, batch_size=B, width=32)
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> TickCache:
    return table(tmp_path_factory.mktemp("dots"), *(episode(i) for i in range(6)))


@pytest.fixture(scope="module")
def config(cache: TickCache) -> ModelConfig:
    return tiny_config(cache)


@pytest.fixture
def policy(cache: TickCache, config: ModelConfig) -> ClonedPolicy:
    torch.manual_seed(0)
    policy = ClonedPolicy(config, 32)
    policy.fit(cache, TRAIN)
    return policy.eval()


def observations(cache: TickCache, rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.asarray(cache.streams[name])[rows] for name in ("camera", "place")}


def rows_of(cache: TickCache, places: torch.Tensor) -> np.ndarray:
    """Which row of the table each place is; they are all different."""
    apart = np.abs(np.asarray(cache.streams["place"])[None] - places.numpy()[:, None]).sum(-1)
    return apart.argmin(1)


def test_goals_lie_ahead_in_the_same_training_episode(policy: ClonedPolicy, cache: TickCache) -> None:
    learner = CloningLearner(policy, cache, TRAIN, config=CONFIG)
    for step in range(20):
        batch = learner.batch(step)
        now, goal = rows_of(cache, batch["place"]), rows_of(cache, batch["goal.place"])
        assert ((goal - now >= 1) & (goal - now <= HORIZON)).all()
        owner = np.searchsorted(cache.episode_starts, [now, goal], side="right") - 1
        assert (owner[0] == owner[1]).all()
        assert np.isin(owner, TRAIN).all()


def test_a_batch_depends_on_its_step_alone(policy: ClonedPolicy, cache: TickCache) -> None:
    one, other = (CloningLearner(policy, cache, TRAIN, config=CONFIG, seed=1) for _ in range(2))
    one.batch(0)
    again, first = one.batch(7), other.batch(7)
    assert all(torch.equal(again[name], first[name]) for name in first)


def test_it_learns_which_way_the_goal_lies(cache: TickCache, config: ModelConfig, tmp_path: Path) -> None:
    near = CloningConfig(horizon=1, batch_size=B, width=32)  # then the goal tells the action exactly
    learned = clone(cache, TRAIN, config, tmp_path, steps=150, config=near, console=QUIET)
    held_out = CloningLearner(learned, cache, np.array([4, 5]), config=near)
    with torch.inference_mode():
        error = float(held_out.loss(held_out.batch(0))["total"])
    assert error < 0.7  # the mean action scores 1


def test_a_finished_floor_is_loaded_not_trained_again(
    cache: TickCache, config: ModelConfig, tmp_path: Path
) -> None:
    first = clone(cache, TRAIN, config, tmp_path, steps=2, config=CONFIG, console=QUIET)
    log = (tmp_path / "metrics.jsonl").read_bytes()
    again = clone(cache, TRAIN, config, tmp_path, steps=2, config=CONFIG, console=QUIET)
    assert (tmp_path / "metrics.jsonl").read_bytes() == log
    kept = first.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in again.state_dict().items())


def test_saving_and_loading_changes_no_action(policy: ClonedPolicy, cache: TickCache, tmp_path: Path) -> None:
    policy.save(tmp_path / "policy")
    now, goal = observations(cache, np.arange(5)), observations(cache, np.arange(5, 10))
    actions = []
    for agent in (CloningAgent(policy), CloningAgent(ClonedPolicy.load(tmp_path / "policy"))):
        agent.begin(now, goal)
        actions.append(agent.act(now))
    np.testing.assert_array_equal(*actions)


def test_a_world_model_is_not_taken_for_a_policy(config: ModelConfig, tmp_path: Path) -> None:
    WorldModel(config).save_pretrained(tmp_path / "model")
    with pytest.raises(CheckpointError, match="forerun-cloned-policy-1"):
        ClonedPolicy.load(tmp_path / "model")


def test_actions_stay_within_the_robots_bounds(policy: ClonedPolicy, cache: TickCache) -> None:
    policy.get_buffer("action_scale.std").fill_(100.0)  # whatever the network says is far out of bounds now
    agent = CloningAgent(policy)
    now = observations(cache, np.arange(8))
    agent.begin(now, now)
    actions = agent.act(now)
    assert np.abs(actions).max() == pytest.approx(BOUND)


def test_a_trial_alone_is_acted_on_as_in_a_batch(policy: ClonedPolicy, cache: TickCache) -> None:
    agent = CloningAgent(policy)
    now, goal = observations(cache, np.arange(6)), observations(cache, np.arange(6, 12))
    agent.begin(now, goal)
    together = agent.act(now)
    for i in range(6):
        agent.begin(*({k: v[i : i + 1] for k, v in o.items()} for o in (now, goal)))
        np.testing.assert_allclose(
            agent.act({k: v[i : i + 1] for k, v in now.items()})[0], together[i], atol=1e-5
        )


def test_without_a_camera_the_goal_is_what_the_robot_feels(tmp_path: Path) -> None:
    cache = table(tmp_path / "table", *(episode(i, video=False) for i in range(4)))
    learned = clone(
        cache, TRAIN, tiny_config(cache), tmp_path / "floor", steps=3, config=CONFIG, console=QUIET
    )
    agent = CloningAgent(learned)
    now = {"place": np.zeros((2, 2), np.float32)}
    agent.begin(now, {"place": np.array([[0.5, 0], [-0.5, 0]], np.float32)})
    actions = agent.act(now)
    assert (actions[0] != actions[1]).any()


def test_nothing_can_be_cloned_from_recordings_without_actions(tmp_path: Path) -> None:
    cache = table(tmp_path, *(episode(i, action=False) for i in range(2)))
    with pytest.raises(ConfigError, match="nothing to clone"):
        ClonedPolicy(tiny_config(cache))


def test_the_floor_sees_as_many_pictures_as_the_models_first_stage() -> None:
    steps = equal_pictures(TrainConfig(steps=1000), batch_size=64, config=CloningConfig(batch_size=64))
    assert steps * 64 * 2 == 1000 * 64 * 3
