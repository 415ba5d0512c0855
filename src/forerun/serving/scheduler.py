"""Which rows go into the next pass, how well they are served, and who is let in. Knows no model, no clock.

Earliest deadline first. A pass waits for partners while every deadline stays safe; under load the picture is
given up before anyone is refused, and every reply says so.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count
from typing import Any

from forerun.serving.costs import CostTable
from forerun.serving.protocol import Refusal, View


class Level(IntEnum):
    """How much of what was asked for is given."""

    FULL = 0
    HALF = 1
    """Every second picture; in between the last one stands."""
    NUMBERS = 2
    """No pictures."""


PICTURES = {Level.FULL: 1.0, Level.HALF: 0.5, Level.NUMBERS: 0.0}
"""The share of pictures that is drawn."""
FULL_LOAD = 0.7
"""Of the time, planned for; the rest absorbs bad luck."""
MARGIN_S = 0.002
PATIENCE = 0.2
"""A row waits for partners at most this share of its time."""
COMPANY_S = 0.001
"""So long a row waits that has no period, if there are other sessions: they may be about to ask, too."""
UNHURRIED_S = 0.1
"""Until when somebody expects an answer who stated no period."""


@dataclass(slots=True)
class Job:
    """One step of one session that waits."""

    session: Any
    request: Any
    arrived_s: float
    deadline_s: float
    patient_s: float
    """Until when it may wait for partners."""
    live: bool
    rows: int = 1
    drawn: bool = False
    """Whether a picture is asked for."""


@dataclass(slots=True)
class Load:
    """What one session asks for."""

    rate_hz: float
    pictures: bool
    live: bool
    within_s: float


@dataclass
class Scheduler:
    """Waiting jobs and admitted load of one engine.

    Args:
        max_rows: of a pass.
        others: seconds of all but the model, per pass by its rows: reading, sorting, packing, sending.
            Measured by whoever sends the replies.
        open_doors: refuse nobody and lower no fidelity, to measure what happens then.
    """

    max_rows: int = 64
    steps: CostTable = field(default_factory=CostTable)
    pictures: CostTable = field(default_factory=CostTable)
    others: CostTable = field(default_factory=CostTable)
    open_doors: bool = False

    def __post_init__(self) -> None:
        self.loads: dict[Any, Load] = {}
        self._live: list[tuple[float, int, Job]] = []
        self._rest: list[tuple[float, int, Job]] = []
        self._order = count()
        self._level = Level.FULL

    # -- waiting --------------------------------------------------------------------------------------

    def add(self, job: Job) -> None:
        """A job waits."""
        heapq.heappush(self._live if job.live else self._rest, (job.deadline_s, next(self._order), job))

    def job(self, session: Any, request: Any, view: View, now_s: float, rows: int = 1) -> Job:
        """A step of a session with this view, due from now."""
        allowed = view.deadline_s or view.period_s or UNHURRIED_S
        patient = PATIENCE * view.period_s if view.period_s else 0.0
        if not view.period_s and rows == 1 and len(self.loads) > 1:
            patient = COMPANY_S
        return Job(
            session, request, now_s, now_s + allowed, now_s + patient, not view.best_effort, rows,
            view.picture != "none",
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._live) + len(self._rest)

    def remove(self, session: Any) -> list[Job]:
        """Take out all jobs of a session that ends."""
        gone = []
        for heap in (self._live, self._rest):
            gone += [job for _, _, job in heap if job.session is session]
            heap[:] = [entry for entry in heap if entry[2].session is not session]
            heapq.heapify(heap)
        return gone

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until a pass is due: 0 for now, None for never."""
        if not self._live:
            return 0.0 if self._rest else None
        if len(self._live) >= min(self.max_rows, self._regulars()):
            return 0.0
        first = self._live[0][2]
        latest = first.deadline_s - MARGIN_S - 2 * self._expected(len(self._live))
        patient = min(job.patient_s for _, _, job in self._live)
        return max(0.0, min(latest, patient) - now_s)

    def take(self, now_s: float) -> list[Job]:
        """The rows of the next pass, at most one per session; the most urgent first, others fill up."""
        batch: list[Job] = []
        rows = self._fill(batch, self._live, 0)
        urgent = batch[0].deadline_s - now_s if batch else float("inf")
        if not batch or 2 * self.steps.worst(self.max_rows) < urgent:
            self._fill(batch, self._rest, rows)
        return batch

    def _fill(self, batch: list[Job], heap: list[tuple[float, int, Job]], rows: int) -> int:
        seen = {id(job.session) for job in batch}
        later = []
        while heap and rows < self.max_rows:
            entry = heapq.heappop(heap)
            job = entry[2]
            if id(job.session) in seen or (batch and (job.rows > 1 or batch[0].rows > 1)):
                later.append(entry)
                continue
            batch.append(job)
            seen.add(id(job.session))
            rows += job.rows
        for entry in later:
            heapq.heappush(heap, entry)
        return rows

    def drop_best_effort(self) -> list[Job]:
        """Give up all that has no deadline."""
        gone = [job for _, _, job in self._rest]
        self._rest.clear()
        return gone

    def _regulars(self) -> int:
        """Sessions that come at a rate: when all of them wait, nobody else is to be waited for."""
        return sum(load.live for load in self.loads.values()) or 1

    def _expected(self, rows: int) -> float:
        drawn = sum(job.drawn for _, _, job in self._live) if self.level is not Level.NUMBERS else 0
        return self.steps.worst(rows) + (self.pictures.worst(drawn) if drawn else 0.0)

    # -- being let in ---------------------------------------------------------------------------------

    def admit(self, session: Any, view: View) -> None:
        """Count a session in, or say why not.

        Raises:
            Refusal: at the lowest fidelity there would still be no time for it.
        """
        rate = 0.0 if view.period_s is None else 1 / view.period_s
        within = view.deadline_s or view.period_s or UNHURRIED_S
        load = Load(rate, view.picture != "none", not view.best_effort, within)
        if load.live and rate and not self.open_doors:
            share = self.share(Level.NUMBERS, [*self.loads.values(), load])
            if share > FULL_LOAD:
                raise Refusal(
                    "no_room",
                    f"{len(self.loads)} sessions are served; one more at {rate:g} Hz would take {share:.0%} "
                    f"of the time even without pictures, and {FULL_LOAD:.0%} is promised at most. Ask for a "
                    "longer period, or come back",
                    retry_after_s=5.0,
                )
        self.loads[session] = load
        self._choose_level()

    def leave(self, session: Any) -> None:
        """Count a session out."""
        if self.loads.pop(session, None) is not None:
            self._choose_level()

    def share(self, level: Level, loads: list[Load] | None = None) -> float:
        """The share of the time that the loads take at a level; best effort not counted."""
        found = [
            load
            for load in (list(self.loads.values()) if loads is None else loads)
            if load.live and load.rate_hz
        ]
        if not found:
            return 0.0
        within = min(load.within_s for load in found)
        row = self.steps.per_row(within) + self.others.per_row(within)
        drawing = PICTURES[level] * self.pictures.per_row(within)
        return sum(load.rate_hz * (row + (drawing if load.pictures else 0.0)) for load in found)

    @property
    def level(self) -> Level:
        """The best fidelity for which there is time."""
        return self._level

    def review(self) -> None:
        """Choose the level anew: costs have changed. Better again only with room to spare."""
        self._choose_level()

    def _choose_level(self) -> None:
        for level in Level if not self.open_doors else ():
            spare = 0.9 if level < self._level else 1.0
            if level is Level.NUMBERS or self.share(level) <= FULL_LOAD * spare:
                self._level = level
                return
