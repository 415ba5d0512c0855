"""What runs between the tiers: blocks of shared memory by name, heartbeats, and what each tier notes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from forerun.control.chunks import CONTROL_HZ, STEPS
from forerun.control.mission import TIERS, Mission
from forerun.control.realtime import BEAT_PRIORITY, ask_fifo
from forerun.control.shared import Block, Message

BEAT_S = 0.005
Wires = dict[str, Block]
Names = Mapping[str, tuple[int, str]]
"""Size and name of every block: what a child needs to open them."""


def lay(mission: Mission) -> Wires:
    """Make the blocks that a mission's tiers talk through."""
    sizes = {
        "chunk": 1 + STEPS * (mission.actions + 2 * mission.features),
        "action": 1 + mission.actions,
        "felt": 3,  # clock_s, force_n, when touch was captured in monotonic seconds
        "surprise": 1,
        "go": 1,
        "done": 1,
        **{f"beat {tier}": 1 for tier in TIERS},
    }
    return {key: Block(size) for key, size in sizes.items()}


def names_of(wires: Wires) -> Names:
    """What to tell a child."""
    return {key: (block.size, block.name) for key, block in wires.items()}


def join(names: Names) -> Wires:
    """Open them in a child."""
    return {key: Block(size, name) for key, (size, name) in names.items()}


def wait_for_go(wires: Wires, beat: str | None = None) -> None:
    """Beat, if nobody does that already, until everybody is there."""
    while np.isinf(wires["go"].age_s()):
        if beat is not None:
            wires[beat].write(1.0)
        time.sleep(BEAT_S)


def keep_beating(block: Block, fifo: bool) -> None:
    """For a thread beside work that may take its time."""
    if fifo:
        ask_fifo(BEAT_PRIORITY)
    while True:
        block.write(1.0)
        time.sleep(BEAT_S)


@dataclass(frozen=True)
class Chunk:
    """A planner's message: what to do from ``begins_s`` on, and what will be felt."""

    begins_s: float
    actions: np.ndarray
    """(STEPS, A)"""
    low: np.ndarray
    """(STEPS, K); K is 0 where the planner does not say."""
    high: np.ndarray

    def numbers(self) -> np.ndarray:
        """As it lies in shared memory."""
        return np.concatenate([[self.begins_s], self.actions.ravel(), self.low.ravel(), self.high.ravel()])

    @classmethod
    def of(cls, message: Message, mission: Mission) -> Chunk:
        """As it was sent."""
        a, k = STEPS * mission.actions, STEPS * mission.features
        actions, low, high = np.split(message.values[1:], [a, a + k])
        shaped = (
            part.reshape(STEPS, -1) if part.size else np.zeros((STEPS, 0)) for part in (actions, low, high)
        )
        return cls(float(message.values[0]), *shaped)

    def step(self, clock_s: float) -> int:
        """Which of its steps is due."""
        return min(max(int((clock_s - self.begins_s) * CONTROL_HZ + 1e-6), 0), STEPS - 1)

    @property
    def ends_s(self) -> float:
        return self.begins_s + STEPS / CONTROL_HZ
