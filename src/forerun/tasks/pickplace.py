"""PickPlace: a gantry with a two-finger gripper brings a cube to a place on the table or in the air."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from forerun.tasks.base import CAMERA_SIZE, Quality, Task
from forerun.tasks.gantry import REACH_M, SPEED_MPS, SUBSTEPS, VIEWS, gantry_xml
from forerun.tasks.pickplace_policy import HandPlay, expert
from forerun.tasks.scene import Scene
from forerun.types import StreamSpec

CUBE_HALF_M = 0.02
MAX_OPENING_M = 0.08

_FINGER = """
<body name="finger_{side}" pos="{sign}0.005 0 0" gravcomp="1">
  <joint name="{side}" type="slide" axis="{sign}1 0 0" range="0 0.04" limited="true" damping="4"/>
  <geom type="box" size="0.005 0.008 0.026" pos="0 0 0.012" mass="0.03" rgba="0.8 0.1 0.1 1" condim="4"
        friction="1.2 0.01 0.0001" contype="2" conaffinity="2" solref="0.01 1" solimp="0.9 0.97 0.001"/>
</body>"""
_TOOL = """
<geom type="box" size="0.05 0.006 0.006" pos="0 0 0.044" mass="0.1" rgba="0.25 0.25 0.3 1" contype="2"
      conaffinity="2"/>
""" + "".join(_FINGER.format(side=side, sign=sign) for side, sign in (("left", "-"), ("right", "")))
_CUBE = f"""
<body name="cube" pos="0.05 0 {CUBE_HALF_M}">
  <freejoint/> <geom type="box" size="{CUBE_HALF_M} {CUBE_HALF_M} {CUBE_HALF_M}" mass="0.05" rgba="0.1 0.45
  0.2 1" condim="4"
        contype="3" conaffinity="3" friction="0.6 0.005 0.0001"/>
</body>"""
_GRIP = """
<position joint="left" kp="400" forcerange="-4 4"/><position joint="right" kp="400" forcerange="-4 4"/>
"""
_COUPLING = '<equality><joint joint1="left" joint2="right" polycoef="0 1 0 0 0" solref="0.01 1"/></equality>'
XML = gantry_xml("pickplace", _TOOL, _CUBE, _GRIP) + _COUPLING + "</mujoco>"


class PickPlace(Task):
    """Bring a cube of 4 cm to a goal position with a gripper on three axes.

    World, table and the split picture (from above, and from the front): see :mod:`forerun.tasks.gantry`. Two
    fingers close along x about the working point; friction 1.2 with the cube, at most 4 N each.

    Action (4): working point's velocity x, y, z in m/s within +-0.25, and the opening the fingers are
    driven to, in m, 0-0.08; an opening below the cube's 0.04 squeezes it. Proprioception (8): working point
    x, y, z [m], opening [m], and their velocities [m/s]. State (23): x, y, z, left and right finger (each
    half of the opening), cube x, y, z and quaternion w, x, y, z; then the velocities, 6 for the cube.
    Control 10 Hz, physics 4 ms.

    Success, moderate: cube's centre within 0.03 m of the goal's; strict: 0.015 m. Half of the sampled goals
    lie on the table, half are held in the air at 0.05-0.1 m; starts lie on the table, 0.06 m or more away,
    turned by at most 25 degrees.
    """

    default_max_steps = 100
    thresholds = {"moderate": {"position_m": 0.03}, "strict": {"position_m": 0.015}}  # noqa: RUF012
    state_names = (
        *("x", "y", "z", "left", "right", "cube_x", "cube_y", "cube_z"),
        *("cube_qw", "cube_qx", "cube_qy", "cube_qz", "vx", "vy", "vz", "left_v", "right_v"),
        *("cube_vx", "cube_vy", "cube_vz", "cube_wx", "cube_wy", "cube_wz"),
    )
    action_spec = StreamSpec(
        name="action",
        kind="action",
        shape=(4,),
        unit="m/s, m",
        names=("vx", "vy", "vz", "opening"),
        rate_hz=10.0,
        low=(-SPEED_MPS, -SPEED_MPS, -SPEED_MPS, 0.0),
        high=(SPEED_MPS, SPEED_MPS, SPEED_MPS, MAX_OPENING_M),
    )
    proprio_spec = StreamSpec(
        name="proprio",
        kind="vector",
        shape=(8,),
        unit="m, m/s",
        names=("x", "y", "z", "opening", "vx", "vy", "vz", "opening_v"),
        rate_hz=10.0,
        low=(-0.2, -0.2, -0.1, -0.02, -1.0, -1.0, -1.0, -2.0),
        high=(0.2, 0.2, 0.2, 0.1, 1.0, 1.0, 1.0, 2.0),
    )

    def __init__(self, max_steps: int | None = None, render_mode: str | None = None) -> None:
        super().__init__(max_steps, render_mode)
        self.scene = Scene(XML, SUBSTEPS, VIEWS)

    def state(self) -> np.ndarray:
        return self.scene.state()

    def set_state(self, state: np.ndarray) -> None:
        self.scene.set_state(self.check_state(state))

    def advance(self, action: np.ndarray) -> None:
        self.scene.advance(np.array([*action[:3], action[3] / 2, action[3] / 2]))

    def picture(self, state: np.ndarray | None = None, size: int = CAMERA_SIZE) -> np.ndarray:
        return self.scene.picture(state, size)

    def proprio_of(self, state: np.ndarray) -> np.ndarray:
        opening, speed = state[3] + state[4], state[15] + state[16]
        return np.array([*state[:3], opening, *state[12:15], speed], dtype=np.float32)

    def errors(self, state: np.ndarray, goal_state: np.ndarray) -> dict[str, float]:
        difference = state[5:8] - goal_state[5:8]
        return {"position_m": float(np.sqrt(difference @ difference))}

    def sample_start_goal(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Cube on the table and gripper open above it all; goal on the table or held, 0.06 m or more away."""
        while True:
            cube, goal = random_place(rng), random_place(rng)
            held = rng.random() < 0.5
            if held:
                goal[2] = rng.uniform(0.05, 0.1)
            if np.linalg.norm(goal - cube) < 0.06:
                continue
            hand = np.array([*rng.uniform((-0.15, -0.09), (0.15, 0.09)), rng.uniform(0.07, 0.11)])
            start = state_of(hand, rng.uniform(0.05, MAX_OPENING_M), cube, np.deg2rad(rng.uniform(-25, 25)))
            if held:
                return start, state_of(goal, 2 * CUBE_HALF_M, goal, 0.0)
            above = goal + np.array([0.0, 0.0, rng.uniform(0.0, 0.07)])
            return start, state_of(above, 0.07, goal, 0.0)

    def make_policy(self, quality: Quality, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        return HandPlay(self, quality, rng)

    def make_expert(self, goal_state: np.ndarray, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        return expert(self, goal_state)


def random_place(rng: np.random.Generator) -> np.ndarray:
    """A uniform position (x, y, z) of the cube's centre on the table, within the gripper's reach."""
    return np.array([rng.uniform(-0.13, 0.13), rng.uniform(-0.08, 0.08), CUBE_HALF_M])


def state_of(hand: np.ndarray, opening: float, cube: np.ndarray, heading: float) -> np.ndarray:
    """The state (23,) at rest with the working point at ``hand`` and the cube's centre at ``cube``."""
    state = np.zeros(23)
    state[:3] = np.clip(hand, *np.transpose(REACH_M))
    state[3:5] = opening / 2
    state[5:8] = cube
    state[8], state[11] = np.cos(heading / 2), np.sin(heading / 2)
    return state
