"""Pushing and grasping in MuJoCo, and what happens where MuJoCo or OpenGL are missing."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from forerun.tasks import scripted_policy
from forerun.tasks.pickplace import PickPlace
from forerun.tasks.pickplace import state_of as grasp_state
from forerun.tasks.push import Push
from forerun.tasks.push_scene import OUTLINE, RIM_M, block_pose, state_of
from forerun.tasks.pushing import Outline, Pusher


def run_python(code, **environment):
    env = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)


def test_a_block_no_longer_pushed_stops_within_a_tenth_of_a_second():
    task = Push()
    task.set_state(state_of(np.array([-0.1, 0.0]), np.array([0.0, 0.0, 0.0])))
    for _ in range(4):
        task.advance(np.array([0.3, 0.0]))
    assert task.state()[11] > 0.05  # m/s: it slides
    task.advance(np.array([-0.3, 0.0]))
    assert np.abs(task.state()[11:13]).max() < 0.005


def test_the_block_stays_flat_on_the_table_whatever_is_done_to_it():
    task = Push()
    task.reset(seed=0)
    play = scripted_policy(task, "weak", np.random.default_rng(0))
    for _ in range(400):
        task.advance(task.clip(play()))
        state = task.state()
        assert np.abs(state[2:4]).max() < RIM_M
        assert abs(state[4] - 0.02) < 0.003
        assert np.abs(state[6:8]).max() < 0.05  # tilt


def test_the_picture_tells_the_heading_and_never_confuses_it():
    task = Push()
    far = np.array([-0.2, -0.2])
    pictures = [task.picture(state_of(far, np.array([0, 0, turn]))) for turn in np.arange(8) * np.pi / 4]
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert (one != other).any(-1).sum() > 20


def test_heading_errors_wrap_around():
    near, far = (
        state_of(np.array([-0.2, 0]), np.array([0, 0, angle])) for angle in (np.pi - 0.05, 0.05 - np.pi)
    )
    assert Push().errors(near, far)["yaw_rad"] == pytest.approx(0.1)
    np.testing.assert_allclose(block_pose(near), [0, 0, np.pi - 0.05])


def test_the_pusher_predicts_the_push_of_a_real_block():
    task, contact = Push(), np.array([[-0.063, 0.02, -1.0, 0.0]])
    pose = np.array([-0.05, 0.0, 0.0])
    task.set_state(state_of(pose[:2] + contact[0, :2], pose))
    for _ in range(4):
        task.advance(np.array([0.1, 0.0]))
    predicted = OUTLINE.predict(pose, contact, np.array([task.state()[0] - pose[0] + 0.063]))[0]
    actual = block_pose(task.state())
    np.testing.assert_allclose(actual[:2], predicted[:2], atol=0.003)
    assert actual[2] == pytest.approx(predicted[2], rel=0.1)


def test_the_way_around_a_body_never_touches_it():
    outline = Outline(((0, 0, 1.0, 0.2), (0, 0.8, 0.2, 0.6)), 0.2, 0.6, reach=9.0, yaw_weight=1.0)
    pusher = Pusher(
        outline,
        lambda: (here, np.zeros(3)),
        np.random.default_rng(0),
        travel=np.ones(1),
        pace=0.1,
        max_pace=0.1,
    )
    for goal in outline.contacts[:, :2] + outline.gap * outline.contacts[:, 2:]:
        here = np.array([2.0, -1.5])
        for _ in range(80):
            way = pusher.next_point(here, goal, np.zeros(3)) - here
            here = here + way * min(1.0, 0.1 / max(float(np.hypot(*way)), 1e-9))
            assert outline.clearance(here) > 0
        np.testing.assert_allclose(here, goal, atol=1e-6)


def test_a_held_cube_does_not_creep():
    task = PickPlace()
    hold = np.array([0.0, 0.0, 0.08])
    task.set_state(grasp_state(hold, 0.04, hold, 0.0))
    grip = np.array([0.0, 0.0, 0.0, 0.02])
    for _ in range(10):
        task.advance(grip)
    before = task.state()[5:8]
    for _ in range(50):
        task.advance(grip)
    assert np.linalg.norm(task.state()[5:8] - before) < 0.001  # 5 s


def test_opening_the_fingers_drops_the_cube():
    task = PickPlace()
    hold = np.array([0.05, 0.02, 0.08])
    task.set_state(grasp_state(hold, 0.04, hold, 0.0))
    for _ in range(10):
        task.advance(np.array([0.0, 0.0, 0.0, 0.08]))
    assert task.state()[7] == pytest.approx(0.02, abs=0.002)


def test_height_shows_in_the_front_half_of_the_picture():
    task = PickPlace()
    low, high = (
        task.picture(grasp_state(np.array([0, 0, z]), 0.04, np.array([0, 0, z]), 0)) for z in (0.04, 0.09)
    )
    changed = (low != high).any(-1)
    assert changed[40:].sum() > 20
    assert changed[:40].sum() < 5


def test_pictures_come_from_any_thread_and_any_environment():
    first, second, found = Push(), Push(), []
    state = state_of(np.array([0.1, 0.1]), np.array([0.0, 0.0, 0.3]))
    worker = threading.Thread(target=lambda: found.append(second.picture(state)))
    expected = first.picture(state)
    worker.start()
    worker.join()
    np.testing.assert_array_equal(found[0], expected)


def test_importing_the_tasks_imports_no_simulator():
    code = "import sys, forerun.tasks; print([m for m in ('mujoco', 'pymunk', 'torch') if m in sys.modules])"
    assert run_python(code).stdout.strip() == "[]"


@pytest.mark.parametrize(("package", "name"), [("mujoco", "Push"), ("pymunk", "PushT")])
def test_a_missing_simulator_is_named_with_its_extra(package, name):
    code = f"import sys; sys.modules['{package}'] = None\nimport gymnasium, forerun.tasks\n"
    code += f"from forerun.types import MissingExtraError\ntry: gymnasium.make('forerun/{name}-v0')\n"
    code += "except MissingExtraError as error: print(error)"
    assert "pip install 'forerun[sim]'" in run_python(code).stdout


@pytest.mark.parametrize("platform", ["disabled", "osmesa"])
def test_without_opengl_one_sentence_says_what_to_install(platform):
    import ctypes.util

    if platform == "osmesa" and ctypes.util.find_library("OSMesa"):
        pytest.skip("OSMesa is installed here, so it can draw")
    code = "import gymnasium, numpy as np, forerun.tasks\nfrom forerun.types import RenderError\n"
    code += "try: gymnasium.make('forerun/Push-v0').reset(seed=0)\nexcept RenderError as error: print(error)"
    done = run_python(code, MUJOCO_GL=platform)
    assert "libegl1" in done.stdout
    assert "libosmesa6" in done.stdout
    assert done.stdout.count("\n") == 1


def test_physics_needs_no_opengl():
    code = "from forerun.tasks.push import Push; import numpy as np; task = Push()\n"
    code += "task.advance(np.array([0.1, 0.0])); print(task.state()[0] > 0)"
    assert run_python(code, MUJOCO_GL="disabled").stdout.strip() == "True"
