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

from forerun.control.lateness import Lateness
from forerun.control.punctuality import Diary
from forerun.control.surprise import Envelope, Surprise
from forerun.tasks.touch import TouchWorlds

CONTROL_HZ = 50
STEPS = 32
"""Of a chunk: 0.64 s at 50 Hz."""
HOLD_S = 0.5
AGAIN_S = 0.1
"""A surprise is not answered sooner than this after the plan before: touch at the edge would ask for ever."""
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
    return np.where(late < -1e-9, Mode.FOLLOW, np.where(late < HOLD_S - 1e-9, Mode.HOLD, Mode.BACK_OFF))


def handover(before: np.ndarray, wanted: np.ndarray, since_s: np.ndarray | float) -> np.ndarray:
    """Actions (B, A) from the last ``before`` a new chunk to what it ``wanted``, ``since_s`` after it came.

    At 50 Hz no step is longer than a third of the difference.
    """
    share = np.clip(np.asarray(since_s) / HANDOVER_S, 0, 1)
    return before + np.reshape(share, (-1, 1)) * (wanted - before)


@dataclass
class Sent:
    """Chunks on their way."""

    made_s: float
    arrives_s: np.ndarray
    """(B,)"""
    actions: np.ndarray
    """(H, B, A)"""
    expected: Envelope | None = None


@dataclass
class Chunks:
    """Chunks of a late planner in B worlds, and what stands in for them.

    Args:
        lateness: of the planner.
        plan: worlds to actions (H, B, A); the task's own plan if None.
        envelope: worlds to the touch that is expected meanwhile, features of the task's touch stream; without
            one nothing surprises.
    """

    lateness: Lateness = field(default_factory=Lateness)
    plan: Callable[[TouchWorlds, int], np.ndarray] | None = None
    envelope: Callable[[TouchWorlds, int], Envelope] | None = None

    def reset(self, worlds: TouchWorlds) -> None:
        """Begin an episode with a chunk in hand."""
        self.rng = np.random.default_rng(self.lateness.seed)
        self.actions = self._plan(worlds)
        self.from_s = np.zeros(worlds.count)
        self.taken_s = np.full(worlds.count, -1.0)
        self.due_s = np.full(worlds.count, self.lateness.every_s)
        self.expected = None if self.envelope is None else self.envelope(worlds, STEPS)
        self.surprise, self.surprises = Surprise(worlds.count), np.zeros(worlds.count, int)
        self.early, self.asked = np.zeros(worlds.count, int), np.zeros(worlds.count, bool)
        self.made_s = np.full(worlds.count, -np.inf)
        self.surprised_s: list[tuple[float, np.ndarray]] = []
        self.sent: list[Sent] = []
        self.diary = Diary()
        self.last = self.actions[0].copy()
        self.before = self.acted = self.last
        self.mode = np.zeros(worlds.count, int)
        self.counts = np.zeros(len(Mode), int)

    def feel(self, worlds: TouchWorlds, touch: np.ndarray) -> None:
        """Compare touch features (B, K) with the envelope; where they surprise, plan at the next step."""
        if self.expected is None:
            return
        now, rows = worlds.time_s, np.arange(worlds.count)
        step = self._step(now)
        surprised = self.surprise(touch, self.expected.low[step, rows], self.expected.high[step, rows])
        self.surprises += surprised
        self.asked |= surprised
        if surprised.any():
            self.surprised_s.append((now, surprised))

    def first_after(self, from_s: float) -> np.ndarray:
        """When (B,) each world was first surprised from ``from_s`` on; infinite where it never was."""
        times = [np.where(who, now, np.inf) for now, who in self.surprised_s if now >= from_s]
        return np.min(times, axis=0) if times else np.full(len(self.surprises), np.inf)

    def action(self, worlds: TouchWorlds) -> np.ndarray:
        """The planned action (B, A) of now, or what is safe without one; asked at 50 Hz.

        ``acted`` is what a hold goes by: the planned action, unless the policy sets what it made of it.
        """
        now = worlds.time_s
        early = self.asked & (now >= self.made_s + AGAIN_S - 1e-9)
        due = early | (now >= self.due_s - 1e-9)
        if due.any():
            self._send(worlds, due)
            self.early += early
        self._receive(now)
        self.mode = mode_at(now, self.from_s + len(self.actions) / CONTROL_HZ)
        wanted = self.actions[self._step(now), np.arange(worlds.count)]
        held = worlds.hold(self.acted)
        wanted = np.where((self.mode == Mode.HOLD)[:, None], held, wanted)
        wanted = np.where((self.mode == Mode.BACK_OFF)[:, None], worlds.retreat(held), wanted)
        self.last = self.acted = handover(self.before, wanted, now - self.taken_s)
        self.counts += np.bincount(self.mode, minlength=len(Mode))
        return self.last

    def _send(self, worlds: TouchWorlds, due: np.ndarray) -> None:
        """Begin to plan where it is ``due`` (B,)."""
        now, sensed_s = worlds.time_s, worlds.read(worlds.touch).time_s
        arrives = np.where(due, self.lateness.arrival(self.rng, now, worlds.count), np.inf)
        expected = None if self.envelope is None else self.envelope(worlds, STEPS)
        self.sent.append(Sent(now, arrives, self._plan(worlds), expected))
        self.diary.note((arrives - now)[due], (arrives - sensed_s)[due])
        self.asked &= ~due
        self.made_s = np.where(due, now, self.made_s)
        self.due_s = np.where(due, now + self.lateness.every_s, self.due_s)

    def _step(self, now: float) -> np.ndarray:
        """Which step (B,) of its chunk every world is at."""
        return np.clip(((now - self.from_s) * CONTROL_HZ + 1e-6).astype(int), 0, len(self.actions) - 1)

    def _plan(self, worlds: TouchWorlds) -> np.ndarray:
        return worlds.plan(STEPS) if self.plan is None else self.plan(worlds, STEPS)

    def _receive(self, now: float) -> None:
        for chunk in self.sent:
            new = (chunk.arrives_s <= now + 1e-9) & (chunk.made_s > self.from_s)
            if not new.any():
                continue
            self.actions = np.where(new[None, :, None], chunk.actions, self.actions)
            if self.expected is not None and chunk.expected is not None:
                self.expected = chunk.expected.where(new, self.expected)
            self.from_s = np.where(new, chunk.made_s, self.from_s)
            self.before = np.where(new[:, None], self.last, self.before)
            self.taken_s = np.where(new, now - 1 / CONTROL_HZ, self.taken_s)
        self.sent = [c for c in self.sent if ((c.arrives_s > now) & np.isfinite(c.arrives_s)).any()]
