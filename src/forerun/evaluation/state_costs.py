"""What it costs to fork, suspend, resume and keep one live world, in the engine itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from forerun.serving.passes import Passes
from forerun.serving.protocol import Fork, Open, Restore, View
from forerun.serving.registry import Registry
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


def _timed(work: Callable[[], Any], repeats: int) -> dict[str, float]:
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    middle, high = np.percentile(seconds, (50, 99))
    return {"p50": float(1e3 * middle), "p99": float(1e3 * high)}
