"""Open-loop load on a server of live worlds: sessions that come when they like and step at their own rate.

Steps are sent when they are due, whether or not the last one was answered, so a slow server cannot slow down
its own test. A step counts as missed if its answer takes longer than the session's period, or never comes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from forerun.serving.messages import pack, unpack
from forerun.serving.protocol import PATH
from forerun.types import require

GRACE_S = 1.0
"""After the last step, for answers still on their way."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked of a server.

    Args:
        urls: one server for all, or one per session.
        arrival_s: mean time between sessions (Poisson).
        settle_s: after the last arrival, not counted.
    """

    urls: Sequence[str]
    sessions: int
    rate_hz: float = 30.0
    seconds: float = 10.0
    picture: str = "none"
    observe: Sequence[str] | None = None
    arrival_s: float = 0.02
    settle_s: float = 1.0
    best_effort: bool = False
    seed: int = 0


@dataclass
class Seat:
    """What one session lived through."""

    latency_s: list[float] = field(default_factory=list)
    """From each counted step's sending to its answer."""
    queue_s: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    arrived_s: list[float] = field(default_factory=list)
    """When answers came: their intervals' spread is the jitter."""
    sent: int = 0
    unanswered: int = 0
    first_frame_s: float | None = None
    refused: str | None = None
    refused_after_s: float | None = None
    levels: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    timer_late_s: list[float] = field(default_factory=list)
    """By how much this generator itself sent too late."""


async def run(load: Load) -> list[Seat]:
    """One seat per session, after all have played their time."""
    random = np.random.default_rng(load.seed)
    waits = np.cumsum(random.exponential(load.arrival_s, load.sessions))
    phases = random.uniform(0, 1 / load.rate_hz, load.sessions)
    begin = time.perf_counter() + float(waits[-1]) + load.settle_s + 0.5
    plays = [
        _play(load, k, float(waits[k]), begin + float(phases[k]), np.random.default_rng([load.seed, k]))
        for k in range(load.sessions)
    ]
    return list(await asyncio.gather(*plays))


async def _play(load: Load, number: int, wait_s: float, begin_s: float, random: Any) -> Seat:
    seat = Seat()
    await asyncio.sleep(wait_s)
    client: Any = require("websockets.asyncio.client", "serve", "the load generator")
    url = load.urls[number % len(load.urls)] + PATH
    async with client.connect(url, compression=None, max_size=None, ping_interval=None) as socket:
        hello = unpack(await socket.recv())
        if not await _opened(load, number, socket, hello, seat, 1 / load.rate_hz):
            return seat
        due: dict[int, tuple[float, bool]] = {}
        reader = asyncio.create_task(_read(socket, seat, due))
        try:
            await _step(load, socket, hello, seat, due, begin_s, random)
            await asyncio.sleep(GRACE_S if due else 0)
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        seat.unanswered = sum(counted for _, counted in due.values())
    return seat


async def _opened(
    load: Load, number: int, socket: Any, hello: dict, seat: Seat, period_s: float | None
) -> bool:
    message = {
        "type": "open",
        "id": 0,
        "start": number % max(1, len(hello["starts"])),
        "picture": load.picture,
        "observe": None if load.observe is None else list(load.observe),
        "period_s": period_s,
        "best_effort": load.best_effort,
    }
    asked = time.perf_counter()
    await socket.send(pack(message))
    reply = unpack(await socket.recv())
    took = time.perf_counter() - asked
    if reply["type"] == "error":
        seat.refused, seat.refused_after_s = reply["message"], took
        return False
    seat.first_frame_s = took
    return True


async def _step(
    load: Load,
    socket: Any,
    hello: dict,
    seat: Seat,
    due: dict[int, tuple[float, bool]],
    begin_s: float,
    random: Any,
) -> None:
    """Send at the rate from now on; those after ``begin_s`` count."""
    spec, period = hello["model"]["action"], 1 / load.rate_hz
    early = int((begin_s - time.perf_counter()) / period)
    steps = max(0, early) + int(load.seconds * load.rate_hz)
    first = begin_s - max(0, early) * period
    walk = _actions(spec, steps, random)
    for seq in range(steps):
        wanted = first + seq * period
        await asyncio.sleep(wanted - time.perf_counter())
        now = time.perf_counter()
        counted = wanted >= begin_s - 1e-9
        due[seq] = (now, counted)
        seat.sent += counted
        if counted:
            seat.timer_late_s.append(now - wanted)
        action = None if walk is None else walk[seq]
        await socket.send(pack({"type": "step", "id": 0, "seq": seq, "action": action}))


def _actions(spec: dict[str, Any] | None, steps: int, random: Any) -> np.ndarray | None:
    """Smooth moves within a third of the action's bounds, (steps, A) float32."""
    if spec is None:
        return None
    low, high = np.asarray(spec["low"] or -1.0), np.asarray(spec["high"] or 1.0)
    phase = random.uniform(0, 2 * np.pi, spec["shape"])
    swing = np.sin(0.1 * np.arange(steps)[:, None] + phase)
    return ((low + high) / 2 + swing * (high - low) / 6).astype(np.float32)


async def _read(socket: Any, seat: Seat, due: dict[int, tuple[float, bool]]) -> None:
    while True:
        reply = unpack(await socket.recv())
        now = time.perf_counter()
        if reply["type"] == "error":
            seat.errors[reply["code"]] = seat.errors.get(reply["code"], 0) + 1
        sent = due.pop(reply.get("seq"), None)
        if sent is None or reply["type"] != "obs" or not sent[1]:
            continue
        seat.latency_s.append(now - sent[0])
        seat.arrived_s.append(now)
        seat.queue_s.append(1e-3 * reply["timing"]["queue_ms"])
        seat.rows.append(reply["timing"]["rows"])
        level = (
            f"{reply['level']}, picture {reply['picture']['state']}" if "picture" in reply else reply["level"]
        )
        seat.levels[level] = seat.levels.get(level, 0) + 1


async def saturate(load: Load) -> float:
    """Steps a second of all sessions together, each sending its next step as soon as the last is answered."""

    async def play(number: int) -> int:
        client: Any = require("websockets.asyncio.client", "serve", "the load generator")
        url = load.urls[number % len(load.urls)] + PATH
        async with client.connect(url, compression=None, max_size=None, ping_interval=None) as socket:
            hello, seat, done = unpack(await socket.recv()), Seat(), 0
            if not await _opened(load, number, socket, hello, seat, None):
                return 0
            walk = _actions(hello["model"]["action"], 256, np.random.default_rng([load.seed, number]))
            until = time.perf_counter() + load.seconds
            while time.perf_counter() < until:
                action = None if walk is None else walk[done % 256]
                await socket.send(pack({"type": "step", "id": 0, "seq": done, "action": action}))
                await socket.recv()
                done += 1
            return done

    return sum(await asyncio.gather(*(play(k) for k in range(load.sessions)))) / load.seconds


def summary(seats: Sequence[Seat], rate_hz: float) -> dict[str, Any]:
    """What a run showed, over all sessions that were let in."""
    inside = [seat for seat in seats if seat.refused is None]
    latency = np.concatenate([np.asarray(seat.latency_s) for seat in inside] or [np.zeros(0)])
    sent = sum(seat.sent for seat in inside)
    late = int((latency > 1 / rate_hz).sum())
    missed = late + sent - len(latency)
    out: dict[str, Any] = {
        "sessions": len(inside),
        "refused": len(seats) - len(inside),
        "steps": sent,
        "missed_share": missed / max(sent, 1),
        "errors": _sum(seat.errors for seat in inside),
        "levels": _sum(seat.levels for seat in inside),
    }
    if len(latency):
        jitter = np.concatenate([np.diff(seat.arrived_s) for seat in inside if len(seat.arrived_s) > 1])
        out |= {
            "latency_ms": _spread(latency),
            "jitter_ms": float(1e3 * (np.percentile(jitter, 99) - np.percentile(jitter, 50))),
            "queue_ms": _spread(np.concatenate([seat.queue_s for seat in inside])),
            "rows_a_pass": float(np.mean(np.concatenate([seat.rows for seat in inside]))),
            "first_frame_ms": _spread(np.array([seat.first_frame_s for seat in inside])),
            "generator_late_ms": _spread(np.concatenate([seat.timer_late_s for seat in inside])),
        }
    refused = [seat.refused_after_s for seat in seats if seat.refused_after_s is not None]
    if refused:
        out["refused_after_ms"] = _spread(np.array(refused))
        out["refusal"] = next(seat.refused for seat in seats if seat.refused)
    return out


def _spread(seconds: np.ndarray) -> dict[str, float]:
    middle, high, most = np.percentile(seconds, (50, 99, 100))
    return {"p50": float(1e3 * middle), "p99": float(1e3 * high), "max": float(1e3 * most)}


def _sum(counts: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for some in counts:
        for name, count in some.items():
            total[name] = total.get(name, 0) + count
    return total
