"""Planning on recordings alone: whose first action is near the recorded one, and who is compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from forerun.data.cache import TickCache
from forerun.evaluation.first_action import ABOUT, first_actions
from forerun.stages import LatentTable, fit_scales
from forerun.types import ConfigError
from forerun.world_model import WorldModel
from moving_dot import TICK_S, episode, table, tiny_config

TRAIN, TESTED, TICKS = np.arange(4), np.arange(4, 6), 5
pytestmark = [  # said by stages.py
    pytest.mark.filterwarnings("ignore:The given NumPy array is not writable"),
    pytest.mark.filterwarnings("ignore:std.*degrees of freedom"),
]


def untrained(cache: TickCache) -> WorldModel:
    torch.manual_seed(0)
    model = WorldModel(tiny_config(cache))
    fit_scales(model, cache, TRAIN)
    LatentTable.encode(model, cache, TRAIN)
    return model.eval()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> TickCache:
    return table(tmp_path_factory.mktemp("dots"), *(episode(i) for i in range(6)))


def test_floors_are_what_they_say_and_an_untrained_model_is_no_better(cache: TickCache) -> None:
    found = first_actions(untrained(cache), cache, TESTED, train_episodes=TRAIN, ticks=TICKS)
    assert found is not None
    assert list(found.errors) == list(ABOUT)
    assert found.seconds == pytest.approx(TICKS * TICK_S)
    assert found.episodes == len(TESTED)
    assert found.moments == 2 * (24 - 3 - TICKS + 1)
    assert found.errors["mean action"].estimate == pytest.approx(1, abs=0.15)  # in spreads
    for name in ("another's action", "previous action"):  # moves are independent of each other
        assert found.errors[name].estimate == pytest.approx(2**0.5, abs=0.25)
    for name in ("planner", "policy alone"):
        assert found.errors[name].low > 0.8
        assert found.ms_per_decision[name] > 0


def test_the_same_seed_gives_the_same_figures_whatever_happens_between(cache: TickCache) -> None:
    model = untrained(cache)
    one, two = (
        first_actions(model, cache, TESTED, train_episodes=TRAIN, ticks=TICKS, moments=9) for _ in range(2)
    )
    assert one is not None
    assert two is not None
    assert one.errors == two.errors


def test_a_policy_that_looks_at_nothing_is_as_far_off_as_the_mean(
    cache: TickCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = untrained(cache)
    monkeypatch.setattr(model.goals, "act", lambda state, goal: torch.zeros(len(goal), 2))  # in spreads
    found = first_actions(model, cache, TESTED, train_episodes=TRAIN, ticks=TICKS)
    assert found is not None
    assert found.errors["policy alone"] == pytest.approx(found.errors["mean action"], rel=1e-3)


def test_actions_that_never_change_tell_nobody_apart(tmp_path: Path) -> None:
    cache = table(tmp_path, *(episode(i, still=True) for i in range(6)))
    model = WorldModel(tiny_config(cache))
    assert first_actions(model, cache, TESTED, train_episodes=TRAIN, ticks=TICKS) is None


def test_without_actions_nothing_can_be_planned(tmp_path: Path) -> None:
    cache = table(tmp_path, *(episode(i, action=False) for i in range(6)))
    with pytest.raises(ConfigError, match="trained without actions"):
        first_actions(untrained(cache), cache, TESTED, train_episodes=TRAIN, ticks=TICKS)
