"""What to do when the planner is late: keep its last chunk, then hold safely, then back off. Never nothing.

FOLLOW    the chunk reaches to here
HOLD      it has ended, or the planner is dead: stop moving, keep forces and grips
BACK_OFF  half a second later there is still no other: leave the contact, but never let go of a load
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from forerun.tasks.touch import TouchWorlds

CONTROL_HZ = 50
STEPS = 32
"""Of a chunk: 0.64 s at 50 Hz."""
HOLD_S = 0.5
HANDOVER_S = 0.06
"""A new chunk takes over gradually, so that no command jumps."""


class Mode(IntEnum):
    """Where a late planner leaves the robot."""

    FOLLOW = 0
    HOLD = 1
    BACK_OFF = 2


def mode_at(now_s: float, ends_s: np.ndarray) -> np.ndarray:
    """The mode (B,) of chunks that end at ``ends_s`` (B,)."""
    late = now_s - np.asarray(ends_s)
    return np.where(late < -1e-9, Mode.FOLLOW, np.where(late < HOLD_S, Mode.HOLD, Mode.BACK_OFF))


@dataclass(frozen=True, kw_only=True)
class Lateness:
    """How late a planner is, in simulated time."""

    every_s: float = 0.2
    """Between two plans: 5 Hz."""
    delay_s: float = 0.05
    """From what was sensed to the chunk's arrival."""
    jitter_s: float = 0.0
    """Added, uniformly from zero to this."""
    outages: tuple[tuple[float, float], ...] = ()
    """(from, until) in seconds: no chunk arrives in between."""
    seed: int = 0

    def arrival(self, rng: np.random.Generator, now_s: float, rows: int) -> np.ndarray:
        """When (B,) a plan begun now arrives; infinite if it is lost."""
        arrives = now_s + self.delay_s + self.jitter_s * rng.random(rows)
        for begin, end in self.outages:
            arrives = np.where((arrives >= begin) & (arrives < end), np.inf, arrives)
        return arrives


@dataclass
class Sent:
    """Chunks on their way."""

    made_s: float
    arrives_s: np.ndarray
    """(B,)"""
    actions: np.ndarray
    """(H, B, A)"""


@dataclass
class Chunks:
    """Chunks of a late planner in B worlds, and what stands in for them.

    Args:
        lateness: of the planner.
        plan: worlds to actions (H, B, A); the task's own plan if None.
    """

    lateness: Lateness = field(default_factory=Lateness)
    plan: Callable[[TouchWorlds, int], np.ndarray] | None = None

    def reset(self, worlds: TouchWorlds) -> None:
        """Begin an episode with a chunk in hand."""
        self.rng = np.random.default_rng(self.lateness.seed)
        self.actions = self._plan(worlds)
        self.from_s = np.zeros(worlds.count)
        self.taken_s = np.full(worlds.count, -1.0)
        self.due_s = self.lateness.every_s
        self.sent: list[Sent] = []
        self.last = self.actions[0].copy()
        self.before = self.last
        self.mode = np.zeros(worlds.count, int)
        self.counts = np.zeros(len(Mode), int)

    def call_early(self) -> None:
        """Plan at the next step: something unforeseen was felt."""
        self.due_s = -np.inf

    def action(self, worlds: TouchWorlds) -> np.ndarray:
        """The planned action (B, A) of now, or what is safe without one; asked at 50 Hz."""
        now = worlds.time_s
        if now >= self.due_s - 1e-9:
            arrives = self.lateness.arrival(self.rng, now, worlds.count)
            self.sent.append(Sent(now, arrives, self._plan(worlds)))
            self.due_s = now + self.lateness.every_s
        self._receive(now)
        self.mode = mode_at(now, self.from_s + len(self.actions) / CONTROL_HZ)
        step = np.clip(((now - self.from_s) * CONTROL_HZ + 1e-6).astype(int), 0, len(self.actions) - 1)
        wanted = self.actions[step, np.arange(worlds.count)]
        held = worlds.hold(self.last)
        wanted = np.where((self.mode == Mode.HOLD)[:, None], held, wanted)
        wanted = np.where((self.mode == Mode.BACK_OFF)[:, None], worlds.retreat(held), wanted)
        share = np.clip((now - self.taken_s) / HANDOVER_S, 0, 1)[:, None]
        self.last = self.before + share * (wanted - self.before)
        self.counts += np.bincount(self.mode, minlength=len(Mode))
        return self.last

    def _plan(self, worlds: TouchWorlds) -> np.ndarray:
        return worlds.plan(STEPS) if self.plan is None else self.plan(worlds, STEPS)

    def _receive(self, now: float) -> None:
        for chunk in self.sent:
            new = (chunk.arrives_s <= now + 1e-9) & (chunk.made_s > self.from_s)
            if not new.any():
                continue
            self.actions = np.where(new[None, :, None], chunk.actions, self.actions)
            self.from_s = np.where(new, chunk.made_s, self.from_s)
            self.before = np.where(new[:, None], self.last, self.before)
            self.taken_s = np.where(new, now - 1 / CONTROL_HZ, self.taken_s)
        self.sent = [c for c in self.sent if ((c.arrives_s > now) & np.isfinite(c.arrives_s)).any()]
