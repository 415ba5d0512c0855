"""A client whose worlds outlive the server they run on.

server = ResilientServer("ws://127.0.0.1:8600")  # a router's address
world = server.open(start=0)
seen = world.step([0.1, 0.0])  # as if nothing had happened, whatever happens
"""

from __future__ import annotations

import itertools
import socket
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any

from forerun.serving.client import Server, ServerGoneError, connect
from forerun.serving.messages import pack, unpack
from forerun.serving.protocol import Refusal, View

IN_FLIGHT = 12
"""Requests of one world that wait at most; the server takes 16, and snapshots need room too."""
AGAIN = 8
"""Messages of one world that are sent at once when it goes on elsewhere."""
SPARE = 2**40
"""Numbers of worlds from here on are not the caller's: they live while a fork is made again."""
VIEW = tuple(spec.name for spec in fields(View))


@dataclass(eq=False)
class _Said:
    """A message that changes a world, to be said again elsewhere."""

    seq: int
    data: bytes
    step: bool
    answered: bool = False


@dataclass(eq=False)
class _Kept:
    """How a world can be made again: what it began with, and what was said since."""

    recipe: list[list[bytes]]
    """Stages; the next is said when all of the last is answered."""
    view: dict[str, Any]
    fan: bool = False
    fork: tuple[int, int] | None = None
    """Of a world that was forked: the other's number, and the sequence number of the request."""
    log: list[_Said] = field(default_factory=list)
    quiet: bool = False
    """Nobody waits to hear that it was forked."""
    begun: bool = False
    closing: bool = False
    leaving: bool = False
    """To be closed, without a word, when all is answered."""

    def __post_init__(self) -> None:
        self.origin = self.recipe  # where its server begins anew if it becomes NaN

    def rebase(self, number: int, data: bytes, count: int) -> None:
        """A snapshot holds all of the log up to ``count``."""
        self.recipe = [[pack({"type": "restore", "id": number, "data": data, **self.view})]]
        del self.log[:count]

    @property
    def unanswered(self) -> int:
        return sum(not said.answered for said in self.log)


class ResilientServer(Server):
    """A connection whose worlds go on when their server does not: used like `forerun.serving.client.Server`.

    It keeps a snapshot of each world and all that was asked since. When the connection dies, or the server
    says that it drains, it connects anew, restores, repeats what was asked, and hands over what is still
    owed. Worlds are deterministic, so observations are those of a session that was never disturbed: bit for
    bit where servers run passes of ``fixed`` shape, else within rounding.

    What a move cannot carry: ticks before the last snapshot cannot be taken back, and a world that becomes
    NaN afterwards begins anew from that snapshot.

    Args:
        url: of a `Router`, or of a server that comes back.
        every: steps between snapshots.
        patience_s: how long to look for a server with room before `ServerGoneError`.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout_s: float = 10.0,
        *,
        every: int = 32,
        patience_s: float = 30.0,
    ) -> None:
        self.url, self.every, self.patience_s = url, every, patience_s
        self.moves = 0
        """Times that all worlds went elsewhere."""
        self._token, self._leaving = token, False
        self._worlds: dict[int, _Kept] = {}
        self._spare = itertools.count(SPARE)
        self._line = connect(url, token, timeout_s)
        self._ready = deque([self._line.hello])
        super().__init__(self._line._socket, self._line._stack, timeout_s)

    def close(self) -> None:
        """End the connection and all its worlds."""
        self._worlds.clear()
        self._line.close()

    def send(self, message: Mapping[str, Any]) -> None:
        """One message, without waiting for its answer; waits only if too many are unanswered."""
        if self._leaving:
            self._leave()
        world = self._worlds.get(message["id"])
        while world is not None and world.unanswered >= IN_FLIGHT:
            self._early.append(self._receive())
        parts = self._note(dict(message))
        try:
            for part in parts:
                self._line._socket.send(part)
        except Exception as cause:  # whatever the socket says, it is of no more use
            self._move(cause)

    def _receive(self) -> dict[str, Any]:
        while not self._ready:
            try:
                reply = self._line._receive()
            except ServerGoneError as cause:
                self._move(cause)
            else:
                self._hear(reply)
        return self._ready.popleft()

    # -- what is said ---------------------------------------------------------------------------------

    def _note(self, message: dict[str, Any]) -> list[bytes]:
        """Remember a message; what goes on the wire. Odd sequence numbers are kept for own snapshots."""
        kind, number = message["type"], message["id"]
        world = self._worlds.get(number)
        if kind in ("open", "restore"):
            parts = [pack(message)]
            view = {name: message[name] for name in VIEW if name in message}
            self._worlds[number] = _Kept([parts], view)
            return parts
        if world is None:
            told = f"session {number} is not open; open it, or restore a snapshot"
            self._ready.append(Refusal("unknown_session", told).reply(number, message.get("seq")))
            return []
        if kind == "close":
            world.closing = not message.get("quiet")
            world.leaving = not world.closing
            self._let_go(number, world)
            return [pack(message)] if world.closing else []
        message["seq"] *= 2
        if kind == "fork":
            self._worlds[message["into"]] = self._forked(world, message)
            return [pack(message)]
        world.log.append(_Said(message["seq"], pack(message), kind == "step"))
        parts = [world.log[-1].data]
        if self._is_due(world, message):
            seq = message["seq"] + 1
            parts.append(pack({"type": "snapshot", "id": number, "seq": seq}))
            world.log.append(_Said(seq, parts[-1], False))
        return parts

    def _is_due(self, world: _Kept, message: Mapping[str, Any]) -> bool:
        """Whether to ask for a snapshot now: of candidates there is none before one is selected."""
        if message["type"] == "select" and len(message["rows"]) == 1:
            world.fan = False
            return True
        steps = sum(said.step for said in world.log)
        return not world.fan and (message["type"] == "rollback" or (steps > 0 and steps % self.every == 0))

    def _forked(self, world: _Kept, message: dict[str, Any]) -> _Kept:
        """A fork is made again from its parent as it was, which lives only until all are there."""
        into = message["into"]
        quiet = message.pop("quiet", False)  # here it is heard, there it is not owed
        names: dict[int, int] = defaultdict(lambda: next(self._spare), {into: into})

        def renamed(data: bytes) -> bytes:
            again = unpack(data)
            return pack(again | {name: names[again[name]] for name in ("id", "into") if name in again})

        stages = [*world.recipe, [*(said.data for said in world.log), pack(message)]]
        recipe = [[renamed(data) for data in stage] for stage in stages]
        fan = message["count"] > 1 or message.get("goal") is not None
        view = {**world.view, "period_s": None, "picture": "none"} if fan else world.view
        return _Kept(recipe, view, fan, (message["id"], message["seq"]), quiet=quiet)

    # -- what is heard --------------------------------------------------------------------------------

    def _hear(self, reply: dict[str, Any]) -> None:
        """Learn from a reply, and keep it for the caller if it is owed."""
        number, seq, kind = reply.get("id"), reply.get("seq"), reply["type"]
        world = self._worlds.get(number) if number is not None else None
        if reply.get("reason") == "draining":
            self._leaving = True
            if world is not None:
                heard = (k for k, said in enumerate(world.log) if not said.answered)
                world.rebase(reply["id"], reply["data"], next(heard, len(world.log)))
            return
        if world is None:
            owed = number is None or number < SPARE
        elif seq is None or kind == "forked":
            owed = self._hear_beginning(world, reply)
        else:
            owed = self._hear_answer(world, reply)
        if owed:
            self._ready.append(reply if seq is None else {**reply, "seq": seq // 2})

    def _hear_beginning(self, world: _Kept, reply: Mapping[str, Any]) -> bool:
        owed = world.closing or not (world.begun or world.quiet)
        world.begun = True
        if owed and reply["type"] in ("closed", "error"):
            del self._worlds[reply["id"]]
        return owed

    def _hear_answer(self, world: _Kept, reply: Mapping[str, Any]) -> bool:
        place = next((k for k, said in enumerate(world.log) if said.seq == reply["seq"]), None)
        if place is None:  # only a fork that was refused is answered and not in the log
            fork = reply["id"], reply["seq"]
            refused = [n for n, w in self._worlds.items() if w.fork == fork and not w.begun]
            for number in refused:
                del self._worlds[number]
            return bool(refused)
        said = world.log[place]
        owed = not said.answered and said.seq % 2 == 0
        said.answered = True
        if reply["type"] == "snapshot" and "data" in reply:
            world.rebase(reply["id"], reply["data"], place + 1)
        elif reply["type"] == "error" and said.step and reply["code"] in ("not_finite", "internal"):
            world.recipe = world.origin
            del world.log[: place + 1]
        elif reply["type"] in ("snapshot", "error"):
            del world.log[place]
        self._let_go(reply["id"], world)
        return owed

    def _let_go(self, number: int, world: _Kept) -> None:
        """Forget a world that its client has left, as soon as nothing is owed of it."""
        if world.leaving and not world.unanswered:
            del self._worlds[number]
            with suppress(Exception):  # a server that cannot hear it forgets anyway
                self._line._socket.send(pack({"type": "close", "id": number, "quiet": True}))

    # -- going elsewhere ------------------------------------------------------------------------------

    def _move(self, cause: Exception) -> None:
        """The connection is dead: go on over another one."""
        until_s = time.monotonic() + self.patience_s
        for number in [n for n, world in self._worlds.items() if world.closing]:
            del self._worlds[number]
            self._ready.append({"type": "closed", "id": number})
        while True:
            with suppress(OSError):  # who hangs would not answer a farewell either
                self._line._socket.socket.shutdown(socket.SHUT_RDWR)
            self._line.close()
            try:
                self._settle(connect(self.url, self._token, self.timeout_s))
                return
            except (ServerGoneError, Refusal) as again:
                if time.monotonic() > until_s:
                    raise ServerGoneError(
                        f"no server took {len(self._worlds)} worlds over in {self.patience_s:g} s: {again}"
                    ) from cause
                time.sleep(0.1)

    def _leave(self) -> None:
        """The server drains: go elsewhere in time, or, if nobody has room, stay to its end."""
        self._leaving, line = False, self._line
        try:
            other = connect(self.url, self._token, self.timeout_s)
        except ServerGoneError:
            return
        try:
            if not other.hello["capacity"]["draining"]:
                self._settle(other)
                line.close()
                return
        except (ServerGoneError, Refusal):
            self._line = line
        other.close()

    def _settle(self, line: Server) -> None:
        """Make all worlds again on a new connection; Refusal or `ServerGoneError` if that cannot be."""
        self._line = line
        before, now = self.hello, line.hello
        if now["model"]["fingerprint"] != before["model"]["fingerprint"] or now["starts"] != before["starts"]:
            raise ServerGoneError("the server that answers now has other weights or other starts")
        worlds = list(self._worlds.values())
        chunks = [[*_chunks([*world.recipe, [said.data for said in world.log]])] for world in worlds]
        origins = [world.recipe for world in worlds]
        lent: set[int] = set()
        for turn in itertools.zip_longest(*chunks, fillvalue=()):
            lent |= self._exchange(line, [part for chunk in turn for part in chunk])
        self._exchange(line, [pack({"type": "close", "id": number}) for number in lent])
        for world, origin in zip(worlds, origins, strict=True):
            world.origin = origin
        self.moves += 1

    def _exchange(self, line: Server, parts: list[bytes]) -> set[int]:
        """Say these and hear as many answers; the numbers of worlds in them that are not the caller's."""
        try:
            for part in parts:
                line._socket.send(part)
        except Exception as cause:
            raise ServerGoneError(f"the server is gone: {cause}") from cause
        owed, lent = len(parts), set[int]()
        while owed:
            reply = line._receive()
            owed -= reply.get("reason") != "draining"
            self._hear_again(reply)
            if (reply.get("id") or 0) >= SPARE:
                lent.add(reply["id"])
        return lent

    def _hear_again(self, reply: dict[str, Any]) -> None:
        """An answer while worlds are made again: what went well once must go well now."""
        world = self._worlds.get(reply.get("id", -1))
        if reply["type"] == "error":
            seq = reply.get("seq")
            new = world is not None and any(s.seq == seq and not s.answered for s in world.log)
            if not new and (world is None or seq is not None or world.begun):
                raise Refusal(reply["code"], reply["message"])
        self._hear(reply)


def _chunks(stages: list[list[bytes]]) -> Iterator[list[bytes]]:
    for stage in stages:
        for k in range(0, len(stage), AGAIN):
            yield stage[k : k + AGAIN]
