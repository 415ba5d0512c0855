"""WeighSort: two weights, compared."""

from __future__ import annotations

import numpy as np

from forerun.tasks.touch.law import Knob, Law, Scripted
from forerun.tasks.touch.lift_law import grip_and_load
from forerun.tasks.touch.weigh import DECIDE_S, WeighSort

FIRST_S, SECOND_S = (0.68, 0.86), (3.17, 3.34)


class HoldLaw(Law):
    """Hold as told; the residual halves or doubles the grip."""

    knobs = (Knob(2, np.log(2.0), log=True),)

    def __call__(
        self, worlds: WeighSort, action: np.ndarray, residual: np.ndarray | None = None
    ) -> np.ndarray:
        if residual is not None:
            action = np.array(action, dtype=np.float64)
            closed = action[:, 2] > 0
            turned = self.knobs[0].turn(action[:, 2], residual[:, 0])
            action[:, 2] = np.where(closed, turned, action[:, 2])
        return worlds.follow(action)


def expert(worlds: WeighSort) -> np.ndarray:
    """The plan, carried to where the second box belongs."""
    return worlds.nominal(np.where(worlds.hidden[:, 3] > 0, 1.0, -1.0))


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
        if worlds.time_s < DECIDE_S:
            return worlds.nominal()
        first, second = self.sums / np.maximum(self.counts, 1)[:, None]
        return worlds.nominal(np.where(second > first, 1.0, -1.0))


def scripted() -> Scripted:
    return Scripted(Weigher(), HoldLaw())


def oracle() -> Scripted:
    return Scripted(expert, Law())
