"""One WebSocket: messages in, replies out, and neither waits for the other.

A client that reads slowly loses old observations and is told how many; it never holds up the engine or
anybody else.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect

from forerun.serving.access import Access, Bucket
from forerun.serving.engine import Engine
from forerun.serving.messages import pack, unpack
from forerun.serving.parsing import addressed, parse
from forerun.serving.protocol import Refusal
from forerun.types import ShapeError, StreamSpec

BAD_MOST = 1000
"""Messages that make no sense before a connection is closed."""
BAD_COSTS = 100
"""As many messages as one of those costs of what a connection may send: nobody sends them in earnest."""
FAIR = 16
"""Messages of one connection that are read in a row, before others have their turn."""
SHUT_BAD, SHUT_SLOW = 1003, 1008


class Connection:
    """A client of the engine. All methods run in the event loop."""

    def __init__(self, socket: WebSocket, engine: Engine, action: StreamSpec | None, access: Access) -> None:
        self.socket, self.engine, self.action, self.access = socket, engine, action, access
        self.bucket, self.bad = Bucket(access.messages_per_s), 0
        self.outbox: deque[dict[str, Any]] = deque()
        self.dropped = 0
        self._ready = asyncio.Event()
        self._since_s = time.monotonic()

    async def run(self, hello: dict[str, Any]) -> None:
        """Speak until either side has enough."""
        self.post(hello)
        writer = asyncio.create_task(self._write())
        reader = asyncio.create_task(self._read())
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.engine.leave(self)
            for task in (reader, writer):
                task.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    def post(self, reply: dict[str, Any]) -> None:
        """A reply to be sent; if too many wait, the oldest observation gives way."""
        if len(self.outbox) >= self.access.outbox:
            self._drop()
        self.outbox.append(reply)
        self._ready.set()

    def _drop(self) -> None:
        for place, waiting in enumerate(self.outbox):
            if waiting["type"] == "obs":
                del self.outbox[place]
                self.dropped += 1
                return
        self.outbox.popleft()
        self.dropped += 1

    @property
    def stuck_s(self) -> float:
        """How long nothing could be sent."""
        return time.monotonic() - self._since_s if self.outbox else 0.0

    async def _write(self) -> None:
        while True:
            self._since_s = time.monotonic()
            await self._ready.wait()
            self._ready.clear()
            while self.outbox:
                self._since_s = time.monotonic()
                reply = self.outbox.popleft()
                if self.dropped and reply["type"] == "obs":
                    reply["dropped"], self.dropped = self.dropped, 0
                sending = self.socket.send_bytes(pack(reply))
                await asyncio.wait_for(sending, self.access.patience_s)

    async def _read(self) -> None:
        for number in itertools.count():
            if number % FAIR == 0:
                await asyncio.sleep(0)
            arrived = await self.socket.receive()
            if arrived["type"] != "websocket.receive":
                raise WebSocketDisconnect
            wait_s = self.bucket.take()
            if wait_s:
                refusal = Refusal(
                    "rate_limited",
                    f"messages come faster than {self.access.messages_per_s:g} a second; wait",
                    retry_after_s=wait_s,
                )
                self._refuse(refusal)
                await asyncio.sleep(wait_s)
            self._take(arrived.get("bytes"))
            if self.bad > BAD_MOST:
                await self.socket.close(SHUT_BAD, "too many messages that make no sense")
                return

    def _take(self, data: bytes | None) -> None:
        message = None
        try:
            if data is None:
                raise Refusal("bad_message", "a text frame arrived; expected binary frames of MessagePack")
            message = unpack(data)
            self.engine.submit(self, parse(message, self.action))
        except Refusal as refusal:
            self._refuse(refusal, message)
        except ShapeError as cause:
            self._refuse(Refusal("bad_message", str(cause)), message)

    def _refuse(self, refusal: Refusal, message: Any = None) -> None:
        if refusal.code != "rate_limited":
            self.bad += 1
            self.bucket.left -= BAD_COSTS
        self.engine.counts.refused(refusal.code)
        self.post(refusal.reply(*addressed(message)))
