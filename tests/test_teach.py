"""A run knows what it is: settings, seed, episodes and format; nothing else continues it."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from forerun import checkpoint
from forerun.data.cache import TickCache
from forerun.practice import PracticeConfig
from forerun.stages import LatentTable
from forerun.teach import Recipe, foreseeing, prepare, teach
from forerun.training.trainer import TrainConfig
from forerun.types import CheckpointError
from forerun.world_model import FORMAT
from moving_dot import episode, table


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> TickCache:
    """A dot that is felt, not seen: it has no first stage."""
    return table(tmp_path_factory.mktemp("dots"), *(episode(i, video=False) for i in range(6)))


def recipe(seed: int = 0, **more: Any) -> Recipe:
    return replace(
        Recipe(seed=seed, holdout=0.4, practising=PracticeConfig(horizon=2, ahead=8)).scaled(1e-4), **more
    )


@pytest.fixture(scope="module")
def begun(cache: TickCache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("begun")
    teach(cache, folder, recipe(), console=Console(quiet=True))
    return folder


def everything(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (recipe(seed=1), "recipe.seed was 0, is 1; train_episodes was"),
        (recipe(holdout=0.2), "recipe.holdout was 0.4, is 0.2"),
        (recipe(goals=TrainConfig(steps=7)), "recipe.goals.steps was 1, is 7"),
    ],
)
def test_a_run_with_another_recipe_is_refused_and_left_as_it_is(
    cache: TickCache, begun: Path, other: Recipe, reason: str
) -> None:
    before = everything(begun)
    with pytest.raises(CheckpointError, match=reason):
        teach(cache, begun, other, console=Console(quiet=True))
    assert everything(begun) == before


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize("began", ["forerun-world-model-3", None])
def test_a_run_begun_by_code_of_another_format_is_refused_and_left_as_it_is(
    cache: TickCache, begun: Path, tmp_path: Path, began: str | None
) -> None:
    shutil.copytree(begun, tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    about = json.loads(path.read_text())
    assert about.pop("format") == FORMAT
    path.write_text(json.dumps(about | ({"format": began} if began else {})))
    before = everything(tmp_path)
    with pytest.raises(CheckpointError, match=f"another format .*{began or 'earlier'}.*install the version"):
        teach(cache, tmp_path / "run", recipe(), console=Console(quiet=True))
    assert everything(tmp_path) == before


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_a_recipe_may_change_until_a_stage_has_begun(cache: TickCache, tmp_path: Path) -> None:
    for seed in (0, 1):
        prepare(cache, tmp_path, recipe(seed))
        assert json.loads((tmp_path / "run.json").read_text())["recipe"]["seed"] == seed


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_a_stage_knows_its_seed_its_episodes_and_its_batches(cache: TickCache, tmp_path: Path) -> None:
    told = io.StringIO()
    teach(cache, tmp_path, recipe(seed=1), console=Console(file=told, width=120))
    model, episodes = prepare(cache, tmp_path, recipe(seed=1))
    other = {}
    for learner in foreseeing(model, LatentTable.encode(model, cache, episodes), episodes[1:], recipe()):
        other[learner.name] = learner.describe()
    assert list(other) == ["dynamics", "goals", "practice"]
    for number, stage in enumerate(other, start=1):
        identity = checkpoint.load(tmp_path / stage / "checkpoint")[1]["identity"]
        assert identity["train"]["seed"] == identity["learner"]["seed"] == 1
        assert other[stage]["seed"] == 0
        assert other[stage]["episodes"] != identity["learner"]["episodes"]
        assert other[stage]["data"] == identity["learner"]["data"]
        assert other[stage]["batch_size"] == identity["learner"]["batch_size"] > 0
        assert f"{number}/3 {stage}" in told.getvalue()


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_content_of_training_episodes_is_remembered_whatever_their_numbers(
    cache: TickCache, begun: Path
) -> None:
    about = json.loads((begun / "run.json").read_text())
    known = {e["hash"] for i, e in enumerate(cache.episodes) if i in about["train_episodes"]}
    assert set(about["train_hashes"]) == known
    assert len(known) == len(about["train_episodes"])
