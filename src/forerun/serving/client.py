"""Drive served worlds from Python, without torch.

with connect("ws://127.0.0.1:8600") as server:
    world = server.open(start=0, period_s=1 / 30, picture="jpeg")
    seen = world.step([0.1, 0.0])
    futures = world.fork(64)
    seen = futures.step(actions)  # (64, A)
"""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from forerun.serving.messages import pack, unpack
from forerun.serving.protocol import PATH, VERSION, Code, Refusal
from forerun.types import Error, StreamSpec, require

__all__ = ["Observation", "Refusal", "Server", "ServerGoneError", "World", "connect"]


class ServerGoneError(Error, ConnectionError):
    """The server closed the connection, or could not be reached."""


@dataclass(frozen=True)
class Observation:
    """What a served world looks like after a step; of candidates, each array has a row per candidate."""

    streams: dict[str, np.ndarray]
    """Numbers by stream, in the stream's unit."""
    heads: dict[str, Any]
    """``uncertainty``, and with touch ``contact``, ``slip``, ``normal_force``."""
    tick: int | None = None
    picture: dict[str, Any] | None = None
    """JPEG bytes or (H, W, 3) uint8 by camera."""
    picture_state: str = "skipped"
    """``fresh``, ``repeated`` under load, ``skipped``."""
    latents: np.ndarray | None = None
    level: str = "full"
    """How well the server could serve: ``full``, ``half`` the pictures, ``numbers`` only."""
    timing: dict[str, Any] = field(default_factory=dict)
    """``queue_ms``, ``pass_ms``, ``rows`` of the pass, ``late``."""
    distance: np.ndarray | None = None
    """Of candidates with a goal: (n, judged ticks) ticks to it."""
    actions: np.ndarray | None = None
    """Of candidates that followed the goal policy: what they did, (n, H, A) in standard deviations."""
    dropped: int = 0
    """Observations that this client read too slowly to get."""

    @classmethod
    def of(cls, reply: Mapping[str, Any]) -> Observation:
        """From an ``obs`` message."""
        picture = reply.get("picture")
        return cls(
            streams=reply.get("streams", {}),
            heads=reply.get("heads", {}),
            tick=reply.get("tick"),
            picture=picture and picture["cameras"],
            picture_state=picture["state"] if picture else "skipped",
            latents=reply.get("latents"),
            level=reply.get("level", "full"),
            timing=reply.get("timing", {}),
            distance=reply.get("distance"),
            actions=reply.get("actions"),
            dropped=reply.get("dropped", 0),
        )


def connect(
    url: str = "ws://127.0.0.1:8600",
    token: str | None = None,
    timeout_s: float = 10.0,
    tls: ssl.SSLContext | None = None,
) -> Server:
    """Meet a server.

    Args:
        tls: for ``wss://`` with a certificate that this system does not know.

    Raises:
        ServerGoneError: nobody answers there, or the token is wrong.
    """
    sync: Any = require("websockets.sync.client", "serve", "the client")
    base, question, query = url.partition("?")
    address = base.rstrip("/").removesuffix(PATH) + PATH + question + query
    headers = {"Authorization": f"Bearer {token}"} if token else None
    stack = ExitStack()
    try:
        socket = stack.enter_context(
            sync.connect(
                address,
                additional_headers=headers,
                max_size=None,
                compression=None,
                open_timeout=timeout_s,
                ssl=tls,
            )
        )
    except Exception as cause:
        raise ServerGoneError(
            f"no forerun server answers at {address}: {cause}. Start one: forerun serve MODEL"
        ) from cause
    try:
        return Server(socket, stack, timeout_s)
    except BaseException:
        stack.close()
        raise


class Server:
    """A connection; it carries any number of worlds."""

    def __init__(self, socket: Any, stack: ExitStack, timeout_s: float = 10.0) -> None:
        self._socket, self._stack, self.timeout_s = socket, stack, timeout_s
        self._numbers = itertools.count()
        self._early: list[dict[str, Any]] = []
        self.hello = self._receive()
        if self.hello.get("protocol") != VERSION:
            raise ServerGoneError(
                f"the server speaks protocol {self.hello.get('protocol')}; this client speaks {VERSION}. "
                "Install the same forerun on both sides"
            )
        model = self.hello["model"]
        self.streams = {s["name"]: StreamSpec.from_json(s) for s in model["streams"]}
        self.action = StreamSpec.from_json(model["action"]) if model["action"] else None
        self.tick_s: float = model["tick_s"]
        self.starts: list[str] = self.hello["starts"]

    def open(
        self,
        start: int | None = 0,
        context: Mapping[str, np.ndarray] | None = None,
        actions: np.ndarray | None = None,
        **view: Any,
    ) -> World:
        """A new world, from a recorded start or from observations (T, *shape) and actions (T - 1, A).

        Args:
            view: ``observe``, ``picture``, ``period_s``, ``deadline_s``, ... as in
                `forerun.serving.protocol.View`.
        """
        begin = {"context": dict(context), "actions": actions} if context is not None else {"start": start}
        space = None if self.action is None else {"names": list(self.action.names), "unit": self.action.unit}
        return self._begin("open", {**begin, "action": space, **view})

    def restore(self, data: bytes | None = None, name: str | None = None, **view: Any) -> World:
        """A world that goes on from a snapshot."""
        return self._begin("restore", {"data": data, "name": name, **view})

    def close(self) -> None:
        """End the connection and all its worlds."""
        self._stack.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, kind: str, message: dict[str, Any]) -> World:
        number = next(self._numbers)
        self.send({"type": kind, "id": number, **message})
        return World(self, number, self.wait(number, None))

    def send(self, message: Mapping[str, Any]) -> None:
        """One message, without waiting for its answer."""
        try:
            self._socket.send(pack(message))
        except Exception as cause:
            raise ServerGoneError(f"the server is gone: {cause}") from cause

    def wait(self, number: int, seq: int | None, refusals: bool = False) -> dict[str, Any]:
        """The answer to a message of session ``number`` with this ``seq``; Refusal if it is an error.

        Args:
            refusals: only look whether an error has come already.
        """
        for place, reply in enumerate(self._early):
            if _answers(reply, number, seq):
                return _checked(self._early.pop(place))
        while not refusals:
            reply = self._receive()
            if _answers(reply, number, seq):
                return _checked(reply)
            self._early.append(reply)
        return {}

    def _receive(self) -> dict[str, Any]:
        try:
            return unpack(self._socket.recv(timeout=self.timeout_s))
        except TimeoutError as cause:
            raise ServerGoneError(f"the server did not answer within {self.timeout_s:g} s") from cause
        except Exception as cause:
            closed = getattr(cause, "rcvd", None)  # what the server said as it closed the connection
            why = f"closed the connection: {closed.reason or closed.code}" if closed else f"is gone: {cause}"
            raise ServerGoneError(f"the server {why}") from cause


class World:
    """One imagined world on a server, or a fan of candidates."""

    def __init__(self, server: Server, number: int, reply: dict[str, Any]) -> None:
        self.server, self.number = server, number
        self.observation = Observation.of(reply)
        self._seqs = itertools.count()

    def step(self, action: Any, **how: Any) -> Observation:
        """One tick: an action (A,), of n candidates (n, A), or chunks (n, H, A); None where none is known."""
        return self.receive(self.send_step(action, **how))

    def send_step(self, action: Any, **how: Any) -> int:
        """The same without waiting; `receive` takes what this returns."""
        done = None if action is None else np.asarray(action, dtype=np.float32)
        return self._send("step", action=done, **how)

    def receive(self, seq: int) -> Observation:
        """The observation that answers a `send_step`."""
        self.observation = Observation.of(self.server.wait(self.number, seq))
        return self.observation

    def fork(self, count: int = 1, goal: Mapping[str, np.ndarray] | None = None) -> World:
        """``count`` candidates that share this world's past; one alone is a world of its own."""
        into = next(self.server._numbers)
        seq = self._send("fork", into=into, count=count, goal=None if goal is None else dict(goal))
        return World(self.server, into, self.server.wait(into, seq))

    def imagine(
        self, actions: np.ndarray, goal: Mapping[str, np.ndarray], judge: Sequence[int], follow: bool = False
    ) -> Observation:
        """What becomes of chunks (n, H, A) from here, and how far each ends from a goal observation.

        Args:
            judge: the ticks, from 0, at which the distance to the goal is told.
            follow: add ``actions`` to what the goal policy does, in standard deviations of the data.
        """
        into = next(self.server._numbers)
        seq = self._send("fork", into=into, count=len(actions), goal=dict(goal), quiet=True)
        how = {"judge": list(judge), "follow": follow, "brief": True}
        done = np.asarray(actions, dtype=np.float32)
        self.server.send({"type": "step", "id": into, "seq": 0, "action": done, **how})
        self.server.send({"type": "close", "id": into, "quiet": True})
        try:
            return Observation.of(self.server.wait(into, 0))
        except Refusal:
            self.server.wait(self.number, seq, refusals=True)  # why there was nothing to step, if that is it
            raise

    def select(self, rows: Sequence[int]) -> Observation:
        """Keep these candidates; one alone is a world like any other."""
        return self.receive(self._send("select", rows=[int(row) for row in rows]))

    def rollback(self, ticks: int) -> Observation:
        """Go back."""
        return self.receive(self._send("rollback", ticks=ticks))

    def snapshot(self, name: str | None = None) -> bytes:
        """The whole state as bytes; under a name the server keeps it, and these are empty."""
        return self.server.wait(self.number, self._send("snapshot", name=name)).get("data", b"")

    def close(self) -> None:
        """Forget this world."""
        self.server.send({"type": "close", "id": self.number})
        self.server.wait(self.number, None)

    def _send(self, kind: str, **fields: Any) -> int:
        seq = next(self._seqs)
        self.server.send({"type": kind, "id": self.number, "seq": seq, **fields})
        return seq


def _answers(reply: Mapping[str, Any], number: int, seq: int | None) -> bool:
    if reply.get("type") == "error":
        return reply.get("id") in (number, None) or (seq is not None and reply.get("seq") == seq)
    return reply.get("id") == number and reply.get("seq") == seq


def _checked(reply: dict[str, Any]) -> dict[str, Any]:
    if reply.get("type") != "error":
        return reply
    code: Code = reply["code"]
    raise Refusal(code, reply["message"], reply.get("retry_after_s"))
