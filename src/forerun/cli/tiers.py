"""``forerun control --tiers``: planner, policy and fast tier at their own rates, and their punctuality."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from rich.console import Console

from forerun.cli.options import MaybePath
from forerun.cli.tier_table import tier_table
from forerun.control.lateness import Lateness
from forerun.control.realtime import fifo_permitted
from forerun.control.simulated import SimulatedTask
from forerun.control.student import read_student
from forerun.control.virtual import Trials, run_virtual, usual_of
from forerun.control.wallclock import Plan, run_wall_clock
from forerun.control.wallclock_report import summary
from forerun.evaluation.results import write_result
from forerun.tasks.touch import TOUCH_TASKS, laws
from forerun.types import ConfigError


@dataclass(frozen=True, kw_only=True)
class ControlTiers:
    """Run a contact task with planner (5 Hz), policy (50 Hz) and fast tier (500-1000 Hz).

    In virtual time, the default, every tier ticks on simulated time and is as late as you say: the table
    says how often the task succeeds, which forces it took, and how often the robot had to hold or back off.
    With --wall-clock the tiers are processes and time is real: the table says how punctual they were on this
    computer. Scores come from the first, claims about timing from the second.

    Examples: forerun control --tiers --planner-delay-ms 300
              forerun control --tiers --task forerun/WipeForce-v0 --surprise
              forerun control --tiers --wall-clock --busy --seconds 60
    """

    task: str = "forerun/LiftFragile-v0"
    """Which contact task."""
    reflex: MaybePath = None
    """A learned fast tier; by default the one that comes with forerun, or the law alone if there is none."""
    law_only: bool = False
    """Leave the learned part out."""
    trials: int = 100
    """Episodes in virtual time."""
    planner_delay_ms: float = 50.0
    """From what the planner senses to its chunk's arrival."""
    planner_jitter_ms: float = 0.0
    """Added to it, uniformly from zero to this."""
    planner_outage_s: float = 0.0
    """For how long no chunk arrives, from half a second on."""
    policy_delay_ms: float = 0.0
    """The same of the policy, in virtual time."""
    fast_delay_ms: float = 0.0
    """The same of the fast tier, in virtual time."""
    jitter_ms: float = 0.0
    """Added to what policy and fast tier take, uniformly from zero to this, in virtual time."""
    surprise: bool = False
    """Compare touch with what is usual, and plan early where it differs. What is usual comes with the learned
    fast tier, or from practice episodes before the trials."""
    wall_clock: bool = False
    """Real time instead of virtual time."""
    seconds: float = 10.0
    """Of real time."""
    hz: Annotated[Literal[500, 1000] | None, tyro.conf.arg(metavar="{500,1000}", help_behavior_hint="")] = (
        None
    )
    """Of the fast tier in real time; by default 1000 where SCHED_FIFO is granted, 500 where it is not."""
    fifo: bool = True
    """Ask the operating system for SCHED_FIFO; where it is refused, the table says so."""
    busy: bool = False
    """Keep the other cores busy meanwhile."""
    seed: int = 0
    """Of the worlds: trial i has the seed seed + i."""
    out: MaybePath = None
    """Folder for the figures as JSON; none are written by default."""

    def __post_init__(self) -> None:
        if self.task not in TOUCH_TASKS:
            raise ConfigError(
                f"--task {self.task} is no contact task; choose one of {', '.join(TOUCH_TASKS)}"
            )
        if self.trials < 1 or self.seed < 0 or not 0 < self.seconds <= 3600:
            raise ConfigError(
                f"--trials {self.trials}, --seed {self.seed}, --seconds {self.seconds:g}: expected at least "
                "1, at least 0, and up to an hour"
            )
        injected = self.policy_delay_ms, self.fast_delay_ms, self.jitter_ms
        if min(self.planner_delay_ms, self.planner_jitter_ms, self.planner_outage_s, *injected) < 0:
            raise ConfigError("no tier can be early: give delay, jitter and outage of zero or more")
        if self.wall_clock and any(injected):
            raise ConfigError(
                "--policy-delay-ms, --fast-delay-ms and --jitter-ms are injected in virtual time; on "
                "the wall clock these tiers are as late as they are. Drop them, or --wall-clock"
            )
        if self.busy and not self.wall_clock:
            raise ConfigError("--busy has no effect in virtual time; add --wall-clock, or drop it")
        if self.law_only and self.reflex is not None:
            raise ConfigError("--reflex names a learned fast tier, but --law-only leaves it out; drop one")

    def __call__(self) -> int:
        torch.set_num_threads(1)
        weights = self._weights()
        found = self._in_real_time(weights) if self.wall_clock else run_virtual(self._trials(weights))
        Console().print(tier_table(self.task, found))
        if self.out is not None:
            kind = "wall" if self.wall_clock else "virtual"
            name = f"tiers-{kind}-{self.task.split('/')[-1].split('-')[0].lower()}"
            settings = {k: v for k, v in vars(self).items() if k not in ("out", "reflex")}
            n = found["ticks"] if self.wall_clock else self.trials
            print(write_result(name, found, settings=settings, seed=self.seed, n=n, folder=self.out))
        return 0

    def _weights(self) -> dict[str, np.ndarray] | None:
        if self.law_only:
            return None
        path = self.reflex or packaged_reflex(self.task)
        knobs = laws(self.task).scripted().law.knobs
        return None if path is None else read_student(path, knobs, self.task)

    def _trials(self, weights: dict[str, np.ndarray] | None) -> Trials:
        jitter_s = self.jitter_ms / 1000
        return Trials(
            task=self.task,
            seeds=range(self.seed, self.seed + self.trials),
            planner=self._lateness,
            policy=Lateness(delay_s=self.policy_delay_ms / 1000, jitter_s=jitter_s, seed=self.seed),
            fast=Lateness(delay_s=self.fast_delay_ms / 1000, jitter_s=jitter_s, seed=self.seed),
            weights=weights,
            surprise=self.surprise,
        )

    @property
    def _lateness(self) -> Lateness:
        """Of the planner, the same in either executor."""
        return Lateness(
            delay_s=self.planner_delay_ms / 1000,
            jitter_s=self.planner_jitter_ms / 1000,
            outages=((0.5, 0.5 + self.planner_outage_s),) if self.planner_outage_s else (),
            seed=self.seed,
        )

    def _in_real_time(self, weights: dict[str, np.ndarray] | None) -> dict[str, Any]:
        usual = usual_of(self._trials(weights)) if self.surprise else None
        hz = self.hz or (1000 if self.fifo and fifo_permitted() else 500)
        plan = Plan(
            mission=SimulatedTask(self.task, self.seed, weights, usual),
            seconds=self.seconds,
            hz=hz,
            fifo=self.fifo,
            lateness=self._lateness,
            busy=self.busy,
        )
        return summary(run_wall_clock(plan))


def packaged_reflex(task: str) -> Path | None:
    """The learned fast tier of a task that comes with forerun, if there is one."""
    path = (
        Path(str(files("forerun")))
        / "assets"
        / f"reflex-{task.split('/')[-1].split('-')[0].lower()}.safetensors"
    )
    return path if path.exists() else None
