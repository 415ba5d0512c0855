"""What every task promises, whatever its simulator."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from forerun.tasks import TASKS, expert_towards, scripted_policy
from forerun.types import ConfigError, ShapeError

EXPERT_TRIALS = 10

pytestmark = pytest.mark.filterwarnings("ignore:.*symmetric and normalized space.*")


@pytest.fixture(scope="module", params=TASKS)
def task(request):
    return gymnasium.make(request.param, render_mode="rgb_array").unwrapped


def test_gymnasium_finds_nothing_to_complain_about(task):
    check_env(task, skip_render_check=False)


def test_setting_a_state_replays_the_same_future_bit_for_bit(task):
    task.reset(seed=1)
    rng = np.random.default_rng(1)
    play = scripted_policy(task, "noisy", rng)
    for _ in range(30):
        task.advance(task.clip(play()))
    start = task.state()
    actions = [rng.uniform(task.action_space.low, task.action_space.high) for _ in range(20)]

    def future(env):
        states = []
        for action in actions:
            env.advance(env.clip(action))
            states.append(env.state())
        return np.array(states)

    went_on = future(task)
    other = type(task)()
    other.reset(seed=7)
    other.set_state(start)
    np.testing.assert_array_equal(other.state(), start)
    np.testing.assert_array_equal(future(other), went_on)


def test_a_picture_of_another_state_leaves_the_present_alone(task):
    _, info = task.reset(seed=2)
    state, now = task.state(), task.picture()
    there = task.picture(info["goal_state"])
    np.testing.assert_array_equal(there, info["goal"]["camera"])
    assert (there != now).any()
    np.testing.assert_array_equal(task.state(), state)
    np.testing.assert_array_equal(task.picture(), now)


def test_a_seed_decides_start_and_goal(task):
    first, again, other = (task.reset(seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first[0]["camera"], again[0]["camera"])
    np.testing.assert_array_equal(first[1]["goal_state"], again[1]["goal_state"])
    assert (first[1]["goal_state"] != other[1]["goal_state"]).any()


def test_start_and_goal_may_be_given(task):
    start, goal = task.sample_start_goal(np.random.default_rng(3))
    _, info = task.reset(options={"state": start, "goal_state": goal})
    np.testing.assert_array_equal(task.state(), start)
    np.testing.assert_array_equal(info["goal_state"], goal)


def test_sampled_starts_are_unsolved_and_goals_solve_themselves(task):
    for seed in range(10):
        start, goal = task.sample_start_goal(np.random.default_rng(seed))
        for level in ("moderate", "strict"):
            assert not task.solved(start, goal, level)
            assert task.solved(goal, goal, level)


def test_a_scripted_expert_reaches_sampled_goals(task):
    reached = 0
    for seed in range(EXPERT_TRIALS):
        _, info = task.reset(seed=seed)
        expert = expert_towards(task, info["goal_state"], np.random.default_rng(seed))
        for _ in range(task.max_steps):
            task.advance(task.clip(expert()))
            if task.solved(task.state(), info["goal_state"]):
                reached += 1
                break
    assert reached >= 0.9 * EXPERT_TRIALS


@pytest.mark.parametrize("quality", ["expert", "noisy", "weak", "random"])
def test_play_keeps_things_moving_within_the_action_bounds(task, quality):
    task.reset(seed=4)
    play = scripted_policy(task, quality, np.random.default_rng(4))
    states = []
    for _ in range(150):
        action = play()
        assert action.dtype == np.float32
        assert task.action_space.contains(action)
        task.advance(task.clip(action))
        states.append(task.state())
    moved = np.abs(np.diff(states, axis=0)[:, : len(task.proprio_of(states[0])) // 2]).max(1)
    assert (moved > 0).mean() > 0.5
    if quality != "random":
        last, first = task.errors(states[-1], states[0]), task.errors(states[75], states[0])
        assert max(last.values()) > 0
        assert max(first.values()) > 0


def test_reward_and_termination_follow_success_and_truncation_the_budget(task):
    start, goal = task.sample_start_goal(np.random.default_rng(8))
    task.reset(options={"state": goal, "goal_state": goal})
    still = np.zeros(task.action_space.shape, np.float32)
    if task.action_space.shape == (4,):
        still[3] = 2 * goal[3]
    *_, reward, terminated, truncated, info = task.step(still)
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)
    task.reset(options={"state": start, "goal_state": goal})
    ends = [task.step(still)[2:4] for _ in range(task.max_steps)]
    assert ends[-1] == (False, True)
    assert not any(truncated for _, truncated in ends[:-1])


def test_streams_are_described_as_they_come(task):
    specs = task.stream_specs()
    observation, info = task.reset(seed=0)
    assert set(specs) == {"camera", "proprio", "action", "state"}
    assert specs["state"].kind == "privileged"
    assert specs["state"].shape == task.state().shape
    assert specs["camera"].shape == observation["camera"].shape == (64, 64, 3)
    assert specs["proprio"].shape == observation["proprio"].shape
    assert specs["action"].shape == task.action_space.shape
    assert specs["action"].low == pytest.approx(tuple(task.action_space.low))
    assert len(specs["action"].names) == specs["action"].size
    assert {"goal", "goal_state", "success", "success_strict"} <= set(info)


def test_proprioception_tells_nothing_of_objects(task):
    rng = np.random.default_rng(0)
    (start, goal), names = task.sample_start_goal(rng), task.state_names
    objects = [i for i, name in enumerate(names) if name.startswith(("block", "cube"))]
    mixed = start.copy()
    mixed[objects] = goal[objects]
    np.testing.assert_array_equal(task.proprio_of(mixed), task.proprio_of(start))


def test_a_wrong_action_or_state_is_refused_with_the_names_it_needs(task):
    task.reset(seed=0)
    with pytest.raises(ShapeError, match=task.action_spec.names[0]):
        task.step(np.zeros(7, np.float32))
    with pytest.raises(ShapeError, match="finite"):
        task.step(np.full(task.action_space.shape, np.nan, np.float32))
    with pytest.raises(ShapeError, match=task.state_names[0]):
        task.set_state(np.zeros(3 + len(task.state_names)))


def test_an_unknown_quality_is_refused_with_the_known_ones(task):
    with pytest.raises(ConfigError, match="expert, noisy, weak, random"):
        scripted_policy(task, "perfect", np.random.default_rng(0))


def test_actions_beyond_the_bounds_act_like_the_bounds(task):
    task.reset(seed=0)
    start, high = task.state(), task.action_space.high
    task.step(high)
    at_bound = task.state()
    task.set_state(start)
    task.step(10 * high)
    np.testing.assert_array_equal(task.state(), at_bound)
