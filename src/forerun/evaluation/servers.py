"""Server processes for a measurement: started on a core of their own, watched, and always ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from forerun.types import Error

READY_S = 120.0
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class ServerDiedError(Error, RuntimeError):
    """A server ended before it was ready."""


@dataclass
class ServerProcess:
    """One ``forerun serve``."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def page(self, path: str) -> str:
        """What its web server answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return answer.read().decode()

    def cpu_s(self) -> float:
        """Processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self) -> int:
        """Resident memory now."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE

    def handles(self) -> int:
        """Open files and sockets now."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def ready(self) -> bool:
        """Whether it takes sessions; ServerDiedError if it has ended."""
        if self.process.poll() is not None:
            raise ServerDiedError(f"a server ended with code {self.process.returncode} before it was ready")
        try:
            self.page("/readyz")
        except OSError:
            return False
        return True

    def stop(self, sig: int = signal.SIGKILL) -> None:
        """End it and wait for that."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        self.process.wait(timeout=30)


@contextlib.contextmanager
def serving(
    model: Path | None, count: int = 1, core: int | None = None, options: Sequence[str] = ()
) -> Iterator[list[ServerProcess]]:
    """``count`` servers of a model, on one core if it is given; ended on the way out.

    Raises:
        ServerDiedError: one ended, or was not ready within two minutes each.
    """
    servers: list[ServerProcess] = []
    try:
        for _ in range(count):
            servers.append(_start(model, core, options))
            if len(servers) % 4 == 0:
                _await(servers)  # not all at once: starting takes memory and time
        _await(servers)
        yield servers
    finally:
        for server in servers:
            server.stop()


def _start(model: Path | None, core: int | None, options: Sequence[str]) -> ServerProcess:
    port = free_port()
    words = [sys.executable, "-m", "forerun.cli.main", "serve", *([str(model)] if model else [])]
    words += ["--port", str(port), "--no-browser", *options]
    pinned = None if core is None or not hasattr(os, "sched_setaffinity") else {core}
    process = subprocess.Popen(
        words,
        stdout=subprocess.DEVNULL,
        preexec_fn=None if pinned is None else lambda: os.sched_setaffinity(0, pinned),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return ServerProcess(process, port)


def _await(servers: Sequence[ServerProcess]) -> None:
    until = time.monotonic() + READY_S
    for server in servers:
        while not server.ready():
            if time.monotonic() > until:
                raise ServerDiedError(f"a server was not ready after {READY_S:g} s")
            time.sleep(0.1)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]
