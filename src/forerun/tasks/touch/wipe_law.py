"""Constant force: an admittance law on the height of the tool."""

from __future__ import annotations

import numpy as np

from forerun.tasks.touch.law import Knob, Law, Scripted
from forerun.tasks.touch.wipe import APPROACH_S, TOOL_RADIUS_M, WipeForce

GAIN_MPS_PER_N, DESCENT_MPS, BOUND_MPS = 0.05, 0.022, 0.05
EXPERT_GAIN, SLOW_GAIN = 0.06, 0.008
"""Of the expert: every millisecond, and at 50 Hz, where more would swing."""
ALONE = (Knob(1, BOUND_MPS),)
"""What a policy decides that feels for itself: the speed upwards."""
UNDER_LAW: tuple[Knob, ...] = ()
"""What it decides above the law."""
LEARNED_REFLEX = True
"""Whether a fast tier is taught above the law."""


class ForceLaw(Law):
    """The tool sinks while the force is too small and rises while it is too large; 5 cm/s by the residual."""

    knobs = (Knob(1, BOUND_MPS),)

    def __call__(
        self, worlds: WipeForce, action: np.ndarray, residual: np.ndarray | None = None
    ) -> np.ndarray:
        action = np.array(action, dtype=np.float64)
        action[:, 1] = self.upwards(worlds, action)
        if residual is not None:
            action[:, 1] += BOUND_MPS * residual[:, 0]
        return worlds.follow(action)

    def upwards(self, worlds: WipeForce, action: np.ndarray) -> np.ndarray:
        """What the law makes of the force felt now: speed upwards (B,), m/s."""
        missing = action[:, 2] - worlds.read("wrench").values[:, 2]
        slowest = -DESCENT_MPS if worlds.time_s < APPROACH_S else -0.15
        return np.clip(-GAIN_MPS_PER_N * missing, slowest, 0.15)

    def stance(self, worlds: WipeForce, action: np.ndarray) -> np.ndarray:
        return (self.upwards(worlds, action) / BOUND_MPS)[:, None]

    def wanted(self, worlds: WipeForce, action: np.ndarray) -> np.ndarray:
        gap = expert_speed(worlds) - self.upwards(worlds, action)
        return np.clip(gap / BOUND_MPS, -1, 1)[:, None]


def expert_speed(worlds: WipeForce, gain: float = EXPERT_GAIN) -> np.ndarray:
    """Speed upwards (B,) of who knows the surface: its slope ahead, and the true force."""
    along = worlds.qpos[:, 0]
    slope = (worlds.surface(along + 0.002) - worlds.surface(along - 0.002)) / 0.004
    gap = worlds.qpos[:, 1] - worlds.surface(along) - TOOL_RADIUS_M
    follow = slope * worlds.qvel[:, 0] - gain * (5.0 - worlds.normal())
    return np.clip(np.where(worlds.normal() > 0.01, follow, -np.clip(8 * gap, 0.004, 0.05)), -0.15, 0.15)


def expert(worlds: WipeForce) -> np.ndarray:
    """The path, at the height that gives the force."""
    action = worlds.nominal()
    action[:, 1] = expert_speed(worlds, SLOW_GAIN)
    return action


def scripted() -> Scripted:
    return Scripted(lambda worlds: worlds.nominal(), ForceLaw())  # type: ignore[attr-defined]


class KnowingLaw(ForceLaw):
    """The expert at 1 kHz."""

    def upwards(self, worlds: WipeForce, action: np.ndarray) -> np.ndarray:
        return expert_speed(worlds)


def oracle() -> Scripted:
    return Scripted(lambda worlds: worlds.nominal(), KnowingLaw())  # type: ignore[attr-defined]
