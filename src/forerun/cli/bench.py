"""``forerun bench``: measure what a promise is worth on this machine."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from forerun.cli.options import MaybePath
from forerun.types import ConfigError, require

PARTS = ("numbers", "pictures", "gain", "one-at-a-time", "processes", "overload", "state", "fidelity")
Part = Literal["numbers", "pictures", "gain", "one-at-a-time", "processes", "overload", "state", "fidelity"]


@dataclass(frozen=True, kw_only=True)
class BenchServe:
    """How many live worlds this machine serves in time, and what one costs.

    Starts servers on one core and plays open-loop sessions from another: steps are sent when they are due,
    whether or not the last was answered. A step is missed if its answer takes longer than the period.
    Beside the batched server stand the same server with one row a pass, and a process for each user.

    Example: forerun bench serve --rate 30 --price 3.50
    """

    what: Literal["serve"]
    """What to measure: the server of live worlds."""
    model: MaybePath = None
    """A run of forerun train, or the model inside it; by default the world that comes with forerun."""
    rate: float = 30.0
    """Steps a second of each session."""
    seconds: float = 10.0
    """Counted of each run."""
    rows: int = 64
    """Of a pass at most."""
    parts: tuple[Part, ...] = PARTS
    """What to measure: sessions without and with pictures, batching gain, what others do, overload, state."""
    price: float = 0.04
    """Dollars an hour of what serves: one CPU core by default."""
    seed: int = 0
    """Of arrivals and actions."""
    out: MaybePath = None
    """Folder for the result as JSON, as benchmarks/results; only printed by default."""

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.seconds <= 0 or self.rows < 1 or self.price < 0:
            raise ConfigError(
                f"--rate {self.rate:g}, --seconds {self.seconds:g}, --rows {self.rows}, --price "
                f"{self.price:g}: expected numbers above 0"
            )

    def __call__(self) -> int:
        require("uvicorn", "serve", "serving")
        console = Console()
        found: dict[str, Any] = {}
        for part in self.parts:
            console.print(f"[bold]{part}", highlight=False)
            found[part.replace("-", "_")] = self._measure(part, found, console)
        from forerun.cli.bench_table import bench_table

        self._conclude(found)
        console.print(bench_table(found, self.rate))
        if self.out is not None:
            self._write(found)
        return 0

    def _conclude(self, found: dict[str, Any]) -> None:
        """What follows from several parts."""
        found["price_per_hour"] = self.price
        for part in ("numbers", "pictures", "one_at_a_time", "processes"):
            if found.get(part, {}).get("sessions"):
                found[part]["dollars_per_session_hour"] = self.price / found[part]["sessions"]
        batched, apart = (found.get(part, {}).get("sessions") for part in ("numbers", "processes"))
        if batched and apart:
            ratio = {"batched": batched, "other": apart, "ratio": batched / apart, "unit": "sessions"}
            found["against_processes"] = ratio

    def _measure(self, part: Part, found: dict[str, Any], console: Console) -> Any:
        from forerun.evaluation import capacity

        def say(words: str) -> None:
            console.print(f"  {words}", style="dim", highlight=False)

        bench = self._bench()
        if part == "numbers":
            return capacity.batched(bench, "none", say)
        if part == "pictures":
            return capacity.batched(bench, "jpeg", say)
        if part == "gain":
            return {"network": capacity.gain(bench, 32, say), "engine": self._inside(say, "batching")}
        if part == "one-at-a-time":
            return capacity.one_at_a_time(bench, "none", say)
        if part == "processes":
            return capacity.process_per_user(bench, "none", say)
        if part == "overload":
            known = found.get("numbers", {}).get("sessions") or 128
            return capacity.overload(bench, known, "jpeg", say)
        return self._inside(say, "state_costs" if part == "state" else "fidelity")

    def _bench(self) -> Any:
        from forerun.evaluation.capacity import Bench
        from forerun.evaluation.load import Load

        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        load = Load(urls=(), sessions=0, rate_hz=self.rate, seconds=self.seconds, seed=self.seed)
        pinned = (cores[0], cores[1]) if len(cores) > 1 else None
        return Bench(model=self.model, load=load, rows=self.rows, cores=pinned)

    def _inside(self, say: Any, what: str) -> dict[str, Any]:
        """A measurement of the engine in this process."""
        import torch

        from forerun.cli.runs import open_run
        from forerun.cli.serve import packaged_world, recorded_starts
        from forerun.evaluation import state_costs

        torch.set_num_threads(1)
        run = open_run(self.model or packaged_world())
        found = getattr(state_costs, what)(run.model, recorded_starts(run, None, 1)[0])
        say(json.dumps(found))
        return found

    def _write(self, found: dict[str, Any]) -> None:
        from forerun.cli.runs import open_run
        from forerun.cli.serve import name_of, packaged_world
        from forerun.evaluation.results import write_result

        run = open_run(self.model or packaged_world())
        settings = {
            "rate_hz": self.rate, "seconds": self.seconds, "rows": self.rows, "model": name_of(run),
            "parameters": sum(run.model.num_parameters().values()),
        }  # fmt: skip
        n = round(self.rate * self.seconds)
        name = "serve" if self.parts == PARTS else "-".join(["serve", *self.parts])
        path = write_result(name, found, settings=settings, seed=self.seed, n=n, folder=self.out or Path())
        Console().print(path.name, highlight=False)
