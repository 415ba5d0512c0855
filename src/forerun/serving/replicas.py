"""Router and replicas on Ray Serve, which starts them, watches them, and replaces those that die.

Ray Serve's own proxy is left out: it can keep a WebSocket with a replica, but not choose the replica by its
room, and every message would go through it. Each replica is a forerun server at a port of its own; it tells
the router so at every health check.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forerun.serving.router import Router
from forerun.types import Error, require

Build = Callable[[], tuple[Any, Any]]
"""Makes, where it is called, the application of `forerun.serving.app.create_app` and its engine."""
HEARTBEAT_S = 2.0
START_S = 120.0


class ReplicaError(Error, RuntimeError):
    """A replica that cannot serve; Ray Serve replaces it."""


def from_folder(
    model: str | Path,
    *,
    starts: str | Path | None = None,
    slots: int = 256,
    rows: int = 64,
    shape: Any = None,
    device: str = "cpu",
    tokens: tuple[str, ...] = (),
    threads: int = 1,
) -> Build:
    """How to make a server of a model's folder, in any process that can read it.

    Args:
        starts: file of recorded starts, as `forerun serve` keeps beside a run.
        slots, rows, shape: as in `forerun.serving.passes.Passes`.
        tokens: as in `forerun.serving.access.Access`.
        threads: of torch.
    """

    def build() -> tuple[Any, Any]:
        import torch

        from forerun.serving.access import Access
        from forerun.serving.app import create_app
        from forerun.serving.engine import Engine
        from forerun.serving.passes import Passes
        from forerun.serving.starts import load_starts
        from forerun.world_model import WorldModel

        torch.set_num_threads(threads)
        passes = Passes(WorldModel.from_pretrained(model).to(device), slots, rows, shape)
        engine = Engine(passes, starts=() if starts is None else load_starts(Path(starts)))
        # all clients come from the router's address, so that a limit per peer would be one for all
        access = Access(tokens=tokens, connections=engine.registry.limits.sessions)
        return create_app(engine, access, Path(model).resolve().parent.name), engine

    return build


class ServedRouter:
    """A `Router` as a deployment of Ray Serve."""

    def __init__(self, host: str, port: int) -> None:
        self._router, self._processes = Router(host=host, port=port), dict[str, int]()
        self._url = self._router.url.replace(host, _reached_at(host))
        self._router.start()

    def enter(self, url: str, process: int) -> None:
        """A replica is there."""
        self._router.enter(url)
        self._processes[url] = process

    def url(self) -> str:
        """Where clients connect."""
        return self._url

    def replicas(self) -> dict[str, int]:
        """Process numbers by address of the replicas that are there, as far as is known."""
        return {url: self._processes[url] for url in self._router.replicas}


class ServedWorlds:
    """A forerun server as a replica of a deployment of Ray Serve: same process, a port of its own.

    Args:
        router: handle of the `ServedRouter`.
        host: to listen at.
    """

    def __init__(self, build: Build, router: Any, host: str) -> None:
        app, self._engine = build()
        self._router, port = router, _free_port(host)
        self.url = f"http://{_reached_at(host)}:{port}"
        self._thread = threading.Thread(target=self._serve, args=(app, host, port), daemon=True)
        self._thread.start()
        until_s = time.monotonic() + START_S
        while not self._engine.running:
            if not self._thread.is_alive() or time.monotonic() > until_s:
                raise ReplicaError(f"the server at {self.url} did not start within {START_S:g} s")
            time.sleep(0.02)

    def _serve(self, app: Any, host: str, port: int) -> None:
        from forerun.serving.server import serve

        sys.setswitchinterval(0.001)  # the event loop answers while the engine's thread computes
        serve(app, self._engine, host=host, port=port)

    async def check_health(self) -> None:
        """Alive, and the router knows of it; also after the router was replaced."""
        if not (self._engine.running and self._thread.is_alive()):
            raise ReplicaError(f"the engine behind {self.url} has stopped")
        await self._router.enter.remote(self.url, os.getpid())

    def __del__(self) -> None:
        """Ray Serve takes this replica away: clients get snapshots, and leave until it ends the process."""
        engine = getattr(self, "_engine", None)
        if engine is not None and engine.running:
            engine.drain()
            self._thread.join()


def deploy(
    build: Build,
    replicas: int = 2,
    *,
    host: str = "127.0.0.1",
    port: int = 8600,
    name: str = "forerun",
    cpus: float = 1.0,
    gpus: float = 0.0,
    drain_s: float = 10.0,
) -> str:
    """Run so many servers behind one address, on the Ray cluster that this process is connected to.

    Called again, it replaces all servers by new ones, a few at a time; the router stays as it is.

    Args:
        build: see `from_folder`; it runs once in each replica.
        host: where router and replicas listen; 0.0.0.0 for a cluster of several machines.
        port: the router's; 0 for any that is free.
        name: of the application of Ray Serve; that of the router is ``NAME-router``.
        cpus, gpus: of each replica, as Ray counts them.
        drain_s: seconds that clients have to leave a replica that is taken away.

    Returns:
        The address for clients, such as ``ws://127.0.0.1:8600``.

    Raises:
        MissingExtraError: ray is not installed.
    """
    serve = require("ray.serve", "ray", "scale-out")
    serve.start(proxy_location="Disabled")
    front = f"{name}-router"
    if front not in serve.status().applications:
        options = {"ray_actor_options": {"num_cpus": 0}, "health_check_period_s": HEARTBEAT_S}
        router = serve.deployment(ServedRouter).options(num_replicas=1, **options)
        serve.run(router.bind(host, port), name=front, route_prefix=None)
    handle = serve.get_app_handle(front)
    worlds = serve.deployment(ServedWorlds).options(
        num_replicas=replicas,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        health_check_period_s=HEARTBEAT_S,
        graceful_shutdown_timeout_s=drain_s,
    )
    serve.run(worlds.bind(build, handle, host), name=name, route_prefix=None)
    return handle.url.remote().result()


def _reached_at(host: str) -> str:
    """The address by which others find who listens at ``host``."""
    return require("ray.util", "ray", "scale-out").get_node_ip_address() if host == "0.0.0.0" else host


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as found:
        return found.getsockname()[1]
