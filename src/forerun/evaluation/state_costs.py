"""What one live world costs in the engine itself: to step, fork, suspend, keep, and show less well."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from forerun.serving.drawing import draw_for
from forerun.serving.passes import Passes
from forerun.serving.protocol import Fork, Open, Restore, View
from forerun.serving.registry import Registry
from forerun.serving.scheduler import Level
from forerun.serving.starts import Start
from forerun.world_model import WorldModel


def state_costs(model: WorldModel, start: Start, forks: int = 256, repeats: int = 200) -> dict[str, Any]:
    """Milliseconds (median, p99) of each, and bytes per session: in a slot, in a fork, as a snapshot."""
    registry = Registry(Passes(model, slots=8), [start])
    session = registry.open("bench", Open(id=0, start=0, view=View()), 0.0)
    for _ in range(8):
        registry.passes.advance([session.slot or 0], np.zeros((1, registry.passes.actions), np.float32),
                                np.ones(1, bool))  # fmt: skip

    def fork() -> None:
        registry.close(registry.fork(session, Fork(id=0, seq=0, into=1, count=forks), 0.0))

    def suspend_resume() -> None:
        registry.suspend(session)
        registry.resume(session)

    data = registry.snapshot(session, None)

    def restore() -> None:
        registry.close(registry.restore("bench", Restore(id=2, data=data), 0.0))

    return {
        "fork_candidates": forks,
        "fork_ms": _timed(fork, repeats),
        "suspend_and_resume_ms": _timed(suspend_resume, repeats),
        "snapshot_ms": _timed(lambda: registry.snapshot(session, None), repeats),
        "restore_ms": _timed(restore, repeats),
        "bytes_per_slot": registry.passes.arena.bytes_per_slot,
        "bytes_per_snapshot": len(data),
    }


def batching(model: WorldModel, start: Start, rows: int = 32, repeats: int = 200) -> dict[str, Any]:
    """Steps a second of passes with ``rows`` rows, and of as many passes with one row."""
    registry, slots = _opened(model, start, rows)
    action, present = np.zeros((rows, registry.passes.actions), np.float32), np.ones(rows, bool)

    def together() -> None:
        registry.passes.advance(slots, action, present)

    def apart() -> None:
        for row, slot in enumerate(slots):
            registry.passes.advance([slot], action[row : row + 1], present[:1])

    rates = {name: 1e3 * rows / _timed(work, repeats)["p50"] for name, work in
             (("batched", together), ("other", apart))}  # fmt: skip
    return {**rates, "ratio": rates["batched"] / rates["other"], "unit": "steps/s"}


def fidelity(model: WorldModel, start: Start, rows: int = 32, ticks: int = 60) -> dict[str, Any]:
    """By level: the share of pictures drawn, how far what is shown is from a fresh one, the time a row."""
    found = {}
    for level in Level:
        registry, slots = _opened(model, start, rows)
        sessions, passes = registry.of("bench"), registry.passes
        walk = np.random.default_rng(0).standard_normal((ticks, rows, passes.actions)).astype(np.float32)
        spec = model.config.action
        if spec is not None and spec.low and spec.high:
            low, high = np.asarray(spec.low), np.asarray(spec.high)
            walk = (low + (high - low) * (0.5 + 0.3 * np.sin(np.cumsum(0.2 * walk, axis=0)))).astype(
                np.float32
            )
        drawn, errors, seconds = 0, [], 0.0
        for tick in range(ticks):
            began = time.perf_counter()
            seen = passes.advance(slots, walk[tick], np.ones(rows, bool))
            messages, fresh = draw_for(passes, seen, sessions, None, level)
            seconds += time.perf_counter() - began
            drawn += fresh
            truth = passes.draw(seen.latents)[passes.cameras[0]]
            for row, message in enumerate(messages):
                shown = message["cameras"].get(passes.cameras[0])
                if shown is not None:
                    errors.append(float(np.abs(shown.astype(float) - truth[row]).mean()))
        found[level.name.lower()] = {
            "fresh_share": drawn / (rows * ticks),
            "ms_a_row": 1e3 * seconds / (rows * ticks),
            **({"picture_error": float(np.mean(errors))} if errors else {}),
        }
    return found


def _opened(model: WorldModel, start: Start, rows: int) -> tuple[Registry, list[int]]:
    """A registry with so many worlds, that show raw pictures, and their slots."""
    registry = Registry(Passes(model, slots=rows, max_rows=rows), [start])
    view = View(picture="raw" if registry.passes.cameras else "none")
    slots = []
    for number in range(rows):
        session = registry.open("bench", Open(id=number, start=0, view=view), 0.0)
        slots.append(session.slot or 0)
    return registry, slots


def _timed(work: Callable[[], Any], repeats: int) -> dict[str, float]:
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    middle, high = np.percentile(seconds, (50, 99))
    return {"p50": float(1e3 * middle), "p99": float(1e3 * high)}
