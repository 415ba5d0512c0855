"""Errors over the horizon: what they count, and that nothing flatters a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from forerun.data.cache import TickCache
from forerun.evaluation.clips import imagined_clips, redrawn_clips, stacked
from forerun.evaluation.errors import (
    CHANGED_PIXELS,
    COPY,
    LATENTS,
    MEAN,
    MODEL,
    NEAREST,
    PIXELS,
    RANDOM,
    REDRAWN,
    Prediction,
)
from forerun.evaluation.prediction import clip_starts, predict
from forerun.stages import LatentTable, fit_scales
from forerun.types import ConfigError, DataError
from forerun.world_model import WorldModel
from moving_dot import TICK_S, dots, episode, table, tiny_config

CONTEXT, H = 3, 5
TRAIN, TESTED = np.arange(4), np.arange(4, 6)
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


@pytest.fixture(scope="module")
def model(cache: TickCache) -> WorldModel:
    return untrained(cache)


@pytest.fixture(scope="module")
def found(model: WorldModel, cache: TickCache) -> Prediction:
    return predict(model, cache, TESTED, train_episodes=TRAIN, horizon=H, context=CONTEXT)


def test_copy_last_counts_what_a_hand_count_of_the_frames_gives(found: Prediction, cache: TickCache) -> None:
    starts = clip_starts(cache, TESTED, CONTEXT + H, 256)
    frames = np.asarray(cache.streams["camera"])
    errors, changed = [], []
    for start in starts:
        last, real = frames[start + CONTEXT - 1] / 255, frames[start + CONTEXT + H - 1] / 255
        square = ((last - real) ** 2).mean(-1)
        moved = (np.abs(last - real) > 10 / 255).any(-1)
        errors.append(square.mean())
        changed.append((square[moved].sum(), moved.sum()))
    total, count = np.sum(changed, axis=0)
    at = found.error(PIXELS, COPY, H * TICK_S)
    at_changed = found.error(CHANGED_PIXELS, COPY, H * TICK_S)
    assert at is not None
    assert at_changed is not None
    assert at.estimate == pytest.approx(np.mean(errors), rel=1e-5)
    assert at_changed.estimate == pytest.approx(total / count, rel=1e-5)


def test_a_vector_is_off_by_its_own_unit(found: Prediction, cache: TickCache) -> None:
    starts, place = clip_starts(cache, TESTED, CONTEXT + H, 256), cache.streams["place"]
    apart = place[starts + CONTEXT] - place[starts + CONTEXT - 1]
    at = found.error("place", COPY, TICK_S)
    assert at is not None
    assert found.quantities["place"].unit == "m"
    assert at.estimate == pytest.approx(float(np.sqrt((apart**2).mean())), rel=1e-5)


def test_where_nothing_moves_no_pixel_has_changed_and_copy_last_is_perfect(tmp_path: Path) -> None:
    cache = table(tmp_path, *(episode(i, still=True) for i in range(6)))
    found = predict(untrained(cache), cache, TESTED, horizon=H, context=CONTEXT)
    assert found.error(CHANGED_PIXELS, MODEL, TICK_S) is None
    assert found.ratio(PIXELS, TICK_S) is None
    still = found.error(PIXELS, COPY, TICK_S)
    assert still is not None
    assert still.estimate == 0
    assert np.isnan(found.curve(CHANGED_PIXELS, MODEL).estimate).all()


def test_an_untrained_model_does_no_better_than_copying_the_last_picture(found: Prediction) -> None:
    for quantity in (PIXELS, LATENTS, "place"):
        ratio = found.ratio(quantity, TICK_S)
        assert ratio is not None
        assert ratio.estimate > 0.95


def test_a_model_that_ignores_the_actions_is_found_out(found: Prediction) -> None:
    ratio = found.shuffled_ratio()  # its last layer is still zero: no action can move anything
    assert ratio is not None
    assert ratio.estimate == pytest.approx(1, abs=1e-6)


def test_the_nearest_clip_of_a_copied_episode_is_the_truth(model: WorldModel, tmp_path: Path) -> None:
    cache = table(tmp_path, *(episode(i) for i in (0, 1, 2, 3, 2, 3)))
    found = predict(model, cache, TESTED, train_episodes=TRAIN, horizon=H, context=CONTEXT)
    near, chance = found.error(PIXELS, NEAREST, H * TICK_S), found.error(PIXELS, RANDOM, H * TICK_S)
    assert near is not None
    assert chance is not None
    assert near.estimate == 0 < chance.estimate


def test_an_episode_never_serves_as_its_own_nearest_clip(model: WorldModel, cache: TickCache) -> None:
    found = predict(model, cache, [0], train_episodes=np.array([0]), horizon=H, context=CONTEXT)
    assert found.methods(PIXELS) == [MODEL, COPY, REDRAWN, MEAN]


def test_training_episodes_shorter_than_the_horizon_serve_as_no_baseline(tmp_path: Path) -> None:
    cache = table(tmp_path, *(episode(i, ticks=8) for i in TRAIN), *(episode(i) for i in TESTED))
    model = untrained(cache)
    always = [MODEL, COPY, REDRAWN, MEAN]
    for horizon, methods in ((7, [*always, NEAREST, RANDOM]), (8, always)):
        found = predict(model, cache, TESTED, train_episodes=TRAIN, horizon=horizon, context=CONTEXT)
        assert sorted(found.methods(PIXELS)) == sorted(methods)


def test_a_clip_alone_is_judged_as_in_a_batch(model: WorldModel, cache: TickCache, found: Prediction) -> None:
    alone = predict(model, cache, TESTED, train_episodes=TRAIN, horizon=H, context=CONTEXT, batch_size=1)
    for quantity in found.quantities:
        for method in (MODEL, COPY):
            ours, theirs = (p.quantities[quantity].squared[method] for p in (found, alone))
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_errors_survive_being_written_down(found: Prediction) -> None:
    again = Prediction.from_json(json.loads(json.dumps(found.to_json())))
    assert again.error(PIXELS, MODEL, 0.3) == found.error(PIXELS, MODEL, 0.3)
    assert again.shuffled_ratio() == found.shuffled_ratio()
    assert again.episodes.tolist() == TESTED.tolist()


def test_too_long_a_clip_says_how_long_the_episodes_are(model: WorldModel, cache: TickCache) -> None:
    with pytest.raises(DataError, match="longest of these 2 episodes has 24"):
        predict(model, cache, TESTED, horizon=30, context=CONTEXT)


def test_a_time_beyond_the_horizon_is_refused(found: Prediction) -> None:
    with pytest.raises(ConfigError, match=r"reach from 0.1 s to 0.5 s"):
        found.error(PIXELS, MODEL, 2.0)


def test_a_film_shows_the_real_pictures_until_imagination_begins(model: WorldModel, cache: TickCache) -> None:
    clips = imagined_clips(model, cache, TESTED, horizon=H, context=CONTEXT, count=2)
    for clip in clips:
        assert len(clip.real) == CONTEXT + H
        np.testing.assert_array_equal(clip.real[:CONTEXT], clip.imagined[:CONTEXT])
        assert (clip.real[CONTEXT:] != clip.imagined[CONTEXT:]).any()
    assert stacked(clips).real.shape[1] == 2 * stacked(clips[:1]).real.shape[1]


def test_a_redrawn_film_foretells_nothing(model: WorldModel, cache: TickCache) -> None:
    clips = redrawn_clips(model, cache, TESTED, ticks=CONTEXT + H, count=2)
    for clip in clips:
        assert len(clip.real) == clip.context_ticks == CONTEXT + H
        seen = {"camera": torch.from_numpy(clip.real[:1, None]), "place": torch.zeros(1, 1, 2)}
        with torch.no_grad():
            drawn = model.decode_latents(model.encode(seen)[:, 0])["camera"][0].numpy()
        np.testing.assert_allclose(clip.imagined[0].astype(int), drawn, atol=1)


def test_a_model_without_eyes_cannot_be_filmed(tmp_path: Path) -> None:
    cache = table(tmp_path, *(episode(i, video=False) for i in range(6)))
    blind = untrained(cache)
    with pytest.raises(DataError, match="sees no video, only place"):
        imagined_clips(blind, cache, TESTED, horizon=H)
    found = predict(blind, cache, TESTED, train_episodes=TRAIN, horizon=H)
    assert sorted(found.quantities) == [LATENTS, "place"]


def test_without_actions_there_is_nothing_to_shuffle(tmp_path: Path) -> None:
    cache = table(tmp_path, *(episode(i, action=False) for i in range(6)))
    assert predict(untrained(cache), cache, TESTED, horizon=H).shuffled_ratio() is None


def test_the_dots_move_as_the_actions_say(cache: TickCache) -> None:
    place, action = cache.streams["place"], cache.streams["action"]
    np.testing.assert_allclose(place[1], np.clip(place[0] + action[0], -1, 1), atol=1e-6)
    np.testing.assert_array_equal(cache.streams["camera"][:1], dots(np.asarray(place[:1])))
