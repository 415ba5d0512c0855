"""A real server of a tiny world, on a free port, in a thread of this process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn

from forerun.evaluation.servers import free_port
from forerun.serving.access import Access
from forerun.serving.app import create_app
from forerun.serving.engine import Engine
from forerun.serving.passes import Passes
from forerun.serving.registry import Limits
from forerun.serving.rtc import add_rtc
from forerun.serving.server import configured
from live_worlds import start
from tiny_worlds import world


@dataclass
class Served:
    """Where it listens, and what is inside."""

    port: int
    engine: Engine

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def served(access: Access | None = None, slots: int = 64, **options: Any) -> Iterator[Served]:
    """A server that is ready; ended on the way out."""
    access, rtc, tls = access or Access(), options.pop("rtc", False), options.pop("tls", {})
    model = options.pop("model", None) or world()
    passes = Passes(model, slots, options.pop("max_rows", 16), options.pop("shape", None), engine="torch")
    limits, starts = options.pop("limits", Limits()), options.pop("starts", 4)
    moments = [start(k) for k in range(starts)] if isinstance(starts, int) else starts
    engine = Engine(passes, starts=moments, limits=limits, **options)
    port = free_port()
    app = create_app(engine, access, "tiny")
    if rtc:
        add_rtc(app, engine, access)
    server = uvicorn.Server(configured(app, "127.0.0.1", port, access, **tls))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < until, "the server did not start"
            time.sleep(0.01)
        yield Served(port, engine)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the server did not stop"
