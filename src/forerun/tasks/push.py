"""Push: a planar gantry pushes a square block to a goal pose."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from forerun.tasks.base import CAMERA_SIZE, Quality, Task, wrap
from forerun.tasks.push_policy import play
from forerun.tasks.scene import FLAT, Scene
from forerun.types import StreamSpec

BLOCK_HALF_M = 0.045
BLOCK_HALF_HEIGHT_M = 0.02
TIP_RADIUS_M = 0.018
TIP_REACH_M = 0.25
RIM_M = 0.225
SUBSTEPS, TIMESTEP_S = 25, 0.004

_RIMS = "".join(
    f'<geom type="box" size="{sx} {sy} 0.006" pos="{x} {y} 0.006" rgba="0.45 0.43 0.4 1" friction="0.1"/>'
    for sx, sy, x, y in (
        (0.004, RIM_M + 0.008, RIM_M + 0.004, 0),
        (0.004, RIM_M + 0.008, -RIM_M - 0.004, 0),
        (RIM_M + 0.008, 0.004, 0, RIM_M + 0.004),
        (RIM_M + 0.008, 0.004, 0, -RIM_M - 0.004),
    )
)

XML = f"""
<mujoco model="push">
  <option timestep="{TIMESTEP_S}" cone="elliptic" impratio="5" integrator="implicitfast" tolerance="1e-6"/>
  {FLAT.format(ambient="1 1 1", diffuse="0 0 0")}
  <worldbody>
    <camera name="camera" pos="0 0 1" projection="orthographic" fovy="0.55"/>
    <geom type="plane" size="1 1 1" rgba="0.85 0.84 0.8 1" friction="0.4"/>
    {_RIMS}
    <body name="carriage" pos="0 0 0.05">
      <joint name="x" type="slide" axis="1 0 0" range="-{TIP_REACH_M} {TIP_REACH_M}" limited="true"/>
      <inertial pos="0 0 0" mass="0.3" diaginertia="1e-3 1e-3 1e-3"/>
      <body name="tip">
        <joint name="y" type="slide" axis="0 1 0" range="-{TIP_REACH_M} {TIP_REACH_M}" limited="true"/>
        <geom type="cylinder" size="{TIP_RADIUS_M} 0.034" mass="0.2" rgba="0.85 0.15 0.1 1" friction="0.3"
              contype="2" conaffinity="2" condim="3" solref="0.012 1"/>
      </body>
    </body>
    <body name="block" pos="0.1 0 {BLOCK_HALF_HEIGHT_M}">
      <freejoint/>
      <geom type="box" size="{BLOCK_HALF_M} {BLOCK_HALF_M} {BLOCK_HALF_HEIGHT_M}" mass="0.25" condim="3"
            contype="3" conaffinity="3" friction="0.4" rgba="0.1 0.3 0.75 1"/>
      <geom type="box" size="0.011 {BLOCK_HALF_M} 0.001" pos="{BLOCK_HALF_M - 0.011} 0 {BLOCK_HALF_HEIGHT_M}"
            mass="0" contype="0" conaffinity="0" rgba="1 0.85 0.1 1"/>
    </body>
  </worldbody>
  <actuator>
    <velocity joint="x" kv="60" forcerange="-6 6"/>
    <velocity joint="y" kv="60" forcerange="-6 6"/>
  </actuator>
</mujoco>"""


class Push(Task):
    """Push a block of 9 x 9 x 4 cm to a goal position and heading on a table, seen from straight above.

    World: x to the right and y up in the picture, origin in the middle, metres. Rims 12 mm high at +-0.225
    m keep the block on the table; the tip (a vertical cylinder of radius 18 mm) runs above them, to +-0.25
    m, so that it can always get behind the block. The block has one yellow edge, at its own +x side, so its
    heading is unambiguous. Friction of block and table 0.4: a block no longer pushed stops within a tenth
    of a second.

    Action: tip velocity (x, y) in m/s, within +-0.3. Proprioception: tip x, y [m] and its velocity [m/s].
    State (17): tip x, y; block x, y, z, quaternion w, x, y, z; the velocities of both (6 for the block).
    Control 10 Hz, physics 4 ms.

    Success, moderate: block within 0.03 m and 20 degrees of the goal; strict: 0.02 m and 10 degrees. Sampled
    goals lie 0.06-0.2 m and at most 40 degrees from the start.
    """

    default_max_steps = 100
    thresholds = {  # noqa: RUF012
        "moderate": {"position_m": 0.03, "yaw_rad": np.deg2rad(20.0)},
        "strict": {"position_m": 0.02, "yaw_rad": np.deg2rad(10.0)},
    }
    state_names = (
        *("tip_x", "tip_y", "block_x", "block_y", "block_z", "block_qw", "block_qx", "block_qy", "block_qz"),
        *("tip_vx", "tip_vy", "block_vx", "block_vy", "block_vz", "block_wx", "block_wy", "block_wz"),
    )
    action_spec = StreamSpec(
        name="action",
        kind="action",
        shape=(2,),
        unit="m/s",
        names=("tip_vx", "tip_vy"),
        rate_hz=10.0,
        low=(-0.3, -0.3),
        high=(0.3, 0.3),
    )
    proprio_spec = StreamSpec(
        name="proprio",
        kind="vector",
        shape=(4,),
        unit="m, m/s",
        names=("tip_x", "tip_y", "tip_vx", "tip_vy"),
        rate_hz=10.0,
        low=(-0.3, -0.3, -1.0, -1.0),
        high=(0.3, 0.3, 1.0, 1.0),
    )

    def __init__(self, max_steps: int | None = None, render_mode: str | None = None) -> None:
        super().__init__(max_steps, render_mode)
        self.scene = Scene(XML, SUBSTEPS)

    def state(self) -> np.ndarray:
        return self.scene.state()

    def set_state(self, state: np.ndarray) -> None:
        self.scene.set_state(self.check_state(state))

    def advance(self, action: np.ndarray) -> None:
        self.scene.advance(action)

    def picture(self, state: np.ndarray | None = None, size: int = CAMERA_SIZE) -> np.ndarray:
        return self.scene.picture(state, size)

    def proprio_of(self, state: np.ndarray) -> np.ndarray:
        return np.array([state[0], state[1], state[9], state[10]], dtype=np.float32)

    def errors(self, state: np.ndarray, goal_state: np.ndarray) -> dict[str, float]:
        now, goal = block_pose(state), block_pose(goal_state)
        distance = float(np.hypot(now[0] - goal[0], now[1] - goal[1]))
        return {"position_m": distance, "yaw_rad": float(abs(wrap(now[2] - goal[2])))}

    def sample_start_goal(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Block 0.06-0.2 m and <= 40 degrees from its goal; tip anywhere free, at the goal behind it."""
        while True:
            start = np.array([*rng.uniform(-0.14, 0.14, 2), rng.uniform(-np.pi, np.pi)])
            way = rng.uniform(-np.pi, np.pi)
            direction = np.array([np.cos(way), np.sin(way)])
            position = start[:2] + rng.uniform(0.06, 0.2) * direction
            if np.abs(position).max() > 0.15:
                continue
            goal = np.array([*position, start[2] + rng.uniform(-1, 1) * np.deg2rad(40.0)])
            tip = free_tip(start, rng)
            behind = goal[:2] - direction * _reach(goal[2], direction)
            return state_of(tip, start), state_of(np.clip(behind, -TIP_REACH_M, TIP_REACH_M), goal)

    def make_policy(self, quality: Quality, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        return play(self, quality, rng)


def block_pose(state: np.ndarray) -> np.ndarray:
    """Block x, y [m] and heading [rad] of a state (17,)."""
    w, x, y, z = state[5:9]
    return np.array([state[2], state[3], np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))])


def state_of(tip: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """The state (17,) at rest with the tip at ``tip`` (x, y) and the block at ``pose`` (x, y, heading)."""
    state = np.zeros(17)
    state[:2] = tip
    state[2:5] = pose[0], pose[1], BLOCK_HALF_HEIGHT_M
    state[5], state[8] = np.cos(pose[2] / 2), np.sin(pose[2] / 2)
    return state


def clearance(tip: np.ndarray, pose: np.ndarray) -> float:
    """Distance [m] from the tip's surface to the block's, negative where they overlap."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    dx, dy = tip[0] - pose[0], tip[1] - pose[1]
    out_x, out_y = abs(cos * dx + sin * dy) - BLOCK_HALF_M, abs(cos * dy - sin * dx) - BLOCK_HALF_M
    outside = np.hypot(max(out_x, 0.0), max(out_y, 0.0))
    return float(outside + min(max(out_x, out_y), 0.0) - TIP_RADIUS_M)


def free_tip(pose: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A uniform tip position at least 5 mm clear of the block."""
    while True:
        tip = rng.uniform(-0.23, 0.23, 2)
        if clearance(tip, pose) > 0.005:
            return tip


def _reach(heading: float, direction: np.ndarray) -> float:
    """How far behind the block's centre, against ``direction``, the tip touches it, plus 5 mm."""
    along = abs(np.cos(heading) * direction[0] + np.sin(heading) * direction[1])
    across = abs(np.cos(heading) * direction[1] - np.sin(heading) * direction[0])
    return BLOCK_HALF_M / max(along, across) + TIP_RADIUS_M / max(along, across) + 0.005
