"""An exam that an untrained model passed would say nothing of a trained one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forerun.config import model_config
from forerun.control.agents import RandomAgent, WorldModelAgent
from forerun.control.trials import Agent, Observations, Trial, make_task, run_trials, sampled_trials
from forerun.evaluation.stats import paired_difference
from forerun.imagination.planner import PlannerConfig
from forerun.tasks import Task
from forerun.world_model import WorldModel

ENV, TRIALS, BUDGET = "forerun/TwoRoom-v0", 25, 50
TINY = {"latent_dim": 16, "encoder_width": 4, "width": 32, "layers": 1, "heads": 2, "head_width": 32}
METHODS = {
    "planner": PlannerConfig(candidates=16, iterations=2, horizon=3, elites=4),
    "goal policy": PlannerConfig(method="policy"),
}
WALL_X, DOOR_Y, BEYOND = 112.0, 49.0, 10.0  # px


class Guide:
    """Through the door if the goal is in the other room, then straight on. Reads positions, not pictures."""

    def begin(self, observations: Observations, goals: Observations) -> None:
        self.goals = goals["proprio"]

    def act(self, observations: Observations) -> np.ndarray:
        here, side = observations["proprio"], np.sign(self.goals[:, 0] - WALL_X)
        door = np.stack([WALL_X + BEYOND * side, np.full_like(side, DOOR_Y)], axis=1)
        apart = np.sign(here[:, 0] - WALL_X) != side
        return np.where(apart[:, None], door, self.goals) - here


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task(ENV)


@pytest.fixture(scope="module")
def trials(task: Task) -> list[Trial]:
    return sampled_trials(task, count=TRIALS, seed=0)


@pytest.fixture(scope="module")
def by_chance(task: Task, trials: list[Trial]) -> list[bool]:
    return reached(trials, RandomAgent(task.action_spec))


def reached(trials: list[Trial], agent: Agent) -> list[bool]:
    return [outcome.moderate for outcome in run_trials(ENV, trials, agent, budget=BUDGET)]


@pytest.mark.parametrize("method", METHODS)
def test_an_untrained_model_reaches_no_more_goals_than_random_moves(
    task: Task, trials: list[Trial], by_chance: list[bool], method: str
) -> None:
    specs = task.stream_specs()
    torch.manual_seed(0)
    model = WorldModel(model_config("xs", (specs["camera"], specs["proprio"]), specs["action"], 0.1, **TINY))
    assert paired_difference(reached(trials, WorldModelAgent(model, METHODS[method])), by_chance).low <= 0


def test_who_knows_the_way_reaches_more_goals_than_random_moves(
    trials: list[Trial], by_chance: list[bool]
) -> None:
    assert paired_difference(reached(trials, Guide()), by_chance).low > 0.5
