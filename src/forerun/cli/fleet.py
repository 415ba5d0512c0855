"""``forerun serve --replicas N``: several servers, one process each, behind one address."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from forerun.evaluation.servers import ServerProcess, serving
from forerun.serving.router import Router

OWN = ("model", "host", "port", "replicas", "browser", "certificate", "key")
"""Options of the whole: the others are each server's."""


def run_fleet(command: Any, announce: Callable[[int], None]) -> None:
    """Serve until a signal comes, then drain every server.

    Args:
        command: a `forerun.cli.serve.Serve`.
        announce: called with the router's port once every server is ready.
    """
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    with serving(command.model, command.replicas, None, words_of(command)) as servers:
        urls = [server.url.replace("ws://", "http://") for server in servers]
        with Router(urls, host=command.host, port=command.port) as router:
            announce(int(router.url.rpartition(":")[2]))
            over.wait()
            _drain(servers)


def words_of(command: Any) -> list[str]:
    """The options of each server as words."""
    words: list[str] = []
    for spec in fields(command):
        value, name = getattr(command, spec.name), f"--{spec.name.replace('_', '-')}"
        if spec.name in OWN or value is None or value is False:
            continue
        if value is True:
            words.append(name)
        else:
            words += [name, str(value.resolve() if isinstance(value, Path) else value)]
    return words


def _drain(servers: list[ServerProcess]) -> None:
    """Each sends its worlds to their clients, all at the same time."""
    for server in servers:
        server.process.send_signal(signal.SIGTERM)
    for server in servers:
        server.process.wait()
