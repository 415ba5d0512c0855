"""Does anybody notice when clients misbehave? One person drives at 30 Hz all the while.

    python benchmarks/serve_faults.py

A real server, on a core of its own. Against it: garbled messages (bytes at random, requests with fields
changed or left out), and clients that connect, open a world and vanish without a word. Before, during and
after: the driver's latency and misses, the server's memory and handles. Writes one JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.pretty import Pretty
from rich.progress import Progress

from forerun.evaluation.load import Load, run, summary
from forerun.evaluation.results import write_result
from forerun.evaluation.servers import ServerProcess, serving
from forerun.serving.messages import pack, unpack
from forerun.serving.protocol import PATH
from forerun.types import require

KINDS = ("open", "step", "fork", "select", "rollback", "snapshot", "restore", "close", "dance")
AT_ONCE = 16
WINDOW = 40
RATE_HZ = 30.0


@dataclass(kw_only=True)
class Faults:
    """See the top of this file."""

    model: Path | None = None
    messages: int = 100_000
    vanish: int = 10_000
    seed: int = 0

    def __call__(self) -> None:
        with serving(self.model, 1, 0) as (server,):
            quiet = driven(server, lambda: None, 8.0)
            self.settled(server)  # what a first wave allocates once is not a leak
            before = vitals(server)
            with Progress() as progress:
                fuzz = driven(server, lambda: asyncio.run(self.fuzz(server, progress)))
                vanishing = driven(server, lambda: asyncio.run(self.vanishing(server, self.vanish, progress)))
            asyncio.run(asyncio.sleep(3))
            after = vitals(server)
            alive = server.ready()
        found = {
            "alive": alive,
            "messages": self.messages,
            "vanished": self.vanish,
            "driver": {"alone": quiet, "garbled messages": fuzz, "vanishing clients": vanishing},
            "before": before,
            "after": after,
        }
        Console().print(Pretty(found))
        settings = {"rate_hz": RATE_HZ, "connections": AT_ONCE}
        n = self.messages + self.vanish
        print(write_result("serve-faults", found, settings=settings, seed=self.seed, n=n))

    def settled(self, server: ServerProcess) -> None:
        asyncio.run(self.vanishing(server, 500, None))
        asyncio.run(asyncio.sleep(2))

    async def fuzz(self, server: ServerProcess, progress: Progress) -> None:
        """Garbled messages over several connections, opened anew whenever one is closed."""
        task = progress.add_task("garbled messages", total=self.messages)
        share = self.messages // AT_ONCE

        async def one(number: int) -> None:
            draw, sent = random.Random(self.seed * 1000 + number), 0
            while sent < share:
                sent += await garble(server, draw, share - sent, lambda n: progress.advance(task, n))

        await asyncio.gather(*(one(k) for k in range(AT_ONCE)))

    async def vanishing(self, server: ServerProcess, count: int, progress: Progress | None) -> None:
        """Clients that come, mostly open a world, and are gone."""
        task = progress.add_task("vanishing clients", total=count) if progress else None
        left = iter(range(count))

        async def some() -> None:
            for number in left:
                await vanish(server, number)
                if progress and task is not None:
                    progress.advance(task)

        await asyncio.gather(*(some() for _ in range(AT_ONCE)))


def driven(server: ServerProcess, meanwhile: Any, at_least_s: float = 0.0) -> dict[str, Any]:
    """What one driver lives through while something happens."""
    seats, over = [], threading.Event()

    def drive() -> None:
        while not over.is_set() or not seats:
            load = Load(urls=[server.url], sessions=1, rate_hz=RATE_HZ, seconds=max(4.0, at_least_s))
            seats.extend(asyncio.run(run(load)))

    thread = threading.Thread(target=drive)
    thread.start()
    meanwhile()
    over.set()
    thread.join()
    told = summary(seats, RATE_HZ)
    return {key: told[key] for key in ("steps", "missed_share", "errors", "latency_ms")}


def vitals(server: ServerProcess) -> dict[str, Any]:
    """Memory, handles and sessions of the server now."""
    lines = server.page("/metrics").splitlines()
    sessions = next(float(line.split()[1]) for line in lines if line.startswith("forerun_sessions "))
    return {
        "memory_mb": server.memory_bytes() / 1e6, "handles": server.handles(), "sessions": sessions,
    }  # fmt: skip


async def garble(server: ServerProcess, draw: random.Random, most: int, told: Any) -> int:
    """Send garbled messages over one connection until ``most`` are answered or it closes; how many were."""
    client: Any = require("websockets.asyncio.client", "serve", "the fault generator")
    answers = Answers()
    try:
        async with client.connect(
            server.url + PATH, compression=None, max_size=None, close_timeout=1
        ) as wire:
            reader = asyncio.create_task(answers.read(wire))
            while answers.count < most and not reader.done():
                for _ in range(WINDOW):
                    await wire.send(garbled(draw))
                before = answers.count
                with contextlib.suppress(TimeoutError):  # some ask for no answer
                    async with asyncio.timeout(1.0):
                        while answers.count < before + WINDOW * 3 // 4 and not reader.done():
                            await asyncio.sleep(0.002)
                told(answers.count - before)
            reader.cancel()
    except Exception:  # the server may close on what it is sent; that is its right
        return max(answers.count, 1)
    return max(answers.count, 1)


@dataclass
class Answers:
    """Messages that came back: each one answers one that was sent."""

    count: int = 0

    async def read(self, wire: Any) -> None:
        with contextlib.suppress(Exception):
            async for data in wire:
                unpack(data)  # whatever comes back is a message
                self.count += 1


def garbled(draw: random.Random) -> bytes:
    """Bytes that are nearly a request, or nothing like one."""
    if draw.random() < 0.1:
        return draw.randbytes(draw.randrange(200))
    message: dict[str, Any] = {
        "type": draw.choice(KINDS), "id": draw.randrange(4), "seq": draw.randrange(10**6),
        "start": draw.randrange(9),
        "action": np.array([draw.gauss(0, 1) for _ in range(2)], np.float32), "into": draw.randrange(6),
        "count": draw.choice([1, 1, 4, 16]), "ticks": draw.randrange(5), "rows": [draw.randrange(4)],
        "picture": draw.choice(["jpeg", "none", "raw"]),
    }  # fmt: skip
    for name in list(message):
        chance = draw.random()
        if chance < 0.03:
            del message[name]
        elif chance < 0.08:
            message[name] = odd(draw)
    data = pack(message)
    if draw.random() < 0.1 and data:
        where = draw.randrange(len(data))
        data = data[:where] + bytes([draw.randrange(256)]) + data[where + draw.randrange(2) :]
    return data


def odd(draw: random.Random) -> Any:
    """Values that nobody asked for."""
    return draw.choice(
        [None, -1, 2**60, 1e308, float("nan"), float("inf"), "", "x" * 300, b"\x00" * 40, [], {}, [[[]]],
         True, np.full(2, np.nan), np.zeros((3, 0)), np.zeros((2, 2, 2, 2)), {"a": {"b": []}}]
    )  # fmt: skip


async def vanish(server: ServerProcess, number: int) -> None:
    client: Any = require("websockets.asyncio.client", "serve", "the fault generator")
    async with client.connect(server.url + PATH, compression=None, max_size=None, close_timeout=0) as wire:
        if number % 4:
            await wire.recv()
            await wire.send(pack({"type": "open", "id": 0, "start": 0, "picture": "jpeg"}))
            if number % 2:
                await wire.recv()
                await wire.send(pack({"type": "step", "id": 0, "seq": 0, "action": None}))
        wire.transport.abort()  # no goodbye


if __name__ == "__main__":
    tyro.cli(Faults)()
