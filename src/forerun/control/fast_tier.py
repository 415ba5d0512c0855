"""The fast tier as a process of its own: read, law and residual, write, note, a thousand times a second.

It is the last that a robot hears, so it watches the others: it holds when one of them is silent, backs off
when that stays so, and stops the robot when nobody comes back.
"""

from __future__ import annotations

import os
import time

import numpy as np

from forerun.control.chunks import HOLD_S, Mode
from forerun.control.mission import Mission
from forerun.control.realtime import Pacer, prepare
from forerun.control.surprise import Surprise
from forerun.control.wires import Chunk, Names, Wires, join, wait_for_go

DEAD_S = 0.03
"""A tier that has not beaten for so long is dead."""
ABOVE = ("beat planner", "beat policy")
STOP_S = 2.0
"""Of backing off; then the robot is stopped."""
FAST_COLUMNS = ("late_ns", "compute_ns", "age_s", "mode", "force_n", "wall_ns", "speed")


def fast(mission: Mission, hz: int, ticks: int, fifo: bool, names: Names, log: str) -> None:
    """Run so many ticks and write what was noted; the robot is stopped however this ends."""
    wires = join(names)
    mission.open("fast", hz)
    loop = FastLoop(mission, wires)
    try:
        table = np.zeros((ticks, len(FAST_COLUMNS)))
        loop.warm_up()
        granted = prepare(fifo)
        wait_for_go(wires, "beat fast")
        loop.begin()
        pacer = Pacer(10**9 // hz)
        for row in table:
            row[0] = pacer.wait()
            loop.tick(row)
            if mission.over:
                loop.begin()  # a simulator lays out its next episode, which no robot does
                pacer.resume()
        wires["done"].write(1.0)  # writing the notes takes longer than a tier may be silent
    finally:
        mission.robot.stop()
    part = log + ".part.npz"
    np.savez(
        part,
        ticks=table,
        fifo=granted.fifo,
        locked=granted.locked,
        missed=pacer.missed,
        surprises=loop.surprises,
    )
    os.replace(part, log)


class FastLoop:
    """What the fast tier does in one tick."""

    def __init__(self, mission: Mission, wires: Wires) -> None:
        self.mission, self.wires, self.robot = mission, wires, mission.robot
        self.dead_from_s: float | None = None
        self.chunk: Chunk | None = None
        self.chunk_ns = self.action_ns = self.ticks = self.surprises = 0
        self.mode, self.silent = int(Mode.FOLLOW), [False, False]
        self.surprise = Surprise(1)

    def warm_up(self) -> None:
        """Fill caches before the first deadline counts; nothing is written."""
        self.begin()
        for _ in range(50):
            self.mission.command(self.robot.read(), self.action)

    def begin(self) -> None:
        """The clock starts."""
        self.mission.begin()
        self.action = self.mission.start()

    def tick(self, row: np.ndarray) -> None:
        """One tick, noted in ``row``."""
        begin, mission, robot = time.monotonic_ns(), self.mission, self.robot
        mode = self._listen()
        samples = robot.read()
        command = mission.command(samples, self.action)
        done, age_s = time.monotonic_ns(), robot.now() - samples[mission.touch].time_s
        robot.write(command)
        force_n = mission.force_n(samples)
        row[1:] = done - begin, age_s, mode, force_n, done, mission.speed(samples)
        self.wires["felt"].write(np.array([mission.clock_s, force_n, done * 1e-9 - age_s]))
        self.wires["beat fast"].write(1.0)
        if mission.features:
            self._compare(mission.felt(samples))

    def _compare(self, felt: np.ndarray) -> None:
        """Tell the planner when touch leaves its envelope."""
        block = self.wires["chunk"]
        if block.stamp_ns != self.chunk_ns:
            message = block.read()
            self.chunk, self.chunk_ns = Chunk.of(message, self.mission), message.stamp_ns
        if self.chunk is None:
            return
        step = self.chunk.step(self.mission.clock_s)
        if self.surprise(felt[None], self.chunk.low[step][None], self.chunk.high[step][None])[0]:
            self.surprises += 1
            self.wires["surprise"].write(float(self.surprises))

    def _listen(self) -> int:
        """Take the newest action; hold if a tier above is dead, back off if it stays so, stop at last."""
        self.ticks += 1
        watched = self.ticks % 2  # one a tick: looking at both costs more than it tells
        self.silent[watched] = self.wires[ABOVE[watched]].age_s() > DEAD_S
        if any(self.silent):
            return int(self._alone(time.monotonic()))
        self.dead_from_s, block = None, self.wires["action"]
        if block.stamp_ns != self.action_ns:
            message = block.read()
            self.action, self.action_ns = message.values[1:], message.stamp_ns
            self.mode = int(message.values[0])
        return self.mode

    def _alone(self, now_s: float) -> Mode:
        self.action_ns = 0  # what is held is not what was asked for: read that again afterwards
        if self.dead_from_s is None:
            self.dead_from_s = now_s
        alone_s = now_s - self.dead_from_s
        self.action = self.mission.hold(self.action)
        if alone_s < HOLD_S:
            return Mode.HOLD
        self.action = self.mission.retreat(self.action)
        if alone_s >= HOLD_S + STOP_S:
            self.robot.stop()
        return Mode.BACK_OFF
