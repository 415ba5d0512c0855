"""One round of the engine: a pass over the rows that are due, or one tick of a fan, and the replies to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from forerun.serving.drawing import draw_for
from forerun.serving.passes import Passes, Seen
from forerun.serving.replies import settled
from forerun.serving.scheduler import Job, Level, Scheduler
from forerun.serving.session import Session

Done = Callable[[Job, dict[str, Any]], None]
ALONE_S = 0.004
"""So long a fan goes on without looking for new messages."""
Fail = Callable[[Job, Exception | None], None]
"""A job whose row became NaN (None), or that made its pass fail."""


@dataclass
class Counts:
    """What has happened so far, for `/metrics`."""

    passes: int = 0
    rows: int = 0
    replies: int = 0
    late: int = 0
    resets: int = 0
    suspended: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    busy_s: float = 0.0
    model_s: float = 0.0
    """Processor time of the model alone."""
    last_rows: int = 0

    def refused(self, code: str) -> None:
        """One more request that was not carried out."""
        self.errors[code] = self.errors.get(code, 0) + 1


@dataclass
class Rounds:
    """Serves jobs and tells what became of each; a failing row costs nobody else anything."""

    passes: Passes
    scheduler: Scheduler
    counts: Counts
    clock: Callable[[], float]
    done: Done
    fail: Fail

    def serve(self, jobs: list[Job]) -> None:
        """All of ``jobs`` in one pass; if that fails, in halves, until the one that fails is alone."""
        if not jobs:
            return
        if jobs[0].session.fan is not None:
            self._fan(jobs[0])
            return
        began = time.perf_counter()
        try:
            self._rows(jobs)
        except Exception as fault:  # find the row that did it; the others go on
            if len(jobs) == 1:
                self.fail(jobs[0], fault)
            else:
                middle = len(jobs) // 2
                self.serve(jobs[:middle])
                self.serve(jobs[middle:])
            return
        self._count(len(jobs), began)

    def _rows(self, jobs: list[Job]) -> None:
        began = time.perf_counter()
        sessions = [job.session for job in jobs]
        actions = np.zeros((len(jobs), self.passes.actions), np.float32)
        present = np.zeros(len(jobs), bool)
        for row, job in enumerate(jobs):
            done = job.request.action
            if done is not None:
                actions[row], present[row] = done, True
        cpu_s = time.thread_time()
        seen = self.passes.advance([s.slot for s in sessions], actions, present)
        self.counts.model_s += time.thread_time() - cpu_s
        self.scheduler.steps.note(len(jobs), time.perf_counter() - began)
        level = self.scheduler.level
        wanting = [row for row, s in enumerate(sessions) if s.view.picture != "none" and seen.finite[row]]
        drawn = dict(zip(wanting, self._draw(seen, sessions, wanting, level), strict=True)) if wanting else {}
        pass_s = time.perf_counter() - began
        for row, job in enumerate(jobs):
            if not seen.finite[row]:
                self.fail(job, None)
                continue
            reply = settled(job, seen, row, level, pass_s, len(jobs), self.clock())
            if row in drawn:
                reply["picture"] = drawn[row]
            self.done(job, reply)

    def _draw(self, seen: Seen, sessions: list[Session], wanting: list[int], level: Level) -> list[dict]:
        began, cpu_s = time.perf_counter(), time.thread_time()
        pictures, fresh = draw_for(self.passes, seen, [sessions[r] for r in wanting], wanting, level)
        self.counts.model_s += time.thread_time() - cpu_s
        if fresh:
            self.scheduler.pictures.note(fresh, time.perf_counter() - began)
        return pictures

    def _fan(self, job: Job) -> None:
        """A tick of a fan's chunk, or some if nobody else waits; the rest comes after live worlds."""
        began = time.perf_counter()
        try:
            over = job.request.advance(self.passes)
            while not over and not len(self.scheduler) and time.perf_counter() - began < ALONE_S:
                over = job.request.advance(self.passes)
        except Exception as fault:
            self.fail(job, fault)
            return
        self._count(job.rows, began)
        if over:
            self.done(job, job.request.reply(self.passes, job, self.clock()))
        else:
            self.scheduler.add(job)

    def _count(self, rows: int, began: float) -> None:
        self.counts.passes += 1
        self.counts.rows += rows
        self.counts.last_rows = rows
        self.counts.busy_s += time.perf_counter() - began
