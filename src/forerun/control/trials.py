"""Goal-reaching trials in a task, counted honestly: unsolved starts, held-out episodes, floors beside.

Letters: B trials run side by side, A action size, S picture side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium
import numpy as np

from forerun.data.cache import TickCache
from forerun.tasks import TASKS, Task, alternatives
from forerun.types import ConfigError, DataError, Error

Observations = dict[str, np.ndarray]
"""Per stream (B, *shape)."""


class Agent(Protocol):
    """Something that acts towards goal pictures, for B trials at once."""

    def begin(self, observations: Observations, goals: Observations) -> None:
        """A new batch of trials starts; nothing of earlier ones may be remembered."""
        ...

    def act(self, observations: Observations) -> np.ndarray:
        """(B, A) actions in the robot's own units."""
        ...


@dataclass(frozen=True)
class Trial:
    """Where to start and what to reach, as simulator states."""

    start: np.ndarray
    goal: np.ndarray
    source: str
    """Where it came from: "episode 12, tick 40 to 65", or "sampled, seed 3"."""


@dataclass
class Outcome:
    """One trial, after its budget."""

    trial: Trial
    moderate: bool = False
    strict: bool = False
    steps: int = 0
    """Steps to the moderate success, or the whole budget."""
    errors: dict[str, float] = field(default_factory=dict)
    """At the end of the trial, by name with unit."""
    pictures: list[np.ndarray] = field(default_factory=list)
    """(S, S, 3) at the start and after each step, if they were asked for."""
    goal_picture: np.ndarray | None = None

    @property
    def done(self) -> bool:
        """Nothing is left to reach. Strict need not mean moderate: on Push-T it asks for the T alone."""
        return self.moderate and self.strict


def make_task(env: str) -> Task:
    """A task by its Gymnasium id.

    Raises:
        ConfigError: it is unknown, cannot be made, or cannot set states (and so cannot be tried fairly).
    """
    try:
        task = gymnasium.make(env).unwrapped
    except Error:  # a missing extra, or no OpenGL: said already
        raise
    except (gymnasium.error.Error, ImportError, AttributeError, TypeError, ValueError, OSError) as cause:
        if env in TASKS:
            raise  # a fault of ours
        absent = isinstance(cause, gymnasium.error.UnregisteredEnv)
        reason = " ".join(str(cause).split()).rstrip(".")
        raise ConfigError(
            f"environment '{env}' {'is unknown' if absent else 'cannot be made'} ({reason}); "
            f"{alternatives(env)}"
        ) from cause
    if not isinstance(task, Task):
        raise ConfigError(
            f"environment '{env}' cannot be put into a chosen state; trials need a forerun.tasks.Task, which "
            "offers state() and set_state()"
        )
    return task


def recorded_trials(
    task: Task, cache: TickCache, episodes: Sequence[int] | np.ndarray, *, offset: int, count: int, seed: int
) -> list[Trial]:
    """Starts from held-out episodes with goals ``offset`` ticks later; none is solved, by either test.

    Raises:
        DataError: the recordings carry no simulator state, or too few unsolved pairs exist.
    """
    if "state" not in cache.streams:
        raise DataError(
            "the recordings carry no simulator state, so trials cannot start from them; record with "
            "forerun data record, or sample starts from the task"
        )
    states, pairs = cache.streams["state"], []
    for e in np.asarray(episodes):
        first, last = cache.episode_starts[e], cache.episode_starts[e + 1]
        pairs += [(e, row) for row in range(first, last - offset)]
    order = np.random.default_rng(seed).permutation(len(pairs))
    trials: list[Trial] = []
    for e, row in (pairs[i] for i in order):
        start, goal = states[row].astype(float), states[row + offset].astype(float)
        if not (task.solved(start, goal) or task.solved(start, goal, "strict")):
            tick = int(row - cache.episode_starts[e])
            trials.append(Trial(start, goal, f"episode {e}, tick {tick} to {tick + offset}"))
        if len(trials) == count:
            return trials
    raise DataError(
        f"only {len(trials)} unsolved starts lie {offset} ticks before a goal in {len(episodes)} held-out "
        f"episodes; {count} were asked for. Record more episodes, hold more out, or ask for fewer"
    )


def sampled_trials(task: Task, *, count: int, seed: int) -> list[Trial]:
    """Unsolved starts and reachable goals as the task itself draws them."""
    random = np.random.default_rng(seed)
    return [Trial(*task.sample_start_goal(random), f"sampled, seed {seed}, number {i}") for i in range(count)]


def run_trials(
    env: str,
    trials: Sequence[Trial],
    agent: Agent,
    *,
    budget: int,
    side_by_side: int = 25,
    keep_pictures: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Outcome]:
    """Let ``agent`` attempt every trial, ``side_by_side`` at a time, one action per control step.

    A trial goes on until both tests have held or ``budget`` steps are used. ``keep_pictures`` keeps the film
    of that many first trials.
    """
    tasks = [make_task(env) for _ in range(min(side_by_side, len(trials)))]
    outcomes: list[Outcome] = []
    for first in range(0, len(trials), len(tasks)):
        group = trials[first : first + len(tasks)]
        films = [first + i < keep_pictures for i in range(len(group))]
        outcomes += _run_group(tasks[: len(group)], group, agent, budget, films)
        if progress is not None:
            progress(len(outcomes), len(trials))
    for task in tasks:
        task.close()
    return outcomes


def _run_group(
    tasks: list[Task], group: Sequence[Trial], agent: Agent, budget: int, films: list[bool]
) -> list[Outcome]:
    outcomes = [Outcome(trial, steps=budget) for trial in group]
    resets = [
        task.reset(seed=0, options={"state": trial.start, "goal_state": trial.goal})
        for task, trial in zip(tasks, group, strict=True)
    ]
    observations = [observation for observation, _ in resets]
    for outcome, (observation, info), film in zip(outcomes, resets, films, strict=True):
        if film:
            outcome.goal_picture = info["goal"]["camera"]
            outcome.pictures.append(observation["camera"])
    agent.begin(_stack(observations), _stack([info["goal"] for _, info in resets]))
    for step in range(budget):
        actions = agent.act(_stack(observations))
        for i, (task, outcome) in enumerate(zip(tasks, outcomes, strict=True)):
            if not outcome.done:
                observations[i], _, _, _, info = task.step(actions[i])
                _judge(outcome, info, step)
                if films[i]:
                    outcome.pictures.append(observations[i]["camera"])
        if all(outcome.done for outcome in outcomes):
            break
    return outcomes


def _judge(outcome: Outcome, info: dict[str, Any], step: int) -> None:
    """Success once reached stays reached."""
    if info["success"] and not outcome.moderate:
        outcome.moderate, outcome.steps = True, step + 1
    outcome.strict |= bool(info["success_strict"])
    outcome.errors = {name: v for name, v in info.items() if isinstance(v, float)}


def _stack(observations: Sequence[dict[str, np.ndarray]]) -> Observations:
    return {name: np.stack([o[name] for o in observations]) for name in observations[0]}


def decision_times(env: str, trials: Sequence[Trial], agent: Agent, *, decisions: int = 60) -> np.ndarray:
    """(decisions,) seconds per decision of ``agent`` alone in one trial, encoding included, drawing not."""
    task, times = make_task(env), []
    while len(times) < decisions:
        trial = trials[len(times) % len(trials)]
        observation, info = task.reset(seed=0, options={"state": trial.start, "goal_state": trial.goal})
        agent.begin(_stack([observation]), _stack([info["goal"]]))
        for _ in range(10):
            rows = _stack([observation])
            began = time.perf_counter()
            action = agent.act(rows)
            times.append(time.perf_counter() - began)
            observation = task.step(action[0])[0]
    task.close()
    return np.asarray(times[:decisions])
