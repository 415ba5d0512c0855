"""The Push task's scene, and what its state means."""

from __future__ import annotations

import numpy as np

from forerun.tasks.pushing import Outline, turned
from forerun.tasks.scene import FLAT

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
      <geom type="box" size="{BLOCK_HALF_M / 2} {BLOCK_HALF_M} 0.001"
            pos="{BLOCK_HALF_M / 2} 0 {BLOCK_HALF_HEIGHT_M}" mass="0" contype="0" conaffinity="0"
            rgba="1 0.85 0.1 1"/>
    </body>
  </worldbody>
  <actuator>
    <velocity joint="x" kv="60" forcerange="-6 6"/>
    <velocity joint="y" kv="60" forcerange="-6 6"/>
  </actuator>
</mujoco>"""
OUTLINE = Outline(
    parts=((0.0, 0.0, BLOCK_HALF_M, BLOCK_HALF_M),),
    tip_radius=TIP_RADIUS_M,
    turn_radius=0.058,  # it rests on its corners, 0.064 m from the middle; measured
    reach=0.248,
    yaw_weight=0.08,
)


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


def free_tip(pose: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A uniform tip position at least 5 mm clear of the block."""
    while True:
        tip = rng.uniform(-0.23, 0.23, 2)
        if OUTLINE.clearance(turned(tip - pose[:2], -pose[2])) > 0.005:
            return tip


def reach_behind(heading: float, direction: np.ndarray) -> float:
    """How far behind the block's centre, against ``direction``, the tip touches it, plus 5 mm."""
    along = abs(np.cos(heading) * direction[0] + np.sin(heading) * direction[1])
    across = abs(np.cos(heading) * direction[1] - np.sin(heading) * direction[0])
    return BLOCK_HALF_M / max(along, across) + TIP_RADIUS_M / max(along, across) + 0.005
