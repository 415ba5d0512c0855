"""Any Gymnasium space becomes streams, and a vector of the stream "action" an action again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from forerun.cli.data import run
from forerun.data import Episode, open_recordings, write_lerobot
from forerun.data.record import record
from forerun.data.spaces import action_spec, action_vector, to_action
from forerun.types import ConfigError

STEPS = 4
SIDE = 32

COMPOUND = spaces.Dict(
    {
        "grip": spaces.Discrete(3, start=2),
        "keys": spaces.MultiBinary(2),
        "arms": spaces.Tuple(
            (spaces.Box(-1, 1, (2,), np.float32), spaces.MultiDiscrete([2, 3], start=[1, 0]))
        ),
    }
)


class Shown(gymnasium.Env):
    """Shows samples of any observation space, and remembers what it was told to do."""

    metadata: ClassVar[dict[str, Any]] = {"render_fps": 10}

    def __init__(self, observation: spaces.Space, action: spaces.Space | None = None) -> None:
        self.observation_space = observation
        self.action_space = action if action is not None else spaces.Discrete(2)
        self.seen: list[Any] = []
        self.done: list[Any] = []

    def _observe(self) -> Any:
        self.seen.append(self.observation_space.sample())
        return self.seen[-1]

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        self.observation_space.seed(seed)
        self.seen, self.done = [], []
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        assert self.action_space.contains(action)
        self.done.append(action)
        return self._observe(), 0.0, len(self.done) == STEPS, False, {}


gymnasium.register(
    "test/Talking-v0",
    lambda **_: Shown(
        spaces.Dict(
            {
                "said": spaces.Text(5),
                "met": spaces.Sequence(spaces.Discrete(3)),
                "eye": spaces.Box(0, 255, (4, SIDE, SIDE), np.uint8),
            }
        )
    ),
)


def recorded(env: gymnasium.Env, policy: Any = None) -> Episode:
    (episode,) = record(env, policy, episodes=1)
    return episode


def pixels(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


@pytest.mark.parametrize(
    ("space", "newest"),
    [
        (pixels(SIDE, SIDE), lambda x: x),
        (pixels(SIDE, 40, 1), lambda x: x[..., 0]),
        (pixels(1, SIDE, 40), lambda x: x[0]),
        (pixels(4, SIDE, 40), lambda x: x[3]),
        (pixels(SIDE, 40, 4), lambda x: x[..., 3]),
        (pixels(4, SIDE, 40, 1), lambda x: x[3, ..., 0]),
    ],
)
def test_gray_pictures_become_video_and_of_stacked_ones_the_newest(space: spaces.Box, newest: Any) -> None:
    env = Shown(space)
    video = recorded(env).streams["observation"]
    assert (video.spec.kind, video.spec.unit) == ("video", "rgb")
    for frame, shown in zip(video.read(), env.seen, strict=False):
        assert np.array_equal(frame, np.repeat(newest(shown)[..., None], 3, axis=-1))


@pytest.mark.parametrize(
    ("space", "as_stored"),
    [
        (pixels(SIDE, 40, 3), lambda x: x),
        (pixels(3, SIDE, 40), lambda x: np.moveaxis(x, 0, -1)),
        (pixels(4, SIDE, 40, 3), lambda x: x[3]),
        (pixels(4, 3, SIDE, 40), lambda x: np.moveaxis(x[3], 0, -1)),
    ],
)
def test_colour_pictures_become_video_in_any_layout(space: spaces.Box, as_stored: Any) -> None:
    env = Shown(space)
    video = recorded(env).streams["observation"]
    assert video.spec.shape == (SIDE, 40, 3)
    assert np.array_equal(video.read()[-1], as_stored(env.seen[STEPS - 1]))


@pytest.mark.parametrize(
    "space", [pixels(128), pixels(3, 5), spaces.Box(0, 1, (SIDE, SIDE), np.uint8), pixels(SIDE, SIDE, SIDE)]
)
def test_tables_of_bytes_that_are_no_pictures_stay_vectors(space: spaces.Box) -> None:
    spec = recorded(Shown(space)).streams["observation"].spec
    assert (spec.kind, spec.shape) == ("vector", space.shape)


def test_every_part_of_a_nested_observation_has_its_stream() -> None:
    env = Shown(spaces.Tuple((spaces.Discrete(4), spaces.Dict({"q": spaces.MultiDiscrete([2, 3])}))))
    streams = recorded(env).streams
    shapes = {n: s.spec.shape for n, s in streams.items() if s.spec.kind == "vector"}
    assert shapes == {"observation.0": (4,), "observation.1.q": (5,)}
    assert streams["observation.0"].read().argmax(1).tolist() == [seen[0] for seen in env.seen[:STEPS]]
    chosen = streams["observation.1.q"].read()
    assert chosen[:, 2:].argmax(1).tolist() == [seen[1]["q"][1] for seen in env.seen[:STEPS]]


def test_an_observation_called_action_is_not_taken_for_the_action() -> None:
    env = Shown(spaces.Dict({"action": spaces.Box(5, 6, (3,), np.float32)}))
    streams = recorded(env).streams
    assert streams["action"].spec.shape == (2,)
    assert streams["observation.action"].spec.kind == "vector"
    assert np.array_equal(streams["observation.action"].read()[0], env.seen[0]["action"])


def test_a_compound_action_is_one_vector_with_a_name_for_every_channel() -> None:
    env = Shown(spaces.Discrete(2), COMPOUND)
    action = recorded(env).streams["action"]
    names = ("arms.0.0", "arms.0.1", *(f"arms.1.{i}" for i in range(5)))
    assert set(names) < set(action.spec.names)
    assert len(action.spec.names) == 12
    assert action.spec.low is not None
    for row, done in zip(action.read(), env.done, strict=True):
        named = dict(zip(action.spec.names, row, strict=True))
        assert [named["arms.0.0"], named["arms.0.1"]] == done["arms"][0].tolist()
        assert np.argmax([named[f"grip.{i}"] for i in range(3)]) + 2 == done["grip"]


@pytest.mark.parametrize(
    "space",
    [
        COMPOUND,
        spaces.Discrete(5, start=-2),
        spaces.MultiDiscrete(np.array([[2, 3], [4, 2]])),
        spaces.MultiBinary([2, 2]),
        spaces.Tuple((spaces.Discrete(2), spaces.Box(0, 9, (2, 2), np.int64))),
        spaces.Box(-2, 2, (3,), np.float64),
        spaces.OneOf((spaces.Discrete(2), spaces.Box(0, 1, (2,), np.float32))),
    ],
)
def test_a_recorded_vector_is_the_same_action_again(space: spaces.Space) -> None:
    space.seed(0)
    for _ in range(10):
        action = space.sample()
        vector = action_vector(space, action)
        again = to_action(space, vector)
        assert space.contains(again)
        assert np.array_equal(action_vector(space, again), vector)
    spec = action_spec(space, 10.0)
    assert spec is not None
    assert spec.shape == vector.shape


def test_a_policy_may_answer_with_soft_vectors_and_what_was_done_is_kept() -> None:
    space = spaces.MultiDiscrete([2, 3])
    env = Shown(spaces.Discrete(2), space)
    episode = recorded(env, lambda _: np.array([0.4, 0.6, 0.1, 0.5, 0.2]))
    assert [action.tolist() for action in env.done] == [[1, 1]] * STEPS
    assert episode.streams["action"].read()[0].tolist() == [0, 1, 0, 1, 0]


def test_a_policy_may_answer_with_actions_of_the_environment() -> None:
    told = [COMPOUND.sample() for _ in range(STEPS)]
    env = Shown(spaces.Discrete(2), COMPOUND)
    episode = recorded(env, lambda _: told[len(env.done)])
    assert all(one is other for one, other in zip(env.done, told, strict=True))
    kept = episode.streams["action"].read()
    assert np.array_equal(kept, [action_vector(COMPOUND, action) for action in told])


def test_what_has_no_fixed_size_is_left_out_with_one_note(tmp_path: Path, capsys: Any) -> None:
    assert run(["record", "test/Talking-v0", str(tmp_path / "set"), "--episodes", "2"]) == 0
    told = capsys.readouterr().out
    for note in (
        "'met' is a Sequence, which has no fixed size: it is left out",
        "'said' is text: it is kept, and no model learns from it",
        f"'eye' holds stacked pictures, (4, {SIDE}, {SIDE}): the newest becomes video",
    ):
        assert told.count(note) == 1
    specs = open_recordings(tmp_path / "set").specs
    assert {n: s.kind for n, s in specs.items() if n != "next.reward"} == {
        "eye": "video",
        "said": "text",
        "action": "action",
    }


def test_text_is_read_back_as_it_was_said(tmp_path: Path) -> None:
    env = Shown(
        spaces.Dict({"said": spaces.Text(5), "at": spaces.Box(0, 1)}),
        spaces.Dict({"say": spaces.Text(3), "go": spaces.Discrete(2)}),
    )
    write_lerobot(tmp_path / "set", [recorded(env)], fps=10)
    (back,) = open_recordings(tmp_path / "set")
    assert back.streams["said"].read().tolist() == [seen["said"] for seen in env.seen[:STEPS]]
    assert back.streams["action.say"].read().tolist() == [done["say"] for done in env.done]
    assert back.streams["action"].spec.names == ("go.0", "go.1")


def test_an_action_without_a_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="the actions are of the space Text"):
        recorded(Shown(spaces.Discrete(2), spaces.Text(4)))


@pytest.mark.parametrize("name", ["Blackjack-v1", "FrozenLake-v1", "Acrobot-v1", "CliffWalking-v1"])
def test_environments_that_come_with_gymnasium_are_recorded(tmp_path: Path, name: str) -> None:
    words = ["record", name, str(tmp_path / "set"), "--episodes", "2", "--max-steps", "5"]
    assert run(words) == 0
    assert len(open_recordings(tmp_path / "set")) == 2
