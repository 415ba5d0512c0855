"""What the search owes to its parts: variants of the planner on one trained model, deciding at every step.

    python benchmarks/planners.py --run runs/push/seed0

Takes a finished run of push.py. All variants attempt the very same trials, drawn from the episodes that the
run held out; beside them stand the model's own goal policy and random moves. Writes one JSON.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import tyro
from rich.console import Console

from forerun.cli.control import check_task, trial_bars
from forerun.cli.protocol import trials_sentence
from forerun.cli.runs import Run, open_run
from forerun.cli.tables import success_table
from forerun.control.agents import RandomAgent, WorldModelAgent
from forerun.control.trials import Agent, Trial, make_task, recorded_trials
from forerun.data.cache import TickCache
from forerun.evaluation.demo import DemoPlan
from forerun.evaluation.results import write_result
from forerun.evaluation.tally import compare
from forerun.imagination.planner import PlannerConfig
from forerun.tasks import Task
from forerun.types import CheckpointError

PLAN = DemoPlan()
"""Task, goals and budget of push.py."""
ARMS = {
    "policy alone": PlannerConfig(method="policy"),
    "icem": PLAN.planner,
    "icem from noise": replace(PLAN.planner, warm_start=False),
    "mppi": replace(PLAN.planner, method="mppi"),
    "latent cost": replace(PLAN.planner, cost="latent"),
}


@dataclass(frozen=True, kw_only=True)
class Planners:
    """See the top of this file."""

    run: Path = Path("runs/push/seed0")
    """A finished run of push.py, its recordings' table beside it."""
    trials: int = 100
    seed: int | None = None
    """Of trials, search and random moves; that of the run by default."""

    def __call__(self) -> None:
        torch.set_num_threads(1)
        run, task = open_run(self.run), make_task(PLAN.env)
        check_task(task, run, PLAN.env)
        seed = run.recipe.get("seed", 0) if self.seed is None else self.seed
        agents: dict[str, Agent] = {
            name: WorldModelAgent(run.model, config, seed) for name, config in ARMS.items()
        }
        agents["random moves"] = RandomAgent(task.action_spec, seed)
        trials = self._trials(run, task, seed)
        with trial_bars() as update:
            tallies, _ = compare(PLAN.env, trials, agents, budget=PLAN.budget, progress=update)
        how = f"{trials_sentence(PLAN)}, seed {seed}"
        Console().print(success_table(tallies, task.control_hz, how))
        write_result(
            "planners",
            {t.name: t.to_json() for t in tallies},
            settings={
                "env": PLAN.env,
                "offset": PLAN.offset,
                "budget": PLAN.budget,
                "planners": {name: asdict(config) for name, config in ARMS.items()},
                "recipe": run.recipe,
                "model": run.kind,
                "thresholds": task.thresholds,
                "replan_steps": 1,
            },
            seed=seed,
            n=self.trials,
            data_hash=run.data_hash,
        )

    def _trials(self, run: Run, task: Task, seed: int) -> list[Trial]:
        """Starts and goals in held-out episodes."""
        table = self.run.parent / "cache" / (run.data_hash or "")
        if run.data_hash is None or not table.is_dir():
            raise CheckpointError(
                "beside this run lies no table of the recordings it was trained on; run benchmarks/push.py, "
                f"which makes both. Path: {table}"
            )
        return recorded_trials(
            task, TickCache.open(table), run.held_out, offset=PLAN.offset, count=self.trials, seed=seed
        )


if __name__ == "__main__":
    tyro.cli(Planners)()
