"""PegFeel: find by feel a hole that the gripper hides, and put a square peg into it."""

from __future__ import annotations

import numpy as np

from forerun.tasks.scene import FLAT
from forerun.tasks.touch.sensors import Sensor, wrist_sensor
from forerun.tasks.touch.worlds import OPTIONS, TouchWorlds
from forerun.types import StreamSpec

PEG_HALF_M, PEG_LENGTH_M, PLATE_M = 0.008, 0.04, 0.02
OFFSET_M, TURN_RAD = 0.003, np.deg2rad(2.0)
DEPTH_M, PRESS_N, PEAK_N = 0.01, 5.0, 20.0
SURFACE = 'solref="0.004 1" solimp="0.95 0.99 0.001"'

# placed per world: a geom compiled at its body's origin would stay there
_WALLS = "".join(
    f'<geom name="wall{k}" type="box" size="0.03 0.03 {PLATE_M / 2}" {SURFACE} pos="0.01 0 0" '
    'friction="0.3 0.005 0.0001" rgba="0.6 0.62 0.66 1"/>'
    for k in range(4)
)
_XML = f"""
<mujoco model="peg">{OPTIONS}
  {FLAT.format(ambient="0.7 0.7 0.7", diffuse="0.4 0.4 0.4")}
  <worldbody>
    <camera name="camera" pos="0 -0.2 0.15" xyaxes="1 0 0 0 0.6 0.8" projection="orthographic" fovy="0.14"/>
    <geom type="box" size="0.5 0.5 0.01" pos="0 0 -0.1" contype="0" conaffinity="0" rgba="0.87 0.86 0.82 1"/>
    <body name="plate" mocap="true" pos="0 0 {-PLATE_M / 2}">{_WALLS}</body>
    <body name="peg" pos="0 0 {PEG_LENGTH_M / 2 + 0.004}" gravcomp="1">
      <joint name="x" type="slide" axis="1 0 0" armature="1"/>
      <joint name="y" type="slide" axis="0 1 0" armature="1"/>
      <joint name="z" type="slide" axis="0 0 1" damping="60"/>
      <joint name="yaw" type="hinge" axis="0 0 1" armature="1e-4"/>
      <geom name="peg" type="box" size="{PEG_HALF_M} {PEG_HALF_M} {PEG_LENGTH_M / 2}" mass="0.2" condim="4"
            {SURFACE} friction="0.3 0.005 0.0001" priority="1" rgba="0.8 0.55 0.2 1"/>
      <geom type="box" pos="0 0 0.012" size="0.03 0.022 0.018" mass="0.2" contype="0" conaffinity="0"
            rgba="0.25 0.25 0.3 1"/>
      <site name="wrist" pos="0 0 {-PEG_LENGTH_M / 2}"/>
    </body>
  </worldbody>
  <actuator>
    <position joint="x" kp="6e3" kv="150"/><position joint="y" kp="6e3" kv="150"/>
    <motor joint="z"/><position joint="yaw" kp="4" kv="0.04"/>
  </actuator>
  <sensor>
    <contact name="peg" geom1="peg" reduce="netforce" data="found force torque pos"/>
  </sensor>
</mujoco>"""


class PegFeel(TouchWorlds):
    """A square peg of 16 mm and a hole that the gripper hides, ``clearance_m`` wider: 1.0, 0.4 or 0.2 mm.

    The hole lies up to 3 mm off in x and y and is turned by up to 2 degrees. The hand is stiff in x and y
    (6 N/mm), soft in yaw, and presses with the force it is told to.

    Action (4): speeds x, y in m/s within +-0.02, yaw in rad within +-0.06, press in N within 0-15. Command
    (4): x, y in m, yaw in rad, press in N. Streams: proprioception (x, y, depth, yaw and their speeds;
    500 Hz, 2 ms old, no effort), wrench at the peg's tip (6; 500 Hz, 2 ms old), the camera.

    Success: 10 mm deep within 8 s, and never more than 20 N.
    """

    env_id = "forerun/PegFeel-v0"
    seconds = 8.0
    proprio_scale = (0.002, 0.002, 0.002, 0.03, 0.02, 0.02, 0.05, 0.3)
    stays = (False, False, True, True)
    backs_off = (0.0, 0.0, float("nan"), 0.0)
    hidden_names = ("hole_x_m", "hole_y_m", "hole_yaw_rad")
    force_limit_n = PEAK_N
    action_spec = StreamSpec(
        name="action",
        kind="action",
        shape=(4,),
        unit="m/s, m/s, rad, N",
        names=("x_v", "y_v", "yaw", "press"),
        rate_hz=50.0,
        low=(-0.02, -0.02, -0.06, 0.0),
        high=(0.02, 0.02, 0.06, 15.0),
    )
    command_spec = StreamSpec(
        name="command",
        kind="action",
        shape=(4,),
        unit="m, m, rad, N",
        names=("x", "y", "yaw", "press"),
        rate_hz=1000.0,
        low=(-0.006, -0.006, -0.06, 0.0),
        high=(0.006, 0.006, 0.06, 15.0),
    )
    sensors = (
        Sensor(
            spec=StreamSpec(
                name="proprio",
                kind="vector",
                shape=(8,),
                unit="m, m, m, rad, m/s, m/s, m/s, rad/s",
                names=("x", "y", "depth", "yaw", "x_v", "y_v", "depth_v", "yaw_v"),
                rate_hz=500.0,
            ),
            every_ms=2,
            delay_ms=2,
            step=5e-5,
        ),
        wrist_sensor(),
    )

    @classmethod
    def xml(cls) -> str:
        return _XML

    def __init__(self, count: int = 1, camera: bool = False, clearance_m: float = 0.0004) -> None:
        self.clearance_m = clearance_m
        super().__init__(count, camera)

    def begin(self, i: int, rng: np.random.Generator) -> None:
        x, y = rng.uniform(-OFFSET_M, OFFSET_M, 2)
        turn = rng.uniform(-TURN_RAD, TURN_RAD)
        self.hidden[i] = x, y, turn
        model, data, half = self.models[i], self.data[i], PEG_HALF_M + self.clearance_m / 2
        for k, (dx, dy) in enumerate(((1, 0), (0, 1), (-1, 0), (0, -1))):
            # four boxes around the hole, each beginning where its neighbour ends
            wall, out, along = model.geom(f"wall{k}").id, 0.03 + half, 0.03 - half
            model.geom_pos[wall] = (dx * out - dy * along, dy * out + dx * along, 0.0)
        data.mocap_pos[0] = x, y, -PLATE_M / 2
        data.mocap_quat[0] = np.cos(turn / 2), 0.0, 0.0, np.sin(turn / 2)

    def restart(self) -> None:
        self.target = np.zeros((self.count, 2))
        self.peak_n = np.zeros(self.count)
        self.force_n = np.zeros(self.count)
        self.done_s = np.full(self.count, np.inf)
        self.way_m = np.zeros(self.count)

    @property
    def depth(self) -> np.ndarray:
        """How far below the plate's surface the tip is (B,), m."""
        return -(self.qpos[:, 2] + 0.004)

    def measure(self, stream: str) -> np.ndarray:
        if stream == "proprio":
            place = np.column_stack([self.qpos[:, :2], self.depth, self.qpos[:, 3]])
            speed = np.column_stack([self.qvel[:, :2], -self.qvel[:, 2], self.qvel[:, 3]])
            return np.column_stack([place, speed])
        force, torque, at = self.raw[:, 1:4], self.raw[:, 4:7], self.raw[:, 7:10]
        arm = at - np.column_stack([self.qpos[:, :2], -self.depth])
        arm = np.where(self.raw[:, :1] > 0, arm, 0.0)
        return -np.column_stack([force, torque + np.cross(arm, force)])

    def follow(self, action: np.ndarray) -> np.ndarray:
        """Places follow the speeds asked for; yaw and press are passed on."""
        self.target = np.clip(self.target + action[:, :2] / 1000, -0.006, 0.006)
        return np.column_stack([self.target, action[:, 2:]])

    def servo(self, command: np.ndarray) -> np.ndarray:
        """x, y and yaw are followed; the press pushes downwards."""
        return np.column_stack([command[:, :2], -command[:, 3], command[:, 2]])

    def watch(self) -> None:
        force = np.linalg.norm(self.raw[:, 1:4], axis=1)
        self.force_n += (force - self.force_n) * (1 - np.exp(-2 / 5))
        searching = np.isinf(self.done_s)
        self.peak_n = np.where(searching, np.maximum(self.peak_n, self.force_n), self.peak_n)
        self.done_s = np.where(searching & (self.depth >= DEPTH_M), self.time_s, self.done_s)

    @property
    def over(self) -> bool:
        return super().over or bool(np.isfinite(self.done_s).all())

    def score(self) -> dict[str, np.ndarray]:
        found = np.isfinite(self.done_s)
        return {
            "success": found & (self.peak_n <= PEAK_N),
            "found": found,
            "seconds": self.done_s,
            "force_n": self.peak_n,
        }

    def nominal(self, at_s: float | None = None) -> np.ndarray:
        """Press straight down where the hole should be, turning a little to and fro."""
        action = np.zeros((self.count, 4))
        action[:, 2] = TURN_RAD * np.sin(2 * np.pi * 0.8 * (self.time_s if at_s is None else at_s))
        action[:, 3] = PRESS_N
        return action
