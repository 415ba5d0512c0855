"""Planner and policy as processes of their own, in real time."""

from __future__ import annotations

import threading
import time

import numpy as np

from forerun.control.chunks import CONTROL_HZ, STEPS, Mode, handover, mode_at
from forerun.control.lateness import Lateness
from forerun.control.mission import Mission
from forerun.control.realtime import BEAT_PRIORITY, Pacer, ask_fifo, end_with_parent
from forerun.control.shared import Notes
from forerun.control.wires import BEAT_S, Chunk, Names, Wires, join, keep_beating, wait_for_go

Address = tuple[int, tuple[str, ...], str]
SLOW_COLUMNS = ("wall_ns", "late_ns", "age_s", "compute_ns", "early")


def planner(mission: Mission, lateness: Lateness, fifo: bool, names: Names, notes: Address) -> None:
    """Plans ahead from the robot's time, as late as asked; a thread beats for it meanwhile."""
    end_with_parent()
    wires, diary = join(names), Notes(*notes)
    mission.open("planner", CONTROL_HZ)
    threading.Thread(target=keep_beating, args=(wires["beat planner"], fifo), daemon=True).start()
    wait_for_go(wires)
    rng, began = np.random.default_rng(lateness.seed), time.monotonic()
    late_ns, answered_ns, early = 0, 0, False
    pacer = Pacer(round(1e9 * lateness.every_s))
    while True:
        begin = time.monotonic_ns()
        clock_s, _, captured_s = wires["felt"].read().values
        chunk, now = _planned(mission, float(clock_s)), time.monotonic() - began
        compute_ns = time.monotonic_ns() - begin
        arrives = float(lateness.arrival(rng, now, 1)[0])
        if np.isfinite(arrives):
            time.sleep(max(0.0, began + arrives - time.monotonic()))
            wires["chunk"].write(chunk.numbers())
            sent = time.monotonic_ns()
            diary.add(sent, late_ns, _age_s(sent, captured_s), compute_ns, early, missed=pacer.missed)
        late_ns, answered_ns, early = _until_due(pacer, wires, answered_ns)


def _planned(mission: Mission, clock_s: float) -> Chunk:
    anything = np.full((STEPS, mission.features), np.inf)
    low, high = mission.envelope(clock_s, STEPS) or (-anything, anything)
    return Chunk(clock_s, mission.plan(clock_s, STEPS), low, high)


def _until_due(pacer: Pacer, wires: Wires, answered_ns: int) -> tuple[int, int, bool]:
    """Waits for the next plan's time, or for a surprise that nothing has answered yet.

    Returns by how many ns it woke late, which surprise is answered, and whether that is why it woke.
    """
    while True:
        raised_ns = wires["surprise"].stamp_ns
        if raised_ns != answered_ns:
            pacer.resume()
            return time.monotonic_ns() - raised_ns, raised_ns, True
        if pacer.due_ns - time.monotonic_ns() <= 1e9 * BEAT_S:
            return pacer.wait(), answered_ns, False
        time.sleep(BEAT_S)


def policy(mission: Mission, fifo: bool, names: Names, notes: Address) -> None:
    """Follows the chunk at 50 Hz, or holds, or backs off."""
    end_with_parent()
    wires, diary = join(names), Notes(*notes)
    mission.open("policy", CONTROL_HZ)
    if fifo:
        ask_fifo(BEAT_PRIORITY)
    follower = Follower(mission)
    wait_for_go(wires, "beat policy")
    pacer, late_ns = Pacer(10**9 // CONTROL_HZ), 0
    while True:
        begin = time.monotonic_ns()
        clock_s, _, captured_s = wires["felt"].read().values
        message = wires["chunk"].read()
        if message.stamp_ns:
            follower.take(Chunk.of(message, mission), message.stamp_ns, float(clock_s))
            mode, action = follower.action(float(clock_s))
            wires["action"].write(np.concatenate([[mode], action]))
            done = time.monotonic_ns()
            diary.add(done, late_ns, _age_s(done, captured_s), done - begin, 0, missed=pacer.missed)
        wires["beat policy"].write(1.0)
        # beats between its steps too: 20 ms of silence would look like death
        time.sleep(0.01)
        wires["beat policy"].write(1.0)
        late_ns = pacer.wait()


def _age_s(now_ns: int, captured_s: float) -> float:
    """How old touch is; not a number before any was felt."""
    return now_ns * 1e-9 - captured_s if captured_s else np.nan


class Follower:
    """What a policy makes of the newest chunk, or of there being none."""

    def __init__(self, mission: Mission) -> None:
        self.mission, self.last = mission, mission.start()
        self.before, self.taken_s, self.newest = self.last, -np.inf, 0

    def take(self, chunk: Chunk, stamp_ns: int, clock_s: float) -> None:
        """The newest chunk; one that is new takes over gradually."""
        self.chunk = chunk
        if stamp_ns != self.newest:
            self.before, self.taken_s, self.newest = self.last, clock_s - 1 / CONTROL_HZ, stamp_ns

    def action(self, clock_s: float) -> tuple[Mode, np.ndarray]:
        """The mode and the action (A,) of now."""
        mode = Mode(int(mode_at(clock_s, np.array([self.chunk.ends_s]))[0]))
        wanted = self.chunk.actions[self.chunk.step(clock_s)]
        if mode != Mode.FOLLOW:
            wanted = self.mission.hold(self.last)
        if mode == Mode.BACK_OFF:
            wanted = self.mission.retreat(wanted)
        self.last = handover(self.before, wanted[None], clock_s - self.taken_s)[0]
        return mode, self.last
