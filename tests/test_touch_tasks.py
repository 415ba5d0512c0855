"""Claims about the contact tasks: physics without creep, senses without leaks, worlds that repeat."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from forerun.data.record import record
from forerun.tasks import TOUCH_TASKS
from forerun.tasks.touch import TouchWorlds, laws, make_worlds
from forerun.tasks.touch.gripper import TAXELS
from forerun.tasks.touch.sensors import splat
from forerun.tasks.touch.wipe import TOOL_RADIUS_M, WipeForce
from forerun.types import ConfigError, ShapeError

ALL = list(TOUCH_TASKS)


def play(worlds: TouchWorlds, seeds: range | list[int], controller=None, until_ms: int = 10**9) -> list[dict]:
    """What was sensed at 50 Hz."""
    worlds.reset(list(seeds))
    act = controller or laws(worlds.env_id).scripted()
    act.reset(worlds)
    seen = []
    while not worlds.over and worlds.ms < until_ms:
        if worlds.ms % 20 == 0:
            seen.append({name: reading.values.copy() for name, reading in worlds.readings().items()})
        worlds.tick(act.command(worlds))
    return seen


class Gripping:
    """The planned lift, with grips (B,) of one's own."""

    def __init__(self, grip) -> None:
        self.grip = grip

    def reset(self, worlds: TouchWorlds) -> None:
        pass

    def command(self, worlds: TouchWorlds) -> np.ndarray:
        action = worlds.nominal()
        action[:, 1] = self.grip(worlds)
        return worlds.follow(action)


def test_what_is_gripped_half_again_as_firmly_as_needed_does_not_creep() -> None:
    worlds = make_worlds("forerun/LiftFragile-v0", 8)
    worlds.disturb = lambda: None  # type: ignore[method-assign]  # no tug
    firm = Gripping(lambda w: 1.5 * w.least_grip())
    play(worlds, range(8), firm, until_ms=1300)
    before = worlds.qpos[:, 0] - worlds.qpos[:, 5]
    while not worlds.over:
        worlds.tick(firm.command(worlds))
    creep = (worlds.qpos[:, 0] - worlds.qpos[:, 5] - before) / (worlds.seconds - 1.3)
    assert np.abs(creep).max() < 0.05e-3


def test_a_tool_slides_without_chatter() -> None:
    worlds = WipeForce(6)
    worlds.reset(range(6))
    worlds.surfaces[:] = 0.0
    force = []
    while worlds.time_s < 2.0:
        along = 0.08 * max(0.0, worlds.time_s - 0.4)
        worlds.tick(np.tile([along - 0.1, TOOL_RADIUS_M - 0.0013], (6, 1)))
        if worlds.time_s > 1.0:
            force.append(worlds.normal())
    assert np.mean(force, axis=0).min() > 1.0
    assert (np.std(force, axis=0) / np.mean(force, axis=0)).max() < 0.02


def probe(features: np.ndarray, target: np.ndarray) -> float:
    """R2 of ridge regression in held-out worlds, mean of 5 splits, each at the penalty that favours it."""
    half, found = len(features) // 2, []
    for split in range(5):
        order = np.random.default_rng(split).permutation(len(features))
        x, y = features[order], target[order]
        x = np.clip((x - x[:half].mean(0)) / (x[:half].std(0) + 1e-6), -5, 5)
        y = y - y[:half].mean()
        said = [_ridge(x, y, half, penalty) for penalty in (1e2, 1e3, 1e4, 1e5)]
        found.append(max(1 - np.mean((y[half:] - s) ** 2) / np.mean(y[half:] ** 2) for s in said))
    return float(np.mean(found))


def _ridge(x: np.ndarray, y: np.ndarray, half: int, penalty: float) -> np.ndarray:
    kernel = x[:half] @ x[:half].T + penalty * np.eye(half)
    return x[half:] @ (x[:half].T @ np.linalg.solve(kernel, y[:half]))


def sensed(seen: list[dict], names: tuple[str, ...], every: int) -> np.ndarray:
    """(B, F) of streams at every so many steps; pictures thinned to a quarter of their rows and columns."""
    parts = [
        (step[name][:, ::4, ::4] if name == "camera" else step[name]).reshape(len(step[name]), -1)
        for step in seen[::every]
        for name in names
    ]
    return np.concatenate(parts, axis=1).astype(np.float64)


def test_mass_and_friction_of_a_lift_show_in_touch_and_nowhere_else() -> None:
    worlds = make_worlds("forerun/LiftFragile-v0", 160, camera=True)
    seen = play(worlds, range(160), Gripping(lambda w: np.full(w.count, 20.0)))
    mass, friction = np.log(worlds.hidden[:, 0]), worlds.hidden[:, 1]
    blind = sensed(seen, ("camera", "proprio"), 8)
    assert probe(blind, mass) <= 0.05
    assert probe(blind, friction) <= 0.05
    assert probe(sensed(seen, ("pads",), 8), mass) > 0.5


def test_which_box_is_heavier_shows_in_touch_and_nowhere_else() -> None:
    worlds = make_worlds("forerun/WeighSort-v0", 160, camera=True)
    seen = play(worlds, range(160), until_ms=3300)
    heavier = 2 * worlds.hidden[:, 3] - 1
    assert probe(sensed(seen, ("camera", "proprio"), 10), heavier) <= 0.05
    assert probe(sensed(seen, ("pads",), 10), heavier) > 0.5


@pytest.mark.parametrize("task", ALL)
def test_the_seed_decides_an_episode_and_batch_mates_do_not(task: str) -> None:
    alone, crowd = make_worlds(task, 1), make_worlds(task, 3)
    one = play(alone, [7], until_ms=700)
    other = play(crowd, [3, 7, 5], until_ms=700)
    for a, b in zip(one, other, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name][0], b[name][1], err_msg=name)
    assert not np.array_equal(other[-1][crowd.touch][0], other[-1][crowd.touch][1])


@pytest.mark.parametrize("task", ALL)
def test_who_knows_what_is_hidden_succeeds(task: str) -> None:
    worlds = make_worlds(task, 6)
    play(worlds, range(900, 906), laws(task).oracle())
    assert worlds.score()["success"].all()


@pytest.mark.parametrize("task", ALL)
def test_a_reading_is_as_old_as_its_sensor_says(task: str) -> None:
    worlds = make_worlds(task, 1)
    law = laws(task).scripted()
    worlds.reset([0])
    law.reset(worlds)
    while worlds.ms < 200:
        worlds.tick(law.command(worlds))
        for name, line in worlds.lines.items():
            age_ms = (worlds.time_s - worlds.read(name).time_s) * 1000
            late = line.sensor.delay_ms
            if worlds.ms > late:
                assert late - 1e-6 <= age_ms < late + line.sensor.every_ms, (name, age_ms)


def test_a_numbed_hand_reads_zero_and_sees_as_before() -> None:
    worlds = make_worlds("forerun/LiftFragile-v0", 1)
    worlds.numb = True
    seen = play(worlds, [0], until_ms=600)
    assert not np.any([step["pads"] for step in seen])
    assert np.any(seen[-1]["proprio"])


def test_a_command_of_another_shape_or_not_finite_is_refused() -> None:
    worlds = make_worlds("forerun/WipeForce-v0", 2)
    worlds.reset([0, 1])
    with pytest.raises(ShapeError, match="takes"):
        worlds.tick(np.zeros((2, 3)))
    with pytest.raises(ShapeError, match="finite"):
        worlds.tick(np.full((2, 2), np.nan))
    with pytest.raises(ShapeError, match="Give one seed to each"):
        worlds.reset([0])
    with pytest.raises(ConfigError, match="choose one of"):
        make_worlds("forerun/Lift-v0")


def test_taxels_sum_to_the_force_that_made_them() -> None:
    rng = np.random.default_rng(0)
    forces, places = rng.normal(size=(3, 4, 3)), rng.uniform(-0.008, 0.008, (3, 4, 2))
    image = splat(forces, places, half_m=0.01)
    assert image.shape == (3, 3, 8, 8)
    np.testing.assert_allclose(image.sum((-1, -2)), forces.sum(1), atol=1e-12)


def test_a_tighter_hole_takes_longer_to_find() -> None:
    found = []
    for clearance_m in (0.001, 0.0002):
        worlds = make_worlds("forerun/PegFeel-v0", 24, clearance_m=clearance_m)
        play(worlds, range(24), until_ms=3000)
        found.append(worlds.score()["found"].mean())
    assert found[0] > found[1] + 0.2


def test_a_skin_may_be_attached_and_feels_what_the_pads_feel() -> None:
    worlds = make_worlds("forerun/LiftFragile-v0", 2)
    worlds.attach(TAXELS)
    seen = play(worlds, range(2), laws(worlds.env_id).oracle(), until_ms=1200)[-1]
    assert seen["taxels"].shape == (2, 6, 4, 4)
    pressed = seen["taxels"].sum((-1, -2))
    np.testing.assert_allclose(pressed[:, 0], np.abs(seen["pads"][:, 0]), rtol=0.3, atol=0.5)
    np.testing.assert_allclose(pressed[:, 2], seen["pads"][:, 2], rtol=0.3, atol=0.5)


@pytest.mark.parametrize("task", ALL)
@pytest.mark.filterwarnings("ignore:.*Box observation space m.*imum value:UserWarning")
@pytest.mark.filterwarnings("ignore:.*symmetric and normalized space:UserWarning")
def test_every_task_is_a_gymnasium_environment(task: str) -> None:
    env = gymnasium.make(task)
    check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=0)
    act = env.unwrapped.make_policy("expert", np.random.default_rng(0))  # type: ignore[attr-defined]
    over, steps, won = False, 0, 0.0
    while not over:
        _, reward, _, over, info = env.step(act())
        steps, won = steps + 1, won + float(reward)
    assert steps >= 10
    assert won == float(info["success"])


def test_a_recording_keeps_touch_at_its_own_rate(tmp_path: Path) -> None:
    env = gymnasium.make("forerun/WipeForce-v0")
    (episode,) = record(env, episodes=1, max_steps=20)
    pads, camera = episode.streams["wrench"], episode.streams["camera"]
    assert pads.spec.kind == "touch"
    assert len(pads.times_s) == 10 * (len(camera.times_s) - 1) + 1
    assert np.allclose(np.diff(pads.times_s), 0.002)
    assert episode.streams["state"].spec.names == ("height_m", "softness_s", "friction")
