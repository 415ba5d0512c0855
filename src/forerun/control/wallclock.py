"""Tiers in real time: every tier a process of its own, numbers through shared memory, deadlines measured.

    planner   5 Hz      a chunk of planned actions            \
    policy   50 Hz      the action of now, or a safe hold      } heartbeats, watched by the fast tier
    fast   1000 Hz      robot, law, learned residual          /

Scores come from virtual time (`forerun.control.virtual`), where no host can disturb them. Here only
punctuality counts: how late each tick woke, how long it computed, how old touch was at the command, and how
soon the robot holds still when a tier dies.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from forerun.control.chunks import CONTROL_HZ
from forerun.control.fast_tier import DEAD_S, FAST_COLUMNS, fast
from forerun.control.lateness import Lateness
from forerun.control.mission import TIERS, Mission, TierName
from forerun.control.realtime import Granted, end_with_parent, one_blas_thread
from forerun.control.shared import Notes
from forerun.control.slow_tiers import SLOW_COLUMNS, planner, policy
from forerun.control.wires import Wires, lay, names_of
from forerun.types import Error


class DeadTierError(Error):
    """A tier died before it had begun, or took what it had noted with it."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run."""

    mission: Mission
    seconds: float = 10.0
    hz: int = 1000
    """Of the fast tier: 1000 or 500."""
    fifo: bool = True
    lateness: Lateness = field(default_factory=lambda: Lateness(delay_s=0.0))
    """Of the planner, added to what its plans really take."""
    busy: bool = False
    """Keep the other cores busy meanwhile."""
    kill: tuple[TierName, float] | None = None
    """Kill a tier so many seconds after the start."""


@dataclass
class Report:
    """What the tiers noted, a row per tick."""

    plan: Plan
    slow: dict[str, np.ndarray]
    """Of planner and policy, (N, columns of `SLOW_COLUMNS`), kept even if they were killed."""
    slow_missed: dict[str, int]
    granted: Granted = field(default_factory=lambda: Granted(False, False))
    missed: int = 0
    """Of the fast tier."""
    surprises: int = 0
    ticks: np.ndarray = field(default_factory=lambda: np.zeros((0, len(FAST_COLUMNS))))
    """Of the fast tier, (N, columns of `FAST_COLUMNS`); none if it died."""
    began: float = 0.0
    """Monotonic seconds of the start."""
    killed_ns: int | None = None
    estop_ns: int | None = None
    """When the watchdog stopped the robot because the fast tier was dead."""

    def column(self, name: str) -> np.ndarray:
        """Of the fast tier."""
        return self.ticks[:, FAST_COLUMNS.index(name)]


def run_wall_clock(plan: Plan, estop: Callable[[], None] | None = None) -> Report:
    """Run the tiers for ``plan.seconds`` and report; every process has ended when this returns.

    Args:
        estop: stops the robot without the fast tier (a relay, the vendor's watchdog); called if that dies.

    Raises:
        DeadTierError: a tier did not come up.
    """
    wires = lay(plan.mission)
    diaries = {
        "planner": Notes(round(100 * plan.seconds) + 100, SLOW_COLUMNS),
        "policy": Notes(round(CONTROL_HZ * plan.seconds) + 100, SLOW_COLUMNS),
    }
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "ticks.npz"
        jobs, hogs = _jobs(plan, wires, diaries, log)
        try:
            with one_blas_thread():
                for job in (*jobs.values(), *hogs):
                    job.start()
            times = _supervise(plan, wires, jobs, log, estop)
            return _report(plan, diaries, log, times)
        finally:
            for job in (*jobs.values(), *hogs):
                job.kill()
                job.join()
            for part in (*wires.values(), *diaries.values()):
                part.close()


def _jobs(
    plan: Plan, wires: Wires, diaries: dict[str, Notes], log: Path
) -> tuple[dict[str, BaseProcess], list[BaseProcess]]:
    """The tiers' processes, and those that keep other cores busy; none is started."""
    spawn, names, notes = multiprocessing.get_context("spawn"), names_of(wires), diaries
    ticks = round(plan.seconds * plan.hz)
    work = {
        "planner": (planner, (plan.mission, plan.lateness, plan.fifo, names, notes["planner"].address)),
        "policy": (policy, (plan.mission, plan.fifo, names, notes["policy"].address)),
        "fast": (fast, (plan.mission, plan.hz, ticks, plan.fifo, names, str(log))),
    }
    jobs: dict[str, BaseProcess] = {
        tier: spawn.Process(target=target, args=args, daemon=True) for tier, (target, args) in work.items()
    }
    others = max(1, len(os.sched_getaffinity(0)) - 1) if plan.busy else 0
    return jobs, [spawn.Process(target=hog, daemon=True) for _ in range(others)]


@dataclass
class _Times:
    began: float
    killed_ns: int | None = None
    estop_ns: int | None = None


def _supervise(
    plan: Plan, wires: Wires, jobs: dict[str, BaseProcess], log: Path, estop: Callable[[], None] | None
) -> _Times:
    """Start the tiers, kill one if that was asked for, and stop the robot if the fast one falls silent."""
    _wait_for_all(wires, jobs)
    wires["go"].write(1.0)
    times = _Times(time.monotonic())
    while not log.exists():
        if plan.kill is not None and times.killed_ns is None:
            tier, at_s = plan.kill
            if time.monotonic() - times.began >= at_s:
                os.kill(jobs[tier].pid or 0, signal.SIGKILL)
                times.killed_ns = time.monotonic_ns()
        silent = wires["beat fast"].age_s() > DEAD_S and not wires["done"].stamp_ns
        if (silent or not jobs["fast"].is_alive()) and not log.exists():
            times.estop_ns = time.monotonic_ns()
            if estop is not None:
                estop()
            break
        time.sleep(0.002)
    jobs["fast"].join(timeout=5)
    return times


def _report(plan: Plan, diaries: dict[str, Notes], log: Path, times: _Times) -> Report:
    slow = {tier: notes.table() for tier, notes in diaries.items()}
    report = Report(plan, slow, {tier: notes.missed for tier, notes in diaries.items()}, **vars(times))
    if log.exists():
        with np.load(log) as saved:
            report.granted = Granted(bool(saved["fifo"]), bool(saved["locked"]))
            report.missed, report.surprises = int(saved["missed"]), int(saved["surprises"])
            report.ticks = saved["ticks"]
    return report


def _wait_for_all(wires: Wires, jobs: dict[str, BaseProcess]) -> None:
    until = time.monotonic() + 60
    while any(np.isinf(wires[f"beat {tier}"].age_s()) for tier in TIERS):
        dead = [tier for tier, job in jobs.items() if not job.is_alive()]
        if dead or time.monotonic() > until:
            raise DeadTierError(
                f"tier '{(dead or ['?'])[0]}' did not come up; expected a heartbeat within a minute. Its own "
                "error stands above; nothing was sent to the robot"
            )
        time.sleep(0.01)


def hog() -> None:
    """Work until the parent ends, as a neighbour would."""
    end_with_parent()
    numbers = np.random.default_rng(0).standard_normal((200, 200))
    while True:
        numbers = np.tanh(numbers @ numbers.T / 200)
