"""PushBehind: feel the obstacle, let go, take the other lane."""

from __future__ import annotations

import numpy as np

from forerun.tasks.touch.law import Knob, Law, Scripted, Smoothed
from forerun.tasks.touch.push import LANE_M, PushBehind, lane_plan

BOUND_MPS, GENTLE_N, BACK_M = 0.15, 5.5, 0.012
ALONE = UNDER_LAW = (Knob(0, BOUND_MPS), Knob(1, BOUND_MPS))
"""What a policy decides, with or without the law."""
LEARNED_REFLEX = False
"""Whether a fast tier is taught above the law."""


class GentleLaw(Law):
    """Against more than 5.5 N ahead it goes back at 5 cm/s. The residual adds up to 15 cm/s."""

    knobs = (Knob(0, BOUND_MPS), Knob(1, BOUND_MPS))

    def reset(self, worlds: PushBehind) -> None:
        self.smooth = Smoothed(0.004, 0.002)
        self.force = np.zeros(worlds.count)

    def __call__(
        self, worlds: PushBehind, action: np.ndarray, residual: np.ndarray | None = None
    ) -> np.ndarray:
        action = np.array(action, dtype=np.float64)
        if residual is not None:
            action = np.clip(action + BOUND_MPS * residual, -BOUND_MPS, BOUND_MPS)
        if worlds.ms % 2 == 0:
            self.force = -self.smooth(worlds.read("wrench").values[:, 1])
        action[:, 1] = np.where(self.force > GENTLE_N, np.minimum(action[:, 1], -0.05), action[:, 1])
        return worlds.follow(action)

    def wanted(self, worlds: PushBehind, action: np.ndarray) -> np.ndarray:
        return np.clip((expert(worlds) - action) / BOUND_MPS, -1, 1)


def expert(worlds: PushBehind) -> np.ndarray:
    """Take the left lane as planned; once the block touches the obstacle there, back off and change lanes.

    It knows the obstacle, but behaves as who must feel it first: only so can it be imitated.
    """
    place = worlds.measure("proprio")[:, :2]
    return _around(place, np.isfinite(worlds.met_m), worlds.met_m)


def _around(place: np.ndarray, blocked: np.ndarray, met_m: np.ndarray) -> np.ndarray:
    """The left lane; where it is ``blocked`` (B,) at ``met_m`` (B,), back and into the right one."""
    action = lane_plan(place, np.where(blocked, 1.0, -1.0))
    x, y = place.T
    back = blocked & (x < 0.01 - LANE_M) & (y > met_m - BACK_M)
    action[:, 1] = np.where(back, -0.06, action[:, 1])
    action[:, 0] = np.where(back, 0.0, action[:, 0])
    return action


def known(worlds: PushBehind) -> np.ndarray:
    """The free lane at once."""
    return lane_plan(worlds.measure("proprio")[:, :2], -worlds.hidden[:, 3])


class Feeler:
    """Learns what sliding takes, and calls 2 N more an obstacle."""

    def reset(self, worlds: PushBehind) -> None:
        self.blocked = np.zeros(worlds.count, bool)
        self.usual = np.zeros(worlds.count)
        self.smooth = Smoothed(0.015, 0.02)
        self.met_m = np.full(worlds.count, 1.0)

    def __call__(self, worlds: PushBehind) -> np.ndarray:
        place = worlds.read("proprio").values[:, :2]
        force = self.smooth(-worlds.read("wrench").values[:, 1])
        along = (np.abs(place[:, 0] + LANE_M) < 0.005) & (place[:, 1] > -0.045)
        early = along & (place[:, 1] < -0.005)
        self.usual = np.where(early, np.maximum(self.usual, force), self.usual)
        hit = along & ~early & (force > self.usual + 2.0)
        self.met_m = np.where(hit & ~self.blocked, place[:, 1], self.met_m)
        self.blocked |= hit
        return _around(place, self.blocked, self.met_m)


def scripted() -> Scripted:
    return Scripted(Feeler(), GentleLaw())


def oracle() -> Scripted:
    return Scripted(known, Law())
