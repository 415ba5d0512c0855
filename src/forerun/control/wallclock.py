"""Tiers in real time: every tier a process of its own, numbers through shared memory, deadlines measured.

    planner   5 Hz      a chunk of planned actions            \
    policy   50 Hz      the action of now, or a safe hold      } heartbeats, watched by the fast tier
    fast   1000 Hz      robot, law, learned residual          /

Scores come from virtual time (`forerun.control.student.run`), where no host can disturb them. Here only
punctuality counts: how late each tick woke, how long it computed, how old touch was at the command, and how
soon the robot holds still when a tier dies.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

import numpy as np

from forerun.control.chunks import CONTROL_HZ, HOLD_S, STEPS, Mode, handover, mode_at
from forerun.control.gru import NumpyStudent
from forerun.control.lateness import Lateness
from forerun.control.realtime import (
    BEAT_PRIORITY,
    Granted,
    Pacer,
    ask_fifo,
    end_with_parent,
    one_blas_thread,
    prepare,
)
from forerun.control.robot import SimulatedRobot
from forerun.control.senses import Felt, fast_features
from forerun.control.shared import Block
from forerun.tasks.touch import laws, make_worlds, worlds_class
from forerun.types import Error

TierName = Literal["planner", "policy", "fast"]
DEAD_S = 0.03
"""A tier that has not beaten for so long is dead."""
BEAT_S = 0.005
_COLUMNS = ("late_ns", "compute_ns", "age_s", "mode", "force_n", "wall_ns", "speed")


class DeadTierError(Error):
    """A tier died before it had begun, or took what it had noted with it."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run."""

    task: str
    seconds: float = 10.0
    hz: int = 1000
    """Of the fast tier: 1000 or 500."""
    fifo: bool = True
    seed: int = 0
    weights: Mapping[str, np.ndarray] | None = None
    """Of a learned residual; the law alone if None."""
    lateness: Lateness = field(default_factory=lambda: Lateness(delay_s=0.0))
    """Of the planner, added to what its plans really take."""
    busy: bool = False
    """Keep the other cores busy meanwhile."""
    kill: tuple[TierName, float] | None = None
    """Kill a tier so many seconds after the start."""


@dataclass
class Report:
    """What the fast tier noted, a row per tick."""

    plan: Plan
    granted: Granted
    missed: int
    ticks: np.ndarray
    """(N, 7): `columns`."""
    killed_ns: int | None = None
    estop_ns: int | None = None
    """When the watchdog stopped the robot because the fast tier was dead."""
    began: float = 0.0
    """Monotonic seconds of the start."""
    columns: tuple[str, ...] = field(default=_COLUMNS)

    def column(self, name: str) -> np.ndarray:
        return self.ticks[:, self.columns.index(name)]


def run_wall_clock(plan: Plan, estop: Callable[[], None] | None = None) -> Report:
    """Run the tiers for ``plan.seconds`` and report; every process has ended when this returns.

    Args:
        estop: stops the robot without the fast tier (a relay, the vendor's watchdog); called if that dies.

    Raises:
        DeadTierError: a tier did not come up.
    """
    actions = len(worlds_class(plan.task).action_spec.names)
    blocks = {
        "chunk": Block(1 + STEPS * actions),
        "action": Block(1 + actions),
        "felt": Block(2),
        **{f"beat {tier}": Block(1) for tier in ("planner", "policy", "fast")},
        "go": Block(1),
        "done": Block(1),
    }
    names = {key: (block.size, block.name) for key, block in blocks.items()}
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "ticks.npz"
        jobs: dict[str, BaseProcess] = {
            "planner": spawn.Process(target=_planner, args=(plan, names), daemon=True),
            "policy": spawn.Process(target=_policy, args=(plan, names), daemon=True),
            "fast": spawn.Process(target=_fast, args=(plan, names, str(log)), daemon=True),
        }
        hogs = [spawn.Process(target=hog, daemon=True) for _ in range(_others() if plan.busy else 0)]
        try:
            with one_blas_thread():
                for job in (*jobs.values(), *hogs):
                    job.start()
            return _supervise(plan, blocks, jobs, log, estop)
        finally:
            for job in (*jobs.values(), *hogs):
                job.kill()
                job.join()
            for block in blocks.values():
                block.close()


def _supervise(
    plan: Plan,
    blocks: dict[str, Block],
    jobs: dict[str, BaseProcess],
    log: Path,
    estop: Callable[[], None] | None,
) -> Report:
    _wait_for_all(blocks, jobs)
    blocks["go"].write(1.0)
    began, killed, stopped = time.monotonic(), None, None
    while not log.exists():
        if plan.kill is not None and killed is None and time.monotonic() - began >= plan.kill[1]:
            os.kill(jobs[plan.kill[0]].pid or 0, signal.SIGKILL)
            killed = time.monotonic_ns()
        silent = blocks["beat fast"].age_s() > DEAD_S and not blocks["done"].read().stamp_ns
        if (silent or not jobs["fast"].is_alive()) and not log.exists():
            stopped = time.monotonic_ns()
            if estop is not None:
                estop()
            break
        time.sleep(0.002)
    jobs["fast"].join(timeout=5)
    if not log.exists():
        return Report(plan, Granted(False, False), 0, np.zeros((0, len(_COLUMNS))), killed, stopped, began)
    with np.load(log) as saved:
        granted = Granted(bool(saved["fifo"]), bool(saved["locked"]))
        return Report(plan, granted, int(saved["missed"]), saved["ticks"], killed, began=began)


def _wait_for_all(blocks: dict[str, Block], jobs: dict[str, BaseProcess]) -> None:
    until = time.monotonic() + 60
    while any(np.isinf(blocks[f"beat {tier}"].age_s()) for tier in jobs):
        dead = [tier for tier, job in jobs.items() if not job.is_alive()]
        if dead or time.monotonic() > until:
            raise DeadTierError(
                f"tier '{(dead or ['?'])[0]}' did not come up; expected a heartbeat within a minute. Its own "
                "error stands above; nothing was sent to the robot"
            )
        time.sleep(0.01)


def _open(names: Mapping[str, tuple[int, str]]) -> dict[str, Block]:
    return {key: Block(size, name) for key, (size, name) in names.items()}


def _wait_for_go(blocks: dict[str, Block], beat: str) -> None:
    while np.isinf(blocks["go"].age_s()):
        blocks[beat].write(1.0)
        time.sleep(BEAT_S)


def _planner(plan: Plan, names: Mapping[str, tuple[int, str]]) -> None:
    """Plans ahead from the robot's time, as late as asked; a thread beats for it meanwhile."""
    end_with_parent()
    blocks, worlds = _open(names), make_worlds(plan.task)
    worlds.reset([plan.seed])
    threading.Thread(target=_beat, args=(blocks["beat planner"], plan.fifo), daemon=True).start()
    while np.isinf(blocks["go"].age_s()):
        time.sleep(BEAT_S)
    rng, began, pacer = np.random.default_rng(plan.lateness.seed), time.monotonic(), None
    while True:
        worlds.ms = round(1000 * float(blocks["felt"].read().values[0]))
        actions, now = worlds.plan(STEPS)[:, 0], time.monotonic() - began
        arrives = float(plan.lateness.arrival(rng, now, 1)[0])
        if np.isfinite(arrives):
            time.sleep(max(0.0, began + arrives - time.monotonic()))
            blocks["chunk"].write(np.concatenate([[worlds.time_s], actions.ravel()]))
        pacer = pacer or Pacer(round(1e9 * plan.lateness.every_s))
        pacer.wait()


def _beat(block: Block, fifo: bool) -> None:
    if fifo:
        ask_fifo(BEAT_PRIORITY)  # this thread alone: a search may take its time
    while True:
        block.write(1.0)
        time.sleep(BEAT_S)


def _policy(plan: Plan, names: Mapping[str, tuple[int, str]]) -> None:
    """Follows the chunk at 50 Hz, or holds, or backs off."""
    end_with_parent()
    blocks, worlds = _open(names), make_worlds(plan.task)
    if plan.fifo:
        ask_fifo(BEAT_PRIORITY)
    _wait_for_go(blocks, "beat policy")
    last, pacer = worlds.nominal(), Pacer(10**9 // CONTROL_HZ)
    before, taken_s, newest = last, -np.inf, 0
    while True:
        now, chunk = float(blocks["felt"].read().values[0]), blocks["chunk"].read()
        if chunk.stamp_ns:
            actions, begins = chunk.values[1:].reshape(STEPS, -1), chunk.values[0]
            if chunk.stamp_ns != newest:
                before, taken_s, newest = last, now - 1 / CONTROL_HZ, chunk.stamp_ns
            mode = int(mode_at(now, np.array([begins + STEPS / CONTROL_HZ]))[0])
            step = int(np.clip((now - begins) * CONTROL_HZ, 0, STEPS - 1))
            held = worlds.hold(last)
            wanted = {0: actions[None, step], 1: held, 2: worlds.retreat(held)}[mode]
            last = handover(before, wanted, now - taken_s)
            blocks["action"].write(np.concatenate([[mode], last[0]]))
        blocks["beat policy"].write(1.0)
        # beats between its steps too: 20 ms of silence would look like death
        time.sleep(0.01)
        blocks["beat policy"].write(1.0)
        pacer.wait()


def _fast(plan: Plan, names: Mapping[str, tuple[int, str]], log: str) -> None:
    """The robot's own loop: read, law and residual, write, note."""
    blocks, robot = _open(names), SimulatedRobot(plan.task, plan.seed)
    loop = _FastLoop(robot, plan, blocks)
    for _ in range(50):  # warm caches before the first deadline counts
        loop.step()
    loop.restart()
    ticks = np.zeros((round(plan.seconds * plan.hz), len(_COLUMNS)))
    granted = prepare(plan.fifo)
    _wait_for_go(blocks, "beat fast")
    pacer = Pacer(10**9 // plan.hz)
    for row in ticks:
        row[0] = pacer.wait()
        loop.tick(row)
    blocks["done"].write(1.0)  # writing the notes takes longer than a tier may be silent
    part = log + ".part.npz"
    np.savez(part, ticks=ticks, missed=pacer.missed, fifo=granted.fifo, locked=granted.locked)
    os.replace(part, log)


class _FastLoop:
    """What the fast tier does in one tick."""

    def __init__(self, robot: SimulatedRobot, plan: Plan, blocks: dict[str, Block]) -> None:
        self.robot, self.plan, self.blocks = robot, plan, blocks
        self.net = NumpyStudent(plan.weights) if plan.weights else None
        self.law = laws(plan.task).scripted().law
        self.per_tick = 1000 // plan.hz
        names = robot.streams[robot.worlds.touch].names
        self.forces = [i for i, name in enumerate(names) if name.rpartition(".")[2].startswith("f")]
        self.dead_from_s: float | None = None
        self.restart()

    def restart(self) -> None:
        """A new episode with the next seed."""
        worlds = self.robot.worlds
        worlds.reset([self.plan.seed])
        self.law.reset(worlds)
        self.felt, self.action = Felt(worlds), worlds.nominal()
        self.residual = np.zeros((1, len(self.law.knobs)))
        if self.net:
            self.net.reset()
        self.stamps = np.full(4096, time.monotonic_ns())

    def step(self) -> np.ndarray:
        """Read and decide: the command (1, C) of now."""
        worlds = self.robot.worlds
        if worlds.ms % 2 == 0:
            self.felt.update(worlds)
            if self.net is not None and worlds.ms >= self.law.from_ms:
                seen = fast_features(
                    worlds, self.felt, self.action, self.law.stance(worlds, self.action), self.residual
                )
                self.residual = np.minimum(np.maximum(self.net(seen[0]), -1.0), 1.0)[None]
        return self.law(worlds, self.action, self.residual if self.law.knobs else None)

    def tick(self, row: np.ndarray) -> None:
        """One tick of the loop, noted in ``row``."""
        begin, worlds = time.monotonic_ns(), self.robot.worlds
        self.stamps[worlds.ms % 4096] = begin
        mode = self._listen()
        command = self.step()
        done = time.monotonic_ns()
        captured = round(1000 * worlds.read(worlds.touch).time_s)
        age = (done - self.stamps[captured % 4096]) * 1e-9
        for _ in range(self.per_tick):
            self.robot.write(command[0])
        force = float(np.abs(worlds.read(worlds.touch).values[0, self.forces]).max())
        row[1:] = done - begin, age, mode, force, done, float(np.abs(worlds.qvel[0]).max())
        self.blocks["felt"].write(np.array([worlds.time_s, force]))
        self.blocks["beat fast"].write(1.0)
        if worlds.over:
            self.restart()

    def _listen(self) -> int:
        """Take the newest action; hold if a tier above is dead, and back off if it stays so."""
        if any(self.blocks[f"beat {tier}"].age_s() > DEAD_S for tier in ("planner", "policy")):
            now, worlds = time.monotonic(), self.robot.worlds
            if self.dead_from_s is None:
                self.dead_from_s = now
            self.action, mode = worlds.hold(self.action), Mode.HOLD
            if now - self.dead_from_s >= HOLD_S:
                self.action, mode = worlds.retreat(self.action), Mode.BACK_OFF
            return int(mode)
        self.dead_from_s = None
        message = self.blocks["action"].read()
        if message.stamp_ns:
            self.action = message.values[None, 1:]
            return int(message.values[0])
        return int(Mode.FOLLOW)


def hog() -> None:
    """Work until the parent ends, as a neighbour would."""
    end_with_parent()
    numbers = np.random.default_rng(0).standard_normal((200, 200))
    while True:
        numbers = np.tanh(numbers @ numbers.T / 200)


def _others() -> int:
    return max(1, len(os.sched_getaffinity(0)) - 1)


def summary(report: Report) -> dict[str, Any]:
    """Rates, lateness, misses and ages of the fast tier, for tables and JSON; ``force_n_max`` as it was felt.

    Raises:
        DeadTierError: the fast tier died, and its notes with it.
    """
    if not len(report.ticks):
        raise DeadTierError(
            f"the fast tier was dead, or silent for {1000 * DEAD_S:g} ms, {stopped_after_s(report):.2f} s "
            f"after the start; expected it to run for {report.plan.seconds:g} s. The watchdog has stopped "
            "the robot. Without SCHED_FIFO a busy computer may cause it: allow it (rtprio), or quiet it"
        )
    late, compute = report.column("late_ns") / 1000, report.column("compute_ns") / 1000
    wall = report.column("wall_ns")
    age_ms = 1000 * report.column("age_s")[10:]
    return {
        "scheduling": report.granted.words(),
        "ticks": len(late),
        "achieved_hz": float((len(wall) - 1) / ((wall[-1] - wall[0]) * 1e-9)),
        "missed_share": report.missed / (len(late) + report.missed),
        "late_us": _percentiles(late),
        "compute_us": _percentiles(compute),
        "touch_age_ms": _percentiles(age_ms),
        "force_n_max": float(report.column("force_n").max()),
        "modes": {mode.name: int((report.column("mode") == mode).sum()) for mode in Mode},
    }


def stopped_after_s(report: Report) -> float:
    """Seconds from the start until the watchdog stopped the robot; infinite if it never did."""
    return np.inf if report.estop_ns is None else report.estop_ns * 1e-9 - report.began


def _percentiles(values: np.ndarray) -> dict[str, float]:
    found = np.percentile(values, (50, 99, 99.9, 100))
    return dict(zip(("p50", "p99", "p99.9", "max"), map(float, found.round(3)), strict=True))


def hold_after_kill_s(report: Report) -> float:
    """Seconds from the kill until the fast tier held; infinite if it never did."""
    held = (report.column("mode") != Mode.FOLLOW) & (report.column("wall_ns") > (report.killed_ns or 0))
    return (
        float((report.column("wall_ns")[held][0] - (report.killed_ns or 0)) * 1e-9) if held.any() else np.inf
    )
