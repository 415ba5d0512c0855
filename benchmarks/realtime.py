"""Deadlines from Python: what the tiers keep on this computer, and how soon a dead one ends in a safe hold.

    python benchmarks/realtime.py --part fifo            # 1 kHz, other cores busy; beside it an idle loop
    python benchmarks/realtime.py --part ordinary        # the same without SCHED_FIFO
    python benchmarks/realtime.py --part age             # how old touch is at the command, in both executors
    python benchmarks/realtime.py --part kills-planner   # killed with -9 in contact, 20 times
    python benchmarks/realtime.py --part kills-policy
    python benchmarks/realtime.py                        # all of them, going on where they were stopped

The bare loop sleeps and wakes as the fast tier does and computes nothing: what it misses, the host takes, and
no code can give back. Writes one JSON per part; what is over a bar is written all the same, and says so.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from kept import kept
from rich.console import Console
from rich.pretty import Pretty

from forerun.cli.tiers import packaged_reflex
from forerun.control.chunks import HOLD_S, Mode
from forerun.control.lateness import Lateness
from forerun.control.mission import TierName
from forerun.control.realtime import Pacer, prepare
from forerun.control.simulated import SimulatedTask
from forerun.control.student import read_student
from forerun.control.virtual import Trials, run_virtual
from forerun.control.wallclock import Plan, Report, hog, run_wall_clock
from forerun.control.wallclock_report import hold_after_kill_s, stopped_after_s, summary
from forerun.evaluation.results import write_result
from forerun.tasks.touch import laws

TASK = "forerun/LiftFragile-v0"
BARS = {"missed_share": 0.0005, "late_us.p99": 250.0, "compute_us.p99": 150.0}
AGE_BAR_MS, HOLD_BAR_S = 10.0, 0.05
IN_CONTACT_S = (0.6, 1.2)
"""Kills fall between these: the box is held, and rises."""
PARTS = ("fifo", "ordinary", "age", "kills-planner", "kills-policy")


@dataclass(frozen=True, kw_only=True)
class Realtime:
    """What the tiers keep on this computer, one JSON per part in benchmarks/results."""

    part: Literal["all", "fifo", "ordinary", "age", "kills-planner", "kills-policy"] = "all"
    """Which one; with "all", those that are not done yet."""
    seconds: float = 60.0
    """Of each loop."""
    kills: int = 20
    """Of each tier."""
    seed: int = 0
    """Of the world, and of the moments of the kills."""
    out: Path = Path("runs/realtime")
    """Where what is done is kept; remove it to measure anew."""

    def __call__(self) -> None:
        torch.set_num_threads(1)
        if self.part != "all":
            self._write(self.part)
            return
        for part in PARTS:
            self._once(f"{part}-written", lambda part=part: replace(self, part=part)._write(part))

    def _write(self, part: str) -> dict[str, Any]:
        """Measure a part and write its result."""
        path = packaged_reflex(TASK)
        weights = None if path is None else read_student(path, laws(TASK).scripted().law.knobs, TASK)
        mission = SimulatedTask(TASK, self.seed, weights)
        measure = {"age": self._ages, "fifo": self._rate, "ordinary": self._rate}.get(part, self._kills)
        found = measure(mission)
        Console().print(f"{TASK}, {part}", Pretty(found))
        learned = weights is not None
        settings = {"task": TASK, "seconds": self.seconds, "hz": 1000, "learned_residual": learned}
        n = self.kills if part.startswith("kills") else round(1000 * self.seconds)
        path = write_result(f"realtime-{part}", found, settings=settings, seed=self.seed, n=n)
        return {"result": path.name}

    def _once(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was kept under this name, or is measured now and kept."""
        return kept(self.out / f"{name}-{self.seconds:g}s-seed{self.seed}.json", measure)

    def _rate(self, mission: SimulatedTask) -> dict[str, Any]:
        fifo = self.part == "fifo"
        bare = bare_loop(self.seconds / 2, fifo)
        report = run_wall_clock(Plan(mission=mission, seconds=self.seconds, fifo=fifo, busy=True))
        if report.estop_ns is not None:
            return {"watchdog_stopped_after_s": stopped_after_s(report), "bare_loop": bare}
        found = summary(report)
        return {**found, "bare_loop": bare, "bars": bars(found)}

    def _ages(self, mission: SimulatedTask) -> dict[str, Any]:
        virtual = run_virtual(Trials(task=TASK, seeds=range(10), planner=Lateness()))
        wall = summary(run_wall_clock(Plan(mission=mission, seconds=self.seconds, busy=True)))
        runs = {"virtual": virtual, "wall_clock": wall}
        ages = {name: found["tiers"]["fast"]["touch_age_ms"] for name, found in runs.items()}
        return {**ages, "met": {name: age["p99"] <= AGE_BAR_MS for name, age in ages.items()}}

    def _kills(self, mission: SimulatedTask) -> dict[str, Any]:
        tier: Any = self.part.removeprefix("kills-")
        times = np.random.default_rng(self.seed).uniform(*IN_CONTACT_S, self.kills)
        return after_kills(
            [
                self._once(f"{self.part}-{k}", lambda at=at: killed(mission, tier, at))
                for k, at in enumerate(times)
            ]
        )


def killed(mission: SimulatedTask, tier: TierName, at_s: float) -> dict[str, Any]:
    """How soon the robot held after a kill, and what it felt and did from then on."""
    seconds = IN_CONTACT_S[1] + HOLD_S
    report = run_wall_clock(Plan(mission=mission, seconds=seconds, busy=True, kill=(tier, at_s)))
    if not len(report.ticks):
        return {"watchdog_stopped_after_s": stopped_after_s(report)}
    return after_kill(report)


def after_kill(report: Report) -> dict[str, Any]:
    """The figures of one kill; ``hold_ms`` is None if the robot never held."""
    since = (report.column("wall_ns") - (report.killed_ns or 0)) * 1e-9
    force_n, hold_s = report.column("force_n"), hold_after_kill_s(report)
    return {
        "hold_ms": 1000 * hold_s if np.isfinite(hold_s) else None,
        "force_n_before": float(force_n[since < 0][-20:].mean()),
        "force_n_after": float(force_n[since > 0].max()),
        "speed_after_150_ms": float(report.column("speed")[since > 0.15].max()),
        "early_hold": bool((report.column("mode")[since < 0] != Mode.FOLLOW).any()),
    }


def after_kills(kills: list[dict[str, Any]]) -> dict[str, Any]:
    """All kills together."""
    seen = [kill for kill in kills if "hold_ms" in kill]
    holds = np.array([kill["hold_ms"] for kill in seen if kill["hold_ms"] is not None])
    return {
        "kills": len(kills),
        "stopped_by_watchdog": len(kills) - len(seen),
        "in_contact": sum(kill["force_n_before"] > 0.5 for kill in seen),
        "held": len(holds),
        "within_50_ms": int((holds <= 1000 * HOLD_BAR_S).sum()),
        "hold_ms": {"p50": float(np.median(holds)), "max": float(holds.max())} if len(holds) else {},
        "force_n_after_max": max((kill["force_n_after"] for kill in seen), default=0.0),
        "speed_after_150_ms_max": max((kill["speed_after_150_ms"] for kill in seen), default=0.0),
        "early_holds": sum(kill["early_hold"] for kill in seen),
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
