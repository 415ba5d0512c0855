"""All sessions of one engine: begun, forked, taken back, suspended, kept, ended. One thread calls it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from forerun.dynamics.state import State
from forerun.serving.passes import Passes
from forerun.serving.protocol import Fork, Open, Refusal, Restore, Rollback, Select, View
from forerun.serving.session import Session
from forerun.serving.snapshot import Shapes, fingerprint, freeze, thaw
from forerun.serving.starts import Start
from forerun.types import Error

Key = tuple[Hashable, int]
GOALS = 64
"""Goals that are remembered as latents."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one engine and one of its clients may hold."""

    sessions: int = 4096
    """Suspended ones included."""
    per_client: int = 256
    candidates: int = 1024
    """Of one fork."""
    idle_s: float = 120.0
    """After that a session gives its slot up and lives in host memory."""
    context_ticks: int = 64


class Registry:
    """Sessions by client and number.

    Args:
        snapshots: folder of named snapshots; without it clients keep their own.
    """

    def __init__(
        self,
        passes: Passes,
        starts: Sequence[Start] = (),
        limits: Limits | None = None,
        snapshots: Path | None = None,
    ) -> None:
        self.passes, self.model, self.limits = passes, passes.model, limits or Limits()
        self.starts, self.snapshots = list(starts), snapshots
        self.sessions: dict[Key, Session] = {}
        self.clients: dict[Hashable, set[int]] = {}
        self._goals: dict[bytes, Tensor] = {}
        self._free = list(range(passes.slots - 1, -1, -1))
        self.fingerprint = fingerprint(self.model)
        arena = passes.arena
        memory = () if arena.memory is None else (arena.look_back, *arena.memory.shape[2:])
        self.shapes = Shapes(tuple(arena.latents.shape[2:]), arena.embedding.shape[1], memory)

    # -- finding --------------------------------------------------------------------------------------

    def find(self, client: Hashable, number: int) -> Session:
        """The session; else Refusal."""
        session = self.sessions.get((client, number))
        if session is None:
            raise Refusal("unknown_session", f"session {number} is not open; open it, or restore a snapshot")
        return session

    @property
    def free_slots(self) -> int:
        return len(self._free)

    # -- beginning and ending -------------------------------------------------------------------------

    def open(self, client: Hashable, request: Open, now_s: float) -> Session:
        """A new world."""
        self._check_room(client, request.id)
        self._check_view(request.view)
        state = self._read(*self._context(request), request.view)
        return self._begin(client, request.id, request.view, state, now_s)

    def restore(self, client: Hashable, request: Restore, now_s: float) -> Session:
        """A world that goes on from a snapshot."""
        self._check_room(client, request.id)
        self._check_view(request.view)
        data = self._kept(request.name) if request.name else request.data
        state = self._to_device(thaw(data or b"", self.fingerprint, self.shapes))
        return self._begin(client, request.id, request.view, state, now_s)

    def close(self, session: Session) -> None:
        """Forget a session; its slot is free at once."""
        self._release(session)
        self.sessions.pop((session.client, session.id), None)
        left = self.clients.get(session.client)
        if left is not None:
            left.discard(session.id)
            if not left:
                del self.clients[session.client]

    def of(self, client: Hashable) -> list[Session]:
        """All sessions of a client."""
        return [self.sessions[client, number] for number in self.clients.get(client, ())]

    # -- branching ------------------------------------------------------------------------------------

    def fork(self, session: Session, request: Fork, now_s: float) -> Session:
        """Candidates that share this world's past; a single one becomes a world of its own."""
        if request.count > self.limits.candidates:
            raise Refusal(
                "too_many", f"{request.count} candidates were asked for; {self.limits.candidates} is the most"
            )
        self._check_room(session.client, request.into)
        goal = None if request.goal is None else self._goal(request.goal)
        state = self.state(session)
        if len(state) > 1:
            raise Refusal(
                "too_many", f"session {session.id} has {len(state)} candidates; select one, then fork"
            )
        if request.count == 1 and goal is None:
            twin = self._begin(session.client, request.into, session.view, state, now_s, session.slot)
            twin.steps_back = session.steps_back if session.slot is not None else 0
            return twin
        view = replace(session.view, period_s=None, picture="none")
        fan = self._add(session.client, request.into, view, state, now_s)
        fan.fan, fan.goal = state.fork(request.count), goal
        return fan

    def select(self, session: Session, request: Select) -> None:
        """Keep these candidates; one alone gets a slot and is a world like any other."""
        state = self.state(session)
        if max(request.rows) >= len(state):
            raise Refusal("bad_message", f"row {max(request.rows)} was selected of {len(state)} candidates")
        if session.fan is None:
            return
        if len(request.rows) > 1:
            session.fan = state.select(torch.tensor(request.rows, device=self.passes.device))
            return
        slot = self._slot()
        self.passes.arena.put(slot, state.select(torch.tensor(request.rows, device=self.passes.device)))
        session.fan, session.slot, session.steps_back = None, slot, 0

    def back(self, session: Session, request: Rollback) -> None:
        """Take ticks back."""
        known = session.steps_back if session.fan is None else 0
        if request.ticks > known:
            raise Refusal(
                "too_far_back", f"{request.ticks} ticks were to be taken back; session {session.id} can go "
                f"back {known}, and never more than {self.passes.arena.rollback}. Keep snapshots for that"
            )  # fmt: skip
        self.passes.arena.back(self.resume(session), request.ticks)
        session.steps_back -= request.ticks

    # -- keeping --------------------------------------------------------------------------------------

    def snapshot(self, session: Session, name: str | None) -> bytes:
        """The state as bytes; under a name it is on disk, whole, before this returns."""
        if session.rows > 1:
            raise Refusal(
                "snapshot_refused", f"session {session.id} has {session.rows} candidates; select one"
            )
        data = session.frozen or freeze(self.state(session), self.fingerprint)
        if name is not None:
            self._keep(name, data)
        return data

    def suspend(self, session: Session) -> None:
        """Give the slot up; the state is in host memory until the session is used again."""
        if session.slot is not None:
            session.frozen = freeze(self.passes.gather(session.slot), self.fingerprint)
            session.steps_back = 0  # only the present is kept
            self._release(session)

    def resume(self, session: Session) -> int:
        """The slot of a session that is not a fan; if it was suspended, it has one again."""
        if session.slot is None:
            assert session.frozen is not None
            state = self._to_device(thaw(session.frozen, self.fingerprint, self.shapes))
            session.slot = self._slot()
            self.passes.arena.put(session.slot, state)
            session.frozen = None
        return session.slot

    def suspend_idle(self, now_s: float) -> int:
        """Suspend whoever has long been silent; how many."""
        idle = [s for s in self.sessions.values() if self._is_idle(s, now_s - self.limits.idle_s)]
        for session in idle:
            self.suspend(session)
        return len(idle)

    def reset(self, session: Session) -> None:
        """Begin again from the origin."""
        session.steps_back = 0
        if session.fan is not None:
            session.fan = session.origin.fork(len(session.fan))
        else:
            self.passes.arena.put(self.resume(session), session.origin)

    def state(self, session: Session) -> State:
        """The state as a value: one row, or all candidates."""
        return session.fan if session.fan is not None else self.passes.gather(self.resume(session))

    # -- inside ---------------------------------------------------------------------------------------

    def _begin(
        self,
        client: Hashable,
        number: int,
        view: View,
        state: State,
        now_s: float,
        twin_of: int | None = None,
    ) -> Session:
        slot = self._slot()
        if twin_of is None:
            self.passes.arena.put(slot, state)
        else:
            self.passes.arena.copy(twin_of, slot)
        session = self._add(client, number, view, state, now_s)
        session.slot = slot
        return session

    def _add(self, client: Hashable, number: int, view: View, origin: State, now_s: float) -> Session:
        session = Session(client, number, view, origin, used_s=now_s)
        self.sessions[client, number] = session
        self.clients.setdefault(client, set()).add(number)
        return session

    def _release(self, session: Session) -> None:
        if session.slot is not None:
            self._free.append(session.slot)
            session.slot = None

    def _slot(self) -> int:
        """A free slot; if there is none, the one that was used longest ago and waits for nothing."""
        if not self._free:
            newest = max((s.used_s for s in self.sessions.values()), default=0.0)
            idle = [s for s in self.sessions.values() if self._is_idle(s, newest - 1.0)]
            if not idle:
                raise Refusal(
                    "no_room", f"all {self.passes.slots} slots are in use; come back later", retry_after_s=5.0
                )
            self.suspend(min(idle, key=lambda s: s.used_s))
        return self._free.pop()

    @staticmethod
    def _is_idle(session: Session, before_s: float) -> bool:
        return session.slot is not None and not session.waiting and session.used_s < before_s

    def _check_room(self, client: Hashable, number: int) -> None:
        if (client, number) in self.sessions:
            raise Refusal("bad_message", f"session {number} is open already; choose another number")
        if len(self.clients.get(client, ())) >= self.limits.per_client:
            raise Refusal("too_many", f"a client may have {self.limits.per_client} sessions; close one")
        if len(self.sessions) >= self.limits.sessions:
            raise Refusal(
                "no_room", f"{len(self.sessions)} sessions are open; come back later", retry_after_s=5.0
            )

    def _check_view(self, view: View) -> None:
        unknown = [n for n in view.observe or () if n not in self.passes.numeric]
        if unknown:
            raise Refusal(
                "bad_message",
                f"'observe' names {unknown[0][:40]!r}; this world has {', '.join(self.passes.numeric)} and, "
                f"as 'picture', {', '.join(self.passes.cameras) or 'none'}",
            )
        if view.picture != "none" and not self.passes.cameras:
            raise Refusal("bad_message", "a picture was asked for; this world was learned without a camera")

    def _context(self, request: Open) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        if request.start is None:
            return request.context or {}, request.actions
        if request.start >= len(self.starts):
            raise Refusal("bad_context", f"start {request.start} was asked for; there are {len(self.starts)}")
        start = self.starts[request.start]
        return start.context, start.actions

    @torch.inference_mode()
    def _read(self, context: dict[str, np.ndarray], actions: np.ndarray | None, view: View) -> State:
        try:
            latents = self._encode(context, self.limits.context_ticks)
            ticks = latents.shape[1]
            done = None
            if actions is not None and ticks > 1:
                done = torch.from_numpy(np.array(actions, np.float32))[None].to(latents)
            state = self.model.start(latents, done, view.tick_s or view.period_s)
        except Error as cause:
            raise Refusal("bad_context", str(cause)) from cause
        if not bool(torch.isfinite(state.latents).all()):
            raise Refusal("bad_context", "the context gives latents that are not finite; look for NaN in it")
        return state

    def _encode(self, streams: dict[str, np.ndarray], most: int) -> Tensor:
        """Observations by stream (T, *shape) as latents (1, T, N, D)."""
        ticks = {len(v) if v.ndim else 0 for v in streams.values()}
        if len(ticks) != 1 or not 1 <= min(ticks) <= most:
            raise Refusal(
                "bad_context",
                f"the streams have {sorted(ticks)} ticks; expected the same of each, 1 to {most}",
            )
        unknown = [n for n in streams if n not in {s.name for s in self.model.config.streams}]
        if unknown:
            raise Refusal("bad_context", f"this world has no stream {unknown[0][:40]!r}")
        given = {n: torch.from_numpy(np.array(v))[None].to(self.passes.device) for n, v in streams.items()}
        return self.model.encode(given)

    def _goal(self, streams: dict[str, np.ndarray]) -> Tensor:
        """(1, Z) of an observation; a planner asks for the same one again and again."""
        found = hashlib.blake2b(digest_size=16)
        for name, part in sorted(streams.items()):
            found.update(f"{name} {part.dtype} {part.shape}".encode() + part.tobytes())
        key = found.digest()
        if key not in self._goals:
            if len(self._goals) >= GOALS:
                self._goals.pop(next(iter(self._goals)))
            self._goals[key] = self._read_goal(streams)
        return self._goals[key]

    @torch.inference_mode()
    def _read_goal(self, streams: dict[str, np.ndarray]) -> Tensor:
        try:
            return self.model.goal(self._encode({n: v[None] for n, v in streams.items()}, 1)[:, 0])
        except Error as cause:
            raise Refusal("bad_context", f"the goal cannot be read: {cause}") from cause

    def _to_device(self, state: State) -> State:
        if self.passes.device.type == "cpu":
            return state
        move = self.passes.device
        memory = state.memory and replace(state.memory, own=tuple(z.to(move) for z in state.memory.own))
        pace = replace(state.pace, tick_s=state.pace.tick_s.to(move), embedding=state.pace.embedding.to(move))
        return State(state.latents.to(move), memory, state.tick.to(move), pace, state.log_error.to(move))

    def _path(self, name: str | None) -> Path:
        if self.snapshots is None:
            raise Refusal("snapshot_refused", "this server keeps no snapshots; ask for the bytes instead")
        if not name or not re.fullmatch(r"[A-Za-z0-9-]{1,64}", name):
            raise Refusal("bad_message", "a snapshot's name has up to 64 letters, digits and '-'")
        return self.snapshots / f"{name}.world"

    def _keep(self, name: str, data: bytes) -> None:
        path = self._path(name)
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except OSError as cause:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise Refusal("storage", f"the snapshot '{name}' could not be kept: {cause.strerror}") from cause

    def _kept(self, name: str) -> bytes:
        path = self._path(name)
        try:
            return path.read_bytes()
        except OSError as cause:
            raise Refusal(
                "snapshot_refused", f"no snapshot '{name}' can be read here ({cause.strerror})"
            ) from cause
