"""PushBehind: push a block to its goal behind a screen, where one of two lanes is blocked."""

from __future__ import annotations

import numpy as np

from forerun.tasks.scene import FLAT
from forerun.tasks.touch.sensors import Sensor, wrist_sensor
from forerun.tasks.touch.worlds import OPTIONS, TouchWorlds
from forerun.types import StreamSpec

BLOCK_HALF_M, LANE_M, GOAL_M, START_M = 0.02, 0.045, 0.17, -0.06
WITHIN_M, LIMIT_N = 0.01, 8.0
MASS_KG, FRICTION, OBSTACLE_M = (0.2, 0.7), (0.2, 0.45), (0.04, 0.09)
ASIDE_MPS, AHEAD_MPS = 0.12, 0.08

_CAGE = "".join(
    f'<geom type="box" size="{sx} {sy} 0.015" pos="{x} {y} 0" mass="0.1" contype="2" conaffinity="2" '
    'solref="0.01 1" friction="0.3" rgba="0.8 0.15 0.1 1"/>'
    for sx, sy, x, y in (
        (0.026, 0.003, 0, -0.0235),
        (0.003, 0.018, -0.0235, -0.006),
        (0.003, 0.018, 0.0235, -0.006),
    )
)
_XML = f"""
<mujoco model="push_behind">{OPTIONS}
  {FLAT.format(ambient="0.7 0.7 0.7", diffuse="0.4 0.4 0.4")}
  <worldbody>
    <camera name="camera" pos="0 0.05 0.6" projection="orthographic" fovy="0.34"/>
    <geom name="table" type="plane" size="1 1 0.1" contype="4" conaffinity="4" friction="0.3"
          rgba="0.85 0.84 0.8 1"/>
    <geom type="box" size="0.12 0.105 0.002" pos="0 0.115 0.1" contype="0" conaffinity="0"
          rgba="0.35 0.4 0.5 1"/>
    <body name="obstacle" mocap="true" pos="0 0.07 0.02">
      <geom type="box" size="0.045 0.004 0.02" contype="2" conaffinity="2" solref="0.01 1"
            rgba="0.3 0.3 0.3 1"/>
    </body>
    <body name="carriage" pos="0 {START_M} 0.02" gravcomp="1">
      <joint name="x" type="slide" axis="1 0 0" armature="20"/>
      <joint name="y" type="slide" axis="0 1 0" armature="20"/>
      <geom type="box" size="0.012 0.012 0.01" pos="0 -0.04 0.05" mass="0.2" contype="0" conaffinity="0"
            rgba="0.25 0.25 0.3 1"/>
      <body name="cage" gravcomp="1">
        <joint name="give_x" type="slide" axis="1 0 0" stiffness="2000" damping="15"/>
        <joint name="give_y" type="slide" axis="0 1 0" stiffness="2000" damping="15"/>
        {_CAGE}
      </body>
    </body>
    <body name="block" pos="0 {START_M} {BLOCK_HALF_M}"><freejoint/>
      <geom name="block" type="box" size="{BLOCK_HALF_M} {BLOCK_HALF_M} {BLOCK_HALF_M}" mass="0.3" contype="6"
            conaffinity="6" priority="1" friction="0.3 0.005 0.0001" solref="0.01 1" rgba="0.15 0.45 0.3 1"/>
    </body>
  </worldbody>
  <actuator>
    <position joint="x" kp="4e6" kv="1.8e4" forcerange="-60 60"/>
    <position joint="y" kp="4e6" kv="1.8e4" forcerange="-60 60"/>
  </actuator>
  <sensor><contact name="cage" body1="cage" reduce="netforce" data="found force torque pos"/></sensor>
</mujoco>"""


class PushBehind(TouchWorlds):
    """A caged block of 4 cm, its mass (0.2-0.7 kg) and friction (0.2-0.45) hidden, must come to a goal behind
    a screen. Behind it an obstacle blocks the left or the right lane, at a depth that differs.

    Action (2): speeds x, y in m/s within +-0.15. Command (2): x, y of the carriage in m. The carriage is
    stiff; the cage gives by 2 N/mm, which no encoder sees. Streams: proprioception (carriage x, y and speeds;
    500 Hz, 2 ms old, no effort), wrench on the cage (6; 500 Hz, 2 ms old), the camera from above.

    Success: the block within 10 mm of the goal at the end, and never more than 8 N on the cage.
    """

    env_id = "forerun/PushBehind-v0"
    seconds = 7.5
    proprio_scale = (0.05, 0.1, 0.1, 0.1)
    stays = (False, False)
    backs_off = (0.0, -0.05)
    hidden_names = ("mass_kg", "friction", "obstacle_m", "blocked_side")
    force_limit_n = LIMIT_N
    action_spec = StreamSpec(
        name="action",
        kind="action",
        shape=(2,),
        unit="m/s",
        names=("x_v", "y_v"),
        rate_hz=50.0,
        low=(-0.15, -0.15),
        high=(0.15, 0.15),
    )
    command_spec = StreamSpec(
        name="command",
        kind="action",
        shape=(2,),
        unit="m",
        names=("x", "y"),
        rate_hz=1000.0,
        low=(-0.09, -0.09),
        high=(0.09, 0.2),
    )
    sensors = (
        Sensor(
            spec=StreamSpec(
                name="proprio",
                kind="vector",
                shape=(4,),
                unit="m, m/s",
                names=("x", "y", "x_v", "y_v"),
                rate_hz=500.0,
            ),
            every_ms=2,
            delay_ms=2,
            noise=(5e-5, 5e-5, 2e-3, 2e-3),
            step=(1e-4, 1e-4, 5e-3, 5e-3),
        ),
        wrist_sensor(),
    )

    @classmethod
    def xml(cls) -> str:
        return _XML

    def begin(self, i: int, rng: np.random.Generator) -> None:
        model, data = self.models[i], self.data[i]
        mass, friction = rng.uniform(*MASS_KG), rng.uniform(*FRICTION)
        place, side = rng.uniform(*OBSTACLE_M), float(rng.choice((-1, 1)))
        block = model.body("block").id
        model.body_inertia[block] *= mass / model.body_mass[block]
        model.body_mass[block] = mass
        model.geom_friction[model.geom("block").id, 0] = friction
        data.mocap_pos[0] = side * LANE_M, place + BLOCK_HALF_M + 0.004, 0.02
        self.hidden[i] = mass, friction, place, side

    def restart(self) -> None:
        """``met_m`` (B,): where the carriage was when the block first met the obstacle; infinite before."""
        self.target = np.zeros((self.count, 2))
        self.peak_n = np.zeros(self.count)
        self.force_n = np.zeros(self.count)
        self.met_m = np.full(self.count, np.inf)

    def measure(self, stream: str) -> np.ndarray:
        if stream == "proprio":
            return np.column_stack([self.qpos[:, 0], self.qpos[:, 1] + START_M, self.qvel[:, :2]])
        force, torque, at = self.raw[:, 1:4], self.raw[:, 4:7], self.raw[:, 7:10]
        centre = np.column_stack([self.qpos[:, :2] + (0.0, START_M), np.full(self.count, 0.02)])
        arm = np.where(self.raw[:, :1] > 0, at - centre, 0.0)
        return -np.column_stack([force, torque + np.cross(arm, force)])

    @property
    def block(self) -> np.ndarray:
        """Where the block truly is (B, 2), m."""
        return self.qpos[:, 4:6]

    def follow(self, action: np.ndarray) -> np.ndarray:
        """Places follow the speeds asked for."""
        self.target = np.clip(self.target + action / 1000, (-0.09, -0.03), (0.09, 0.26))
        return self.target + np.array((0.0, START_M))

    def servo(self, command: np.ndarray) -> np.ndarray:
        return command - (0.0, START_M)

    def watch(self) -> None:
        force = np.linalg.norm(self.raw[:, 1:3], axis=1)
        self.force_n += (force - self.force_n) * (1 - np.exp(-2 / 5))
        self.peak_n = np.maximum(self.peak_n, self.force_n)
        gap = self.hidden[:, 2] - self.block[:, 1]
        meets = (gap < 0.0005) & (self.hidden[:, 3] * self.block[:, 0] > 0) & np.isinf(self.met_m)
        self.met_m = np.where(meets, self.qpos[:, 1] + START_M, self.met_m)

    def score(self) -> dict[str, np.ndarray]:
        error = np.linalg.norm(self.block - (0.0, GOAL_M), axis=1)
        return {
            "success": (error < WITHIN_M) & (self.peak_n <= LIMIT_N),
            "error_m": error,
            "gentle": self.peak_n <= LIMIT_N,
            "force_n": self.peak_n,
        }

    def nominal(self, at_s: float | None = None) -> np.ndarray:
        """Through the left lane: as likely free as the right one."""
        return lane_plan(self.measure("proprio")[:, :2], np.full(self.count, -1.0))

    def plan(self, steps: int) -> np.ndarray:
        """The way through the left lane, from where the carriage is."""
        place, actions = self.measure("proprio")[:, :2].copy(), []
        for _ in range(steps):
            actions.append(lane_plan(place, np.full(self.count, -1.0)))
            place = place + actions[-1] * 0.02
        return np.stack(actions)


def lane_plan(place: np.ndarray, lane: np.ndarray) -> np.ndarray:
    """Speeds (B, 2) from a ``place`` (B, 2) through a ``lane`` (B,), -1 or 1, to the goal.

    It goes aside before the obstacles, along, and back to the middle behind them.
    """
    x, y = place.T
    in_lane, beyond = np.abs(x - lane * LANE_M) < 0.004, y > OBSTACLE_M[1] + 0.062
    aside = np.clip(10 * (np.where(beyond, 0.0, lane * LANE_M) - x), -ASIDE_MPS, ASIDE_MPS)
    ahead = np.clip(6 * (GOAL_M - y), -AHEAD_MPS, AHEAD_MPS)
    return np.column_stack([aside, np.where(in_lane | beyond, ahead, 0.0)])
