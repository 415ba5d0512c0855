"""``forerun serve``: many live imagined worlds from one model, with a page to drive them."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console

from forerun.cli.options import MaybePath
from forerun.cli.runs import CONTEXT, Run, known_episodes, open_run, set_threads, table_of
from forerun.data.cache import TickCache
from forerun.types import ConfigError, DataError, require

MaybeShape = Annotated[
    Literal["free", "bucket", "fixed"] | None,
    tyro.conf.arg(metavar="{free,bucket,fixed}", help_behavior_hint=""),
]
MaybeEngine = Annotated[
    Literal["torch", "onnx"] | None, tyro.conf.arg(metavar="{torch,onnx}", help_behavior_hint="")
]
TOKENS = "FORERUN_TOKENS"
PACKAGED = "lift-world"
SHARES = (0.0, 0.5, 0.25, 0.7)
"""Of their episodes, over when starts begin: beginnings alone would look alike."""


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve live imagined worlds: a page for people, a WebSocket for programs.

    All sessions of all clients are advanced together in shared passes of the model. Open the page, choose a
    recorded moment, and drive the robot by keyboard, mouse or gamepad. Programs use forerun.serving.client,
    or anything that speaks WebSocket and MessagePack (docs/serving.md).

    Nothing listens beyond this computer unless --host says so; then set tokens in the variable
    FORERUN_TOKENS, separated by commas.

    Example: forerun serve runs/push --port 8600
    """

    model: MaybePath = None
    """A run of forerun train, or the model inside it; by default a small world that comes with forerun."""
    data: MaybePath = None
    """Recordings to begin from; by default those of the run, held-out episodes first."""
    starts: int = 12
    """How many recorded moments to offer."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 for all."""
    port: int = 8600
    """0 for any that is free."""
    replicas: int = 1
    """Servers behind one address, a process each: one for each core or each GPU."""
    slots: int = 256
    """Worlds held on the device at once; more live suspended in host memory."""
    rows: int = 64
    """Worlds advanced in one pass at most."""
    shape: MaybeShape = None
    """Rows of a pass: as many as wait (default on a CPU), rounded up to a bucket (default on a GPU), or
    always the same, so that not one bit of a session depends on its neighbours."""
    engine: MaybeEngine = None
    """What steps the model; by default ONNX Runtime where the extra "export" is installed, on a CPU with
    passes of free shape: it takes a third of the time for few rows, and its numbers are the same to
    rounding."""
    device: str = "cpu"
    """As torch names it: cpu, cuda, cuda:1."""
    snapshots: MaybePath = None
    """Folder for snapshots that clients name; without it they keep their own."""
    idle: float = 120.0
    """Seconds of silence after which a world moves to host memory."""
    drain: float = 10.0
    """Seconds that clients have to leave after the first signal to stop."""
    certificate: MaybePath = None
    """PEM file, for wss:// and https://."""
    key: MaybePath = None
    """PEM file of its key."""
    open_doors: bool = False
    """Refuse nobody and lower no fidelity, to measure what happens then."""
    browser: bool = True
    """Open the page."""
    threads: int = 1
    """Of torch, or of ONNX Runtime."""

    def __post_init__(self) -> None:
        small = min(self.starts, self.slots, self.rows, self.threads, self.replicas) < 1
        if small or not 0 <= self.port < 65536 or self.idle <= 0 or self.drain < 0:
            raise ConfigError(
                f"--starts {self.starts}, --slots {self.slots}, --rows {self.rows}, --port {self.port}, "
                f"--idle {self.idle:g}: expected 1 or more, a port below 65536, and seconds above 0"
            )

    def __call__(self) -> int:
        require("uvicorn", "serve", "serving")
        set_threads(self.threads)
        if self.replicas > 1:
            return self._fleet()
        from forerun.serving.server import serve

        app, engine, access = self._build()
        sys.setswitchinterval(0.001)  # the event loop answers while the engine's thread computes
        serve(
            app, engine, host=self.host, port=self.port, access=access, drain_s=self.drain,
            certificate=self.certificate, key=self.key,
            announce=lambda port: self._announce(engine, access, port),
        )  # fmt: skip
        return 0

    def _fleet(self) -> int:
        from forerun.cli.fleet import run_fleet

        if self.certificate is not None:
            raise ConfigError("--replicas serves without TLS; put nginx or Caddy before it, or leave it out")

        def announce(port: int) -> None:
            where = f"http://{_shown(self.host)}:{port}"
            Console().print(f"\n[bold]{where}[/]  {self.replicas} servers; Ctrl-C stops", highlight=False)

        run_fleet(self, announce)
        return 0

    def _announce(self, engine: Any, access: Any, port: int) -> None:
        console = Console()
        where = f"{'https' if self.certificate else 'http'}://{_shown(self.host)}:{port}"
        console.print(f"\n[bold]{where}[/]  a page to drive it; Ctrl-C stops", highlight=False)
        console.print(_about(engine), highlight=False)
        if not access.tokens and self.host not in ("127.0.0.1", "localhost", "::1"):
            console.print(
                f"[yellow]anybody who reaches {self.host} may use it: set {TOKENS}", highlight=False
            )
        if self.browser and sys.stdout.isatty():
            threading.Timer(1.0, webbrowser.open, [where]).start()

    def _build(self) -> tuple[Any, Any, Any]:
        from forerun.serving.access import Access
        from forerun.serving.app import create_app
        from forerun.serving.engine import Engine
        from forerun.serving.passes import Passes
        from forerun.serving.registry import Limits
        from forerun.serving.scheduler import Scheduler

        run = open_run(self.model or packaged_world())
        model = self._placed(run.model)
        passes = Passes(model, self.slots, self.rows, self.shape, engine=self.engine)
        engine = Engine(
            passes,
            starts=recorded_starts(run, self.data, self.starts),
            limits=Limits(idle_s=self.idle, per_client=max(1, self.slots // 2)),
            snapshots=self.snapshots,
            scheduler=Scheduler(max_rows=self.rows, open_doors=self.open_doors),
        )
        access = Access(tokens=[t for t in os.environ.get(TOKENS, "").split(",") if t])
        app = create_app(engine, access, name_of(run))
        if find_spec("aiortc") is not None:
            from forerun.serving.rtc import add_rtc

            add_rtc(app, engine, access)
        return app, engine, access

    def _placed(self, model: Any) -> Any:
        try:
            return model.to(self.device)
        except (RuntimeError, AssertionError) as cause:
            raise ConfigError(
                f"--device {self.device} cannot be used: {str(cause).splitlines()[0]}. Leave it out for a CPU"
            ) from cause


def name_of(run: Run) -> str:
    """What people call it: a model's folder is named after the run around it."""
    return run.model_path.resolve().parent.name if run.name == "model" else run.name


def packaged_world() -> Path:
    """A small world of a gripper and a fragile thing, with touch, trained by `forerun train`."""
    path = Path(str(files("forerun"))) / "assets" / PACKAGED
    if not path.is_dir():
        raise DataError("no world comes with this installation; name a run of forerun train")
    return path


def recorded_starts(run: Run, data: Path | None, count: int) -> Sequence[Any]:
    """Moments of held-out episodes with a context of a few ticks; kept in the run's folder."""
    from forerun.serving.starts import FILE, load_starts, save_starts

    kept = (run.path or run.model_path.parent) / FILE
    if data is None and kept.is_file():
        return load_starts(kept)[:count]
    cache = table_of(run, data)
    episodes, _ = known_episodes(run, cache, ())
    starts = [_start(run, cache, int(e), SHARES[k % len(SHARES)]) for k, e in enumerate(episodes[:count])]
    if data is None and run.path is not None:
        save_starts(starts, kept)
    return starts


def _start(run: Run, cache: TickCache, episode: int, share: float) -> Any:
    """A few ticks of an episode, when so much of it is over."""
    from forerun.serving.starts import Start

    first, last = (int(row) for row in cache.episode_starts[episode : episode + 2])
    ticks = min(CONTEXT, last - first)
    begin = first + int(share * (last - first - ticks))
    rows = slice(begin, begin + ticks)
    context = {spec.name: np.array(cache.streams[spec.name][rows]) for spec in run.config.streams}
    actions = np.array(cache.streams["action"][rows][:-1]) if run.config.action else None
    seconds = (begin + ticks - 1 - first) * cache.tick_s
    return Start(f"{cache.episodes[episode]['name']}, {seconds:.1f} s", context, actions)


def _about(engine: Any) -> str:
    passes, registry = engine.passes, engine.registry
    config = passes.model.config
    action = ", ".join(config.action.names) if config.action else "none"
    return (
        f"{len(registry.starts)} starts; observes {', '.join(s.name for s in config.streams)}; "
        f"action: {action}; {passes.slots} slots of {passes.arena.bytes_per_slot / 1024:.0f} KiB on "
        f"{passes.device}, {passes.engine}"
    )


def _shown(host: str) -> str:
    return "localhost" if host in ("127.0.0.1", "0.0.0.0", "::", "::1") else host
