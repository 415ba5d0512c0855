"""Tiers as processes: punctuality is the benchmark's business, here they run, die and are held."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from forerun.cli.main import main
from forerun.control.chunks import Mode
from forerun.control.lateness import Lateness
from forerun.control.realtime import Pacer, fifo_permitted, one_blas_thread
from forerun.control.simulated import SimulatedTask
from forerun.control.surprise import Usual
from forerun.control.wallclock import DeadTierError, Plan, Report, run_wall_clock
from forerun.control.wallclock_report import hold_after_kill_s, stopped_after_s, summary
from forerun.tasks.scene import load_mujoco

load_mujoco()  # not by importorskip: forerun chooses how to draw before mujoco is imported
LIFT = "forerun/LiftFragile-v0"
WORDS = {"--planner-delay-ms": "no tier can be early", "--jitter-ms": "no tier can be early"}


def brief(**changes: object) -> Report:
    return run_wall_clock(Plan(**{"mission": SimulatedTask(LIFT), "seconds": 1.2, **changes}))  # type: ignore[arg-type]


def test_a_pacer_does_not_drift_and_counts_what_it_missed() -> None:
    pacer = Pacer(2_000_000)
    first = pacer.due_ns
    for _ in range(5):
        pacer.wait()
    assert pacer.due_ns == first + (5 + pacer.missed) * 2_000_000
    before = pacer.missed
    pacer.due_ns -= 7_000_000
    pacer.wait()
    assert pacer.missed >= before + 2


def test_a_pacer_that_resumes_has_missed_nothing_of_what_came_between() -> None:
    pacer = Pacer(100_000_000)
    pacer.due_ns -= 10**12
    pacer.resume()
    assert pacer.missed == 0
    assert 0 < pacer.due_ns - time.monotonic_ns() <= 100_000_000


def test_children_get_one_blas_thread_and_the_parent_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with one_blas_thread():
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="Linux only")
def test_asking_for_fifo_changes_nothing_here() -> None:
    before = os.sched_getscheduler(0)
    fifo_permitted()
    assert os.sched_getscheduler(0) == before


@pytest.mark.slow
def test_tiers_run_and_say_what_they_got() -> None:
    found = summary(brief(fifo=False))
    assert "ordinary scheduling" in found["scheduling"]
    assert found["ticks"] == 1200
    assert found["modes"]["FOLLOW"] > 1000
    assert found["touch_age_ms"]["p50"] < 10
    assert set(found["tiers"]) == {"planner", "policy", "fast"}
    for tier in found["tiers"].values():
        assert tier["achieved_hz"] > 0.5 * tier["wanted_hz"], "generous: the benchmark measures"
        assert {"p50", "p99", "p99.9"} <= set(tier["late_ms"])


@pytest.mark.slow
def test_touch_outside_the_envelope_has_the_planner_asked_early_in_real_time_too() -> None:
    never = np.full((1, 5), np.inf, np.float32)
    mission = SimulatedTask(LIFT, usual=Usual(never, never))
    found = summary(brief(mission=mission, lateness=Lateness(every_s=9.0, delay_s=0.0)))
    assert found["surprise"] == {"watched": True, "raised": 1, "early_plans": 1}
    assert found["modes"]["FOLLOW"] < 1200, "only that one came"


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["planner", "policy"])
def test_when_a_tier_above_is_killed_the_robot_holds_then_backs_off(tier: str) -> None:
    report = brief(seconds=2.0, kill=(tier, 0.8))
    assert hold_after_kill_s(report) < 0.2, "generous: the benchmark holds it to 50 ms"
    after = report.column("mode")[report.column("wall_ns") > (report.killed_ns or 0) + 2e8]
    assert set(np.unique(after)) == {Mode.HOLD, Mode.BACK_OFF}
    assert after[-1] == Mode.BACK_OFF


@pytest.mark.slow
def test_when_the_fast_tier_is_killed_the_watchdog_stops_the_robot() -> None:
    calls = []
    report = run_wall_clock(
        Plan(mission=SimulatedTask(LIFT), seconds=3.0, kill=("fast", 0.4)), estop=lambda: calls.append(1)
    )
    assert calls == [1]
    assert report.killed_ns is not None
    assert report.estop_ns is not None
    assert (report.estop_ns - report.killed_ns) * 1e-9 < 0.2
    assert 0.4 <= stopped_after_s(report) < 1
    with pytest.raises(DeadTierError, match="watchdog has stopped the robot"):
        summary(report)


@pytest.mark.slow
def test_an_outage_of_the_planner_holds_in_real_time_too() -> None:
    outage = Lateness(delay_s=0.05, outages=((0.3, 9.0),))
    modes = summary(brief(seconds=2.0, lateness=outage, hz=500))["modes"]
    assert modes["HOLD"] > 100


@pytest.mark.slow
def test_the_command_prints_the_table_and_keeps_the_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    virtual = ["control", "--tiers", "--trials", "2", "--planner-outage-s", "1.5", "--law-only"]
    assert main([*virtual, "--out", str(tmp_path)]) == 0
    assert main(["control", "--tiers", "--wall-clock", "--seconds", "1", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for words in ("planner", "policy", "fast ", "p99.9", "missed", "touch age", "overshoot", "back off"):
        assert printed.count(words) >= 2, f"both tables say '{words}'"
    assert "success" in printed
    assert "wall clock" in printed
    assert len(list(tmp_path.glob("*.json"))) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["--task", "forerun/Push-v0"],
        ["--busy"],
        ["--planner-delay-ms", "-1"],
        ["--jitter-ms", "-1"],
        ["--seconds", "0"],
        ["--policy-delay-ms", "5", "--wall-clock"],
    ],
    ids=lambda words: words[0],
)
def test_a_mistake_is_explained(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["control", "--tiers", *words])
    assert stop.value.code == 2
    assert WORDS.get(words[0], words[0]) in capsys.readouterr().err
