"""WipeForce: follow a curved surface nobody sees, pressing with 5 N."""

from __future__ import annotations

import numpy as np

from forerun.tasks.scene import FLAT
from forerun.tasks.touch.sensors import Sensor, wrist_sensor
from forerun.tasks.touch.worlds import OPTIONS, TouchWorlds
from forerun.types import StreamSpec

FORCE_N, SPEED_MPS, LENGTH_M = 5.0, 0.08, 0.2
TOOL_RADIUS_M, RISE_M, LIMIT_N = 0.012, 0.005, 15.0
APPROACH_S, START_S = 0.9, 0.2
COLUMNS, SPAN_M = 521, 0.26
STIFFNESS_S = (0.018, 0.028)
"""Of the pad: the contact's time constant (solref), the smaller the stiffer."""

_XML = f"""
<mujoco model="wipe">{OPTIONS}
  {FLAT.format(ambient="0.7 0.7 0.7", diffuse="0.4 0.4 0.4")}
  <worldbody>
    <camera name="camera" pos="0 -0.4 0.06" xyaxes="1 0 0 0 0 1" projection="orthographic" fovy="0.28"/>
    <body name="surface" mocap="true"><geom name="surface" type="plane" size="0.03 0.03 0.01"
          friction="0.3 0.005 0.0001" rgba="0.7 0.72 0.75 1"/></body>
    <geom type="box" size="0.5 0.01 0.5" pos="0 0.3 0" contype="0" conaffinity="0" rgba="0.95 0.95 0.97 1"/>
    <geom type="box" size="0.5 0.005 0.08" pos="0 -0.035 -0.04" contype="0" conaffinity="0"
          rgba="0.7 0.68 0.62 1"/>
    <body name="tool" pos="-0.1 0 0" gravcomp="1">
      <joint name="x" type="slide" axis="1 0 0" armature="20"/>
      <joint name="z" type="slide" axis="0 0 1" damping="20"/>
      <geom name="tip" type="sphere" size="{TOOL_RADIUS_M}" mass="0.2" condim="3" friction="0.3 0.005 0.0001"
            priority="1" solref="0.02 1" solimp="0.2 0.9 0.003" rgba="0.2 0.5 0.8 1"/>
      <geom type="box" size="0.012 0.012 0.03" pos="0 0 0.045" mass="1.0" contype="0" conaffinity="0"
            rgba="0.25 0.25 0.3 1"/>
    </body>
  </worldbody>
  <actuator>
    <position joint="x" kp="1e6" kv="9000"/><position joint="z" kp="1e4" kv="200"/>
  </actuator>
  <sensor><contact name="tip" geom1="tip" reduce="netforce" data="found force torque pos"/></sensor>
</mujoco>"""


def profile(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """A hidden surface's height (N,) in m at ``x`` (N,): a slope, two waves, a drop of 5 mm midway."""
    slope = rng.uniform(-0.03, 0.03) * x
    waves = sum(
        rng.uniform(0.0003, 0.0012) * np.sin(2 * np.pi * (x / length + rng.uniform()))
        for length in rng.uniform((0.05, 0.09), (0.08, 0.16))
    )
    at, over = rng.uniform(-0.03, 0.03), rng.uniform(0.02, 0.035)
    share = np.clip((x - at) / over + 0.5, 0, 1)
    drop = -RISE_M * share**2 * (3 - 2 * share)
    return rng.uniform(-0.004, 0.004) + slope + waves + drop


class WipeForce(TouchWorlds):
    """A padded tool of 1.2 kg wipes 20 cm at 8 cm/s over a surface whose height, slope, waves and softness
    are hidden, and which drops by 5 mm midway.

    Action (3): speed along in m/s within +-0.15, speed upwards in m/s within +-0.15, force wanted in N within
    0-15 (for a fast tier that can feel). Command (2): place along and height in m. Streams: proprioception
    (place, height, speeds; 500 Hz, 2 ms old, no effort), wrench at the tip (6; 500 Hz, 2 ms old), the camera.

    Success, from the end of the approach on: RMS of the normal force about 5 N at most 0.6 N, never above
    1.2 times 5 N, contact lost for at most 1 % of the time.
    """

    env_id = "forerun/WipeForce-v0"
    seconds = APPROACH_S + START_S / 2 + LENGTH_M / SPEED_MPS
    proprio_scale = (0.1, 0.01, 0.1, 0.1)
    stays = (False, False, True)
    backs_off = (0.0, 0.0, 0.0)
    hidden_names = ("height_m", "softness_s", "friction")
    force_limit_n, wanted_n = LIMIT_N, FORCE_N
    action_spec = StreamSpec(
        name="action",
        kind="action",
        shape=(3,),
        unit="m/s, m/s, N",
        names=("along_v", "up_v", "force"),
        rate_hz=50.0,
        low=(-0.15, -0.15, 0.0),
        high=(0.15, 0.15, LIMIT_N),
    )
    command_spec = StreamSpec(
        name="command",
        kind="action",
        shape=(2,),
        unit="m",
        names=("along", "height"),
        rate_hz=1000.0,
        low=(-0.12, -0.03),
        high=(0.12, 0.04),
    )
    sensors = (
        Sensor(
            spec=StreamSpec(
                name="proprio",
                kind="vector",
                shape=(4,),
                unit="m, m/s",
                names=("along", "height", "along_v", "height_v"),
                rate_hz=500.0,
            ),
            every_ms=2,
            delay_ms=2,
            step=1e-3,
        ),
        wrist_sensor(),
    )

    @classmethod
    def xml(cls) -> str:
        return _XML

    def begin(self, i: int, rng: np.random.Generator) -> None:
        model = self.models[i]
        softness, friction = rng.uniform(*STIFFNESS_S), rng.uniform(0.15, 0.4)
        heights = profile(rng, np.linspace(-SPAN_M / 2, SPAN_M / 2, COLUMNS))
        tip = model.geom("tip").id
        model.geom_solref[tip, 0], model.geom_friction[tip, 0] = softness, friction
        self.hidden[i] = heights[COLUMNS // 2], softness, friction
        self.surfaces[i] = heights
        self.data[i].qpos[:2] = 0.0, TOOL_RADIUS_M + 0.012
        self.data[i].ctrl[:2] = -0.1, TOOL_RADIUS_M + 0.012

    def __init__(self, count: int = 1, camera: bool = False) -> None:
        self.surfaces = np.zeros((count, COLUMNS))
        super().__init__(count, camera)

    def restart(self) -> None:
        self.target = np.tile([0.0, TOOL_RADIUS_M + 0.012], (self.count, 1))
        self.force_n = np.zeros(self.count)
        self.peak_n = np.zeros(self.count)
        self.errors: list[np.ndarray] = []
        self.lost: list[np.ndarray] = []

    def surface(self, along: np.ndarray) -> np.ndarray:
        """The true height (B,) of the surface in m at ``along`` (B,): for privileged experts."""
        place = (along - 0.1 + SPAN_M / 2) / SPAN_M * (COLUMNS - 1)
        low = np.clip(place.astype(int), 0, COLUMNS - 2)
        share, rows = place - low, np.arange(self.count)
        return self.surfaces[rows, low] * (1 - share) + self.surfaces[rows, low + 1] * share

    def disturb(self) -> None:
        """Lay the plane along the surface where the tool is: it is touched nowhere else."""
        along = self.qpos[:, 0]
        height = self.surface(along)
        half = np.arctan((self.surface(along + 0.001) - self.surface(along - 0.001)) / 0.002) / 2
        for i, data in enumerate(self.data):
            data.mocap_pos[0] = along[i] - 0.1, 0.0, height[i]
            data.mocap_quat[0] = np.cos(half[i]), 0.0, -np.sin(half[i]), 0.0

    def measure(self, stream: str) -> np.ndarray:
        if stream == "proprio":
            return np.column_stack([self.qpos, self.qvel])
        return -np.column_stack([self.raw[:, 1:4], self.raw[:, 4:7]])

    def normal(self) -> np.ndarray:
        """The true force (B,) with which the surface pushes upwards, N."""
        return -self.raw[:, 3]

    def follow(self, action: np.ndarray) -> np.ndarray:
        """Place and height follow the speeds asked for; the force is left to those who can feel."""
        self.target = np.clip(self.target + action[:, :2] / 1000, (-0.02, -0.03), (0.22, 0.04))
        return self.target - (0.1, 0.0)

    def servo(self, command: np.ndarray) -> np.ndarray:
        return command + np.array((0.1, 0.0))

    def watch(self) -> None:
        normal = self.normal()
        self.peak_n = np.maximum(self.peak_n, normal)
        if self.time_s > APPROACH_S:
            self.errors.append((normal - FORCE_N) ** 2)
            self.lost.append(normal < 0.05)

    def score(self) -> dict[str, np.ndarray]:
        rms = np.sqrt(np.mean(self.errors, axis=0)) if self.errors else np.full(self.count, np.inf)
        lost = np.mean(self.lost, axis=0) if self.lost else np.ones(self.count)
        over = self.peak_n / FORCE_N
        return {
            "success": (rms <= 0.6) & (over <= 1.2) & (lost <= 0.01),
            "rms_n": rms,
            "overshoot": over,
            "lost": lost,
            "force_n": self.peak_n,
        }

    def nominal(self, at_s: float | None = None) -> np.ndarray:
        """Come down to where the surface is on average until 0.5 s, then go along it."""
        action, now = np.zeros((self.count, 3)), self.time_s if at_s is None else at_s
        if now < APPROACH_S - 0.02:
            action[:, 1] = -(0.012 + 0.0013) / (APPROACH_S - 0.02)
        elif now >= APPROACH_S:
            action[:, 0] = SPEED_MPS * min(1.0, (now - APPROACH_S) / START_S)
        action[:, 2] = FORCE_N
        return action
