"""The benchmarks themselves: the demo is timed as a newcomer meets it, naive versions are what they say."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import time
import types
from pathlib import Path

import pytest
from torch import Tensor

from forerun.evaluation.results import read_results, write_result
from forerun.evaluation.stats import wilson
from forerun.types import ConfigError, Error
from toy_learner import CONFIG, ToyLearner

MAKEFILE = "demo:\n\tmkdir -p demo/results\n\tcp measured/*.json demo/results\n"
"""Stands for an hour of downloads, recording and training."""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, root: Path) -> types.ModuleType:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    return importlib.import_module("demo")


def test_training_lasts_from_the_first_file_of_a_run_to_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    (tmp_path / "model").mkdir()
    for name, seconds in (("run.json", 60), ("model/config.json", 150)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (seconds, seconds))
    assert importlib.import_module("real_robot").training_minutes(tmp_path) == 1.5


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch, root: Path) -> types.ModuleType:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    return importlib.import_module("speed")


class Unhurried(ToyLearner):
    """A batch takes as long as the step that uses it."""

    def batch(self, step: int) -> dict[str, Tensor]:
        time.sleep(self.seconds_per_step)
        return super().batch(step)


def test_a_loop_that_makes_its_own_batches_waits_for_them(
    speed: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "LAP", 5)
    assert speed.wait_in_the_loop(ToyLearner(0.02), CONFIG) < 25
    assert 25 < speed.wait_in_the_loop(Unhurried(0.02), CONFIG) < 75


def git(folder: Path, *words: str) -> None:
    me = ("-c", "user.name=me", "-c", "user.email=me@example.org")
    subprocess.run(["git", "-C", str(folder), *me, *words], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A committed repository whose demo has a result at once."""
    folder = tmp_path / "checkout"
    metrics = {"planner": {"moderate": wilson(17, 20)}}
    write_result("demo", metrics, settings={"plan": {}}, seed=0, n=20, folder=folder / "measured")
    (folder / "Makefile").write_text(MAKEFILE)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "Begin")
    return folder


def test_the_demo_is_timed_in_a_clone_and_keeps_its_own_figures(
    bench: types.ModuleType, checkout: Path, tmp_path: Path
) -> None:
    path = bench.run(checkout, tmp_path / "results")
    (theirs,), (ours,) = read_results(checkout / "measured"), read_results(tmp_path / "results")
    assert ours.metrics["planner"] == theirs.metrics["planner"]
    assert 0 <= ours.metrics["total_minutes"] < 1
    assert (ours.finished, ours.commit, ours.settings) == (theirs.finished, theirs.commit, theirs.settings)
    assert ours.command == "python benchmarks/demo.py"
    assert path.name == next((checkout / "measured").iterdir()).name
    assert not (checkout / "demo").exists()
    assert str(tmp_path) not in json.dumps(path.read_text())


def test_what_is_not_committed_is_not_timed(bench: types.ModuleType, checkout: Path, tmp_path: Path) -> None:
    (checkout / "Makefile").write_text("demo:\n\tfalse\n")
    with pytest.raises(ConfigError, match=r"not committed.*Commit first"):
        bench.run(checkout, tmp_path / "results")
    git(checkout, "commit", "--all", "--quiet", "--message", "Break it")
    with pytest.raises(Error, match=r"exit code \d+ in a fresh clone"):
        bench.run(checkout, tmp_path / "results")
    (tmp_path / "bare").mkdir()
    with pytest.raises(ConfigError, match="no git checkout"):
        bench.run(tmp_path / "bare", tmp_path / "results")
    assert not (tmp_path / "results").exists()
