"""Whitening and practice: what a small turn counts, and who may bend while a policy practises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from forerun.data import Stream
from forerun.data.cache import TickCache
from forerun.encoders.whitening import FLOOR, Whitening
from forerun.practice import PracticeConfig, PracticeLearner
from forerun.stages import DynamicsLearner, GoalLearner, LatentTable, fit_scales
from forerun.training.trainer import TrainConfig, train
from forerun.types import DataError
from forerun.world_model import WorldModel
from moving_dot import BOUND, episode, table, tiny_config

EPISODES = np.arange(12)
QUIET = Console(quiet=True)
PRACTICE = PracticeConfig(horizon=4, ahead=8)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> TickCache:
    """A dot that is felt, not seen: its world is learned in a second."""
    return table(tmp_path_factory.mktemp("dots"), *(episode(i, video=False) for i in EPISODES))


def steps(count: int) -> TrainConfig:
    return TrainConfig(steps=count, learning_rate=3e-3, save_every=count)


@pytest.fixture(scope="module")
def taught(cache: TickCache, tmp_path_factory: pytest.TempPathFactory) -> tuple[WorldModel, LatentTable]:
    torch.manual_seed(0)
    model, run = WorldModel(tiny_config(cache)), tmp_path_factory.mktemp("run")
    fit_scales(model, cache, EPISODES)
    table = LatentTable.encode(model, cache, EPISODES)
    train(
        DynamicsLearner(model, table, EPISODES, batch_size=64, ticks=4), steps(150), run / "d", console=QUIET
    )
    train(GoalLearner(model, table, EPISODES, batch_size=128), steps(150), run / "g", console=QUIET)
    return model, table


def practised(taught: tuple[WorldModel, LatentTable], run: Path, count: int) -> WorldModel:
    """A copy of the taught model after ``count`` steps of practice."""
    model = WorldModel(taught[0].config)
    model.load_state_dict(taught[0].state_dict())
    learner = PracticeLearner(model, taught[1], EPISODES, batch_size=64, config=PRACTICE)
    train(learner, steps(count), run, console=QUIET)
    return model.eval()


def test_practice_bends_the_goal_policy_and_nothing_else(
    taught: tuple[WorldModel, LatentTable], tmp_path: Path
) -> None:
    before, after = taught[0].state_dict(), practised(taught, tmp_path, 3).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("goals.policy.")}


def test_practice_ends_nearer_to_goals_than_imitation_does(
    taught: tuple[WorldModel, LatentTable], cache: TickCache, tmp_path: Path
) -> None:
    places = np.array(cache.streams["place"])
    starts, goals = torch.from_numpy(places[::7]), torch.from_numpy(places[3::7])
    count = min(len(starts), len(goals))

    @torch.no_grad()
    def missed(model: WorldModel) -> float:
        """How far from the goal the dot is after five steps of the policy, in the real world of the dot."""
        now, goal = starts[:count], model.goal(model.encode({"place": goals[:count, None]})[:, 0])
        for _ in range(5):
            state = model.start(model.encode({"place": now[:, None]}))
            now = (now + model.propose(state, goal).clamp(-BOUND, BOUND)).clamp(-1, 1)
        return float((now - goals[:count]).norm(dim=1).mean())

    cloned, played = missed(taught[0].eval()), missed(practised(taught, tmp_path, 150))
    assert played < 0.7 * cloned, (played, cloned)


def test_practice_starts_anywhere_and_aims_ahead_or_anywhere(
    taught: tuple[WorldModel, LatentTable], cache: TickCache
) -> None:
    model, latents = taught[0], taught[1].latents
    learner = PracticeLearner(model, taught[1], EPISODES, batch_size=256, config=PRACTICE)
    batch = learner.batch(0)

    def rows(wanted: Tensor) -> np.ndarray:
        return torch.cdist(wanted, model.goal(latents)).argmin(1).numpy()

    now, ahead, goal = rows(model.goal(batch["latents"][:, 1])), rows(batch["ahead"]), rows(batch["goal"])
    episode_of = np.searchsorted(cache.episode_starts, np.arange(cache.num_rows), side="right")
    assert (episode_of[now] == episode_of[ahead]).all()
    assert ((ahead > now) & (ahead <= now + PRACTICE.ahead)).all()
    elsewhere = (goal != ahead).mean()
    assert abs(elsewhere - PRACTICE.random) < 0.1
    assert torch.equal(learner.batch(0)["noise"], batch["noise"])


def test_whitened_latents_vary_alike_in_every_direction_that_is_not_noise() -> None:
    random = torch.Generator().manual_seed(0)
    spread = torch.tensor([5.0, 1.0, 0.6, 0.001])
    turn = torch.linalg.qr(torch.randn(4, 4, generator=random)).Q
    latents = (torch.randn(4000, 4, generator=random) * spread) @ turn + 3
    white = Whitening(2, 4)
    white.fit((slice(1, 2), slice(None)), latents[:, None])
    seen = white(torch.stack([latents, latents], dim=1))
    torch.testing.assert_close(seen[:, 0], latents)  # the other token is left as it is
    deviation = seen[:, 1].std(0)
    torch.testing.assert_close(deviation[:3], torch.ones(3), atol=0.05, rtol=0)
    assert deviation[3] < 0.01  # below the floor: noise is not blown up
    assert spread[3] < FLOOR * spread[0]
    torch.testing.assert_close(white.variance[1].sqrt(), deviation, atol=0.01, rtol=0)
    torch.testing.assert_close(white.inverse(seen)[:, 1], latents, atol=1e-4, rtol=0)


def test_a_camera_that_was_off_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    dark = episode(0)
    pictures = dark.streams["camera"]
    dark.streams["camera"] = Stream(pictures.spec, pictures.times_s, np.zeros((24, 32, 32, 3), np.uint8))
    cache = table(tmp_path, dark)
    with pytest.raises(DataError, match=r"'camera' never changes.*--streams place state action"):
        fit_scales(WorldModel(tiny_config(cache)), cache, np.arange(1))
