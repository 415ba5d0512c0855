"""Tiers in virtual time: deterministic, latency and jitter injected. All scores come from here.

Every tier ticks on simulated time, so no busy computer can change a figure; what is said of punctuality is
what was asked for. The wall clock (`forerun.control.wallclock`) says what a computer keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from forerun.control.calibration import calibrate
from forerun.control.chunks import CONTROL_HZ, Chunks, Mode
from forerun.control.lateness import Lateness
from forerun.control.punctuality import SPREAD, Diary, percentiles
from forerun.control.senses import Senses
from forerun.control.student import PUNCTUAL, Tiers, run, student_of, usual_touch
from forerun.control.surprise import Usual
from forerun.evaluation.stats import wilson
from forerun.tasks.touch import TouchWorlds, laws, make_worlds, worlds_class
from forerun.tasks.touch.worlds import PHYSICS_HZ

HZ = {"planner": 5.0, "policy": float(CONTROL_HZ), "fast": float(PHYSICS_HZ)}
PRACTICE = 48
"""Episodes from which the envelope is calibrated where no student brings one."""


@dataclass(frozen=True, kw_only=True)
class Trials:
    """What to run in virtual time."""

    task: str
    seeds: range
    planner: Lateness = field(default_factory=Lateness)
    policy: Lateness = PUNCTUAL
    fast: Lateness = PUNCTUAL
    weights: dict[str, np.ndarray] | None = None
    """Of a learned residual; the law alone if None."""
    surprise: bool = False
    """Compare touch with what is usual, and plan early where it differs."""
    side_by_side: int = 100


def scripted_tiers(trials: Trials, usual: Usual | None = None) -> Tiers:
    """The task's plan, its scripted policy and its law, each as late as asked."""
    rules = laws(trials.task)
    script = rules.scripted()
    return Tiers(
        script.law,
        rules.UNDER_LAW,
        Senses(),
        fast=None if trials.weights is None else student_of(trials.weights),
        chunks=Chunks(trials.planner, envelope=usual),
        script=script.act if rules.UNDER_LAW else None,
        policy_late=trials.policy,
        fast_late=trials.fast,
    )


def usual_of(trials: Trials) -> Usual:
    """The envelope that came with the student, or one calibrated now."""
    kept = None if trials.weights is None else usual_touch(trials.weights)
    if kept is not None:
        return Usual(*kept)
    punctual = replace(trials, policy=PUNCTUAL, fast=PUNCTUAL, planner=Lateness())
    return calibrate(make_worlds(trials.task, PRACTICE), scripted_tiers(punctual))


def run_virtual(trials: Trials) -> dict[str, Any]:
    """Success, forces, modes, surprises, and every tier's punctuality."""
    usual = usual_of(trials) if trials.surprise else None
    tally = Tally(trials)
    for first in range(0, len(trials.seeds), trials.side_by_side):
        seeds = trials.seeds[first : first + trials.side_by_side]
        worlds, tiers = make_worlds(trials.task, len(seeds)), scripted_tiers(trials, usual)
        tally.add(worlds, tiers, run(worlds, tiers, seeds))
    return tally.figures()


class Tally:
    """What came of batches of trials."""

    def __init__(self, trials: Trials) -> None:
        self.trials, self.scores = trials, list[dict[str, np.ndarray]]()
        self.modes = np.zeros(len(Mode), int)
        self.raised = self.early = 0
        self.seconds = dict.fromkeys(HZ, 0.0)
        self.diaries = {tier: Diary() for tier in HZ}

    def add(self, worlds: TouchWorlds, tiers: Tiers, score: dict[str, np.ndarray]) -> None:
        """One batch, as it has ended."""
        assert tiers.chunks is not None
        self.scores.append(score)
        self.modes += tiers.chunks.counts
        self.raised += int(tiers.chunks.surprises.sum())
        self.early += int(tiers.chunks.early.sum())
        begins_s = {"planner": self.trials.planner.every_s}  # with a chunk in hand
        for tier, diary in {"planner": tiers.chunks.diary, **tiers.diaries}.items():
            self.diaries[tier].extend(diary)
            self.seconds[tier] += (worlds.time_s - begins_s.get(tier, 0.0)) * worlds.count

    def figures(self) -> dict[str, Any]:
        """All of it, for tables and JSON."""
        score = {k: np.concatenate([part[k] for part in self.scores]) for k in self.scores[0]}
        rates = {**HZ, "planner": 1 / self.trials.planner.every_s}
        return {
            "executor": "virtual time",
            "fast_tier": "law alone" if self.trials.weights is None else "law and learned residual",
            "success": wilson(int(score["success"].sum()), len(self.trials.seeds))._asdict(),
            "force": force_figures(worlds_class(self.trials.task), score),
            "modes": {mode.name: int(self.modes[mode]) for mode in Mode},
            "surprise": {"watched": self.trials.surprise, "raised": self.raised, "early_plans": self.early},
            "tiers": {t: d.figures(rates[t], self.seconds[t]) for t, d in self.diaries.items()},
        }


def force_figures(task: type[TouchWorlds], score: dict[str, np.ndarray]) -> dict[str, Any]:
    """Peak force, and by how much it passed what was wanted, or else the share of the limit it reached."""
    peaks = score["force_n"]
    over, of_n = ("limit", task.force_limit_n) if task.wanted_n is None else ("wanted", task.wanted_n)
    return {
        "limit_n": task.force_limit_n,
        "violations": int((peaks > task.force_limit_n).sum()),
        "peak_n": percentiles(peaks, SPREAD),
        "over": over,
        "overshoot": percentiles(peaks / of_n, SPREAD),
    }
