"""What a run in real time comes to: the same figures as virtual time gives, and what only a clock tells."""

from __future__ import annotations

from typing import Any

import numpy as np

from forerun.control.chunks import CONTROL_HZ, Mode
from forerun.control.fast_tier import DEAD_S
from forerun.control.mission import Mission
from forerun.control.punctuality import percentiles, punctuality
from forerun.control.slow_tiers import SLOW_COLUMNS
from forerun.control.wallclock import DeadTierError, Report


def summary(report: Report) -> dict[str, Any]:
    """Rates, lateness, misses and ages of every tier, forces and surprises, for tables and JSON.

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
    planned = report.slow["planner"]
    return {
        "executor": "wall clock",
        "mission": report.plan.mission.about,
        "scheduling": report.granted.words(),
        "ticks": len(late),
        "missed_share": report.missed / (len(late) + report.missed),
        "late_us": percentiles(late),
        "compute_us": percentiles(compute),
        "touch_age_ms": percentiles(1000 * report.column("age_s")[10:]),
        "force": _force(report.plan.mission, report.column("force_n")),
        "modes": {mode.name: int((report.column("mode") == mode).sum()) for mode in Mode},
        "surprise": {
            "watched": report.plan.mission.features > 0,
            "raised": report.surprises,
            "early_plans": int(planned[:, SLOW_COLUMNS.index("early")].sum()),
        },
        "tiers": tiers(report),
    }


def _force(mission: Mission, force_n: np.ndarray) -> dict[str, Any]:
    """The largest force felt, beside what was wanted or allowed, as far as the mission says."""
    over, of_n = (
        ("limit", mission.force_limit_n) if mission.wanted_n is None else ("wanted", mission.wanted_n)
    )
    found: dict[str, Any] = {"felt_n_max": float(force_n.max())}
    if np.isfinite(mission.force_limit_n):
        found |= {
            "limit_n": mission.force_limit_n,
            "violations": int((force_n > mission.force_limit_n).sum()),
        }
    if np.isfinite(of_n):
        found |= {"over": over, "overshoot": {"max": float(force_n.max()) / of_n}}
    return found


def tiers(report: Report) -> dict[str, Any]:
    """The punctuality of each tier, in seconds of its own from its first tick to its last."""
    fast = {name: report.column(name) for name in ("wall_ns", "late_ns", "age_s", "compute_ns")}
    fast["age_s"][:10] = np.nan  # the first samples are older than the start
    meant = {tier: rows[rows[:, 0] <= fast["wall_ns"][-1]] for tier, rows in report.slow.items()}
    slow = {tier: dict(zip(SLOW_COLUMNS, rows.T, strict=True)) for tier, rows in meant.items()}
    plan, missed = report.plan, {**report.slow_missed, "fast": report.missed}
    rates = {"planner": 1 / plan.lateness.every_s, "policy": float(CONTROL_HZ), "fast": float(plan.hz)}
    return {tier: _tier(rates[tier], notes, missed[tier]) for tier, notes in {**slow, "fast": fast}.items()}


def _tier(hz: float, notes: dict[str, np.ndarray], missed: int) -> dict[str, Any]:
    wall_s = notes["wall_ns"] * 1e-9
    seconds = float(wall_s[-1] - wall_s[0]) if len(wall_s) > 1 else 0.0
    # the first tick begins the time that the others take
    figures = punctuality(hz, seconds, notes["late_ns"][1:] * 1e-9, notes["age_s"], missed)
    return {**figures, "compute_ms": percentiles(notes["compute_ns"] / 1e6)}


def stopped_after_s(report: Report) -> float:
    """Seconds from the start until the watchdog stopped the robot; infinite if it never did."""
    return np.inf if report.estop_ns is None else report.estop_ns * 1e-9 - report.began


def hold_after_kill_s(report: Report) -> float:
    """Seconds from the kill until the fast tier held; infinite if it never did."""
    wall_ns, killed_ns = report.column("wall_ns"), report.killed_ns or 0
    held = (report.column("mode") != Mode.FOLLOW) & (wall_ns > killed_ns)
    return float((wall_ns[held][0] - killed_ns) * 1e-9) if held.any() else np.inf
