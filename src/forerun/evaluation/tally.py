"""Who reached how many goals: agents side by side on the very same trials.

Letters: n trials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from forerun.control.trials import Agent, Outcome, Trial, decision_times, run_trials
from forerun.evaluation.report import Attempt, Score
from forerun.evaluation.stats import Interval, paired_difference, wilson

TIMED = 60
"""Single decisions behind a median."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What came of one agent's trials."""

    name: str
    moderate: np.ndarray
    """(n,) bool: the moderate test held at some step within the budget."""
    strict: np.ndarray
    """(n,) bool: the strict one."""
    steps: np.ndarray
    """(n,) steps to the moderate success, or the whole budget."""
    ms_per_decision: float | None = None
    """Median of single decisions in one trial alone, encoding the picture included; None if not timed."""
    replan_steps: int = 1
    """Control steps between two decisions."""

    @property
    def n(self) -> int:
        return len(self.moderate)

    def share(self, level: str = "moderate") -> Interval:
        """Success, 0..1, with Wilson's 95 % interval."""
        return wilson(int(getattr(self, level).sum()), self.n)

    def lead_over(self, other: Tally, level: str = "moderate") -> Interval:
        """How much more often this agent succeeds than the other, on the same trials."""
        return paired_difference(getattr(self, level), getattr(other, level))

    def to_json(self) -> dict[str, Any]:
        about: dict[str, Any] = {
            "moderate": self.share("moderate"),
            "strict": self.share("strict"),
            "n": self.n,
            "mean_steps": float(self.steps.mean()),
            "replan_steps": self.replan_steps,
        }
        return about if self.ms_per_decision is None else {**about, "ms_per_decision": self.ms_per_decision}

    def score(self, control_hz: float, about: str = "", level: str = "moderate") -> Score:
        """As a row of a report."""
        return Score(
            name=self.name,
            success=self.share(level),
            n=self.n,
            ms_per_decision=self.ms_per_decision,
            replan_hz=control_hz / self.replan_steps,
            about=about,
        )


def tally(name: str, outcomes: Sequence[Outcome], ms_per_decision: float | None = None) -> Tally:
    """Count the outcomes of one agent."""
    return Tally(
        name=name,
        moderate=np.array([o.moderate for o in outcomes]),
        strict=np.array([o.strict for o in outcomes]),
        steps=np.array([o.steps for o in outcomes]),
        ms_per_decision=ms_per_decision,
    )


def compare(
    env: str,
    trials: Sequence[Trial],
    agents: Mapping[str, Agent],
    *,
    budget: int,
    films: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[list[Tally], list[Outcome]]:
    """Let every agent attempt every trial; single decisions are timed afterwards, one trial at a time.

    Args:
        agents: by name; the first is the one that is filmed.
        budget: control steps per trial.
        films: keep the pictures of so many first trials of the first agent.
        progress: called with (agent, trials done, trials in all).

    Returns:
        One tally per agent, and the outcomes of the first.
    """
    tallies, first = [], []
    for i, (name, agent) in enumerate(agents.items()):

        def update(done: int, total: int, name: str = name) -> None:
            if progress is not None:
                progress(name, done, total)

        outcomes = run_trials(
            env, trials, agent, budget=budget, keep_pictures=films if i == 0 else 0, progress=update
        )
        first = outcomes if i == 0 else first
        tallies.append(tally(name, outcomes, milliseconds(env, trials, agent)))
    return tallies, first


def milliseconds(env: str, trials: Sequence[Trial], agent: Agent) -> float:
    """Median wall-clock of `TIMED` single decisions, one trial at a time."""
    return 1000 * float(np.median(decision_times(env, trials, agent, decisions=TIMED)))


def attempts(outcomes: Sequence[Outcome], tick_s: float, count: int = 6) -> list[Attempt]:
    """Filmed outcomes to look at: successes and failures in their true proportion, at least one of either."""
    filmed = [o for o in outcomes if o.goal_picture is not None]
    reached, missed = [o for o in filmed if o.moderate], [o for o in filmed if not o.moderate]
    share = sum(o.moderate for o in outcomes) / max(1, len(outcomes))
    wanted = round(share * count)
    if reached and missed:
        wanted = min(max(wanted, 1), count - 1)
    chosen = [*reached[:wanted], *missed[: count - min(wanted, len(reached))]]
    return [
        Attempt(
            name=o.trial.source.replace(", ", "\n"),
            frames=np.stack(o.pictures),
            goal=o.goal_picture,  # type: ignore[arg-type]
            reached=o.moderate,
            tick_s=tick_s,
        )
        for o in chosen
    ]
