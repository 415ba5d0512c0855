"""Searching a hole: a law that yields where it is stuck, and a spiral that obeys it."""

from __future__ import annotations

import numpy as np

from forerun.tasks.touch.law import Knob, Law, Scripted
from forerun.tasks.touch.peg import PegFeel

BOUND_MPS, YIELD_MPS_PER_N, FREE_N = 0.02, 0.004, 2.5
PITCH_M, SPEED_MPS, REACH_M, BEGIN_S = 0.0005, 0.012, 0.0045, 0.2
ALONE = UNDER_LAW = (Knob(0, BOUND_MPS), Knob(1, BOUND_MPS))
"""What a policy decides, with or without the law."""
LEARNED_REFLEX = False
"""Whether a fast tier is taught above the law."""


class YieldingLaw(Law):
    """Admittance: sideways forces above sliding ones push the hand away. The residual adds up to 2 cm/s."""

    knobs = (Knob(0, BOUND_MPS), Knob(1, BOUND_MPS))

    def __call__(self, worlds: PegFeel, action: np.ndarray, residual: np.ndarray | None = None) -> np.ndarray:
        action = np.array(action, dtype=np.float64)
        if residual is not None:
            action[:, :2] += BOUND_MPS * residual
        action[:, :2] = np.clip(action[:, :2], -BOUND_MPS, BOUND_MPS)
        side = worlds.read("wrench").values[:, :2]
        size = np.linalg.norm(side, axis=1, keepdims=True)
        action[:, :2] += YIELD_MPS_PER_N * side * np.maximum(0, 1 - FREE_N / np.maximum(size, 1e-6))
        return worlds.follow(action)

    def wanted(self, worlds: PegFeel, action: np.ndarray) -> np.ndarray:
        return np.clip((towards_hole(worlds) - action[:, :2]) / BOUND_MPS, -1, 1)


def towards_hole(worlds: PegFeel) -> np.ndarray:
    """Speeds (B, 2) of who knows where the hole is; none before the plate is touched."""
    way = worlds.hidden[:, :2] - worlds.qpos[:, :2]
    speed = np.clip(8 * way, -BOUND_MPS, BOUND_MPS)
    return np.where(worlds.time_s < BEGIN_S, 0.0, speed)


def expert(worlds: PegFeel) -> np.ndarray:
    """Go where the hole is, pressing."""
    action = worlds.nominal()
    action[:, :2] = towards_hole(worlds)
    return action


class Spiral:
    """An Archimedean spiral at constant speed, stopped as soon as the peg sinks in."""

    def reset(self, worlds: PegFeel) -> None:
        self.angle = np.full(worlds.count, 0.0)

    def __call__(self, worlds: PegFeel) -> np.ndarray:
        action = worlds.nominal()
        if worlds.time_s < BEGIN_S:
            return action
        here = self._place()
        radius = PITCH_M * self.angle / (2 * np.pi)
        sunk = worlds.read("proprio").values[:, 2] > 0.0005
        ahead = SPEED_MPS * 0.02 / np.maximum(radius, PITCH_M)
        self.angle = np.where(sunk | (radius > REACH_M), self.angle, self.angle + ahead)
        action[:, :2] = np.clip((self._place() - here) / 0.02, -BOUND_MPS, BOUND_MPS)
        return action

    def _place(self) -> np.ndarray:
        radius = PITCH_M * self.angle / (2 * np.pi)
        return np.column_stack([radius * np.cos(self.angle), radius * np.sin(self.angle)])


def scripted() -> Scripted:
    return Scripted(Spiral(), YieldingLaw())


def oracle() -> Scripted:
    return Scripted(expert, Law())
