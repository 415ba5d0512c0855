"""WeighSort: two weights, compared."""

from __future__ import annotations

import numpy as np

from forerun.tasks.touch.gripper import grip_and_load
from forerun.tasks.touch.law import Knob, Law, Scripted
from forerun.tasks.touch.weigh import WeighSort

FIRST_S, SECOND_S = (0.68, 0.86), (3.17, 3.34)
ALONE = UNDER_LAW = (Knob(0, 1.0),)
"""What a policy decides, with or without the law: the bin."""
LEARNED_REFLEX = False
"""Whether a fast tier is taught above the law."""


class HoldLaw(Law):
    """Hold as told; the residual halves or doubles the grip."""

    knobs = (Knob(1, np.log(2.0), log=True),)

    def __call__(
        self, worlds: WeighSort, action: np.ndarray, residual: np.ndarray | None = None
    ) -> np.ndarray:
        if residual is not None:
            action = np.array(action, dtype=np.float64)
            closed = action[:, 1] > 0
            turned = self.knobs[0].turn(action[:, 1], residual[:, 0])
            action[:, 1] = np.where(closed, turned, action[:, 1])
        return worlds.follow(action)


def expert(worlds: WeighSort) -> np.ndarray:
    """The plan, and the bin where the second box belongs."""
    action = worlds.nominal()
    action[:, 0] = np.where(worlds.hidden[:, 3] > 0, 1.0, -1.0)
    return action


class Weigher:
    """Averages the load while either box hangs, and carries the second one by the comparison."""

    def reset(self, worlds: WeighSort) -> None:
        self.sums = np.zeros((2, worlds.count))
        self.counts = np.zeros(2)

    def __call__(self, worlds: WeighSort) -> np.ndarray:
        for k, (begin, end) in enumerate((FIRST_S, SECOND_S)):
            if begin <= worlds.time_s < end:
                self.sums[k] += grip_and_load(worlds.read("pads").values)[1]
                self.counts[k] += 1
        first, second = self.sums / np.maximum(self.counts, 1)[:, None]
        action = worlds.nominal()
        action[:, 0] = np.where(second > first, 1.0, -1.0)
        return action


def scripted() -> Scripted:
    return Scripted(Weigher(), HoldLaw())


def oracle() -> Scripted:
    return Scripted(expert, Law())
