"""The engine: takes requests from any thread, advances all worlds in shared passes, hands replies over.

One thread owns the model. It never waits for a client, and no client can make it fail: what goes wrong in a
row ends in an error reply for that session alone.
"""

from __future__ import annotations

import gc
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from forerun.serving.chunk import Chunk
from forerun.serving.drawing import draw_for
from forerun.serving.passes import Passes
from forerun.serving.protocol import (
    Change,
    Close,
    Fork,
    Open,
    Refusal,
    Request,
    Restore,
    Rollback,
    Select,
    Snapshot,
    Step,
)
from forerun.serving.registry import Limits, Registry
from forerun.serving.replies import observed
from forerun.serving.rounds import Counts, Rounds
from forerun.serving.scheduler import Job, Scheduler
from forerun.serving.session import Session
from forerun.serving.starts import Start

Outlet = Callable[[list[tuple[Hashable, dict[str, Any]]]], None]
"""Where replies go, many at a time; called in the engine's thread, must not wait."""
REVIEW_S = 0.25
TAKEN_MOST = 512
"""Requests looked at between two passes."""


class Engine:
    """All live worlds of one model.

    Args:
        outlet: takes the replies.
        clock: seconds; a test may bring its own.
    """

    def __init__(
        self,
        passes: Passes,
        outlet: Outlet = lambda replies: None,
        *,
        starts: Sequence[Start] = (),
        limits: Limits | None = None,
        snapshots: Path | None = None,
        scheduler: Scheduler | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.passes, self.outlet, self.clock = passes, outlet, clock
        self.scheduler = Scheduler(max_rows=passes.max_rows) if scheduler is None else scheduler
        self.registry = Registry(passes, starts, limits, snapshots)
        self.counts = Counts()
        self.rounds = Rounds(passes, self.scheduler, self.counts, clock, self._done, self._fail)
        self.draining = False
        self._inbox: queue.SimpleQueue[tuple[Hashable, Request | None] | None] = queue.SimpleQueue()
        self._outbox: list[tuple[Hashable, dict[str, Any]]] = []
        self._begins: dict[Hashable, deque[Request]] = {}
        self._thread: threading.Thread | None = None
        self._stop = self._evacuated = False
        self._late_before = 0
        self._reviewed_s = clock()

    # -- from any thread ------------------------------------------------------------------------------

    def submit(self, client: Hashable, request: Request) -> None:
        """Ask for something in the name of a client; the reply comes through the outlet."""
        self._inbox.put((client, request))

    def leave(self, client: Hashable) -> None:
        """A client is gone: all its sessions end."""
        self._inbox.put((client, None))

    def start(self) -> None:
        """Run in a thread of its own, after a warm-up that fills the cost table."""
        self.warm_up()
        gc.collect()
        gc.freeze()  # the model's objects live as long as the engine: walking through them takes 0.1 s
        self._thread = threading.Thread(target=self._run, name="forerun-engine", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Finish what waits, then end the thread."""
        self._stop = True
        self._inbox.put(None)
        if self._thread is not None:
            self._thread.join(timeout_s)

    @property
    def busy(self) -> bool:
        """Whether anybody waits to begin."""
        return bool(self._begins)

    @property
    def running(self) -> bool:
        """Whether the engine's thread is alive."""
        return self._thread is not None and self._thread.is_alive() and not self._stop

    def drain(self) -> None:
        """Begin nothing new; sessions that are open go on, and every client gets its snapshots."""
        self.draining = True
        self._inbox.put(None)

    # -- the engine's thread --------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Run every size of pass a few times in an unused slot: nobody pays for the first time."""
        spare = self.passes.slots
        sizes = [1]
        while sizes[-1] < self.scheduler.max_rows:
            sizes.append(min(2 * sizes[-1], self.scheduler.max_rows))
        for rows in sizes:
            for k in range(6):
                began = time.perf_counter()
                still = np.zeros((rows, self.passes.actions), np.float32)
                seen = self.passes.advance([spare] * rows, still, np.ones(rows, bool))
                middle = time.perf_counter()
                if self.passes.cameras:
                    self.passes.draw(seen.latents)
                if k > 1:
                    self.scheduler.steps.note(rows, middle - began)
                    self.scheduler.pictures.note(rows, time.perf_counter() - middle)

    def _run(self) -> None:
        while not (self._stop and self._inbox.empty() and not self._begins and not len(self.scheduler)):
            try:
                self.turn(0.0 if self._begins else self.scheduler.wait_s(self.clock()))
            except Exception:  # whatever it was, the other worlds go on
                logging.getLogger(__name__).exception("a turn of the engine failed")
                self.counts.refused("internal")

    def turn(self, wait_s: float | None = 0.0) -> None:
        """Take what has arrived, waiting at most so long (None: for ever); run a pass if one is due."""
        self._listen(wait_s)
        if self.draining and not self._evacuated:
            self._evacuate()
        if self.scheduler.wait_s(self.clock()) == 0.0:
            self.rounds.serve(self.scheduler.take(self.clock()))
        if self._begins:
            self._begin_one()
        now = self.clock()
        if now - self._reviewed_s > REVIEW_S:
            self._reviewed_s = now
            self.scheduler.review()
            self._shed()
            self.counts.suspended += self.registry.suspend_idle(now)
        if self._outbox:
            replies, self._outbox = self._outbox, []
            self.counts.replies += len(replies)
            self.outlet(replies)

    def _listen(self, wait_s: float | None) -> None:
        try:
            if wait_s is None or wait_s > 0:
                self._take(self._inbox.get(timeout=REVIEW_S if wait_s is None else min(wait_s, REVIEW_S)))
            for _ in range(TAKEN_MOST):  # a flood of messages must not keep a pass waiting
                self._take(self._inbox.get_nowait())
        except queue.Empty:
            return

    def _take(self, arrived: tuple[Hashable, Request | None] | None) -> None:
        if arrived is None:
            return
        client, request = arrived
        if request is None:
            self._begins.pop(client, None)
            for session in self.registry.of(client):
                self._end(session)
        elif isinstance(request, Open | Restore) or client in self._begins:
            self._begins.setdefault(client, deque()).append(request)
        else:
            self._obey(client, request)

    def _begin_one(self) -> None:
        """One new world, of the client that has waited longest: reading a context takes as long as a pass.

        What the client asked after it was asked of that world, and waits behind.
        """
        client = next(iter(self._begins))
        waiting = self._begins.pop(client)
        self._obey(client, waiting.popleft())
        while waiting and not isinstance(waiting[0], Open | Restore):
            self._obey(client, waiting.popleft())
        if waiting:
            self._begins[client] = waiting  # behind the others

    def _obey(self, client: Hashable, request: Request) -> None:
        try:
            self._accept(client, request)
        except Refusal as refusal:
            self._refuse(client, request, refusal)
        except Exception as fault:  # no client may stop the others
            self._refuse(client, request, _internal(fault))

    def _accept(self, client: Hashable, request: Request) -> None:
        now = self.clock()
        if isinstance(request, Open | Restore):
            self._begin(client, request, now)
        elif isinstance(request, Close):
            self._close(self.registry.find(client, request.id), request)
        else:
            session = self.registry.find(client, request.id)
            session.accept(request.seq)
            session.used_s = now
            session.waiting.append(request)
            if not session.busy:
                self._next(session)

    def _begin(self, client: Hashable, request: Open | Restore, now_s: float) -> None:
        if self.draining:
            raise Refusal("draining", "this server is about to stop; open the session on another")
        key = (client, request.id)
        if key in self.registry.sessions:
            raise Refusal("bad_message", f"session {request.id} is open already; choose another number")
        self.scheduler.admit(key, request.view)
        try:
            made = self.registry.open if isinstance(request, Open) else self.registry.restore
            session = made(client, request, now_s)  # type: ignore[arg-type]
        except BaseException:
            self.scheduler.leave(key)
            raise
        self._reply(client, {**self._present(session), "type": "opened"})

    def _end(self, session: Session) -> None:
        self.scheduler.remove(session)
        self.scheduler.leave((session.client, session.id))
        self.registry.close(session)

    def _close(self, session: Session, request: Close) -> None:
        if session.busy and request.quiet:  # what was asked before is still answered
            session.waiting.append(request)
            return
        self._end(session)
        if not request.quiet:
            self._reply(session.client, {"type": "closed", "id": request.id})

    def _shed(self) -> None:
        """Deadlines were missed lately: best-effort steps that wait are given back."""
        missed, self._late_before = self.counts.late - self._late_before, self.counts.late
        for job in self.scheduler.drop_best_effort() if missed else ():
            session = job.session
            refusal = Refusal(
                "overloaded", "steps with deadlines come first; try again", retry_after_s=REVIEW_S
            )
            self._refuse(session.client, session.waiting.popleft(), refusal)
            session.busy = False
            self._next(session)

    def _evacuate(self) -> None:
        """Send every world to its client, which may restore it on another server."""
        self._evacuated = True
        for session in self.registry.sessions.values():
            if session.fan is None:
                data = self.registry.snapshot(session, None)
                told = {"reason": "draining", "seq": None, "bytes": len(data), "data": data}
                self._reply(session.client, {"type": "snapshot", "id": session.id, **told})

    def _next(self, session: Session) -> None:
        """Go on with what a session waits for, up to a step that must wait for its pass."""
        while session.waiting and not session.busy:
            request = session.waiting[0]
            try:
                if isinstance(request, Step):
                    self._schedule(session, request)
                    return
                session.waiting.popleft()
                self._change(session, request)
            except Refusal as refusal:
                self._refuse(session.client, request, refusal)
            except Exception as fault:
                self._refuse(session.client, request, _internal(fault))

    def _schedule(self, session: Session, request: Step) -> None:
        try:
            chunk = Chunk.of(session, request, self.passes.actions)
            if session.fan is None:
                self.registry.resume(session)
        except Refusal:
            session.waiting.popleft()
            raise
        session.busy = True
        self.scheduler.add(self.scheduler.job(session, chunk, session.view, self.clock(), session.rows))

    def _change(self, session: Session, request: Change | Close) -> None:
        registry = self.registry
        if isinstance(request, Close):
            self._end(session)
            return
        if isinstance(request, Fork):
            other = registry.fork(session, request, self.clock())
            if request.quiet:
                return
            told = {"id": other.id} if other.fan is not None else self._present(other)
            answer = {"type": "forked", "from": session.id, "seq": request.seq, "count": other.rows}
            self._reply(session.client, {**told, **answer})
            return
        if isinstance(request, Snapshot):
            data = registry.snapshot(session, request.name)
            kept = {"name": request.name} if request.name else {"data": data}
            answer = {"type": "snapshot", "id": session.id, "seq": request.seq, "bytes": len(data), **kept}
            self._reply(session.client, answer)
            return
        if isinstance(request, Select):
            registry.select(session, request)
        elif isinstance(request, Rollback):
            registry.back(session, request)
        self._reply(session.client, {**self._present(session), "seq": request.seq})

    def _present(self, session: Session) -> dict[str, Any]:
        """What a session looks like now, without a step."""
        state = self.registry.state(session)
        seen = self.passes.look(state)
        reply = observed(session, seen, slice(None) if session.fan is not None else 0)
        if session.view.picture != "none":
            reply["picture"] = draw_for(self.passes, seen, [session])[0][0]
        return reply

    # -- what became of a job --------------------------------------------------------------------------

    def _done(self, job: Job, reply: dict[str, Any]) -> None:
        session = job.session
        session.waiting.popleft()
        session.busy = False
        session.steps_back = min(session.steps_back + 1, self.passes.arena.rollback)
        self.counts.late += bool(reply["timing"]["late"])
        self._reply(session.client, reply)
        if session.waiting:
            self._next(session)

    def _fail(self, job: Job, fault: Exception | None) -> None:
        """This session begins anew; nobody else notices."""
        session = job.session
        self.scheduler.remove(session)
        request = session.waiting.popleft()
        session.busy = False
        self.registry.reset(session)
        self.counts.resets += 1
        refusal = (
            Refusal("not_finite", f"session {session.id} became NaN; it begins anew from where it was opened")
            if fault is None
            else _internal(fault)
        )
        self._refuse(session.client, request, refusal)
        if session.waiting:
            self._next(session)

    def _refuse(self, client: Hashable, request: Request, refusal: Refusal) -> None:
        self.counts.refused(refusal.code)
        self._reply(client, refusal.reply(request.id, getattr(request, "seq", None)))

    def _reply(self, client: Hashable, reply: dict[str, Any]) -> None:
        self._outbox.append((client, reply))


def _internal(fault: Exception) -> Refusal:
    return Refusal(
        "internal", f"the server failed at this request: {type(fault).__name__}: {str(fault)[:200]}"
    )
