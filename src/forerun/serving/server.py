"""Run the application until it is told to stop, and then without losing anybody's world.

At the first SIGTERM or Ctrl-C no new sessions begin; every client gets a snapshot of each of its worlds, and
some time to leave. At the second it stops at once.
"""

from __future__ import annotations

import contextlib
import math
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from forerun.serving.access import Access
from forerun.serving.engine import Engine
from forerun.types import ConfigError, StorageError


class Gentle(uvicorn.Server):
    """uvicorn, with a drain before the end."""

    def __init__(self, config: uvicorn.Config, engine: Engine, drain_s: float) -> None:
        super().__init__(config)
        self.engine, self.drain_s = engine, drain_s
        self._until_s = math.inf

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends."""
        if self.engine.draining or sig not in (signal.SIGTERM, signal.SIGINT):
            super().handle_exit(sig, frame)
            return
        self._until_s = time.monotonic() + self.drain_s
        self.engine.drain()
        sessions = len(self.engine.registry.sessions)
        print(
            f"stopping: {sessions} live worlds have {self.drain_s:g} s; once more to end now", file=sys.stderr
        )

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to end now."""
        gone = self.engine.draining and not self.engine.registry.sessions
        return await super().on_tick(counter) or gone or time.monotonic() > self._until_s


def serve(
    app: FastAPI,
    engine: Engine,
    *,
    host: str = "127.0.0.1",
    port: int = 8600,
    access: Access | None = None,
    drain_s: float = 10.0,
    certificate: Path | None = None,
    key: Path | None = None,
    announce: Callable[[int], None] = lambda port: None,
) -> None:
    """Serve until a signal comes.

    Args:
        certificate, key: PEM files, for wss:// and https://.
        announce: called with the port once it is open.

    Raises:
        StorageError: the port is taken.
        ConfigError: a certificate without its key, or files that are not there.
    """
    if (certificate is None) != (key is None):
        raise ConfigError("TLS needs both --certificate and --key, PEM files")
    for path in (certificate, key):
        if path is not None and not path.is_file():
            raise ConfigError(f"there is no file '{path.name}'; TLS needs --certificate and --key, PEM files")
    config = configured(app, host, port, access or Access(), ssl_certfile=certificate, ssl_keyfile=key)
    server = Gentle(config, engine, drain_s)
    with _listening(host, port) as sock, contextlib.suppress(KeyboardInterrupt):
        announce(sock.getsockname()[1])
        server.run(sockets=[sock])


def configured(app: FastAPI, host: str, port: int, access: Access, **tls: Any) -> uvicorn.Config:
    """uvicorn as worlds want it: small messages at once, none too large, no compression in the way."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        ws="websockets-sansio",
        loop="auto",
        log_level="warning",
        ws_max_size=access.message_bytes,
        ws_per_message_deflate=False,
        ws_ping_interval=20.0,
        timeout_graceful_shutdown=2,
        **tls,
    )


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=1024, reuse_port=False)
    except OSError as cause:
        why = (cause.strerror or str(cause)).partition(" (")[0]
        raise StorageError(
            f"port {port} of {host} cannot be opened: {why}. Choose another with --port, 0 for any"
        ) from cause
