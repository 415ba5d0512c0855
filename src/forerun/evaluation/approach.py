"""How near agents come to one goal picture, but no simulator state: who reached it cannot be counted.

Two things can be said all the same. One is how much of what differed from the picture at the start differs
still at the end. The other is how far off the model then judges the goal, for every agent by the same model.

Letters: n starts, S side of a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from forerun.control.trials import Agent, Observations, Trial, make_task
from forerun.evaluation.prediction import CHANGED
from forerun.evaluation.stats import Interval, bootstrap_mean, bootstrap_ratio
from forerun.evaluation.strips import Attempt
from forerun.evaluation.tally import milliseconds
from forerun.tasks import Task
from forerun.types import ConfigError
from forerun.world_model import WorldModel

Walk = list[dict[str, np.ndarray]]
"""What is observed in one attempt, from its start to its end."""
SIDE_BY_SIDE = 25
"""Starts that an agent acts from in one batch."""


@dataclass(frozen=True, kw_only=True)
class Approach:
    """What came of one agent's attempts at the picture, at their starts and at their ends."""

    name: str
    pixels: np.ndarray
    """(n, 2) squared difference from the goal picture, see `apart`."""
    distance: np.ndarray
    """(n, 2) discounted ticks to the goal, as the model judges."""
    ms_per_decision: float
    """Median of single decisions in one attempt alone, encoding the picture included."""
    replan_steps: int = 1
    """Control steps between two decisions."""

    @property
    def n(self) -> int:
        return len(self.pixels)

    def left(self) -> Interval:
        """The share of the difference at the start that is there at the end; above 1 it grew."""
        return bootstrap_ratio(self.pixels[:, 1], self.pixels[:, 0])

    def beside(self, other: Approach) -> Interval:
        """What this agent leaves as a share of what the other leaves, from the same starts."""
        return bootstrap_ratio(self.pixels[:, 1], other.pixels[:, 1])

    def judged(self) -> Interval:
        """Discounted ticks to the goal at the end, as the model judges."""
        return bootstrap_mean(self.distance[:, 1])

    def to_json(self) -> dict[str, Any]:
        return {
            "pixel_error_left": self.left(),
            "distance_at_start": bootstrap_mean(self.distance[:, 0]),
            "distance_at_end": self.judged(),
            "n": self.n,
            "replan_steps": self.replan_steps,
            "ms_per_decision": self.ms_per_decision,
        }


def approach(
    env: str,
    picture: np.ndarray,
    starts: Sequence[Trial],
    agents: Mapping[str, Agent],
    model: WorldModel,
    *,
    budget: int,
    films: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[list[Approach], list[Attempt]]:
    """Let every agent act towards ``picture`` (S, S, 3) from every start, for the whole budget.

    Args:
        starts: only where they start counts; the goals that the task drew with them are not shown.
        model: judges how far off the goal is.
        budget: control steps per attempt. Nothing ends one early: nobody knows that the goal is reached.
        films: keep the pictures of so many first attempts of the first agent.
        progress: called with (agent, attempts done, attempts in all).

    Returns:
        What came of every agent's attempts, and the films.

    Raises:
        ConfigError: the camera sees that very picture at every start.
    """
    tasks = [make_task(env) for _ in range(min(SIDE_BY_SIDE, len(starts)))]
    found: list[Approach] = []
    filmed: list[Attempt] = []
    for name, agent in agents.items():
        walks: list[Walk] = []
        for first in range(0, len(starts), len(tasks)):
            group = starts[first : first + len(tasks)]
            for walk in _walk(tasks[: len(group)], group, agent, picture, budget):
                if not found and len(filmed) < films:
                    source = starts[len(walks)].source.replace(", ", "\n")
                    filmed.append(_film(source, walk, picture, model.config.tick_s))
                walks.append([walk[0], walk[-1]])
            if progress is not None:
                progress(name, len(walks), len(starts))
        found.append(_judge(name, walks, picture, model, milliseconds(env, starts, agent)))
    for task in tasks:
        task.close()
    return found, filmed


def _walk(
    tasks: Sequence[Task], starts: Sequence[Trial], agent: Agent, picture: np.ndarray, budget: int
) -> list[Walk]:
    """Of every start, all that is observed on the way: budget + 1 observations."""
    walks = [
        [task.reset(seed=0, options={"state": start.start, "goal_state": start.goal})[0]]
        for task, start in zip(tasks, starts, strict=True)
    ]
    seen = _newest(walks)
    agent.begin(seen, goals(picture, seen))
    for _ in range(budget):
        for task, action, walk in zip(tasks, agent.act(_newest(walks)), walks, strict=True):
            walk.append(task.step(action)[0])
    return walks


def _newest(walks: Sequence[Walk]) -> Observations:
    return {name: np.stack([walk[-1][name] for walk in walks]) for name in walks[0][-1]}


def goals(picture: np.ndarray, seen: Observations) -> Observations:
    """The picture as the goal of every row; what the robot feels there is unknown, and no agent reads it."""
    unknown = {name: np.zeros_like(values) for name, values in seen.items()}
    return {**unknown, "camera": np.repeat(picture[None], len(seen["camera"]), axis=0)}


def _judge(name: str, walks: list[Walk], picture: np.ndarray, model: WorldModel, ms: float) -> Approach:
    ends = [[walk[i] for walk in walks] for i in (0, -1)]
    pixels = np.array([[apart(seen["camera"], picture) for seen in moment] for moment in ends]).T
    if not pixels[:, 0].any():
        raise ConfigError(
            f"the goal picture is what the camera sees at every one of {len(walks)} starts, so there is "
            "nothing to reach; choose another --goal or --seed"
        )
    distance = [_distance(model, _newest([[seen] for seen in moment]), picture) for moment in ends]
    return Approach(
        name=name,
        pixels=pixels,
        distance=np.stack(distance, axis=1),
        ms_per_decision=ms,
    )


def apart(seen: np.ndarray, goal: np.ndarray) -> float:
    """Squared difference of two pictures (S, S, 3), 0 to 1, where they differ by more than `CHANGED`."""
    difference = seen.astype(np.float64) - goal
    clear = (np.abs(difference) > CHANGED).any(-1, keepdims=True)
    return float(np.mean(clear * np.square(difference / 255)))


@torch.inference_mode()
def _distance(model: WorldModel, seen: Observations, picture: np.ndarray) -> np.ndarray:
    """(n,) discounted ticks from single moments to the picture."""
    now, goal = (
        model.encode({s.name: torch.from_numpy(moment[s.name])[:, None] for s in model.config.streams})
        for moment in (seen, goals(picture, seen))
    )
    return model.distance(model.start(now), model.goal(goal[:, 0])).numpy()


def _film(name: str, walk: Walk, picture: np.ndarray, tick_s: float) -> Attempt:
    frames = np.stack([seen["camera"] for seen in walk])
    return Attempt(name=name, frames=frames, goal=picture, reached=None, tick_s=tick_s)
