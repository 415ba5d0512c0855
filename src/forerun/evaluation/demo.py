"""What the demo does and how much of it, and the report it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from forerun.evaluation.charts import ErrorCurve, LossCurve, read_loss
from forerun.evaluation.report import Attempt, Clip, Command, Planned, Recorded, demo_page
from forerun.evaluation.results import hardware
from forerun.evaluation.tally import Tally
from forerun.imagination.planner import PlannerConfig
from forerun.teach import Recipe


@dataclass(frozen=True, kw_only=True)
class DemoPlan:
    """How much of everything. The defaults take some ten minutes on two cores."""

    env: str = "forerun/Push-v0"
    episodes: int = 300
    steps: int = 150
    """Of each episode; play goes on past any success."""
    policies: tuple[str, ...] = ("noisy", "weak")
    """Drawn anew for every episode, all equally often. Clean experts teach nothing about recovering."""
    tick_s: float = 0.1
    recipe: Recipe = field(default_factory=lambda: Recipe().scaled(0.75))
    """Some six minutes of training on two quiet cores."""
    cloning_steps: int | None = None
    """Of the behaviour-cloning floor; as many pictures as the model's first stage by default."""
    imagine_s: float = 2.0
    trials: int = 200
    offset: int = 25
    """How many steps after the start the goal was recorded."""
    budget: int = 50
    """Control steps per trial."""
    planner: PlannerConfig = field(default_factory=lambda: PlannerConfig(iterations=3))

    def seeded(self, seed: int) -> DemoPlan:
        """The same with another seed of training."""
        return replace(self, recipe=replace(self.recipe, seed=seed))

    def quick(self) -> DemoPlan:
        """Every part, but tiny: to see that it works, not how well."""
        return replace(
            self,
            episodes=20,
            steps=60,
            recipe=replace(self.recipe.scaled(0.03), holdout=0.2),
            imagine_s=1.0,
            trials=20,
        )


ABOUT: Mapping[str, str] = {
    "planner": "imagines futures and does the first step of the best, at every step",
    "policy alone": "the model's own goal policy, the fast path, without imagining",
    "cloned policy": "behaviour cloning from pictures with its own network: no world model",
    "random moves": "uniform random actions",
}
LIMITS = (
    "It knows one scene, one camera and one block; another scene needs its own recordings and training.",
    "It reaches goals like those it saw in play. Goals farther away take many plans in a row: more fail.",
    "Its pictures blur where the future is uncertain, and after a contact it mispredicted they stay wrong.",
    "The figures are from a simulator. For a real robot, look at its own held-out episodes beside copy-last.",
)
COMMANDS = (
    Command(line="forerun data inspect PATH --sheet sheet.png", about="See what your recordings hold."),
    Command(line="forerun data doctor PATH", about="Look for faults before a model learns them."),
    Command(
        line="forerun train --data PATH --out runs/first",
        about="Train a world model of your robot; the same command again resumes.",
    ),
    Command(line="forerun imagine runs/first", about="See what it imagines beside what happened."),
    Command(
        line="forerun control --model runs/push --env forerun/Push-v0",
        about="Plan towards goal pictures in a simulated task that `forerun data record` recorded.",
    ),
)


def summary(tallies: Sequence[Tally], plan: DemoPlan) -> str:
    """What was reached, in two sentences."""
    planner, *others = tallies
    share = planner.share()
    beside = ", ".join(f"{t.name} {100 * t.share().estimate:.0f} %" for t in others)
    return (
        f"From {plan.episodes * plan.steps * plan.tick_s / 60:.3g} minutes of play, the planner reached "
        f"{100 * share.estimate:.0f} % of {planner.n} goals it had never seen "
        f"(95 % interval {100 * share.low:.0f} to {100 * share.high:.0f} %), deciding in "
        f"{planner.ms_per_decision or 0:.0f} ms. On the same goals: {beside}."
    )


def write_report(
    path: Path,
    *,
    plan: DemoPlan,
    run: Path,
    sheet: Path,
    seconds: Mapping[str, float],
    clips: Sequence[Clip],
    curve: ErrorCurve,
    tallies: Sequence[Tally],
    films: Sequence[Attempt],
    seed: int,
) -> list[Path]:
    """The demo's page; all files, the page first."""
    machine = hardware()
    took = ", ".join(f"{part} {s / 60:.1f}" for part, s in seconds.items())
    hz = 1 / plan.tick_s
    return demo_page(
        path,
        title="A robot that plans in its imagination",
        summary=summary(tallies, plan),
        facts={
            "computer": f"{machine['cpu']}, {machine['cores']} cores",
            "minutes": f"{sum(seconds.values()) / 60:.1f} in all: {took}",
        },
        recorded=Recorded(
            sheet=sheet,
            facts={
                "episodes": f"{plan.episodes} of {plan.steps * plan.tick_s:.0f} s",
                "who acted": f"scripted play of several qualities: {', '.join(dict.fromkeys(plan.policies))}",
                "cameras": "one, 64 x 64 pixels, 10 pictures a second",
            },
        ),
        learned=losses(run),
        clips=clips,
        curve=curve,
        planned=Planned(
            scores=[t.score(hz, ABOUT[t.name]) for t in tallies],
            attempts=films,
            facts={
                "goals": f"{plan.offset} steps after their starts in held-out episodes, none solved already",
                "budget": f"{plan.budget} steps, a new decision at every step ({hz:g} Hz)",
                "success": "block within 3 cm and 20 degrees of the goal",
                "strict success": strict_sentence(tallies),
                "seed": str(seed),
            },
        ),
        limits=LIMITS,
        commands=COMMANDS,
    )


def strict_sentence(tallies: Sequence[Tally]) -> str:
    """Success by the strict test, all contestants in a line."""
    shares = ((t.name, t.share("strict")) for t in tallies)
    return "within 2 cm and 10 degrees: " + ", ".join(
        f"{name} {100 * s.estimate:.0f} % ({100 * s.low:.0f} to {100 * s.high:.0f})" for name, s in shares
    )


def losses(run: Path) -> list[LossCurve]:
    """The loss of every stage that was trained."""
    stages = (
        ("representation", "redrawing what it saw", "reconstruction"),
        ("dynamics", "what happens next", "prediction"),
        ("goals", "imitating play", "imitation"),
        ("practice", "practice: time to a goal", "distance"),
    )
    return [
        read_loss(run / stage / "metrics.jsonl", words, value)
        for stage, words, value in stages
        if (run / stage / "metrics.jsonl").is_file()
    ]
