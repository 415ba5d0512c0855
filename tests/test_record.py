"""Recording from Gymnasium environments: which row holds what, and that a seed decides everything."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from forerun.cli.data import run
from forerun.data import Episode, open_recordings, write_lerobot
from forerun.data.record import record
from forerun.types import ConfigError, StreamSpec

STEPS = 7
TOUCH_PER_STEP = 10


class Counter(gymnasium.Env):
    """Counts its steps into every observation; success ends it after seven."""

    metadata: ClassVar[dict[str, Any]] = {"render_fps": 20}
    observation_space = spaces.Dict(
        {
            "camera": spaces.Box(0, 255, (8, 10, 3), np.uint8),
            "gray": spaces.Box(0, 255, (8, 10, 1), np.uint8),
            "arm": spaces.Dict({"q": spaces.Box(-np.inf, np.inf, (2,), np.float32)}),
            "mode": spaces.Discrete(3),
        }
    )
    action_space = spaces.Box(np.array([-1.0, -2.0], np.float32), np.array([1.0, 2.0], np.float32))

    def __init__(self) -> None:
        self.count = 0
        self.q = np.zeros(2, np.float32)

    def _observe(self) -> dict[str, Any]:
        self.q[:] = self.count  # one buffer, reused: a recorder must copy
        return {
            "camera": np.full((8, 10, 3), self.count, np.uint8),
            "gray": np.full((8, 10, 1), self.count, np.uint8),
            "arm": {"q": self.q},
            "mode": self.count % 3,
        }

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        self.count = 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        self.count += 1
        done = self.count >= STEPS
        return self._observe(), float(self.count), done, False, {"success": done}


class Feeling(Counter):
    """Declares its streams, shows its state, and gives ten touch samples with each step."""

    control_hz = 20.0
    observation_space = spaces.Dict({"touch": spaces.Box(-np.inf, np.inf, (TOUCH_PER_STEP, 3), np.float32)})

    def stream_specs(self) -> dict[str, StreamSpec]:
        touch = StreamSpec(name="touch", kind="touch", shape=(3,), unit="N", rate_hz=20.0 * TOUCH_PER_STEP)
        action = StreamSpec(
            name="action", kind="action", shape=(2,), unit="m/s", names=("x", "y"), rate_hz=20.0
        )
        return {"touch": touch, "action": action}

    def state(self) -> np.ndarray:
        return np.array([self.count, -self.count], dtype=np.float64)

    def _observe(self) -> dict[str, Any]:
        ramp = self.count - np.arange(TOUCH_PER_STEP - 1, -1, -1) / TOUCH_PER_STEP
        return {"touch": np.repeat(ramp[:, None], 3, axis=1).astype(np.float32)}


def constant(observation: Any) -> np.ndarray:
    return np.array([0.5, -0.5], dtype=np.float32)


def only(episodes: Iterator[Episode]) -> Episode:
    (episode,) = episodes
    return episode


class Lamp(gymnasium.Env):
    """Draws itself in the gray level of its step, in pictures twice as wide as tall."""

    metadata: ClassVar[dict[str, Any]] = {"render_fps": 10, "render_modes": ["rgb_array"]}
    observation_space = spaces.Box(0, 255, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None, fails: Exception | None = None) -> None:
        self.render_mode, self.fails = render_mode, fails

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.count += 1
        return np.full(1, self.count, np.float32), 0.0, self.count == STEPS, False, {}

    def render(self) -> np.ndarray:  # type: ignore[override]
        if self.fails:
            raise self.fails
        return np.full((24, 48, 3), 20 * self.count, np.uint8)


gymnasium.register("test/Lamp-v0", f"{__name__}:Lamp")


def read(episode: Episode, name: str) -> np.ndarray:
    return episode.streams[name].read()


def test_a_row_pairs_an_observation_with_the_action_taken_on_it() -> None:
    seen = []

    def policy(observation: dict) -> np.ndarray:
        seen.append(int(observation["arm"]["q"][0]))
        return np.array([len(seen) / 10, 0], dtype=np.float32)

    episode = only(record(Counter(), policy, episodes=1))
    assert seen == list(range(STEPS))
    assert read(episode, "arm.q")[:, 0].tolist() == list(range(STEPS))
    np.testing.assert_allclose(read(episode, "action")[:, 0], np.arange(1, STEPS + 1) / 10, rtol=1e-6)
    assert read(episode, "next.reward").ravel().tolist() == list(range(1, STEPS + 1))
    np.testing.assert_allclose(episode.streams["action"].times_s, np.arange(STEPS) / 20)


def test_spaces_become_streams_of_the_fitting_kind() -> None:
    episode = only(record(Counter(), constant, episodes=1))
    kinds = {name: (s.spec.kind, s.spec.shape) for name, s in episode.streams.items()}
    assert kinds == {
        "camera": ("video", (8, 10, 3)),
        "gray": ("video", (8, 10, 3)),
        "arm.q": ("vector", (2,)),
        "mode": ("vector", (3,)),
        "action": ("action", (2,)),
        "next.reward": ("privileged", (1,)),
    }
    assert episode.streams["action"].spec.low == (-1.0, -2.0)
    assert episode.streams["arm.q"].spec.low is None
    assert read(episode, "gray")[5].tolist() == np.full((8, 10, 3), 5).tolist()
    assert read(episode, "mode")[4].tolist() == [0, 1, 0]
    assert episode.success is True


def test_an_environment_that_describes_itself_is_believed() -> None:
    episode = only(record(Feeling(), constant, episodes=1))
    assert episode.streams["action"].spec.unit == "m/s"
    assert episode.streams["state"].spec.kind == "privileged"
    assert read(episode, "state")[:, 1].tolist() == [-k for k in range(STEPS)]


def test_a_burst_of_touch_keeps_its_own_clock() -> None:
    touch = only(record(Feeling(), constant, episodes=1)).streams["touch"]
    assert (
        len(touch) == (STEPS - 1) * TOUCH_PER_STEP + 1
    )  # of the first burst only time zero is in the episode
    np.testing.assert_allclose(np.diff(touch.times_s), 1 / 200, atol=1e-9)
    np.testing.assert_allclose(touch.read()[:, 0], touch.times_s * 20, atol=1e-5)


def test_the_same_seed_gives_the_same_episodes_whatever_came_before() -> None:
    first = list(record(gymnasium.make("Pendulum-v1"), episodes=3, seed=5, max_steps=9))
    used = gymnasium.make("Pendulum-v1")
    list(record(used, episodes=1, seed=77, max_steps=4))
    again = list(record(used, episodes=3, seed=5, max_steps=9))
    for one, two in zip(first, again, strict=True):
        assert all(np.array_equal(read(one, name), read(two, name)) for name in one.streams)
    assert not np.array_equal(read(first[0], "action"), read(first[1], "action"))


def test_a_policy_is_told_when_an_episode_begins() -> None:
    class Drawn:
        def reset(self, env: gymnasium.Env, rng: np.random.Generator) -> None:
            self.value = rng.uniform(-1, 1, size=2).astype(np.float32)

        def __call__(self, observation: Any) -> np.ndarray:
            return self.value

    one, two = record(Counter(), Drawn(), episodes=2, seed=1)
    assert (read(one, "action") == read(one, "action")[0]).all()
    assert (read(one, "action")[0] != read(two, "action")[0]).any()


def test_discrete_actions_become_one_hot() -> None:
    episode = only(record(gymnasium.make("CartPole-v1"), episodes=1, max_steps=5))
    assert read(episode, "action").sum(axis=1).tolist() == [1.0] * len(episode.streams["action"])


def test_play_goes_on_past_the_end_if_asked() -> None:
    assert len(only(record(Counter(), constant, episodes=1, max_steps=12)).streams["action"]) == STEPS
    played = only(record(Counter(), constant, episodes=1, max_steps=12, past_the_end=True))
    assert len(played.streams["action"]) == 12
    with pytest.raises(ConfigError, match="give max_steps"):
        next(record(Counter(), constant, episodes=1, past_the_end=True))


def test_an_environment_without_a_rate_needs_one() -> None:
    env = Counter()
    env.metadata = {}  # type: ignore[misc]
    with pytest.raises(ConfigError, match="--control-hz 20"):
        next(record(env, constant, episodes=1))
    assert only(record(env, constant, episodes=1, control_hz=4.0)).streams["action"].times_s[1] == 0.25


def test_an_observation_that_is_no_number_is_refused() -> None:
    env = Counter()
    env.observation_space = spaces.Text(5)  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="'observation' is a Text"):
        next(record(env, constant, episodes=1))
    with pytest.raises(ConfigError, match="0 episodes"):
        next(record(Counter(), constant, episodes=0))


def test_what_was_recorded_is_what_is_read_back(tmp_path: Path) -> None:
    recorded = only(record(Feeling(), constant, episodes=1))
    write_lerobot(tmp_path / "set", [recorded], fps=20)
    (back,) = open_recordings(tmp_path / "set")
    assert back.metadata == recorded.metadata
    for name, stream in recorded.streams.items():
        assert back.streams[name].spec == stream.spec
        np.testing.assert_allclose(back.streams[name].times_s, stream.times_s, atol=1e-9)
        assert np.array_equal(read(back, name), stream.read())


def test_recording_from_the_command_line_writes_a_readable_set(tmp_path: Path) -> None:
    words = ["record", "Pendulum-v1", str(tmp_path / "set"), "--episodes", "2", "--max-steps", "6"]
    assert run(words) == 0
    recordings = open_recordings(tmp_path / "set")
    assert [len(e.streams["action"]) for e in recordings] == [6, 6]
    assert recordings.specs["action"].low == (-2.0,)


def test_the_command_line_knows_the_tasks_and_their_data_policies(tmp_path: Path) -> None:
    words = ["record", "forerun/TwoRoom-v0", str(tmp_path / "set"), "--episodes", "2", "--max-steps", "5"]
    assert run([*words, "--policy", "noisy", "random"]) == 0
    recordings = open_recordings(tmp_path / "set")
    assert recordings.specs["camera"].shape == (64, 64, 3)
    assert recordings.specs["state"].kind == "privileged"


def test_what_an_environment_draws_is_recorded_as_a_square_camera(tmp_path: Path) -> None:
    words = ["record", "test/Lamp-v0", str(tmp_path / "set"), "--episodes", "1"]
    assert run([*words, "--camera", "16"]) == 0
    (back,) = open_recordings(tmp_path / "set")
    assert back.streams["camera"].spec == StreamSpec(
        name="camera", kind="video", shape=(16, 16, 3), unit="rgb", rate_hz=10.0
    )
    seen = read(back, "camera").mean(axis=(1, 2, 3))
    np.testing.assert_allclose(seen, 20 * read(back, "observation")[:, 0], atol=3)


def test_without_being_asked_nothing_is_drawn(tmp_path: Path) -> None:
    assert run(["record", "test/Lamp-v0", str(tmp_path / "set"), "--episodes", "1"]) == 0
    assert "camera" not in open_recordings(tmp_path / "set").specs


@pytest.mark.parametrize(
    ("env", "side", "words"),
    [
        (Lamp(), 16, "render_mode=None, so it gives no pictures"),
        (Lamp("rgb_array"), 4, "4 pixels a side .* 8 to 2048"),
        (Counter(), 16, "has a stream 'camera' of its own"),
        (
            Lamp("rgb_array", gymnasium.error.DependencyNotInstalled("pygame is not installed")),
            16,
            "Lamp cannot draw itself: pygame is not installed. Install",
        ),
    ],
)
def test_a_camera_that_cannot_be_is_explained(env: gymnasium.Env, side: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        next(record(env, episodes=1, camera=side))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("CarRacing-v3",), "needs the package 'Box2D', which is not installed"),
        (("",), "the environment '' cannot be made: Malformed"),
        (("nosuchmod:Foo-v0",), "no module 'nosuchmod' to register the environment"),
        (("phys2d/CartPole-v1",), "needs the package 'jax', which is not installed"),
        (("test/Lamp-v0", "--seed", "-1"), "the seed is -1; expected 0 or"),
        (("test/Lamp-v0", "--control-hz", "-5"), "-5 steps per second was asked for; expected a positive"),
        (("test/Lamp-v0", "--control-hz", "0"), "0 steps per second was asked for; expected a positive"),
        (("forerun/Push-v0", "--camera", "64", "--episodes", "0"), "0 episodes"),
    ],
)
def test_what_cannot_be_recorded_is_explained(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    package = says.partition("package '")[2].partition("'")[0]
    if package and importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(ConfigError, match=says):
        run(["record", words[0], str(tmp_path / "set"), *words[1:]])
    assert list(tmp_path.iterdir()) == []


def test_unknown_environments_and_policies_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no environment 'Nowhere-v0'; forerun's own are forerun/"):
        run(["record", "Nowhere-v0", str(tmp_path / "set")])
    with pytest.raises(ConfigError, match="scripted for forerun's own tasks, and PendulumEnv is none"):
        run(["record", "Pendulum-v1", str(tmp_path / "set"), "--policy", "expert"])
    assert not (tmp_path / "set").exists()
