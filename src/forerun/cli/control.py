"""``forerun control``: reach goal pictures by planning inside the model, with honest floors beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from forerun.cli.options import MaybeInt, MaybePath
from forerun.cli.picture_goal import reach_picture
from forerun.cli.runs import Run, difference, known_episodes, making, open_run, set_threads, table_of
from forerun.cli.tables import success_table
from forerun.control.agents import RandomAgent, WorldModelAgent
from forerun.control.trials import Agent, Trial, make_task, recorded_trials, sampled_trials
from forerun.data.cache import TickCache
from forerun.evaluation.floors import ClonedPolicy, CloningAgent, clone, equal_pictures
from forerun.evaluation.results import write_result
from forerun.evaluation.strips import write_attempt_film
from forerun.evaluation.tally import Tally, attempts, compare
from forerun.imagination.planner import PlannerConfig
from forerun.tasks import Task
from forerun.training.trainer import TrainConfig
from forerun.types import ConfigError, ShapeError

NAMES = {"icem": "planner (iCEM)", "mppi": "planner (MPPI)", "policy": "goal policy"}
FILMED = 24
"""Trials whose pictures are kept, to choose those to look at."""


@dataclass(frozen=True, kw_only=True)
class Control:
    """Reach goal pictures in a simulated task by planning inside the model.

    Starts and goals come from held-out recordings, and none is solved already. Every agent attempts the same
    trials: the planner, uniform random actions, and a policy cloned from the same recordings, which is
    trained when first needed (minutes) and kept in the run.

    Example: forerun control runs/push --env forerun/Push-v0
    """

    model: Path
    """A run of forerun train, or the model inside it."""
    env: str
    """Id of the task, forerun/Push-v0 for instance."""
    data: MaybePath = None
    """Recordings to take starts and goals from; by default those of the run, held-out episodes only."""
    goal: MaybePath = None
    """Reach this picture instead (PNG or JPEG), from starts that the task draws; then nothing is counted."""
    offset: Annotated[tuple[int, ...], tyro.conf.arg(aliases=["--offsets"])] = (25,)
    """How many steps after the start the goal was recorded; several give a table of their own each."""
    starts: Literal["recorded", "sampled"] = "recorded"
    """Where trials come from: the recordings, or the task itself."""
    trials: int = 200
    """How many, per offset."""
    budget_steps: MaybeInt = None
    """Control steps per trial; twice the offset by default, 50 for trials that the task draws."""
    method: Literal["icem", "mppi", "policy"] = "icem"
    """How actions are chosen: two kinds of search, or the goal policy alone."""
    floors: tuple[Literal["random", "bc"], ...] = ("random", "bc")
    """What to compare with."""
    bc: MaybePath = None
    """A cloned policy; by default RUN/cloning/policy, trained if it is not there."""
    seed: int = 0
    """Of the choice of trials, of the search and of random actions."""
    out: MaybePath = None
    """Where the figures (JSON) and the film go; RUN/control by default. Nothing is overwritten."""
    threads: MaybeInt = None
    """Of torch; by default both of two cores, or fewer if OMP_NUM_THREADS says so."""

    def __post_init__(self) -> None:
        if self.trials < 1 or min(self.offset, default=0) < 1 or (self.budget_steps or 1) < 1:
            raise ConfigError(
                f"--trials {self.trials}, --offset {' '.join(map(str, self.offset))}, --budget-steps "
                f"{self.budget_steps}: each must be at least 1"
            )
        if self.seed < 0:
            raise ConfigError(f"--seed is {self.seed}; it must be 0 or above")
        if self.bc is not None and "bc" not in self.floors:
            raise ConfigError("--bc names a cloned policy, but --floors leaves it out; drop one of them")

    def __call__(self) -> int:
        console = Console()
        set_threads(self.threads)
        run = open_run(self.model)
        task = make_task(self.env)
        check_task(task, run, self.env)
        out = self.out or (run.path or run.model_path.parent) / "control"
        agent = WorldModelAgent(run.model, PlannerConfig(method=self.method), self.seed)
        with making(out):  # trials take minutes: whether their figures can be written is known before
            if self.goal is None:
                self._compete(run, task, agent, out, console)
            else:
                steps = self.budget_steps or 50
                reach_picture(task, agent, self.goal, out, steps=steps, seed=self.seed, console=console)
        task.close()
        return 0

    def _compete(self, run: Run, task: Task, agent: WorldModelAgent, out: Path, console: Console) -> None:
        """A table per offset, of the agent and its floors."""
        cache = table_of(run, self.data) if self._reads_recordings(run) else None
        agents: dict[str, Agent] = {NAMES[self.method]: agent, **self._floors(run, task, cache)}
        for offset in self.offset if self.starts == "recorded" else (0,):
            self._compare(run, task, cache, agents, offset, out, console)

    def _reads_recordings(self, run: Run) -> bool:
        """Trials or the cloned policy may need them."""
        trained = self.bc is not None or (run.path is not None and (run.path / "cloning" / "policy").is_dir())
        return self.starts == "recorded" or ("bc" in self.floors and not trained)

    def _floors(self, run: Run, task: Task, cache: TickCache | None) -> dict[str, Agent]:
        agents: dict[str, Agent] = {}
        if "random" in self.floors:
            agents["random"] = RandomAgent(task.action_spec, self.seed)
        if "bc" in self.floors:
            agents["cloned (BC)"] = CloningAgent(self._cloned(run, cache))
        return agents

    def _cloned(self, run: Run, cache: TickCache | None) -> ClonedPolicy:
        """The behaviour-cloning floor: named, kept from before, or trained now."""
        if self.bc is not None:
            return ClonedPolicy.load(self.bc)
        if run.path is None or cache is None or run.data_hash != cache.hash:
            kept = None if run.path is None else run.path / "cloning" / "policy"
            if kept is not None and kept.is_dir():
                return ClonedPolicy.load(kept)
            raise ConfigError(
                "there is no cloned policy, and training one takes the run and its own recordings; name the "
                "run with --model RUN, a policy with --bc, or leave it out with --floors random"
            )
        recipe = TrainConfig(**run.recipe["representation"])
        return clone(
            cache, run.train_episodes, run.config, run.path / "cloning", steps=equal_pictures(recipe)
        )

    def _compare(
        self,
        run: Run,
        task: Task,
        cache: TickCache | None,
        agents: dict[str, Agent],
        offset: int,
        out: Path,
        console: Console,
    ) -> None:
        """One table: every agent on the same trials."""
        trials, source = self._trials(run, task, cache, offset)
        budget = self.budget_steps or (2 * offset or 50)
        with trial_bars() as update:
            tallies, outcomes = compare(
                self.env, trials, agents, budget=budget, films=FILMED, progress=update
            )
        how = f"{source}, budget {budget} steps, seed {self.seed}; {task.tests()}"
        console.print(success_table(tallies, task.control_hz, how))
        path = self._write(run, task, tallies, offset, budget, source, out)
        film = path.with_suffix(".mp4")
        shown = attempts(outcomes, 1 / task.control_hz)
        if shown:
            write_attempt_film(film, shown)
            console.print(f"film     {film}  (each attempt above its goal)", highlight=False)
        console.print(f"figures  {path}\n", highlight=False)

    def _trials(self, run: Run, task: Task, cache: TickCache | None, offset: int) -> tuple[list[Trial], str]:
        if self.starts == "sampled" or cache is None:
            return sampled_trials(
                task, count=self.trials, seed=self.seed
            ), "starts and goals drawn by the task"
        episodes, what = known_episodes(run, cache)
        trials = recorded_trials(task, cache, episodes, offset=offset, count=self.trials, seed=self.seed)
        return trials, f"unsolved starts from {len(episodes)} {what}, goal {offset} steps later"

    def _write(
        self, run: Run, task: Task, tallies: list[Tally], offset: int, budget: int, source: str, out: Path
    ) -> Path:
        """The figures as JSON, with all that is needed to repeat them."""
        name = self.env.split("/")[-1].lower().replace("_", "-")
        settings = {
            "env": self.env,
            "model": run.name,
            "method": self.method,
            "offset": offset,
            "budget_steps": budget,
            "starts": source,
            "replan": {"steps": 1, "hz": task.control_hz},
            "thresholds": task.thresholds,
        }
        return write_result(
            f"control-{name}" + (f"-offset-{offset}" if offset else ""),
            {t.name: t.to_json() for t in tallies},
            settings=settings,
            seed=self.seed,
            n=self.trials,
            data_hash=run.data_hash,
            folder=out,
        )


def check_task(task: Task, run: Run, env: str) -> None:
    """ShapeError unless the task shows, feels and takes what the model was trained on, at its rate."""
    specs, config = task.stream_specs(), run.config
    for spec in [*config.streams, *([config.action] if config.action else [])]:
        if spec.name not in specs:
            raise ShapeError(
                f"'{env}' has no stream '{spec.name}'; it has {', '.join(specs)}. The model '{run.name}' was "
                "trained with it: use the task its recordings came from"
            )
        differs = difference(specs[spec.name], spec)
        if differs:
            raise ShapeError(f"'{spec.name}' of '{env}' {differs}. Use the task the recordings came from")
    if abs(task.control_hz * config.tick_s - 1) > 1e-6:
        raise ShapeError(
            f"'{env}' takes an action every {1 / task.control_hz:g} s; the model '{run.name}' was trained "
            f"with a tick of {config.tick_s:g} s. Train with --tick {1 / task.control_hz:g}"
        )


@contextmanager
def trial_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar per agent on the error channel; call the yielded function with (agent, done, all)."""
    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, int] = {}

        def update(agent: str, done: int, total: int) -> None:
            if agent not in tasks:
                tasks[agent] = bars.add_task(agent, total=total)
            bars.update(tasks[agent], completed=done)  # type: ignore[arg-type]

        yield update
