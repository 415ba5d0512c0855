"""Physics steps a second and core of the contact tasks, sensors included, beside MuJoCo's bare step.

    python benchmarks/touch_speed.py

Worlds step in lockstep on one core under the task's own script; every reading is captured on its clock, no
camera is drawn. Writes one JSON.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from forerun.evaluation.results import write_result
from forerun.tasks.touch import TOUCH_TASKS, TouchWorlds, laws, make_worlds


@dataclass(kw_only=True)
class TouchSpeed:
    """See the top of this file."""

    worlds: int = 64
    repeats: int = 5

    def __call__(self) -> None:
        metrics: dict[str, Any] = {}
        for task in TOUCH_TASKS:
            rates = [self._rates(task, r) for r in range(self.repeats)]
            with_sensors, bare = np.median(rates, axis=0)
            metrics[task.split("/")[1]] = {
                "steps_per_s": float(with_sensors),
                "slowest": float(np.min(rates, axis=0)[0]),
                "bare_steps_per_s": float(bare),
                "share": float(with_sensors / bare),
            }
            Console().print(task, metrics[task.split("/")[1]])
        print(write_result("touch-speed", metrics, settings=vars(self), seed=0, n=self.repeats))

    def _rates(self, task: str, r: int) -> tuple[float, float]:
        """Steps a second as the task steps, and of the same states by MuJoCo alone."""
        worlds, script = make_worlds(task, self.worlds), laws(task).scripted()
        worlds.reset(range(r * self.worlds, (r + 1) * self.worlds))
        script.reset(worlds)
        bare = spent = 0.0
        while not worlds.over:
            if worlds.ms % 400 == 200:
                bare += _bare(worlds) / 20
            command = script.command(worlds)
            began = time.perf_counter()
            worlds.tick(command)
            spent += time.perf_counter() - began
        samples = len(range(200, worlds.ms, 400))
        return worlds.ms * self.worlds / spent, samples * self.worlds / bare


def _bare(worlds: TouchWorlds) -> float:
    """Seconds for 20 steps of copies of all worlds as they are now."""
    copies = [(model, copy.copy(data)) for model, data in zip(worlds.models, worlds.data, strict=True)]
    began = time.perf_counter()
    for model, data in copies:
        for _ in range(20):
            worlds.mujoco.mj_step(model, data)
    return time.perf_counter() - began


if __name__ == "__main__":
    tyro.cli(TouchSpeed)()
