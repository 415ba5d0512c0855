"""The two-finger hand and the box that LiftFragile and WeighSort share."""

from __future__ import annotations

from typing import Any

import numpy as np

from forerun.tasks.scene import FLAT
from forerun.tasks.touch.sensors import PAD_NAMES, Sensor, splat
from forerun.types import StreamSpec

PAD_HALF_M, BOX_HALF_M, BOX_HALF_HEIGHT_M = 0.01, 0.02, 0.04
PAD_REACH_N = 40.0
LIGHTEST_KG, HEAVIEST_KG = 0.05, 0.6
OPENING_NOISE_M, OPENING_STEP_M = 2e-4, 4e-4
"""A gripper's own encoder counts 0.4 mm and says no speed. Finer ones would feel a sliding box tremble."""
PAD_LIMITS = (*(60.0,) * 3, *(1.0,) * 3) * 2
"""Where the pads' sensors saturate, N and N m: above what the motors reach."""
SOFT = 'solref="0.004 1" solimp="0.95 0.99 0.001"'

_FINGER = """
      <body name="{side}" pos="{sign}0.021 0 0" gravcomp="1">
        <joint name="{side}" type="slide" axis="{inwards} 0 0" range="-0.02 0.01" limited="true" damping="4"/>
        <geom name="pad_{side}" type="box" pos="{sign}0.004 0 0" size="0.004 {pad} {pad}" mass="0.03"
              contype="2" conaffinity="2" condim="4" {soft} rgba="0.75 0.15 0.1 1"/>
        <geom type="box" pos="{sign}0.012 0 0.02" size="0.004 0.008 0.03" mass="0.01" contype="0"
              conaffinity="0" rgba="0.3 0.3 0.35 1"/>
      </body>"""


SHELL = """
      <geom type="box" pos="0 -0.032 -0.003" size="0.045 0.002 0.043" mass="0.001" contype="0" conaffinity="0"
            rgba="0.32 0.33 0.38 1"/>"""
"""A hand's own shell, as on most grippers: the camera sees neither the pads nor how the box sits in them."""


def hand_xml(joints: str, shell: str = "") -> str:
    """A gripper that hangs from ``joints``, its pads 1 mm from a box's sides."""
    fingers = "".join(
        _FINGER.format(side=side, sign=sign, inwards=inwards, pad=PAD_HALF_M, soft=SOFT)
        for side, sign, inwards in (("left", "-", "1"), ("right", "", "-1"))
    )
    return f"""
    <body name="hand" pos="0 0 {BOX_HALF_HEIGHT_M}" gravcomp="1">{joints}
      <geom type="box" pos="0 0 0.062" size="0.045 0.01 0.012" mass="0.3" contype="0" conaffinity="0"
            rgba="0.25 0.25 0.3 1"/>{shell}{fingers}
    </body>"""


def box_xml(name: str, x_m: float) -> str:
    """A box that stands on the table at ``x_m``; its mass and friction are written per world."""
    return f"""
    <body name="{name}" pos="{x_m} 0 {BOX_HALF_HEIGHT_M}"><freejoint name="{name}"/>
      <geom name="{name}" type="box" size="{BOX_HALF_M} {BOX_HALF_M} {BOX_HALF_HEIGHT_M}" mass="0.2"
            contype="6" conaffinity="6" condim="4" priority="1" friction="0.6 0.005 0.0001" {SOFT}
            rgba="0.15 0.45 0.3 1"/>
    </body>"""


def set_box(model: Any, name: str, mass_kg: float, friction: float) -> None:
    """Write a box's hidden mass and friction.

    MuJoCo's contacts are springs and dampers per inertia that they meet: how deep pads sink into a box would
    tell its mass to who only sees how far the hand is closed. So every box has the inertia of the heaviest
    across the pads and about the axes that let it turn between them; `even_contacts` does the rest.
    """
    body, geom = model.body(name).id, model.geom(name).id
    model.body_inertia[body] *= mass_kg / model.body_mass[body]
    model.body_mass[body] = mass_kg
    model.geom_friction[geom, 0] = friction
    across, *turning = model.body_dofadr[body] + np.array([0, 4, 5])
    share = HEAVIEST_KG / mass_kg - 1
    model.dof_armature[across] = mass_kg * share
    model.dof_armature[turning] = model.body_inertia[body, 1:] * share


def even_contacts(model: Any, name: str) -> None:
    """Contacts of a box as soft as those of the lightest; for `TouchWorlds.correct`."""
    body = model.body(name).id
    by_mass = model.body_mass[body] / np.array([LIGHTEST_KG, HEAVIEST_KG, HEAVIEST_KG])
    turning = np.mean(by_mass / model.body_inertia[body])
    model.body_invweight0[body] = np.mean([1 / HEAVIEST_KG, 1 / LIGHTEST_KG, 1 / LIGHTEST_KG]), turning


def scene_xml(name: str, body: str, motors: str, sensors: str, width_m: float) -> str:
    """The whole MJCF: a table, a camera ``width_m`` wide from the front, the ``body``."""
    from forerun.tasks.touch.worlds import OPTIONS

    return f"""
<mujoco model="{name}">{OPTIONS}
  {FLAT.format(ambient="0.7 0.7 0.7", diffuse="0.4 0.4 0.4")}
  <worldbody>
    <camera name="camera" pos="0 -0.6 {0.38 * width_m}" xyaxes="1 0 0 0 0 1" projection="orthographic"
            fovy="{width_m}"/>
    <geom type="plane" size="1 1 0.1" contype="4" conaffinity="4" friction="0.6" rgba="0.8 0.79 0.75 1"/>
    <geom type="box" size="0.5 0.01 1" pos="0 0.3 0" rgba="0.95 0.95 0.97 1" contype="0" conaffinity="0"/>
    <geom type="box" size="0.5 0.01 0.1" pos="0 0.1 -0.1" rgba="0.7 0.68 0.62 1" contype="0" conaffinity="0"/>
    {body}
  </worldbody>
  <equality><joint joint1="left" joint2="right" polycoef="0 1 0 0 0" solref="0.004 1"/></equality>
  <actuator>{motors}
    <general name="grip_left" joint="left" dyntype="filterexact" dynprm="0.03" ctrlrange="0 {PAD_REACH_N}"/>
    <general name="grip_right" joint="right" dyntype="filterexact" dynprm="0.03" ctrlrange="0 {PAD_REACH_N}"/>
  </actuator>
  <sensor>{sensors}</sensor>
</mujoco>"""


TAXELS = Sensor(
    spec=StreamSpec(
        name="taxels", kind="touch", shape=(6, 4, 4), unit="N", family="taxels", rate_hz=100.0, frame="pads"
    ),
    every_ms=10,
    delay_ms=8,
    noise=0.01,
)
"""Both pads' skins, left then right, 4 x 4 taxels each: normal force, shear forwards, shear upwards. For
`TouchWorlds.attach`."""


def pad_taxels(netforce: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Taxels (B, 3, 4, 4) of one pad around ``centre`` (B, 3): its net force where that presses."""
    force, place = netforce[:, 1:4], (netforce[:, 7:10] - centre)[:, 1:]
    pressing = np.column_stack([np.abs(force[:, 0]), force[:, 1], force[:, 2]])
    inside = np.clip(place, -PAD_HALF_M, PAD_HALF_M)
    return splat(pressing[:, None], inside[:, None], PAD_HALF_M, cells=4)


def grip_and_load(pads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normal and carrying force (B,) of a pad, the mean of both, from their wrenches (B, 12).

    Signed sums: a norm would make a load of the noise.
    """
    return (pads[:, 0] - pads[:, 6]) / 2, np.maximum(pads[:, 2] + pads[:, 8], 0.0) / 2


LEAST_N, ORDINARY_N = np.array((0.2, 0.05)), np.array((5.0, 2.0))
"""Of grip and load: below the first a logarithm would be one of noise; the second makes them of order one."""


def pad_features(touch: np.ndarray) -> np.ndarray:
    """Grip, load and their ratio, (B, 5), from both pads' wrenches (B, 12)."""
    out = np.empty((len(touch), 5))  # np.stack would cost twice as much for one robot, 500 times a second
    forces, logs = out[:, 3:], out[:, :2]
    forces[:, 0], forces[:, 1] = grip_and_load(touch)
    np.log(np.maximum(forces, LEAST_N, out=logs), out=logs)
    np.subtract(out[:, 1], out[:, 0], out=out[:, 2])
    forces /= ORDINARY_N
    return out


def pads_sensor(noise_n: float, gain_error: float, drift: float) -> Sensor:
    """Both pads' wrenches, left then right, in the world's axes about each pad's centre."""
    names = tuple(f"{side}.{part}" for side in ("left", "right") for part in PAD_NAMES)
    return Sensor(
        spec=StreamSpec(
            name="pads",
            kind="touch",
            shape=(12,),
            unit="N, N m",
            names=names,
            rate_hz=500.0,
            low=tuple(-reach for reach in PAD_LIMITS),
            high=PAD_LIMITS,
        ),
        every_ms=2,
        delay_ms=4,
        noise=(*(noise_n,) * 3, *(noise_n / 100,) * 3) * 2,
        gain_error=gain_error,
        drift=(*(drift,) * 3, *(drift / 100,) * 3) * 2,
    )
