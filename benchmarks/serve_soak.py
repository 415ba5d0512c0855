"""An hour of half load: do memory, handles or latency grow?

    python benchmarks/serve_soak.py --minutes 60 --sessions 48

A server on one core, sessions with a picture in every reply from another; all come and go within a minute.
Every minute: memory, handles, p99, misses, the server's share of its core. Growth is the slope of a
line through the minutes after the first fifth, which fill caches. Writes one JSON, also if it is interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from forerun.evaluation.load import Load, run, summary
from forerun.evaluation.results import write_result
from forerun.evaluation.servers import ServerProcess, serving

RATE_HZ = 30.0


@dataclass(kw_only=True)
class Soak:
    """See the top of this file."""

    model: Path | None = None
    minutes: float = 60.0
    sessions: int = 48
    seed: int = 0

    def __call__(self) -> None:
        rows: list[dict[str, float]] = []
        with contextlib.suppress(KeyboardInterrupt), serving(self.model, 1, 0) as (server,):
            if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
                os.sched_setaffinity(0, {1})
            until = time.monotonic() + 60 * self.minutes
            while time.monotonic() < until:
                rows.append(self.minute(server, len(rows)))
                line = ", ".join(f"{name} {value:.4g}" for name, value in rows[-1].items())
                Console().print(f"minute {len(rows)}: {line}", highlight=False)
        found = {"minutes": rows, "growth_per_hour": growth(rows)}
        Console().print(found["growth_per_hour"])
        settings = {"rate_hz": RATE_HZ, "sessions": self.sessions, "picture": "jpeg"}
        n = round(sum(row["steps"] for row in rows))
        print(write_result("serve-soak", found, settings=settings, seed=self.seed, n=n))

    def minute(self, server: ServerProcess, number: int) -> dict[str, float]:
        """About a minute: everybody comes at random, plays, and goes."""
        began, cpu = time.monotonic(), server.cpu_s()
        load = Load(
            urls=[server.url], sessions=self.sessions, rate_hz=RATE_HZ, seconds=55.0, picture="jpeg",
            arrival_s=2.0 / self.sessions, seed=self.seed * 1000 + number,
        )  # fmt: skip
        told = summary(asyncio.run(run(load)), RATE_HZ)
        return {
            "steps": told["steps"],
            "p50_ms": told["latency_ms"]["p50"],
            "p99_ms": told["latency_ms"]["p99"],
            "missed_share": told["missed_share"],
            "memory_mb": server.memory_bytes() / 1e6,
            "handles": server.handles(),
            "core_share": (server.cpu_s() - cpu) / (time.monotonic() - began),
        }


def growth(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Per hour, of what should not grow, with two standard errors."""
    kept = rows[len(rows) // 5 :]
    if len(kept) < 4:
        return {}
    return {name: slope([row[name] for row in kept]) for name in ("memory_mb", "handles", "p50_ms", "p99_ms")}


def slope(values: list[float]) -> dict[str, float]:
    hours = np.arange(len(values)) / 60
    design = np.stack([hours, np.ones_like(hours)], axis=1)
    fitted, *_ = np.linalg.lstsq(design, np.asarray(values), rcond=None)
    error = np.asarray(values) - design @ fitted
    spread = float(np.sqrt((error**2).sum() / max(1, len(values) - 2) / ((hours - hours.mean()) ** 2).sum()))
    return {
        "estimate": float(fitted[0]),
        "low": float(fitted[0]) - 2 * spread,
        "high": float(fitted[0]) + 2 * spread,
    }


if __name__ == "__main__":
    tyro.cli(Soak)()
