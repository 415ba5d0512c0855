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
from rich.table import Table

from forerun.cli.options import MaybePath
from forerun.control.chunks import Chunks, Mode
from forerun.control.lateness import Lateness
from forerun.control.realtime import fifo_permitted
from forerun.control.senses import Senses
from forerun.control.student import Student, Tiers, read_student, run
from forerun.control.wallclock import Plan, run_wall_clock, summary
from forerun.evaluation.results import write_result
from forerun.evaluation.stats import wilson
from forerun.tasks.touch import TOUCH_TASKS, laws, make_worlds
from forerun.types import ConfigError


@dataclass(frozen=True, kw_only=True)
class ControlTiers:
    """Run a contact task with planner (5 Hz), policy (50 Hz) and fast tier (500-1000 Hz).

    In virtual time, the default, every tier ticks on simulated time and the planner is as late as you say:
    the table says how often the task succeeds, how often the robot had to hold or back off, and how old touch
    was when a command was sent. With --wall-clock the tiers are processes and time is real: the table says
    how punctual the fast tier was on this computer. Scores come from the first, claims about timing from the
    second.

    Examples: forerun control --tiers --planner-delay-ms 300
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
        if min(self.planner_delay_ms, self.planner_jitter_ms, self.planner_outage_s) < 0:
            raise ConfigError("a planner cannot be early: give delay, jitter and outage of zero or more")
        if self.busy and not self.wall_clock:
            raise ConfigError("--busy has no effect in virtual time; add --wall-clock, or drop it")
        if self.law_only and self.reflex is not None:
            raise ConfigError("--reflex names a learned fast tier, but --law-only leaves it out; drop one")

    def __call__(self) -> int:
        torch.set_num_threads(1)
        weights = self._weights()
        found = self._in_real_time(weights) if self.wall_clock else self._in_virtual_time(weights)
        Console().print(tiers_table(self.task, found))
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

    def _in_virtual_time(self, weights: dict[str, np.ndarray] | None) -> dict[str, Any]:
        return virtual_run(self.task, self._lateness, weights, range(self.seed, self.seed + self.trials))

    @property
    def _lateness(self) -> Lateness:
        """The same in either executor."""
        return Lateness(
            delay_s=self.planner_delay_ms / 1000,
            jitter_s=self.planner_jitter_ms / 1000,
            outages=((0.5, 0.5 + self.planner_outage_s),) if self.planner_outage_s else (),
            seed=self.seed,
        )

    def _in_real_time(self, weights: dict[str, np.ndarray] | None) -> dict[str, Any]:
        plan = Plan(
            task=self.task,
            seconds=self.seconds,
            hz=self.hz or (1000 if self.fifo and fifo_permitted() else 500),
            fifo=self.fifo,
            seed=self.seed,
            weights=weights,
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


def virtual_run(
    task: str, lateness: Lateness, weights: dict[str, np.ndarray] | None, seeds: range
) -> dict[str, Any]:
    """Success, forces, modes and touch age in virtual time, under a planner of this ``lateness``."""
    worlds, law = make_worlds(task, len(seeds)), laws(task).scripted()
    fast = None
    if weights is not None:
        fast = Student(len(weights["mean"]), len(weights["out.bias"]), weights["out.weight"].shape[1])
        fast.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    tiers = Aged(Tiers(law.law, (), Senses(), None, fast, chunks=Chunks(lateness)))
    score = run(worlds, tiers, seeds)
    share = wilson(int(score["success"].sum()), len(seeds))
    modes = tiers.inner.chunks.counts  # type: ignore[union-attr]
    ages = 1000 * np.array(tiers.ages_s)
    return {
        "success": share._asdict(),
        "violations": int((score["force_n"] > worlds.force_limit_n).sum()),
        "force_n_p95": float(np.percentile(score["force_n"], 95)),
        "touch_age_ms": {"p50": float(np.percentile(ages, 50)), "p99": float(np.percentile(ages, 99))},
        "modes": {mode.name: int(modes[mode]) for mode in Mode},
        "fast_tier": "law and learned residual" if fast is not None else "law alone",
    }


class Aged:
    """A controller that notes how old touch is when its command takes effect: as the millisecond ends."""

    def __init__(self, inner: Tiers) -> None:
        self.inner, self.ages_s = inner, list[float]()

    def reset(self, worlds: Any) -> None:
        self.inner.reset(worlds)

    def command(self, worlds: Any) -> np.ndarray:
        """The inner controller's command (B, C)."""
        if worlds.ms > 20:
            self.ages_s.append(worlds.time_s + 0.001 - worlds.read(worlds.touch).time_s)
        return self.inner.command(worlds)


def tiers_table(task: str, found: dict[str, Any]) -> Table:
    """Figures of either executor, one line each."""
    table = Table(title=task, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in found.items():
        table.add_row(name.replace("_", " "), _words(value))
    return table


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return "   ".join(f"{k} {_words(v)}" for k, v in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
