"""Deadlines from Python: what the tiers keep on this computer, and how soon a dead one ends in a safe hold.

    python benchmarks/realtime.py --part fifo        # 1 kHz, other cores busy; beside it an idle loop
    python benchmarks/realtime.py --part ordinary    # the same without SCHED_FIFO
    python benchmarks/realtime.py --part age         # how old touch is at the command, in both executors
    python benchmarks/realtime.py --part kills       # --tier planner or policy killed in contact, 20 times

The bare loop sleeps and wakes as the fast tier does and computes nothing: what it misses, the host takes, and
no code can give back. Writes one JSON per part; what is over a bar is written all the same, and says so.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from rich.console import Console

from forerun.cli.tiers import packaged_reflex, tiers_table, virtual_run
from forerun.control.chunks import HOLD_S, Mode
from forerun.control.lateness import Lateness
from forerun.control.realtime import Pacer, prepare
from forerun.control.student import read_student
from forerun.control.wallclock import (
    Plan,
    Report,
    TierName,
    hog,
    hold_after_kill_s,
    run_wall_clock,
    stopped_after_s,
    summary,
)
from forerun.evaluation.results import write_result
from forerun.tasks.touch import laws

TASK = "forerun/LiftFragile-v0"
BARS = {"missed_share": 0.0005, "late_us.p99": 250.0, "compute_us.p99": 150.0}
AGE_BAR_MS, HOLD_BAR_S = 10.0, 0.05
IN_CONTACT_S = (0.6, 1.2)
"""Kills fall between these: the box is held, and rises."""


@dataclass(frozen=True, kw_only=True)
class Realtime:
    """See the top of this file."""

    part: Literal["fifo", "ordinary", "age", "kills"]
    seconds: float = 60.0
    """Of each loop."""
    tier: Literal["planner", "policy"] = "planner"
    """Which one is killed."""
    kills: int = 20
    seed: int = 0

    def __call__(self) -> None:
        torch.set_num_threads(1)
        path = packaged_reflex(TASK)
        weights = None if path is None else read_student(path, laws(TASK).scripted().law.knobs, TASK)
        measure = {"age": self._ages, "kills": self._kills}.get(self.part, self._rate)
        found = measure(weights)
        Console().print(tiers_table(f"{TASK}, {self.part}", found))
        settings = {
            "task": TASK,
            "seconds": self.seconds,
            "hz": 1000,
            "learned_residual": weights is not None,
        }
        n = self.kills if self.part == "kills" else round(1000 * self.seconds)
        name = f"{self.part}-{self.tier}" if self.part == "kills" else self.part
        write_result(f"realtime-{name}", found, settings=settings, seed=self.seed, n=n)

    def _rate(self, weights: dict[str, np.ndarray] | None) -> dict[str, Any]:
        fifo = self.part == "fifo"
        bare = bare_loop(self.seconds / 2, fifo)
        plan = Plan(task=TASK, seconds=self.seconds, fifo=fifo, busy=True, weights=weights, seed=self.seed)
        report = run_wall_clock(plan)
        if report.estop_ns is not None:
            return {"watchdog_stopped_after_s": stopped_after_s(report), "bare_loop": bare}
        found = summary(report)
        return {**found, "bare_loop": bare, "bars": bars(found)}

    def _ages(self, weights: dict[str, np.ndarray] | None) -> dict[str, Any]:
        plan = Plan(task=TASK, seconds=self.seconds, busy=True, weights=weights, seed=self.seed)
        ages = {
            "virtual": virtual_run(TASK, Lateness(), weights, range(10))["touch_age_ms"],
            "wall_clock": summary(run_wall_clock(plan))["touch_age_ms"],
        }
        return {**ages, "met": {name: age["p99"] <= AGE_BAR_MS for name, age in ages.items()}}

    def _kills(self, weights: dict[str, np.ndarray] | None) -> dict[str, Any]:
        times = np.random.default_rng(self.seed).uniform(*IN_CONTACT_S, self.kills)
        return after_kills([self._killed(self.tier, at, weights) for at in times])

    def _killed(self, tier: TierName, at_s: float, weights: dict[str, np.ndarray] | None) -> Report:
        seconds = IN_CONTACT_S[1] + HOLD_S
        return run_wall_clock(
            Plan(task=TASK, seconds=seconds, busy=True, weights=weights, seed=self.seed, kill=(tier, at_s))
        )


def after_kills(reports: list[Report]) -> dict[str, Any]:
    """How soon the robot held, and what it felt and did from then on."""
    holds = np.array([hold_after_kill_s(report) for report in reports])
    held = np.isfinite(holds)
    before, after, speeds = [], [], []
    for report in reports:
        since = (report.column("wall_ns") - (report.killed_ns or 0)) * 1e-9
        before.append(report.column("force_n")[since < 0][-20:].mean())
        after.append(report.column("force_n")[since > 0].max())
        speeds.append(report.column("speed")[since > 0.15].max())
    return {
        "kills": len(reports),
        "in_contact": int((np.array(before) > 0.5).sum()),
        "held": int(held.sum()),
        "within_50_ms": int((holds <= HOLD_BAR_S).sum()),
        "hold_ms": {"p50": float(np.median(1000 * holds[held])), "max": float(1000 * holds[held].max())},
        "force_n_after_max": float(max(after)),
        "speed_after_150_ms_max": float(max(speeds)),
        "early_holds": sum(
            int((r.column("mode")[r.column("wall_ns") < (r.killed_ns or 0)] != Mode.FOLLOW).any())
            for r in reports
        ),
    }


def bars(found: dict[str, Any]) -> dict[str, bool]:
    """Which bars are met."""
    flat = {
        "missed_share": found["missed_share"],
        "late_us.p99": found["late_us"]["p99"],
        "compute_us.p99": found["compute_us"]["p99"],
    }
    return {name: bool(flat[name] <= bar) for name, bar in BARS.items()}


def bare_loop(seconds: float, fifo: bool) -> dict[str, Any]:
    """A loop at 1 kHz that does nothing, the other core as busy as beside the fast tier."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "late.npz"
        loop = spawn.Process(target=_idle_ticks, args=(round(1000 * seconds), fifo, str(path)))
        other = spawn.Process(target=hog, daemon=True)
        other.start()
        loop.start()
        loop.join()
        other.kill()
        other.join()
        with np.load(path) as saved:
            late, missed = saved["late"] / 1000, int(saved["missed"])
    p50, p99, top = np.percentile(late, (50, 99, 99.9))
    return {
        "ticks": len(late),
        "missed_share": missed / (len(late) + missed),
        "late_us": {"p50": float(p50), "p99": float(p99), "p99.9": float(top), "max": float(late.max())},
    }


def _idle_ticks(ticks: int, fifo: bool, path: str) -> None:
    late = np.zeros(ticks)
    prepare(fifo)
    pacer = Pacer(1_000_000)
    for i in range(ticks):
        late[i] = pacer.wait()
    np.savez(path, late=late, missed=pacer.missed)


if __name__ == "__main__":
    tyro.cli(Realtime)()
