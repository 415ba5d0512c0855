"""Touch as a sense of its own: silent without contact, foretold, and not needed for the rest to work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from closing_finger import NOISE_N, table, tiny_config
from forerun.data.cache import TickCache
from forerun.imagination.planner import Planner, PlannerConfig
from forerun.pacing import PacedLearner
from forerun.stages import DynamicsLearner, LatentTable, RepresentationLearner, fit_scales
from forerun.training.learner import Learner
from forerun.types import ConfigError, ShapeError
from forerun.world_model import WorldModel
from tiny_worlds import world

TRAIN, HELD_OUT = np.arange(10), np.arange(10, 12)


def teach_briefly(learner: Learner, steps: int) -> None:
    learner.module.train()
    optimizer = torch.optim.Adam(learner.module.parameters(), 3e-3)
    for step in range(steps):
        optimizer.zero_grad()
        learner.loss(learner.batch(step))["total"].backward()
        optimizer.step()
    learner.module.eval()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> TickCache:
    return table(tmp_path_factory.mktemp("finger"))


@pytest.fixture(scope="module")
def taught(cache: TickCache) -> tuple[WorldModel, LatentTable]:
    torch.manual_seed(0)
    model = WorldModel(tiny_config(cache))
    fit_scales(model, cache, TRAIN)
    teach_briefly(RepresentationLearner(model, cache, TRAIN), 300)
    latents = LatentTable.encode(model, cache, TRAIN)
    teach_briefly(DynamicsLearner(model, latents, TRAIN, batch_size=64), 400)
    return model.eval(), latents


def windows(cache: TickCache, length: int = 3) -> np.ndarray:
    """(n, length) rows of the held-out episodes."""
    first, last = cache.episode_starts[HELD_OUT[0]], cache.episode_starts[HELD_OUT[-1] + 1]
    rows = np.arange(first, last - length + 1)
    same = np.searchsorted(cache.episode_starts, rows, "right") == np.searchsorted(
        cache.episode_starts, rows + length - 1, "right"
    )
    return rows[same][:, None] + np.arange(length)


def observation(cache: TickCache, rows: np.ndarray) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(cache.streams[name][rows]) for name in ("place", "pad")}


@torch.no_grad()
def next_touch_error(model: WorldModel, cache: TickCache, *, felt: bool, paired: bool = False) -> float:
    """Mean absolute error in N of the normal force foretold one tick ahead; or of copying the last one."""
    rows = windows(cache)
    seen, truth = observation(cache, rows[:, :2]), cache.streams["pad"][rows[:, 2]]
    if paired:
        return float(np.abs(cache.streams["pad"][rows[:, 1]] - truth)[:, 0].mean())
    if not felt:
        del seen["pad"]
    done = torch.from_numpy(cache.streams["action"][rows[:, :2]])
    state = model.start(model.encode(seen), done[:, :1])
    guess = model.decode(model.step(state, done[:, 1]))["pad"]
    return float(np.abs(guess.numpy() - truth)[:, 0].mean())


def test_noise_below_the_floor_does_not_move_the_latent(taught: tuple[WorldModel, LatentTable]) -> None:
    code = taught[0].senses.touch(taught[0].config.bursts[0])
    noise = NOISE_N * torch.randn(5, 50, 2, generator=torch.Generator().manual_seed(0))
    bursts = torch.cat([noise.mean(1), noise.amin(1), noise.amax(1), noise.square().mean(1).sqrt()], dim=-1)
    quiet = code(bursts)
    assert (quiet == quiet[:1]).all()
    assert not (code(bursts + 1.0) == quiet[:1]).all(-1).any()  # N


def test_a_burst_comes_back_in_newtons(taught: tuple[WorldModel, LatentTable], cache: TickCache) -> None:
    model, rows = taught[0], windows(cache, 1)
    with torch.no_grad():
        back = model.decode_latents(model.encode(observation(cache, rows))[:, 0])["pad"].numpy()
    truth = cache.streams["pad"][rows[:, 0]]
    assert np.abs(back - truth)[:, 0].mean() < 0.15 * truth[:, 0].std()


def test_the_next_touch_is_foretold_better_than_by_copying_the_last(
    taught: tuple[WorldModel, LatentTable], cache: TickCache
) -> None:
    copied = next_touch_error(taught[0], cache, felt=True, paired=True)
    assert next_touch_error(taught[0], cache, felt=True) < copied


def test_an_untrained_model_repeats_the_last_touch(cache: TickCache) -> None:
    model = WorldModel(tiny_config(cache))
    fit_scales(model, cache, TRAIN)
    rows = windows(cache)
    touched = model.senses.touch(model.config.bursts[0]).touched(
        torch.from_numpy(cache.streams["pad"][rows[:, 1]])
    )
    done = torch.from_numpy(cache.streams["action"][rows[:, :2]])
    with torch.no_grad():
        state = model.start(model.encode(observation(cache, rows[:, :2])), done[:, :1])
        said = model.decode(model.step(state, done[:, 1]))["pad"]
    last = torch.from_numpy(cache.streams["pad"][rows[:, 1]])
    assert touched.any()
    torch.testing.assert_close(said[touched], last[touched], rtol=1e-4, atol=1e-4)


def test_without_its_sensor_a_model_errs_more_but_less_than_by_guessing_the_mean(
    taught: tuple[WorldModel, LatentTable], cache: TickCache
) -> None:
    model, truth = taught[0], cache.streams["pad"][windows(cache)[:, 2], 0]
    mean = cache.streams["pad"][cache.rows_of(TRAIN), 0].mean()
    blind = next_touch_error(model, cache, felt=False)
    assert next_touch_error(model, cache, felt=True) < blind < np.abs(truth - mean).mean()


def test_a_burst_marked_invalid_is_read_as_one_left_out(
    taught: tuple[WorldModel, LatentTable], cache: TickCache
) -> None:
    seen = observation(cache, windows(cache))
    marked = {**seen, "pad.valid": torch.zeros(seen["pad"].shape[:2], dtype=torch.bool)}
    torch.testing.assert_close(taught[0].encode(marked), taught[0].encode({"place": seen["place"]}))


def test_other_streams_still_may_not_be_left_out(
    taught: tuple[WorldModel, LatentTable], cache: TickCache
) -> None:
    with pytest.raises(ShapeError, match="'place' is missing"):
        taught[0].encode({"pad": observation(cache, windows(cache))["pad"]})


def test_heads_tell_contact_slip_and_newtons(
    taught: tuple[WorldModel, LatentTable], cache: TickCache
) -> None:
    model, rows = taught[0], windows(cache, 1)[:, 0]
    with torch.no_grad():
        said = model.predict(model.start(model.encode(observation(cache, rows[:, None]))))
    pressed = cache.streams["pad"][rows, 0]
    assert (((said["contact"] > 0.5).numpy()) == (pressed > 0.2)).mean() > 0.9
    wrong = np.abs(said["normal_force"][:, 0].numpy() - pressed).mean()
    assert wrong < 0.5 * np.abs(pressed - pressed.mean()).mean()
    assert set(said) == {"uncertainty", "contact", "slip", "normal_force"}


def test_a_model_without_touch_has_no_such_heads(tmp_path: Path) -> None:
    cache = table(tmp_path, 3, touch=False)
    assert WorldModel(tiny_config(cache)).feel is None


def test_the_same_weights_learn_at_several_tick_lengths(tmp_path: Path) -> None:
    caches = [table(tmp_path, tick_s=tick_s) for tick_s in (0.2, 0.1, 0.02)]
    torch.manual_seed(0)
    model = WorldModel(tiny_config(caches[1]))
    fit_scales(model, caches[1], TRAIN)
    teach_briefly(RepresentationLearner(model, caches[1], TRAIN), 20)
    LatentTable.encode(model, caches[1], TRAIN)  # fixes the whitening, once for all
    tables = [LatentTable.encode(model, cache, TRAIN, refit=False) for cache in caches]
    paced = PacedLearner([DynamicsLearner(model, t, TRAIN, batch_size=8) for t in tables])
    seconds = [float(paced.batch(step)["tick_s"][0]) for step in range(4)]
    assert seconds == pytest.approx([0.2, 0.1, 0.02, 0.2])
    teach_briefly(paced, 30)
    state = model.start(tables[0].latents[:2, None], tick_s=torch.tensor([0.2, 0.02]))
    same = replace(state, latents=state.latents[:1].expand_as(state.latents))
    moved = model.step(same, torch.zeros(2, 1)).latents
    assert not torch.allclose(moved[0], moved[1])


def test_a_force_limit_makes_hard_futures_dearer(taught: tuple[WorldModel, LatentTable]) -> None:
    model, latents = taught
    state = model.start(latents.latents[15:17, None])
    goal = model.goal(latents.latents[18:20])
    candidates = torch.zeros(2, 4, 5, 1)
    free, bound = (Planner(model, PlannerConfig(force_limit_n=limit)) for limit in (None, 0.0))
    with torch.no_grad():
        assert (bound.dream(state, goal).judge(candidates) > free.dream(state, goal).judge(candidates)).all()


def test_a_force_limit_needs_a_model_that_feels() -> None:
    with pytest.raises(ConfigError, match="predicts no force"):
        Planner(world(), PlannerConfig(force_limit_n=5.0))
