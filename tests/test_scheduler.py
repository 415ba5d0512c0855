"""Deadlines first, partners while there is time, and a promise only where it can be kept."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from forerun.serving.costs import CostTable, bucket_of
from forerun.serving.protocol import Refusal, View
from forerun.serving.scheduler import FULL_LOAD, Level, Scheduler

RATE = 30.0
LIVE, SEEN = View(period_s=1 / RATE), View(period_s=1 / RATE, picture="jpeg")


@dataclass(eq=False)
class Someone:
    """A session, to a scheduler."""

    name: str


def scheduler(row_s: float = 1e-4, picture_s: float = 2e-4, fixed_s: float = 5e-4) -> Scheduler:
    found = Scheduler(max_rows=64)
    for rows in (1, 2, 4, 8, 16, 32, 64):
        for _ in range(30):
            found.steps.note(rows, fixed_s + rows * row_s)
            found.pictures.note(rows, rows * picture_s)
    return found


def wait(found: Scheduler, who: Someone, view: View, now_s: float) -> None:
    found.add(found.job(who, None, view, now_s))


def test_the_earliest_deadline_goes_first() -> None:
    found = scheduler()
    found.max_rows = 2
    for name, deadline in (("slow", 0.5), ("urgent", 0.01), ("middling", 0.1)):
        wait(found, Someone(name), View(deadline_s=deadline), 0.0)
    assert [job.session.name for job in found.take(0.0)] == ["urgent", "middling"]
    assert [job.session.name for job in found.take(0.0)] == ["slow"]


def test_a_pass_waits_for_partners_while_there_is_time_and_no_longer() -> None:
    found = scheduler()
    one, two = Someone("one"), Someone("two")
    found.admit(one, LIVE)
    found.admit(two, LIVE)
    wait(found, one, LIVE, 0.0)
    assert 0.001 < found.wait_s(0.0) < 0.01  # type: ignore[operator]
    assert found.wait_s(0.02) == 0.0
    wait(found, two, LIVE, 0.001)
    assert found.wait_s(0.001) == 0.0  # everybody is here


def test_a_session_has_one_row_in_a_pass() -> None:
    found = scheduler()
    eager = Someone("eager")
    wait(found, eager, LIVE, 0.0)
    wait(found, eager, LIVE, 0.0)
    assert len(found.take(0.0)) == 1
    assert len(found) == 1


def test_best_effort_fills_what_is_left_and_never_comes_first() -> None:
    found = scheduler()
    found.max_rows = 3
    for k in range(3):
        wait(found, Someone(f"trainer {k}"), View(best_effort=True), 0.0)
    wait(found, Someone("person"), LIVE, 0.0)
    assert [job.session.name for job in found.take(0.0)] == ["person", "trainer 0", "trainer 1"]


def test_best_effort_stands_back_when_a_deadline_is_near() -> None:
    found = scheduler()
    wait(found, Someone("trainer"), View(best_effort=True), 0.0)
    wait(found, Someone("person"), LIVE, 0.0)
    near = 1 / RATE - 0.005
    assert [job.session.name for job in found.take(near)] == ["person"]


def test_pictures_go_before_anybody_is_refused_and_come_back_later() -> None:
    found = scheduler()
    seen, let_in = [], []

    def let_everybody_in() -> None:
        for k in range(1000):
            found.admit(k, SEEN)
            let_in.append(k)
            seen.append(found.level)

    with pytest.raises(Refusal, match="promised at most") as refusal:
        let_everybody_in()
    assert refusal.value.code == "no_room"
    assert refusal.value.retry_after_s is not None
    assert seen == sorted(seen)
    assert set(seen) == set(Level)
    assert found.share(Level.NUMBERS) <= FULL_LOAD
    for k in let_in:
        found.leave(k)
    assert found.level is Level.FULL


def test_best_effort_is_let_in_without_a_promise() -> None:
    found = scheduler()
    for k in range(5000):
        found.admit(k, View(period_s=0.01, best_effort=True))
    assert found.share(Level.FULL) == 0.0


def test_an_old_slow_pass_is_forgotten() -> None:
    table = CostTable()
    table.note(8, 0.5)
    for _ in range(400):
        table.note(8, 0.002)
    assert table.worst(8) == pytest.approx(0.002)
    assert table.usual(8) < 0.003


def test_what_was_never_run_is_inferred() -> None:
    table = CostTable()
    assert table.worst(4) == 0.0
    table.note(8, 0.002)
    assert table.worst(3) == 0.002
    assert table.worst(32) == pytest.approx(0.008)
    assert bucket_of(33) == 64
