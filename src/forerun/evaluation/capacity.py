"""How many live worlds one core serves in time: batched, one at a time, and a process for each user."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from forerun.evaluation.load import Load, run, saturate, summary
from forerun.evaluation.servers import serving

MISSED = 0.001
"""The share of steps that may come late."""
LADDER = (4, 8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 112, 128, 144, 160, 192, 224, 256, 320)
PROCESSES = (1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24)
GAIN_ROUNDS = 5
OPEN = ("--open-doors", "--slots", "512", "--rows")
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is measured, and where.

    Args:
        cores: of the server and of the load generator; None to leave both where the system puts them.
        load: sessions are set by the ladder.
    """

    model: Path | None
    load: Load
    rows: int = 64
    cores: tuple[int, int] | None = (0, 1)
    ladder: Sequence[int] = LADDER
    processes: Sequence[int] = PROCESSES

    def options(self, rows: int) -> list[str]:
        """Of a server that refuses nobody."""
        return [*OPEN, str(rows)]


def kept_up(found: dict[str, Any], rate_hz: float) -> bool:
    """Whether a run met the bar: p99 within the period, at most 0.1 % missed, nobody refused."""
    on_time = found.get("latency_ms", {}).get("p99", float("inf")) < 1e3 / rate_hz
    return on_time and found["missed_share"] < MISSED and not found["refused"] and not found["errors"]


def climb(bench: Bench, urls: Sequence[str], picture: str, ladder: Sequence[int], say: Say) -> dict[str, Any]:
    """More and more sessions until steps come late twice; the most that kept up, and all that was seen."""
    steps: dict[str, Any] = {}
    best = failed = 0
    for count in ladder:
        found = _measured(bench, urls[:count] if len(urls) > 1 else urls, picture, count)
        good = kept_up(found, bench.load.rate_hz)
        steps[str(count)] = found
        say(f"{count} sessions: p99 {found['latency_ms']['p99']:.1f} ms, missed {found['missed_share']:.2%}")
        best, failed = (count, 0) if good else (best, failed + 1)
        if failed == 2:
            break
    return {"sessions": best, "at_best": steps.get(str(best), {}), "runs": steps}


def batched(bench: Bench, picture: str, say: Say) -> dict[str, Any]:
    """One server, passes of up to ``rows`` rows."""
    with _one(bench, bench.rows) as urls:
        return climb(bench, urls, picture, bench.ladder, say)


def one_at_a_time(bench: Bench, picture: str, say: Say) -> dict[str, Any]:
    """The same server with passes of one row."""
    with _one(bench, 1) as urls:
        return climb(bench, urls, picture, bench.ladder, say)


def process_per_user(bench: Bench, picture: str, say: Say) -> dict[str, Any]:
    """A server process for each session, all on the server's core."""
    core = None if bench.cores is None else bench.cores[0]
    most = max(bench.processes)
    with serving(bench.model, most, core, bench.options(1)) as servers:
        urls = [server.url for server in servers]
        found = climb(bench, urls, picture, bench.processes, say)
        found["memory_bytes_each"] = sum(s.memory_bytes() for s in servers) / most
        return found


def gain(bench: Bench, sessions: int, say: Say) -> dict[str, Any]:
    """Steps a second with every session asking again at once: batched over one row at a time."""
    rates: dict[str, list[float]] = {"batched": [], "other": []}
    with _one(bench, bench.rows) as many, _one(bench, 1) as single:
        for _ in range(GAIN_ROUNDS):  # in turn, so that both meet the same machine
            for name, urls in (("batched", many), ("other", single)):
                load = replace(bench.load, urls=urls, sessions=sessions, picture="none")
                rates[name].append(_elsewhere(bench, lambda load=load: asyncio.run(saturate(load))))
    found = {name: float(np.median(values)) for name, values in rates.items()}
    for name, value in found.items():
        say(f"{sessions} sessions, {name}: {value:.0f} steps/s, median of {GAIN_ROUNDS}")
    return {**found, "rounds": rates, "ratio": found["batched"] / found["other"], "unit": "steps/s"}


def overload(bench: Bench, capacity: int, picture: str, say: Say) -> dict[str, Any]:
    """Twice the sessions that kept up, with admission on: who is let in is served, the rest hears why."""
    core = None if bench.cores is None else bench.cores[0]
    options = ["--slots", "1024", "--rows", str(bench.rows)]
    with serving(bench.model, 1, core, options) as (server,):
        found = _measured(bench, [server.url], picture, 2 * capacity)
    whole = max(1, sum(found["levels"].values()))
    found["came"] = 2 * capacity
    found["level_shares"] = {
        level: sum(n for name, n in found["levels"].items() if name.startswith(level)) / whole
        for level in ("full", "half", "numbers")
    }
    say(f"twice as many: {found['sessions']} served, p99 {found['latency_ms']['p99']:.1f} ms, "
        f"{found['refused']} refused")  # fmt: skip
    return found


@contextlib.contextmanager
def _one(bench: Bench, rows: int) -> Iterator[list[str]]:
    core = None if bench.cores is None else bench.cores[0]
    with serving(bench.model, 1, core, bench.options(rows)) as (server,):
        yield [server.url]


def _measured(bench: Bench, urls: Sequence[str], picture: str, count: int) -> dict[str, Any]:
    load = replace(bench.load, urls=urls, sessions=count, picture=picture)
    seats = _elsewhere(bench, lambda: asyncio.run(run(load)))
    return summary(seats, load.rate_hz)


def _elsewhere(bench: Bench, work: Callable[[], Any]) -> Any:
    """Run on the generator's core, with the fast event loop where it is installed."""
    with contextlib.suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    if bench.cores is None or not hasattr(os, "sched_setaffinity"):
        return work()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {bench.cores[1]})
    try:
        return work()
    finally:
        os.sched_setaffinity(0, before)
