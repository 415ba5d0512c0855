"""``forerun control``: reach goal pictures by planning inside the model, with honest floors beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from forerun.cli.options import MaybeInt, MaybePath
from forerun.cli.picture_goal import read_goal
from forerun.cli.runs import Run, difference, known_episodes, making, open_run, set_threads, table_of
from forerun.cli.tables import approach_table, success_table
from forerun.control.agents import RandomAgent, WorldModelAgent
from forerun.control.trials import Agent, Trial, make_task, recorded_trials, sampled_trials
from forerun.data.cache import TickCache
from forerun.evaluation.approach import approach
from forerun.evaluation.floors import ClonedPolicy, CloningAgent, clone, equal_pictures
from forerun.evaluation.results import write_result
from forerun.evaluation.strips import Attempt, write_attempt_film
from forerun.evaluation.tally import attempts, compare
from forerun.imagination.planner import PlannerConfig
from forerun.tasks import Task
from forerun.tasks.base import CAMERA_SIZE
from forerun.training.trainer import TrainConfig
from forerun.types import ConfigError, ShapeError

Method = Literal["icem", "mppi", "policy"]
NAMES = {"icem": "planner (iCEM)", "mppi": "planner (MPPI)", "policy": "goal policy"}
FILMED, SHOWN = 24, 6
"""Trials whose pictures are kept, and how many of them are shown."""
OFFSET = 25


@dataclass(frozen=True, kw_only=True)
class Control:
    """Reach goal pictures in a simulated task by planning inside the model.

    Starts and goals come from held-out recordings, and none is solved already. Every agent attempts the same
    trials: the planner, the model's goal policy alone, uniform random actions, and a policy cloned from the
    same recordings, which is trained when first needed (minutes) and kept in the run. With --goal all of them
    act towards one picture of yours instead, from starts that the task draws.

    With --tiers it is another command, for tasks of touch: planner, policy, fast tier, each at its own rate.
    See forerun control --tiers --help.

    Example: forerun control runs/push --env forerun/Push-v0
    """

    model: Path
    """A run of forerun train, or the model inside it."""
    env: str
    """Id of the task, forerun/Push-v0 for instance."""
    data: MaybePath = None
    """Recordings to take starts and goals from; by default those of the run, held-out episodes only."""
    goal: MaybePath = None
    """Approach this picture instead (PNG or JPEG). It has no simulator state, so nobody can count who reached
    it: the table tells how much of the difference is left, and how far off the model judges the goal."""
    offset: Annotated[
        tuple[int, ...], tyro.conf.arg(aliases=["--offsets"], metavar="INT ...", help_behavior_hint="")
    ] = ()
    """How many steps after the start the goal was recorded, 25 by default; several give a table each."""
    starts: Annotated[
        Literal["recorded", "sampled"] | None,
        tyro.conf.arg(metavar="{recorded,sampled}", help_behavior_hint=""),
    ] = None
    """Where trials come from: the recordings, which is the default, or the task itself."""
    trials: int = 200
    """How many, per offset or picture."""
    budget_steps: MaybeInt = None
    """Control steps per trial; twice the offset by default, 50 for trials that the task draws."""
    method: Method = "icem"
    """How actions are chosen: two kinds of search, or the goal policy alone."""
    floors: tuple[Literal["random", "bc"], ...] = ("random", "bc")
    """What to compare with, beside the goal policy."""
    bc: MaybePath = None
    """A cloned policy; by default RUN/cloning/policy, trained if it is not there."""
    seed: int = 0
    """Of the choice of trials, of the search and of random actions."""
    out: MaybePath = None
    """Where the figures (JSON) and the film go; RUN/control by default. Nothing is overwritten."""
    threads: MaybeInt = None
    """Of torch; by default both of two cores, or fewer if OMP_NUM_THREADS says so."""

    def __post_init__(self) -> None:
        if min(self.trials, *self.offset, 1 if self.budget_steps is None else self.budget_steps) < 1:
            raise ConfigError(
                f"--trials {self.trials}, --offset {' '.join(map(str, self.offset))}, --budget-steps "
                f"{self.budget_steps}: each must be at least 1"
            )
        if self.seed < 0:
            raise ConfigError(f"--seed is {self.seed}; it must be 0 or above")
        if self.bc is not None and "bc" not in self.floors:
            raise ConfigError("--bc names a cloned policy, but --floors leaves it out; drop one of them")
        if self.goal is not None and (self.offset or self.starts):
            raise ConfigError(
                f"{'--offset' if self.offset else '--starts'} has no effect with --goal: the task draws the "
                "starts, and the goal is the picture; drop one of them"
            )
        if self.offset and self.starts == "sampled":
            raise ConfigError("--offset has no effect with --starts sampled; drop one of them")

    def __call__(self) -> int:
        console = Console()
        set_threads(self.threads)
        run = open_run(self.model)
        task = make_task(self.env)
        check_task(task, run, self.env)
        if self.data is not None and not self._reads_recordings(run):
            raise ConfigError(
                "--data has no effect: the task draws the starts, and no cloned policy is trained; drop it"
            )
        picture = None if self.goal is None else self._picture(run, console)
        out = self.out or (run.path or run.model_path.parent) / "control"
        with making(out):  # trials take minutes: whether their figures can be written is known before
            cache = table_of(run, self.data) if self._reads_recordings(run) else None
            agents = {**self._ours(run), **self._floors(run, task, cache)}
            if picture is not None:
                self._approach(run, task, agents, picture, out, console)
            else:
                for offset in self._offsets:
                    self._compare(run, task, cache, agents, offset, out, console)
        task.close()
        return 0

    @property
    def _offsets(self) -> tuple[int, ...]:
        """0 for goals that the task draws."""
        return (0,) if self.starts == "sampled" else self.offset or (OFFSET,)

    def _picture(self, run: Run, console: Console) -> np.ndarray:
        """The goal as the model sees pictures."""
        assert self.goal is not None
        if not run.config.video:
            raise ConfigError(
                f"the model '{run.name}' has no camera, so a picture tells it nothing; drop --goal"
            )
        picture, note = read_goal(self.goal, CAMERA_SIZE)
        if note:
            console.print(note, highlight=False)
        return picture

    def _ours(self, run: Run) -> dict[str, Agent]:
        """What acts by the world model: as asked for, and the goal policy alone."""
        methods: tuple[Method, ...] = (self.method, "policy")
        return {NAMES[m]: WorldModelAgent(run.model, PlannerConfig(method=m), self.seed) for m in methods}

    def _reads_recordings(self, run: Run) -> bool:
        """Trials or the cloned policy may need them."""
        trained = self.bc is not None or (run.path is not None and (run.path / "cloning" / "policy").is_dir())
        drawn = self.starts == "sampled" or self.goal is not None
        return not drawn or ("bc" in self.floors and not trained)

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
        settings = {"offset": offset, "starts": source, "thresholds": task.thresholds}
        figures = {t.name: t.to_json() for t in tallies}
        path = self._write(run, task, f"offset-{offset}" if offset else "", figures, budget, settings, out)
        self._show(path, attempts(outcomes, 1 / task.control_hz, SHOWN), console)

    def _approach(
        self,
        run: Run,
        task: Task,
        agents: dict[str, Agent],
        picture: np.ndarray,
        out: Path,
        console: Console,
    ) -> None:
        """One table: every agent towards the picture, from the same starts."""
        starts = sampled_trials(task, count=self.trials, seed=self.seed)
        budget = self.budget_steps or 2 * OFFSET
        with trial_bars() as update:
            found, films = approach(
                self.env, picture, starts, agents, run.model, budget=budget, films=SHOWN, progress=update
            )
        how = f"starts drawn by the task, {budget} steps each, seed {self.seed}"
        console.print(approach_table(found, task.control_hz, how))
        settings = {"goal": self.goal, "starts": "drawn by the task"}
        path = self._write(run, task, "picture", {a.name: a.to_json() for a in found}, budget, settings, out)
        self._show(path, films, console)

    def _show(self, path: Path, films: list[Attempt], console: Console) -> None:
        """The film beside the figures, and where both lie."""
        film = path.with_suffix(".mp4")
        if films:
            write_attempt_film(film, films)
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
        self,
        run: Run,
        task: Task,
        what: str,
        figures: dict[str, Any],
        budget: int,
        settings: dict[str, Any],
        out: Path,
    ) -> Path:
        """The figures as JSON, with all that is needed to repeat them."""
        name = self.env.split("/")[-1].lower().replace("_", "-")
        about = {
            "env": self.env,
            "model": run.name,
            "method": self.method,
            "budget_steps": budget,
            "replan": {"steps": 1, "hz": task.control_hz},
        }
        return write_result(
            f"control-{name}" + (f"-{what}" if what else ""),
            figures,
            settings={**about, **settings},
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
