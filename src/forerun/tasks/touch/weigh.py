"""WeighSort: of two boxes that look alike, find out by lifting which is heavier, and sort accordingly."""

from __future__ import annotations

from typing import Any

import numpy as np

from forerun.tasks.touch.gripper import (
    OPENING_NOISE_M,
    OPENING_STEP_M,
    PAD_REACH_N,
    box_xml,
    even_contacts,
    hand_xml,
    pad_features,
    pads_sensor,
    scene_xml,
    set_box,
)
from forerun.tasks.touch.sensors import Sensor, pad_wrench
from forerun.tasks.touch.worlds import TouchWorlds, min_jerk
from forerun.types import StreamSpec

PLACES_M, BIN_M = (-0.08, 0.08), 0.24
MASS_KG, RATIO, FRICTION = (0.1, 0.3), (1.3, 2.0), (0.7, 1.0)
GRIP_N, OPEN_N, CRUSH_N = 7.0, -2.0, 15.0

_JOINTS = """
<joint name="across" type="slide" axis="1 0 0" armature="50"/>
<joint name="lift" type="slide" axis="0 0 1" armature="50"/>"""
_MOTORS = "".join(f'<position name="{j}" joint="{j}" kp="1e7" kv="4.5e4"/>' for j in ("across", "lift"))
_SENSORS = "".join(
    f'<contact name="{side}_{box}" geom1="pad_{side}" geom2="{box}" reduce="netforce" '
    'data="found force torque pos"/>'
    for box in ("first", "second")
    for side in ("left", "right")
)
_BINS = "".join(
    f'<geom type="box" size="0.045 0.05 0.002" pos="{x} 0 0.002" contype="0" conaffinity="0" rgba="{rgba}"/>'
    for x, rgba in ((-BIN_M, "0.55 0.6 0.75 1"), (BIN_M, "0.75 0.6 0.5 1"))
)
PLAN = (
    # until s, across m, above the start m, closed
    (0.3, PLACES_M[0], 0.0, True),
    (0.6, PLACES_M[0], 0.03, True),
    (0.85, PLACES_M[0], 0.03, True),
    (1.1, PLACES_M[0], 0.0, True),
    (1.25, PLACES_M[0], 0.0, False),
    (1.7, PLACES_M[0], 0.1, False),
    (2.1, PLACES_M[1], 0.1, False),
    (2.5, PLACES_M[1], 0.0, False),
    (2.75, PLACES_M[1], 0.0, True),
    (3.1, PLACES_M[1], 0.1, True),
    (3.35, PLACES_M[1], 0.1, True),
)
DECIDE_S, CARRY_S, SECONDS = 3.35, 1.0, 4.8


class WeighSort(TouchWorlds):
    """Two boxes of 4 x 4 x 8 cm; one is 1.3 to 2 times as heavy as the other (0.1-0.3 kg the lighter).

    The plan is given: lift the first box and put it back, lift the second, then carry it at 3.35 s to the
    right bin if it is the heavier one, to the left bin if it is the lighter.

    Action (2): which bin, left if negative, right otherwise, looked at from 3.35 s on; grip in N (negative
    opens). Command (3): place across in m, height in m above the start, grip in N. Streams: proprioception
    (place, height, their speeds, opening; 500 Hz, 2 ms old, no effort), pads (12: two wrenches; 500 Hz, 4 ms
    old), the camera.

    Success: the second box stands in its bin at 4.8 s, and no pad ever pressed with more than 15 N.
    """

    env_id = "forerun/WeighSort-v0"
    seconds = SECONDS
    touch = "pads"
    features = staticmethod(pad_features)
    proprio_scale = (0.1, 0.05, 0.3, 0.3, 0.01)
    stays = (True, True)
    backs_off = (float("nan"), float("nan"))
    hidden_names = ("first_kg", "second_kg", "friction", "second_is_heavier")
    force_limit_n = CRUSH_N
    action_spec = StreamSpec(
        name="action",
        kind="action",
        shape=(2,),
        unit=", N",
        names=("bin", "grip"),
        rate_hz=50.0,
        low=(-1.0, OPEN_N),
        high=(1.0, PAD_REACH_N),
    )
    command_spec = StreamSpec(
        name="command",
        kind="action",
        shape=(3,),
        unit="m, m, N",
        names=("across", "height", "grip"),
        rate_hz=1000.0,
        low=(-0.3, -0.01, OPEN_N),
        high=(0.3, 0.2, PAD_REACH_N),
    )
    sensors = (
        Sensor(
            spec=StreamSpec(
                name="proprio",
                kind="vector",
                shape=(5,),
                unit="m, m/s",
                names=("across", "height", "across_v", "height_v", "opening"),
                rate_hz=500.0,
            ),
            every_ms=2,
            delay_ms=2,
            noise=(5e-5, 5e-5, 2e-3, 2e-3, OPENING_NOISE_M),
            step=(1e-4, 1e-4, 5e-3, 5e-3, OPENING_STEP_M),
        ),
        pads_sensor(noise_n=0.15, gain_error=0.05, drift=0.02),
    )

    @classmethod
    def xml(cls) -> str:
        boxes = box_xml("first", PLACES_M[0]) + box_xml("second", PLACES_M[1])
        return scene_xml("weigh", _BINS + hand_xml(_JOINTS) + boxes, _MOTORS, _SENSORS, 0.6)

    def begin(self, i: int, rng: np.random.Generator) -> None:
        model = self.models[i]
        light, friction = rng.uniform(*MASS_KG), rng.uniform(*FRICTION)
        masses = [light, light * rng.uniform(*RATIO)]
        second_is_heavier = rng.random() < 0.5
        for name, mass in zip(
            ("first", "second"), masses if second_is_heavier else masses[::-1], strict=True
        ):
            set_box(model, name, mass, friction)
            self.hidden[i, 0 if name == "first" else 1] = mass
        self.hidden[i, 2:] = friction, second_is_heavier
        self.data[i].qpos[0] = PLACES_M[0]
        self.data[i].ctrl[0] = PLACES_M[0]

    def correct(self, model: Any) -> None:
        for name in ("first", "second"):
            even_contacts(model, name)

    def restart(self) -> None:
        self.direction = np.zeros(self.count)
        self.peak_n = np.zeros(self.count)
        self.force_n = np.zeros(self.count)

    def measure(self, stream: str) -> np.ndarray:
        if stream == "proprio":
            closed = self.qpos[:, 2] + self.qpos[:, 3]
            return np.column_stack([self.qpos[:, :2], self.qvel[:, :2], 0.002 - closed])
        return np.concatenate([self._pad(0), self._pad(1)], axis=1)

    def _pad(self, side: int) -> np.ndarray:
        """One pad's wrench: of whichever box it holds."""
        centre = np.zeros((self.count, 3))
        centre[:, 0] = self.qpos[:, 0] + (self.qpos[:, 2 + side] - 0.021) * (1, -1)[side]
        centre[:, 2] = 0.04 + self.qpos[:, 1]
        return sum(
            pad_wrench(self.raw[:, start : start + 10], centre) for start in (10 * side, 20 + 10 * side)
        )  # type: ignore[return-value]

    def follow(self, action: np.ndarray) -> np.ndarray:
        """The plan's place and height; the bin is chosen once, when the second box has been weighed."""
        if self.time_s >= DECIDE_S and not self.direction.any():
            self.direction = np.where(action[:, 0] < 0, -1.0, 1.0)
        across, height, _ = self._planned(self.time_s, self.direction)
        place = np.broadcast_to(across, (self.count,)), np.full(self.count, height)
        return np.column_stack([*place, action[:, 1]])

    def servo(self, command: np.ndarray) -> np.ndarray:
        return command[:, [0, 1, 2, 2]]

    def watch(self) -> None:
        normal = np.abs(self.raw[:, 1::10]).max(1)
        self.force_n += (normal - self.force_n) * (1 - np.exp(-2 / 5))
        self.peak_n = np.maximum(self.peak_n, self.force_n)

    def score(self) -> dict[str, np.ndarray]:
        wanted = np.where(self.hidden[:, 3] > 0, BIN_M, -BIN_M)
        place, height = self.qpos[:, 11], self.qpos[:, 13]
        sorted_ = (np.abs(place - wanted) < 0.045) & (height < 0.06)
        in_a_bin = (np.abs(np.abs(place) - BIN_M) < 0.045) & (height < 0.06)
        whole = self.peak_n <= CRUSH_N
        return {
            "success": sorted_ & whole,
            "in_a_bin": in_a_bin,
            "whole": whole,
            "force_n": self.peak_n,
        }

    def nominal(self, at_s: float | None = None) -> np.ndarray:
        """The right bin: as likely as the left one; closed or open as the plan says."""
        closed = self._planned(self.time_s if at_s is None else at_s, self.direction)[2]
        return np.tile([1.0, GRIP_N if closed else OPEN_N], (self.count, 1))

    @staticmethod
    def _planned(now: float, direction: np.ndarray | float) -> tuple[np.ndarray, float, bool]:
        before = (0.0, PLACES_M[0], 0.0, True)
        for until, across, height, closed in PLAN:
            if now < until:
                share = min_jerk((now - before[0]) / (until - before[0]))
                return (
                    np.asarray(before[1] + share * (across - before[1])),
                    float(before[2] + share * (height - before[2])),
                    closed,
                )
            before = (until, across, height, closed)
        share, down = min_jerk((now - DECIDE_S) / CARRY_S), min_jerk((now - DECIDE_S - CARRY_S) / 0.3)
        direction = np.asarray(direction)
        way = direction * BIN_M - np.abs(direction) * PLACES_M[1]
        return PLACES_M[1] + share * way, 0.1 * (1 - float(down)), True
