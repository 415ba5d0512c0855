"""The grip law of LiftFragile: begin gently, squeeze while it slips, keep what the load needs."""

from __future__ import annotations

import math

import numpy as np

from forerun.tasks.touch.law import Knob, Law, Scripted, Smoothed
from forerun.tasks.touch.lift import LIFT_S, LiftFragile
from forerun.tasks.touch.worlds import TouchWorlds

START_N, RATE_PER_S, MARGIN, NEAR = 0.6, 25.0, 1.8, 0.8
"""Tuned on worlds of their own: 4 starts x 4 rates x 3 margins x 3 thresholds (benchmarks/touch.py)."""
GROWTH = float(np.exp(RATE_PER_S * 0.002))
EXPERT_MARGIN, EXPERT_RATE_PER_S = 1.95, 60.0
ALONE = (Knob(1, 1.0, log=True),)
"""What a policy decides that feels for itself: the grip."""
UNDER_LAW: tuple[Knob, ...] = ()
"""What it decides above the law."""
LEARNED_REFLEX = True
"""Whether a fast tier is taught above the law."""


class GripLaw(Law):
    """Grip follows the load: friction is the largest ratio of load to grip felt so far.

    While the ratio stays near that largest one the box may be slipping, and the grip rises by e to the 25th a
    second; after that it holds ``MARGIN`` times what the load needs. The residual halves or doubles the grip.
    """

    knobs = (Knob(1, math.log(2.0), log=True),)
    from_ms, critical_ms = 260, (260, 600)

    def reset(self, worlds: LiftFragile) -> None:
        self.grip = np.full(worlds.count, START_N)
        self.friction = np.full(worlds.count, 0.15)
        self.smooth = Smoothed(0.005, 0.002)

    def __call__(
        self, worlds: LiftFragile, action: np.ndarray, residual: np.ndarray | None = None
    ) -> np.ndarray:
        if worlds.ms % 2 == 0:
            self._feel(worlds)
        held = np.array(action, dtype=np.float64)
        held[:, 1] = self.grip
        if residual is not None:
            held[:, 1] = self.knobs[0].turn(held[:, 1], residual[:, 0])
        return worlds.follow(held)

    def stance(self, worlds: TouchWorlds, action: np.ndarray) -> np.ndarray:
        return np.log(self.grip)[:, None]

    def _feel(self, worlds: LiftFragile) -> None:
        pads = worlds.read("pads").values
        # the norm counts noise as load, which errs on the side of gripping: better here than a signed sum
        both = pads[:, 1:3] + pads[:, 7:9]
        forces = np.empty((2, len(pads)))  # load and normal force, smoothed in one go
        np.hypot(both[:, 0], both[:, 1], out=forces[0])
        np.subtract(pads[:, 0], pads[:, 6], out=forces[1])
        load, normal = self.smooth(forces / 2)
        if worlds.time_s < LIFT_S[0] - 0.02:
            return
        # np.minimum and np.maximum: np.clip costs four times as much for one robot, and this runs at 500 Hz
        ratio = load / np.maximum(normal, 0.3)
        self.friction = np.minimum(np.maximum(self.friction, ratio), 1.2)
        squeezed = self.grip * (1 + (GROWTH - 1) * (ratio > NEAR * self.friction))
        needed = np.minimum(MARGIN * load / self.friction, 1.1 * self.grip)
        self.grip = np.minimum(np.maximum(squeezed, needed), 40.0)

    def wanted(self, worlds: LiftFragile, action: np.ndarray) -> np.ndarray:
        grip = expert_grip(worlds)
        return np.clip(self.knobs[0].between(self.grip, grip), -1, 1)[:, None]


def expert_grip(worlds: LiftFragile) -> np.ndarray:
    """Grip (B,) of who knows mass and friction, but squeezes no faster than a feeling hand may have to."""
    enough = EXPERT_MARGIN * worlds.least_grip()
    ramp = START_N * np.exp(EXPERT_RATE_PER_S * max(0.0, worlds.time_s - LIFT_S[0]))
    return np.minimum(enough, ramp)


def expert(worlds: LiftFragile) -> np.ndarray:
    """The lift, gripped as `expert_grip` says."""
    action = worlds.nominal()
    action[:, 1] = expert_grip(worlds)
    return action


def known(worlds: LiftFragile) -> np.ndarray:
    """Twice the least grip from the very beginning."""
    action = worlds.nominal()
    action[:, 1] = 2 * worlds.least_grip()
    return action


def scripted() -> Scripted:
    return Scripted(lambda worlds: worlds.nominal(), GripLaw())  # type: ignore[attr-defined]


def oracle() -> Scripted:
    return Scripted(known, Law())
