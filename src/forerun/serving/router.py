"""One address before many servers: each connection goes to the one with the most room, and stays there.

Nothing is known here of sessions. A world stays with its replica because its connection does; when the
replica dies, so does the connection, and `forerun.serving.resilient` goes on through the same address.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from forerun.types import StorageError

PROBE_S = 1.0
"""A replica that does not say within that time how full it is gets no new connection."""
NOBODY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


@dataclass(eq=False)
class Replica:
    """One server behind a router."""

    url: str
    listed: bool
    """Known from the beginning; others are forgotten when they are gone, and may enter again."""
    connections: int = 0

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80

    async def room(self) -> dict[str, Any] | None:
        """What ``/readyz`` says; None if nobody is welcome.

        Raises:
            OSError: nobody answers there, or not in time.
        """
        writer = None
        try:
            async with asyncio.timeout(PROBE_S):
                reader, writer = await asyncio.open_connection(*self.address)
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: replica\r\nConnection: close\r\n\r\n")
                told = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
                return told if told["ready"] else None
        except (ValueError, KeyError, TypeError):
            return None
        finally:
            if writer is not None:
                writer.close()


class Router:
    """Gives each TCP connection to the replica with the most room, and carries its bytes.

    It keeps nothing of any session: a world stays with its replica because its connection does. Pages,
    health and metrics pass like everything else. Several routers may stand side by side.

    Args:
        replicas: ``http://host:port`` of servers; others may `enter` later.
        port: 0 for any that is free.
        tls: to speak ``wss`` and ``https`` to clients.
    """

    def __init__(
        self,
        replicas: Sequence[str] = (),
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.replicas = {url: Replica(url, listed=True) for url in replicas}
        try:
            self._socket = socket.create_server((host, port), backlog=1024)
        except OSError as cause:
            raise StorageError(
                f"port {port} of {host} cannot be opened: {cause.strerror}. Choose another"
            ) from cause
        self.url = f"{'wss' if tls else 'ws'}://{host}:{self._socket.getsockname()[1]}"
        self._tls, self._loop, self._over = tls, asyncio.new_event_loop(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="forerun-router", daemon=True)

    def enter(self, url: str) -> None:
        """A replica is there; saying so again does no harm."""
        self.replicas.setdefault(url, Replica(url, listed=False))

    def start(self) -> None:
        """Route in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End all connections."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def __enter__(self) -> Router:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._socket, ssl=self._tls)
        await self._over.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            replica = await self._place()
            if replica is None:
                with suppress(
                    OSError, EOFError, asyncio.LimitOverrunError
                ):  # who has not asked hears no answer
                    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PROBE_S)
                writer.write(NOBODY)
                return
            try:
                await _join(reader, writer, *(await asyncio.open_connection(*replica.address)))
            finally:
                replica.connections -= 1
        except OSError:
            return  # it died just now; the client asks again
        finally:
            writer.close()

    async def _place(self) -> Replica | None:
        """The replica with the most room, counted as taken; None if none is ready.

        Fullness is the greater share of its time and of its slots, in coarse steps; among equals the one
        with the fewest worlds or connections is chosen, for a new connection has no worlds yet.
        """
        asked = list(self.replicas.values())
        told = await asyncio.gather(*(replica.room() for replica in asked), return_exceptions=True)
        ready = {}
        for replica, room in zip(asked, told, strict=True):
            if isinstance(room, dict):
                full = round(max(room["load"], room["sessions"] / room["slots"]), 1)
                ready[replica] = full, max(room["sessions"], replica.connections)
            elif isinstance(room, OSError) and not replica.listed:
                self.replicas.pop(replica.url, None)
        if not ready:
            return None
        best = min(ready, key=lambda replica: ready[replica])
        best.connections += 1
        return best


async def _join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
) -> None:
    """Carry bytes both ways until either end is gone; then both are."""
    ways = [
        asyncio.create_task(_carry(reader, far_writer)),
        asyncio.create_task(_carry(far_reader, writer)),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        far_writer.close()
        await asyncio.gather(*ways, return_exceptions=True)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
