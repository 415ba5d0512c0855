"""What `/metrics` tells Prometheus of the engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from forerun.serving.engine import Engine
from forerun.serving.scheduler import Level
from forerun.types import require

LATENCY_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.033, 0.05, 0.083, 0.1, 0.2, 0.5, 1.0)


class Metrics:
    """Gauges and counters of one engine, read when they are asked for."""

    def __init__(self, engine: Engine) -> None:
        client: Any = require("prometheus_client", "serve", "metrics")
        self._client, self._core = client, require("prometheus_client.core", "serve", "metrics")
        self.engine = engine
        self.registry = client.CollectorRegistry()
        self.registry.register(self)
        self.latency = client.Histogram(
            "forerun_reply_seconds",
            "From a step's arrival in the engine to its reply",
            buckets=LATENCY_S,
            registry=self.registry,
        )

    def text(self) -> tuple[bytes, str]:
        """The page, and its content type."""
        return self._client.generate_latest(self.registry), self._client.CONTENT_TYPE_LATEST

    def collect(self) -> Iterator[Any]:
        """As Prometheus collectors do."""
        core, counts = self._core, self.engine.counts
        scheduler, registry = self.engine.scheduler, self.engine.registry
        gauges = {
            "sessions": ("Open sessions, suspended ones included", len(registry.sessions)),
            "slots_free": ("Slots without a session", registry.free_slots),
            "waiting": ("Steps that wait for a pass", len(scheduler)),
            "level": ("Fidelity: 0 full, 1 half the pictures, 2 no pictures", int(scheduler.level)),
            "load": ("Share of the time promised to sessions, at full fidelity", scheduler.share(Level.FULL)),
            "rows_last": ("Rows of the last pass", counts.last_rows),
        }
        totals = {
            "passes": ("Passes of the model", counts.passes),
            "rows": ("Rows of all passes", counts.rows),
            "replies": ("Messages sent", counts.replies),
            "late": ("Steps answered after their deadline", counts.late),
            "resets": ("Worlds that became NaN and began anew", counts.resets),
            "suspended": ("Sessions moved to host memory", counts.suspended),
            "busy_seconds": ("Time in passes", counts.busy_s),
        }
        for name, (about, value) in gauges.items():
            yield core.GaugeMetricFamily(f"forerun_{name}", about, value=value)
        for name, (about, value) in totals.items():
            yield core.CounterMetricFamily(f"forerun_{name}", about, value=value)
        errors = core.CounterMetricFamily("forerun_errors", "Requests not carried out", labels=["code"])
        for code, count in sorted(counts.errors.items()):
            errors.add_metric([code], count)
        yield errors
