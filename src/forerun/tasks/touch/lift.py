"""LiftFragile: lift a box whose mass and friction nobody sees, hold it through a tug, and do not crush it."""

from __future__ import annotations

from typing import Any

import numpy as np

from forerun.tasks.touch.gripper import (
    OPENING_NOISE_M,
    OPENING_STEP_M,
    PAD_REACH_N,
    SHELL,
    box_xml,
    even_contacts,
    hand_xml,
    pad_features,
    pad_taxels,
    pads_sensor,
    scene_xml,
    set_box,
)
from forerun.tasks.touch.sensors import GRAVITY, Sensor, pad_wrench
from forerun.tasks.touch.worlds import TouchWorlds, min_jerk
from forerun.types import StreamSpec

HEIGHT_M = 0.12
LIFT_S = (0.3, 1.1)
TUG_S, TUG_SHARE, TUG_RISE_S = 0.15, 0.4, 0.005
MASS_KG, FRICTION, LAG_S = (0.05, 0.6), (0.3, 1.0), (0.02, 0.04)
SLIP_LIMIT_M = 0.004
CRUSH = (3.0, 0.3)
"""Grip may be at most three times the least that holds, plus 0.3 N."""

_JOINT = '<joint name="lift" type="slide" axis="0 0 1" armature="50"/>'
_MOTOR = '<position name="lift" joint="lift" kp="1e7" kv="4.5e4"/>'
_SENSORS = "".join(
    f'<contact name="{side}" geom1="pad_{side}" geom2="box" reduce="netforce" data="found force torque pos"/>'
    for side in ("left", "right")
)


class LiftFragile(TouchWorlds):
    """A box of 4 x 4 x 8 cm, mass 0.05-0.6 kg (log-uniform) and friction 0.3-1.0, both hidden; the hand's own
    shell hides the box, unless it slips out.

    The pads close until 0.3 s; the hand rises 12 cm until 1.1 s (minimum jerk); between 1.25 and 1.75 s the
    box is tugged downwards by 0.4 of its weight for 150 ms, within 5 ms. The grip motor lags by 20-40 ms.

    Action (2): speed upwards in m/s within +-0.4, grip in N within 0-40. Command (2): height in m above the
    start, grip in N. Streams: proprioception (height, its speed, opening; 500 Hz, 2 ms old, no effort),
    pads (12: two wrenches; 500 Hz, 4 ms old), the camera.

    Success: the box has slipped less than 4 mm, and the grip, filtered with 5 ms, never passed three times
    the least that holds plus 0.3 N.
    """

    env_id = "forerun/LiftFragile-v0"
    seconds = 2.2
    touch = "pads"
    features = staticmethod(pad_features)
    proprio_scale = (0.05, 0.2, 0.01)
    stays = (False, True)
    backs_off = (0.0, float("nan"))
    hidden_names = ("mass_kg", "friction", "lag_s", "tug_at_s")
    force_limit_n = PAD_REACH_N
    action_spec = StreamSpec(
        name="action",
        kind="action",
        shape=(2,),
        unit="m/s, N",
        names=("speed", "grip"),
        rate_hz=50.0,
        low=(-0.4, 0.0),
        high=(0.4, PAD_REACH_N),
    )
    command_spec = StreamSpec(
        name="command",
        kind="action",
        shape=(2,),
        unit="m, N",
        names=("height", "grip"),
        rate_hz=1000.0,
        low=(-0.01, 0.0),
        high=(0.2, PAD_REACH_N),
    )
    sensors = (
        Sensor(
            spec=StreamSpec(
                name="proprio",
                kind="vector",
                shape=(3,),
                unit="m, m/s",
                names=("height", "height_v", "opening"),
                rate_hz=500.0,
            ),
            every_ms=2,
            delay_ms=2,
            noise=(5e-5, 2e-3, OPENING_NOISE_M),
            step=(1e-4, 5e-3, OPENING_STEP_M),
        ),
        pads_sensor(noise_n=0.15, gain_error=0.05, drift=0.1),
    )

    @classmethod
    def xml(cls) -> str:
        return scene_xml("lift", hand_xml(_JOINT, SHELL) + box_xml("box", 0.0), _MOTOR, _SENSORS, 0.3)

    def begin(self, i: int, rng: np.random.Generator) -> None:
        model = self.models[i]
        mass, friction = np.exp(rng.uniform(*np.log(MASS_KG))), rng.uniform(*FRICTION)
        lag, tug = rng.uniform(*LAG_S), rng.uniform(1.25, 1.75)
        set_box(model, "box", mass, friction)
        model.actuator_dynprm[1:, 0] = lag
        self.hidden[i] = mass, friction, lag, tug

    def correct(self, model: Any) -> None:
        even_contacts(model, "box")

    def restart(self) -> None:
        self.target = np.zeros(self.count)
        self.grip_n = np.zeros(self.count)
        self.peak_n = np.zeros(self.count)
        self.slip_m = np.zeros(self.count)
        self.grips: list[np.ndarray] = []
        self._held_at: np.ndarray | None = None

    def measure(self, stream: str) -> np.ndarray:
        if stream == "proprio":
            closed = self.qpos[:, 1] + self.qpos[:, 2]
            return np.stack([self.qpos[:, 0], self.qvel[:, 0], 0.002 - closed], axis=1)
        read = pad_taxels if stream == "taxels" else pad_wrench
        pads = [read(self.raw[:, 10 * side : 10 * side + 10], self._centre(side)) for side in (0, 1)]
        return np.concatenate(pads, axis=1).reshape(self.count, -1)

    def _centre(self, side: int) -> np.ndarray:
        """Of a pad (B, 3), in the world."""
        centre = np.zeros((self.count, 3))
        centre[:, 0] = (self.qpos[:, 1 + side] - 0.021) * (1, -1)[side]
        centre[:, 2] = 0.04 + self.qpos[:, 0]
        return centre

    def follow(self, action: np.ndarray) -> np.ndarray:
        """The height follows the speed asked for; the grip is passed on."""
        self.target = np.minimum(np.maximum(self.target + action[:, 0] / 1000, -0.01), 0.2)
        command = np.array(action, dtype=np.float64)
        command[:, 0] = self.target
        return command

    def servo(self, command: np.ndarray) -> np.ndarray:
        return command[:, [0, 1, 1]]

    def disturb(self) -> None:
        now = self.time_s
        since = now - self.hidden[:, 3]
        share = np.clip(np.minimum(since, TUG_S - since) / TUG_RISE_S, 0.0, 1.0)
        for data, force in zip(self.data, -TUG_SHARE * share * self.hidden[:, 0] * GRAVITY, strict=True):
            data.xfrc_applied[-1, 2] = force

    def watch(self) -> None:
        normal = np.minimum(np.abs(self.raw[:, 1]), np.abs(self.raw[:, 11]))
        self.grip_n += (normal - self.grip_n) * (1 - np.exp(-2 / 5))
        self.peak_n = np.maximum(self.peak_n, self.grip_n)
        below = self.qpos[:, 0] - (self.qpos[:, 5] - 0.04)
        if self._held_at is None and self.time_s >= LIFT_S[0]:
            self._held_at = below.copy()
        if self._held_at is not None:
            self.slip_m = np.maximum(self.slip_m, np.abs(below - self._held_at))
        if self.time_s > LIFT_S[1]:
            self.grips.append(self.grip_n.copy())

    def least_grip(self) -> np.ndarray:
        """The least force (B,) of a pad that holds the box at rest, N."""
        return self.hidden[:, 0] * GRAVITY / (2 * self.hidden[:, 1])

    def score(self) -> dict[str, np.ndarray]:
        least = self.least_grip()
        held = self.slip_m < SLIP_LIMIT_M
        whole = self.peak_n <= CRUSH[0] * least + CRUSH[1]
        grip = np.median(self.grips, axis=0) if self.grips else self.grip_n
        return {
            "success": held & whole,
            "held": held,
            "whole": whole,
            "slip_m": self.slip_m,
            "grip_over_least": grip / least,
            "force_n": self.peak_n,
        }

    def nominal(self, at_s: float | None = None) -> np.ndarray:
        """What can be planned from what is seen: the lift, and the grip that serves best on average."""
        now = (self.time_s if at_s is None else at_s) + np.array([0.0, 0.02])
        rise = np.diff(min_jerk((now - LIFT_S[0]) / (LIFT_S[1] - LIFT_S[0])))[0] * HEIGHT_M / 0.02
        return np.tile([rise, 4.0], (self.count, 1))
