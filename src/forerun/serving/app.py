"""The engine on the network: a WebSocket for worlds, pages and health for people and probes.

The event loop only reads, packs and sends; the model runs in the engine's own thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

import forerun
from forerun.serving.access import Access, Peers
from forerun.serving.connection import Connection
from forerun.serving.drawing import encode
from forerun.serving.engine import Engine
from forerun.serving.metrics import Metrics
from forerun.serving.protocol import PATH, VERSION

PAGE = Path(__file__).parent / "page"
WEIGHED = 256
"""Replies after which their cost is looked at."""
UNAUTHORISED, CROWDED = 4401, 4429


@dataclass
class Door:
    """Connections of one event loop, and the way of replies to them."""

    engine: Engine
    metrics: Metrics
    loop: asyncio.AbstractEventLoop | None = None

    def __post_init__(self) -> None:
        self.connections: set[Connection] = set()
        self.sent, self.before = 0, self._spent()
        self.weighed = False

    def hand_over(self, replies: list[tuple[Hashable, dict[str, Any]]]) -> None:
        """From the engine's thread to the event loop: one call for a whole pass."""
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._post, replies)

    def _post(self, replies: list[tuple[Any, dict[str, Any]]]) -> None:
        for connection, reply in replies:
            if connection in self.connections:
                connection.post(reply)
            timing = reply.get("timing")
            if timing is not None:
                self.metrics.latency.observe(1e-3 * (timing["queue_ms"] + timing["pass_ms"]))
        self._weigh(len(replies))

    def _weigh(self, sent: int) -> None:
        """What a pass costs beside the model: the scheduler plans with it."""
        self.sent += sent
        if self.sent < WEIGHED:
            return
        now = self._spent()
        cpu_s, model_s, passes, rows = (new - old for new, old in zip(now, self.before, strict=True))
        if self.weighed and passes:  # the first time holds all that came before the first session
            rows_a_pass = rows / passes
            self.engine.scheduler.others.note(round(rows_a_pass), (cpu_s - model_s) / self.sent * rows_a_pass)
        self.sent, self.before, self.weighed = 0, now, True

    def _spent(self) -> tuple[float, float, int, int]:
        """Processor time of all, of the model alone, passes and rows, so far."""
        counts = self.engine.counts
        return time.process_time(), counts.model_s, counts.passes, counts.rows


def create_app(engine: Engine, access: Access | None = None, name: str = "world") -> FastAPI:
    """The application around an engine that has not been started."""
    access = access or Access()
    door = Door(engine, Metrics(engine))
    engine.outlet = door.hand_over
    hello = greeting(engine, access, name)
    peers = Peers(access.connections, access.connects_per_s)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        door.loop = asyncio.get_running_loop()
        engine.start()
        yield
        await asyncio.to_thread(engine.stop)

    app = FastAPI(title="forerun", version=forerun.__version__, lifespan=life, docs_url=None, redoc_url=None)
    app.state.door = door
    _add_health(app, engine, door)
    _add_page(app, engine, access)

    @app.websocket(PATH)
    async def world(socket: WebSocket) -> None:
        peer = socket.client.host if socket.client else "unknown"
        await peers.turn(peer)
        await socket.accept()
        if not access.admits(socket.headers.get("authorization"), socket.query_params.get("token")):
            await socket.close(
                UNAUTHORISED, "a token is needed: Authorization: Bearer TOKEN, or ?token=TOKEN"
            )
            return
        if not peers.enter(peer):
            await socket.close(CROWDED, f"{access.connections} connections of one peer are open already")
            return
        connection = Connection(socket, engine, engine.passes.model.config.action, access)
        door.connections.add(connection)
        try:
            await connection.run(hello | {"capacity": capacity(engine)})
        finally:
            door.connections.discard(connection)
            peers.leave(peer)

    return app


def greeting(engine: Engine, access: Access, name: str) -> dict[str, Any]:
    """``hello``: what this server is, what its world observes and takes."""
    config = engine.passes.model.config
    return {
        "type": "hello",
        "protocol": VERSION,
        "server": f"forerun {forerun.__version__}",
        "model": {
            "name": name,
            "size": config.size_name,
            "tick_s": config.tick_s,
            "streams": [spec.to_json() for spec in config.streams],
            "action": config.action.to_json() if config.action else None,
            "standardised": standardised(engine),
            "fingerprint": engine.registry.fingerprint,
        },
        "starts": [start.name for start in engine.registry.starts],
        "limits": {
            "message_bytes": access.message_bytes,
            "sessions": engine.registry.limits.per_client,
            "candidates": engine.registry.limits.candidates,
            "rollback": engine.passes.arena.rollback,
        },
    }


def standardised(engine: Engine) -> dict[str, list[float]] | None:
    """Mean and scale of the action in its own units, and its bounds in these: what planners search in."""
    model = engine.passes.model
    if model.config.action is None:
        return None
    low, high = model.action_bounds()
    scale = model.action_scale
    return {
        "mean": scale.mean.tolist(),
        "scale": scale.std.tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
    }


def capacity(engine: Engine) -> dict[str, Any]:
    """How full the server is now."""
    scheduler = engine.scheduler
    return {
        "slots": engine.passes.slots,
        "sessions": len(engine.registry.sessions),
        "load": round(scheduler.share(scheduler.level), 3),
        "level": scheduler.level.name.lower(),
        "draining": engine.draining,
    }


def _add_health(app: FastAPI, engine: Engine, door: Door) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Alive: the process answers."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """Ready: new sessions are welcome."""
        ready = engine.running and not engine.draining and engine.registry.free_slots > 0
        return JSONResponse({"ready": ready, **capacity(engine)}, 200 if ready else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        body, kind = door.metrics.text()
        return Response(body, media_type=kind)


def _add_page(app: FastAPI, engine: Engine, access: Access) -> None:
    starts = engine.registry.starts

    @app.get("/")
    async def index() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @app.get("/starts/{number}.jpg")
    async def start(number: int, request: Request) -> Response:
        """What a recorded start looks like."""
        if not access.admits(request.headers.get("authorization"), request.query_params.get("token")):
            raise HTTPException(401, "a token is needed")
        cameras = engine.passes.cameras
        if not 0 <= number < len(starts) or not cameras:
            raise HTTPException(404, f"there are {len(starts)} starts")
        picture = encode(starts[number].context[cameras[0]][-1], "jpeg", 90)
        return Response(picture, media_type="image/jpeg")

    app.mount("/page", StaticFiles(directory=PAGE), name="page")
