"""The protocol that all goal-reaching benchmarks share: play, a world model, a floor, trials, one JSON.

Starts and goals are states of held-out episodes, the goal so many steps after the start; starts that already
solve their goal are left out. A decision is made at every control step. The planner, the model's own goal
policy, a policy cloned from pictures, and random actions attempt the very same trials. Stopped anywhere, the
same command continues; seeds share their recordings. A folder whose plan.json asks for other play or training
is refused; trials of another planner or model are redone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import tyro
from columns import FARTHER
from rich.console import Console

from forerun.cli.main import complain
from forerun.cli.protocol import asked_for, attempt_goals, clone_floor, play_table, settle, trials_sentence
from forerun.cli.tables import success_table
from forerun.cli.train import train_model
from forerun.data.cache import TickCache
from forerun.evaluation.demo import DemoPlan
from forerun.evaluation.results import write_result
from forerun.types import Error

MIX = ("expert", "noisy", "noisy", "weak", "random")
"""Play of every quality."""
FAR_TRIALS = 60
"""At each farther goal distance: they take several times as many steps."""
PLAN = "plan.json"
PLAY = ("env", "episodes", "steps", "policies")
"""What of a plan shapes the recordings."""
TRYING = ("imagine_s", "trials", "offset", "budget", "planner")
"""What of a plan shapes neither recordings nor training; trials know by themselves what they belong to."""


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
    try:
        run(benchmark, tyro.cli(Options, description=benchmark.name))
    except Error as error:
        complain(str(error))
        sys.exit(2)


def run(benchmark: Benchmark, options: Options) -> None:
    """Record, train, try and write ``benchmarks/results/NAME.seedSEED.*.json``.

    Raises:
        ConfigError: the folders hold recordings or a model of another plan.
    """
    torch.set_num_threads(1)
    plan, console = benchmark.plan.seeded(options.seed), Console()
    home = options.out / benchmark.name
    folder = home / f"seed{options.seed}"
    settle(home, PLAN, {name: getattr(plan, name) for name in PLAY})
    settle(folder, PLAN, asdict(plan), free=TRYING)
    table = play_table(plan, home, processes=options.processes)
    minutes = _train(plan, table, folder)
    for offset in dict.fromkeys((plan.offset, *(benchmark.offsets if options.far else ()))):
        farther = replace(plan, offset=offset, budget=2 * offset, trials=FAR_TRIALS)
        _try(benchmark, plan if offset == plan.offset else farther, table, folder, minutes, options, console)


def _train(plan: DemoPlan, table: TickCache, folder: Path) -> float | None:
    """The world model, then the floor; minutes of the former, None if it had been interrupted."""
    began, fresh = time.perf_counter(), not (folder / "run.json").exists()
    stamp = folder / "minutes.txt"
    if not (folder / "model").is_dir():
        train_model(table, folder, plan.recipe)
        if fresh:
            stamp.write_text(f"{(time.perf_counter() - began) / 60:.2f}")
    clone_floor(plan, table, folder)
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
    tallies = attempt_goals(
        plan, table, folder, folder / f"trials-{plan.offset}", processes=options.processes
    )
    console.print(success_table(tallies, 1 / plan.tick_s, trials_sentence(plan)))
    figures: dict[str, object] = {t.name: t.to_json() for t in tallies}
    if minutes is not None:
        figures["training_minutes"] = minutes
    own = plan.offset == benchmark.plan.offset
    write_result(
        benchmark.name if own else f"{benchmark.name}{FARTHER}{plan.offset}",
        figures,
        settings=asked_for(plan, folder),
        seed=options.seed,
        n=plan.trials,
        data_hash=table.hash,
    )
