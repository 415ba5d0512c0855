"""The arm of docs/robots.md runs as it is written there, against a stand-in with its own thread and clock."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fake_arm import Device
from forerun.control.chunks import HOLD_S, Mode
from forerun.control.wallclock import Plan, run_wall_clock
from forerun.control.wallclock_report import hold_after_kill_s, summary

pytestmark = pytest.mark.slow


@pytest.fixture
def arm(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The page's code as a module that other processes find too."""
    page = (root / "docs" / "robots.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "documented_arm.py").write_text(code)
    (tmp_path / "vendor_arm.py").write_text("from fake_arm import connect as connect\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("documented_arm")
    for name in ("documented_arm", "vendor_arm"):
        sys.modules.pop(name, None)


def test_an_arm_presses_as_its_mission_says_and_its_touch_is_aged_by_its_own_clock(arm: ModuleType) -> None:
    with Device() as device:
        report = run_wall_clock(Plan(mission=arm.Press(device.address), seconds=1.5, hz=500))
        found = summary(report)
        forces = np.array(device.history)[:, 2]
    assert np.median(report.column("force_n")[-100:]) == pytest.approx(5, abs=1)
    assert 0 < forces.max() < 15
    assert found["tiers"]["fast"]["touch_age_ms"]["p50"] < 20
    assert found["force"]["over"] == "wanted"
    assert found["force"]["overshoot"]["max"] == pytest.approx(forces.max() / 5, rel=0.3)
    assert device.stopped, "the arm is stopped when its time is over"


@pytest.mark.parametrize("tier", ["planner", "policy"])
def test_when_a_tier_above_is_killed_the_arm_keeps_pressing_then_lifts_off(
    arm: ModuleType, tier: str
) -> None:
    with Device() as device:
        report = run_wall_clock(
            Plan(mission=arm.Press(device.address), seconds=2.2, hz=500, kill=(tier, 0.8))  # type: ignore[arg-type]
        )
        killed_s = (report.killed_ns or 0) * 1e-9
        after = device.since(killed_s)
    assert hold_after_kill_s(report) < 0.2, "generous: benchmarks/realtime.py holds it to 50 ms"
    modes = report.column("mode")[report.column("wall_ns") > (report.killed_ns or 0) + 2e8]
    assert set(np.unique(modes)) == {Mode.HOLD, Mode.BACK_OFF}
    held = after[(after[:, 0] > killed_s + 0.2) & (after[:, 0] < killed_s + HOLD_S)]
    assert np.median(held[:, 2]) == pytest.approx(5, abs=1), "held force-safe"
    assert after[-1, 2] == 0, "and off the surface in the end"


def test_when_the_fast_tier_is_killed_the_button_stops_the_arm(arm: ModuleType) -> None:
    with Device() as device:
        plan = Plan(mission=arm.Press(device.address), seconds=3.0, hz=500, kill=("fast", 0.5))
        report = run_wall_clock(plan, estop=device.stop)
        assert report.killed_ns is not None
        assert report.estop_ns is not None
        after = device.since(report.estop_ns * 1e-9 + 0.05)
    assert (report.estop_ns - report.killed_ns) * 1e-9 < 0.2
    assert device.stopped
    assert (after[:, 1] == 0).all()
