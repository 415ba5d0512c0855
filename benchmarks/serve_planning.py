"""What planning through a server costs beside planning in one process: the same model, goals and search.

    python benchmarks/serve_planning.py

One core for the server, one for the client; in process, the model runs on the client's core. Decisions
alternate, so that both meet the same machine. Writes one JSON.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console

from forerun.cli.runs import open_run
from forerun.cli.serve import name_of, packaged_world, recorded_starts
from forerun.control.served import ServedPlanner
from forerun.evaluation.results import write_result
from forerun.evaluation.servers import serving
from forerun.imagination.planner import Planner
from forerun.serving.client import connect

BAR = 1.3


@dataclass(kw_only=True)
class Planning:
    """See the top of this file."""

    model: Path | None = None
    decisions: int = 200
    seed: int = 0

    @torch.inference_mode()
    def __call__(self) -> None:
        torch.set_num_threads(1)
        run = open_run(self.model or packaged_world())
        starts = recorded_starts(run, None, 12)
        with serving(self.model, 1, 0) as (server,), connect(server.url) as there:
            if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
                os.sched_setaffinity(0, {1})
            world = there.open(start=0)
            remote, here = ServedPlanner(world, seed=self.seed), Planner(run.model, seed=self.seed)
            context = {name: torch.from_numpy(part)[None] for name, part in starts[0].context.items()}
            state = run.model.start(run.model.encode(context), torch.from_numpy(starts[0].actions)[None])
            goals = [{name: part[-1] for name, part in start.context.items()} for start in starts]
            took: dict[str, list[float]] = {"in process": [], "through the server": []}
            gap = 0.0
            for k in range(self.decisions):
                goal = goals[k % len(goals)]
                began = time.perf_counter()
                far = remote.plan(goal)
                middle = time.perf_counter()
                seen = {name: torch.from_numpy(part)[None, None] for name, part in goal.items()}
                near = here.plan(state, run.model.goal(run.model.encode(seen)[:, 0])).actions[0].numpy()
                took["through the server"].append(middle - began)
                took["in process"].append(time.perf_counter() - middle)
                gap = max(gap, float(np.abs(far - near).max()))
        found = {name: spread(seconds[10:]) for name, seconds in took.items()}
        ratio = found["through the server"]["p50"] / found["in process"]["p50"]
        found |= {"ratio": ratio, "largest_difference_of_actions": gap, "met": ratio <= BAR}
        Console().print(found)
        print(
            write_result(
                "serve-planning", found, settings={"model": name_of(run)}, seed=self.seed, n=self.decisions
            )
        )


def spread(seconds: list[float]) -> dict[str, float]:
    """Milliseconds."""
    middle, high = np.percentile(seconds, (50, 99))
    return {"p50": float(1e3 * middle), "p99": float(1e3 * high)}


if __name__ == "__main__":
    tyro.cli(Planning)()
