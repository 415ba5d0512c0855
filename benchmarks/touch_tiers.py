"""What a late planner costs, and what the fast tier notices by itself: contact tasks in virtual time.

    python benchmarks/touch_tiers.py --part delays --task PegFeel     # planner 0 to 300 ms late, lost for 1 s
    python benchmarks/touch_tiers.py --part surprise --task PegFeel   # an unforeseen push, and false alarms

Plan, scripted policy and law of the task; what is tried is the lateness alone. Goes on where it was stopped
(--out keeps every condition as it ends). Writes one JSON per part and task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from kept import kept
from rich.console import Console

from forerun.control.lateness import Lateness
from forerun.control.punctuality import SPREAD, percentiles
from forerun.control.student import run
from forerun.control.virtual import Tally, Trials, scripted_tiers, usual_of
from forerun.evaluation.results import write_result
from forerun.evaluation.stats import wilson
from forerun.tasks.touch import make_worlds
from forerun.tasks.touch.shove import shove, unshove

DELAYS_MS, OUTAGES_MS = (0, 50, 100, 200, 300), (250, 500, 1000)
BEGINS = (0.2, 0.4, 0.6, 0.8)
"""Shares of an episode after which the planner is lost, a quarter of the trials each."""
TRIALS_FROM = 5000
LOST_BAR = 5.0
SHOVES: dict[str, tuple[float, tuple[float, float, float]]] = {
    "LiftFragile": (1.15, (0.0, 0.0, -8.0)),
    "PegFeel": (1.0, (0.0, 0.0, -10.0)),
    "WipeForce": (1.6, (0.0, 0.0, -10.0)),
    "WeighSort": (3.2, (0.0, 0.0, -6.0)),
    "PushBehind": (1.2, (0.0, -4.0, 0.0)),
}
"""When what is handled is pushed, and with how many N."""


@dataclass(kw_only=True)
class TouchTiers:
    """See the top of this file."""

    part: Literal["delays", "surprise"]
    task: str = "LiftFragile"
    trials: int = 200
    seed: int = 0
    out: Path = Path("runs/touch-tiers")
    """Where conditions that are done are kept."""

    def __call__(self) -> None:
        torch.set_num_threads(1)
        self.env = f"forerun/{self.task}-v0"
        found = self._delays() if self.part == "delays" else self._surprise()
        settings = {"task": self.env, "begins": BEGINS} if self.part == "delays" else {"task": self.env}
        name = f"tiers-{self.part}-{self.task.lower()}"
        print(write_result(name, found, settings=settings, seed=self.seed, n=self.trials))

    def _delays(self) -> dict[str, Any]:
        rows = {f"late-{ms}": self._kept(f"late-{ms}", lambda ms=ms: self._late(ms)) for ms in DELAYS_MS}
        for ms in OUTAGES_MS:
            rows[f"lost-{ms}"] = self._kept(f"lost-{ms}", lambda ms=ms: self._lost(ms))
        best = rows["late-0"]["success"]["estimate"]
        for row in rows.values():
            row["points_lost"] = 100 * (best - row["success"]["estimate"])
        late = [rows[f"late-{ms}"]["points_lost"] for ms in DELAYS_MS]
        broken = sum(row["force"]["violations"] for row in rows.values())
        return {**rows, "met": {"points_lost": max(late) <= LOST_BAR, "violations": broken == 0}}

    def _kept(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was measured before, or is now."""
        found = kept(self.out / f"{self.task}-{self.trials}-seed{self.seed}" / f"{name}.json", measure)
        Console(stderr=True).print(f"{self.task}, {name}: success {found['success']['estimate']:.3f}")
        return found

    def _trials(self, first: int = 0, count: int | None = None, **planner: Any) -> Trials:
        begin = TRIALS_FROM + 1000 * self.seed + first
        seeds = range(begin, begin + (count or self.trials))
        return Trials(task=self.env, seeds=seeds, planner=Lateness(seed=self.seed, **planner))

    def _late(self, ms: int) -> dict[str, Any]:
        return _row(self._trials(delay_s=ms / 1000), [self._trials(delay_s=ms / 1000)])

    def _lost(self, ms: int) -> dict[str, Any]:
        """The planner, 50 ms late, is lost for a while, sooner or later in the episode."""
        seconds, share = make_worlds(self.env).seconds, self.trials // len(BEGINS)
        parts = []
        for k, begin in enumerate(np.array(BEGINS) * seconds):
            outage = (float(begin), float(begin) + ms / 1000)
            parts.append(self._trials(k * share, share, delay_s=0.05, outages=(outage,)))
        return _row(self._trials(), parts)

    def _surprise(self) -> dict[str, Any]:
        """How often nothing is taken for something, and how soon a push is noticed."""
        trials = replace(self._trials(), surprise=True)
        usual, worlds = usual_of(trials), make_worlds(self.env, self.trials)
        quiet, pushed = scripted_tiers(trials, usual), scripted_tiers(trials, usual)
        run(worlds, quiet, trials.seeds)
        at_s, newtons = SHOVES[self.task]
        shove(worlds, at_s, newtons)
        run(worlds, pushed, trials.seeds)
        unshove(worlds)
        assert quiet.chunks is not None
        assert pushed.chunks is not None
        noticed_ms = 1000 * (pushed.chunks.first_after(at_s) - at_s)
        soon = np.isfinite(noticed_ms)
        return {
            "pushed_at_s": at_s,
            "newtons": newtons,
            "false_alarms": int(quiet.chunks.surprises.sum()),
            "episodes_with_a_false_alarm": wilson(int((quiet.chunks.surprises > 0).sum()), self.trials),
            "noticed": wilson(int(soon.sum()), self.trials),
            "noticed_ms": percentiles(noticed_ms[soon], SPREAD),
            "early_plans": int(pushed.chunks.early.sum()),
        }


def _row(whole: Trials, parts: list[Trials]) -> dict[str, Any]:
    tally = Tally(whole)
    for part in parts:
        for first in range(0, len(part.seeds), part.side_by_side):
            seeds = part.seeds[first : first + part.side_by_side]
            worlds, tiers = make_worlds(part.task, len(seeds)), scripted_tiers(part)
            tally.add(worlds, tiers, run(worlds, tiers, seeds))
    found = tally.figures()
    return {key: found[key] for key in ("success", "force", "modes")}


if __name__ == "__main__":
    tyro.cli(TouchTiers)()
