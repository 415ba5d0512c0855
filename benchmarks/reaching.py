"""The protocol that all goal-reaching benchmarks share: play, a world model, a floor, trials, one JSON.

Starts and goals are states of held-out episodes, the goal so many steps after the start; starts that already
solve their goal are left out. A decision is made at every control step. The planner, the model's own goal
policy, a policy cloned from pictures, and random actions attempt the very same trials. Stopped anywhere, the
same command continues; seeds share their recordings.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import torch
import tyro
from rich.console import Console

from forerun.cli.control import trial_bars
from forerun.cli.data import DataPolicy, progress_bar
from forerun.cli.play import record_play
from forerun.cli.runs import open_run
from forerun.cli.tables import success_table
from forerun.cli.train import train_model
from forerun.config import model_config
from forerun.control.trials import make_task, recorded_trials
from forerun.data import open_recordings
from forerun.data.cache import TickCache, build_cache
from forerun.data.window import split_episodes
from forerun.evaluation.contest import Contest, hold
from forerun.evaluation.demo import DemoPlan
from forerun.evaluation.floors import clone, equal_pictures
from forerun.evaluation.results import write_result
from forerun.evaluation.workers import cores
from forerun.teach import observed

MIX = ("expert", "noisy", "noisy", "weak", "random")
"""Play of every quality."""
FAR_TRIALS = 60
"""At each farther goal distance: they take several times as many steps."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One task under the shared protocol."""

    name: str
    plan: DemoPlan
    offsets: Sequence[int] = ()
    """Goal distances that ``--far`` tries too, each with a budget of twice as many steps."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line may say."""

    seed: int = 0
    """Of training, trials and search; the recordings are the same for all seeds."""
    out: Path = Path("runs")
    """Recordings and runs go into folders of this one."""
    far: bool = False
    """Try farther goals too, where the benchmark names some."""
    processes: int | None = None
    """For recording and trials; one for each core, at most two, by default."""


def main(benchmark: Benchmark) -> None:
    """Run one benchmark from the command line."""
    run(benchmark, tyro.cli(Options, description=benchmark.name))


def run(benchmark: Benchmark, options: Options) -> None:
    """Record, train, try and write ``benchmarks/results/NAME.seedSEED.*.json``."""
    torch.set_num_threads(1)
    plan, console = benchmark.plan.seeded(options.seed), Console()
    table = _recordings(benchmark, options)
    folder = options.out / benchmark.name / f"seed{options.seed}"
    minutes = _train(plan, table, folder, options.seed)
    for offset in dict.fromkeys((plan.offset, *(benchmark.offsets if options.far else ()))):
        farther = replace(plan, offset=offset, budget=2 * offset, trials=FAR_TRIALS)
        _try(benchmark, plan if offset == plan.offset else farther, table, folder, minutes, options, console)


def _recordings(benchmark: Benchmark, options: Options) -> TickCache:
    plan, home = benchmark.plan, options.out / benchmark.name
    if not (home / "recordings").is_dir():
        with progress_bar("recording") as update:
            record_play(
                plan.env,
                home / "recordings",
                episodes=plan.episodes,
                steps=plan.steps,
                policies=cast(tuple[DataPolicy, ...], plan.policies),
                processes=options.processes,
                done=update,
            )
    with progress_bar("decoding") as update:
        return build_cache(
            open_recordings(home / "recordings"), home / "cache", tick_s=plan.tick_s, progress=update
        )


def _train(plan: DemoPlan, table: TickCache, folder: Path, seed: int) -> float | None:
    """The world model, then the floor; minutes of the former, None if it had been interrupted."""
    began, fresh = time.perf_counter(), not folder.exists()
    stamp = folder / "minutes.txt"
    if not (folder / "model").is_dir():
        train_model(table, folder, plan.recipe)
        if fresh:
            stamp.write_text(f"{(time.perf_counter() - began) / 60:.2f}")
    config = model_config(plan.recipe.size, observed(table), table.specs["action"], plan.tick_s)
    episodes, _ = split_episodes(table, plan.recipe.holdout, plan.recipe.seed)
    steps = plan.cloning_steps or equal_pictures(plan.recipe.representation)
    clone(table, episodes, config, folder / "cloning", steps=steps, seed=seed)
    return float(stamp.read_text()) if stamp.is_file() else None


def _try(
    benchmark: Benchmark,
    plan: DemoPlan,
    table: TickCache,
    folder: Path,
    minutes: float | None,
    options: Options,
    console: Console,
) -> None:
    """Everybody's trials at one goal distance, and their result."""
    done, task = open_run(folder), make_task(plan.env)
    trials = recorded_trials(
        task, table, done.held_out, offset=plan.offset, count=plan.trials, seed=options.seed
    )
    contest = Contest(
        env=plan.env,
        model=done.model_path,
        cloned=folder / "cloning" / "policy",
        budget=plan.budget,
        planner=plan.planner,
        seed=options.seed,
    )
    with trial_bars() as update:
        tallies = hold(
            contest,
            trials,
            folder / f"trials-{plan.offset}",
            processes=options.processes or min(2, cores()),
            progress=update,
        )
    how = f"goals {plan.offset} steps after unsolved held-out starts, budget {plan.budget} steps"
    console.print(success_table(tallies, 1 / plan.tick_s, how))
    figures: dict[str, object] = {t.name: t.to_json() for t in tallies}
    if minutes is not None:
        figures["training_minutes"] = minutes
    own = plan.offset == benchmark.plan.offset
    write_result(
        benchmark.name if own else f"{benchmark.name}-offset-{plan.offset}",
        figures,
        settings={"plan": asdict(plan), "thresholds": task.thresholds, "replan_steps": 1},
        seed=options.seed,
        n=plan.trials,
        data_hash=table.hash,
    )
