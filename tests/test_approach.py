"""Approaching a picture: what is left of the difference, and who is compared with whom."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forerun.config import model_config
from forerun.control.agents import RandomAgent
from forerun.control.trials import Observations, Trial, make_task, sampled_trials
from forerun.evaluation import tally
from forerun.evaluation.approach import apart, approach
from forerun.tasks import Task
from forerun.types import ConfigError
from forerun.world_model import WorldModel

ENV = "forerun/TwoRoom-v0"
STARTS, BUDGET = 3, 25
TINY = {"latent_dim": 16, "encoder_width": 4, "width": 32, "layers": 1, "heads": 2, "head_width": 32}


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task(ENV)


@pytest.fixture(scope="module")
def model(task: Task) -> WorldModel:
    specs = task.stream_specs()
    torch.manual_seed(0)
    streams = (specs["camera"], specs["proprio"])
    return WorldModel(model_config("xs", streams, specs["action"], 1 / task.control_hz, **TINY)).eval()


@pytest.fixture(autouse=True)
def _few_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "TIMED", 3)


class Still:
    """Does nothing."""

    def begin(self, observations: Observations, goals: Observations) -> None:
        self.rows = len(observations["camera"])

    def act(self, observations: Observations) -> np.ndarray:
        return np.zeros((self.rows, 2))


class Knowing(Still):
    """Goes straight to a place that it knows."""

    def __init__(self, place: np.ndarray) -> None:
        self.place = place

    def act(self, observations: Observations) -> np.ndarray:
        return 10 * (self.place - observations["proprio"][:, :2])


def test_only_clear_differences_from_the_picture_count() -> None:
    goal = np.zeros((4, 4, 3), np.uint8)
    assert apart(goal, goal) == apart(goal + 10, goal) == 0
    seen = goal.copy()
    seen[0, 0] = 255
    assert apart(seen, goal) == pytest.approx(1 / 16)


def test_who_goes_there_leaves_less_than_who_stays_and_both_begin_alike(
    task: Task, model: WorldModel
) -> None:
    trials = sampled_trials(task, count=20, seed=0)
    goal = trials[0].goal
    near = [t for t in trials if (t.start[0] > 112) == (goal[0] > 112)][:STARTS]  # no wall between
    agents = {"knowing": Knowing(goal[:2]), "still": Still()}
    (there, stayed), films = approach(ENV, task.picture(goal), near, agents, model, budget=BUDGET, films=2)
    np.testing.assert_array_equal(there.pixels[:, 0], stayed.pixels[:, 0])
    np.testing.assert_array_equal(there.distance[:, 0], stayed.distance[:, 0])
    assert stayed.left() == (1, 1, 1)
    assert there.left().high < 1
    assert there.beside(stayed) == there.left()
    assert [len(film.frames) for film in films] == [BUDGET + 1] * 2
    assert all(film.reached is None for film in films)


def test_the_picture_is_the_goal_and_not_what_the_task_drew(task: Task, model: WorldModel) -> None:
    shown: list[np.ndarray] = []

    class Watching(Still):
        def begin(self, observations: Observations, goals: Observations) -> None:
            super().begin(observations, goals)
            shown.append(goals["camera"])

    picture = np.full((64, 64, 3), 7, np.uint8)
    approach(ENV, picture, sampled_trials(task, count=2, seed=0), {"watching": Watching()}, model, budget=1)
    np.testing.assert_array_equal(shown[0], np.stack([picture, picture]))


def test_nothing_ends_an_attempt_early_not_even_the_goal_the_task_drew(task: Task, model: WorldModel) -> None:
    state = sampled_trials(task, count=1, seed=0)[0].start
    picture = np.full((64, 64, 3), 7, np.uint8)
    agents = {"random": RandomAgent(task.action_spec)}
    there = [Trial(state, state, "at its goal")]
    _, films = approach(ENV, picture, there, agents, model, budget=4, films=1)
    assert len(films[0].frames) == 5


def test_a_picture_of_every_start_leaves_nothing_to_reach(task: Task, model: WorldModel) -> None:
    trials = sampled_trials(task, count=1, seed=0)
    with pytest.raises(ConfigError, match="nothing to reach"):
        approach(ENV, task.picture(trials[0].start), trials, {"still": Still()}, model, budget=1)
