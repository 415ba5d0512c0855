"""How old and how rare touch may be: success of the reflexes against the sensor's delay and rate.

    python benchmarks/touch_age.py

The learned fast tiers are those that come with forerun, taught at 500 Hz and the tasks' own delays: nothing
is taught anew. Writes one JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console

from forerun.cli.tiers import packaged_reflex
from forerun.control.senses import Senses
from forerun.control.student import Tiers, read_student, run, student_of
from forerun.evaluation.results import write_result
from forerun.evaluation.stats import wilson
from forerun.tasks.touch import laws, make_worlds

TASKS = ("LiftFragile", "WipeForce")
AGES_MS, PERIODS_MS = (2, 5, 10, 20, 40, 60), (1, 2, 5, 10, 20, 33)
TRIALS_FROM = 5000


@dataclass(kw_only=True)
class TouchAge:
    """See the top of this file."""

    trials: int = 200

    def __call__(self) -> None:
        torch.set_num_threads(1)
        metrics: dict[str, Any] = {}
        for task in TASKS:
            metrics[task] = {
                "age_ms": {age: self._row(task, delay_ms=age, every_ms=2) for age in AGES_MS},
                "rate_hz": {round(1000 / ms): self._row(task, every_ms=ms) for ms in PERIODS_MS},
            }
        settings = {"tasks": TASKS, "trials_from": TRIALS_FROM}
        print(write_result("touch-age", metrics, settings=settings, seed=0, n=self.trials))

    def _row(self, task: str, **changes: int) -> dict[str, Any]:
        name = f"forerun/{task}-v0"
        row = {}
        for who in ("law", "law and learned tier"):
            worlds = make_worlds(name, self.trials)
            worlds.resense(worlds.touch, **changes)
            controller = laws(name).scripted() if who == "law" else self._learned(task)
            score = run(worlds, controller, range(TRIALS_FROM, TRIALS_FROM + self.trials))
            row[who] = {
                "success": wilson(int(score["success"].sum()), self.trials)._asdict(),
                "force_n_p95": float(np.percentile(score["force_n"], 95)),
            }
        Console().print(task, changes, {who: row[who]["success"]["estimate"] for who in row})
        return row

    def _learned(self, task: str) -> Tiers:
        law = laws(f"forerun/{task}-v0").scripted().law
        path = packaged_reflex(f"forerun/{task}-v0")
        assert path is not None
        student = student_of(read_student(path, law.knobs, f"forerun/{task}-v0"))
        return Tiers(law, (), Senses(touch="fast"), None, student)


if __name__ == "__main__":
    tyro.cli(TouchAge)()
