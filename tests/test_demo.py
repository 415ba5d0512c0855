"""The parts of the demo: recording on several processes, a contest that resumes, helpers that end in time."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from forerun.cli.main import main
from forerun.cli.play import record_play
from forerun.cli.protocol import asked_for, settle
from forerun.config import model_config
from forerun.control.trials import make_task, sampled_trials
from forerun.data import open_recordings
from forerun.evaluation.contest import Contest, hold, read_films
from forerun.evaluation.demo import DemoPlan
from forerun.evaluation.floors import ClonedPolicy
from forerun.evaluation.workers import helpers
from forerun.imagination.planner import PlannerConfig
from forerun.types import ConfigError, DataError, Error, StorageError
from forerun.world_model import WorldModel

ENV = "forerun/TwoRoom-v0"
EPISODES, STEPS, TRIALS, BUDGET = 7, 6, 3, 4


def test_play_is_the_same_however_many_processes_record_it(tmp_path: Path) -> None:
    for processes in (1, 2):
        count = record_play(
            ENV,
            tmp_path / str(processes),
            episodes=EPISODES,
            steps=STEPS,
            policies=("noisy", "random"),
            processes=processes,
            done=lambda *_: None,
        )
        assert count == EPISODES
    one, two = (open_recordings(tmp_path / name) for name in "12")
    actions = [np.stack([e.streams["action"].read() for e in r]) for r in (one, two)]
    np.testing.assert_array_equal(actions[0], actions[1])
    assert len(np.unique(actions[0].round(6), axis=0)) == EPISODES  # no episode is recorded twice
    np.testing.assert_array_equal(one[6].streams["camera"].read(), two[6].streams["camera"].read())


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Contest:
    """Untrained contestants."""
    folder, task = tmp_path_factory.mktemp("contest"), make_task(ENV)
    specs = task.stream_specs()
    tiny = {"latent_dim": 16, "encoder_width": 4, "width": 32, "layers": 1, "heads": 2, "head_width": 32}
    config = model_config(
        "xs", (specs["camera"], specs["proprio"]), specs["action"], 1 / task.control_hz, **tiny
    )
    torch.manual_seed(0)
    WorldModel(config).save_pretrained(folder / "model")
    ClonedPolicy(config, 32).save(folder / "policy")
    search = PlannerConfig(candidates=8, iterations=1, horizon=2, elites=2)
    return Contest(
        env=ENV, model=folder / "model", cloned=folder / "policy", budget=BUDGET, planner=search, seed=3
    )


def test_everybody_plays_every_trial_once_and_what_is_done_is_kept(contest: Contest, tmp_path: Path) -> None:
    trials = sampled_trials(make_task(ENV), count=TRIALS, seed=0)
    seen: dict[str, int] = {}
    tallies = hold(contest, trials, tmp_path, progress=lambda name, done, _: seen.update({name: done}))
    assert [t.name for t in tallies] == ["planner", "policy alone", "cloned policy", "random moves"]
    assert seen == dict.fromkeys(seen, TRIALS)
    assert all(t.n == TRIALS for t in tallies)
    films = read_films(tmp_path)
    assert [len(f.frames) for f in films] == [BUDGET + 1] * len(films)
    (tmp_path / "cloned-policy-00.json").unlink()
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    again = hold(contest, trials, tmp_path, processes=1)
    assert {p.name for p in tmp_path.iterdir() if p.stat().st_mtime_ns != before.get(p.name)} == {
        "cloned-policy-00.json"
    }
    for ours, theirs in zip(again, tallies, strict=True):
        np.testing.assert_array_equal(ours.steps, theirs.steps)
        np.testing.assert_array_equal(ours.moderate, theirs.moderate)


def test_another_planner_or_model_plays_its_trials_anew(contest: Contest, tmp_path: Path) -> None:
    trials = sampled_trials(make_task(ENV), count=TRIALS, seed=0)
    other = tmp_path / "model"
    shutil.copytree(contest.model, other)
    assert replace(contest, model=other).key(trials) == contest.key(trials)  # the same weights elsewhere
    WorldModel.from_pretrained(other).apply(shake).save_pretrained(other)
    changed = [
        contest.key(trials[:-1]),
        replace(contest, planner=replace(contest.planner, iterations=2)).key(trials),
        replace(contest, model=other).key(trials),
    ]
    assert len({contest.key(trials), *changed}) == 4
    hold(contest, trials, tmp_path / "trials", processes=1)
    before = {p.name: p.read_text() for p in (tmp_path / "trials").glob("*.json")}
    hold(replace(contest, model=other), trials, tmp_path / "trials", processes=1)
    after = {p.name: p.read_text() for p in (tmp_path / "trials").glob("*.json")}
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in before)


def test_a_result_says_which_kind_of_model_it_is_of_and_what_counted_as_reached(contest: Contest) -> None:
    settings = asked_for(DemoPlan(env=ENV), contest.model.parent)
    config = json.loads((contest.model / "config.json").read_text())
    assert settings["model"] == {"format": config["format"], "size": config["model"]["size"]}
    assert settings["thresholds"] == make_task(ENV).thresholds


def shake(module: torch.nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.data.add_(0.1)


def test_a_folder_is_refused_to_another_plan(tmp_path: Path) -> None:
    plan = {"episodes": 300, "recipe": {"window": 6, "seed": 0}, "trials": 200}
    settle(tmp_path / "a", "plan.json", plan, free=["trials"])
    settle(tmp_path / "a", "plan.json", plan | {"trials": 20}, free=["trials"])  # shapes nothing that is kept
    with pytest.raises(ConfigError, match=r"recipe\.window was 6, is 8\. .*--out, or delete"):
        settle(tmp_path / "a", "plan.json", plan | {"recipe": {"window": 8, "seed": 0}}, free=["trials"])
    assert json.loads((tmp_path / "a" / "plan.json").read_text()) == plan | {"trials": 20}
    (tmp_path / "b" / "model").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"no plan\.json"):  # who knows how it was trained
        settle(tmp_path / "b", "plan.json", plan)


def test_films_that_cannot_be_read_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "films.npz").write_bytes(b"cut short")
    with pytest.raises(DataError, match="run the same command again"):
        read_films(tmp_path)


def test_a_helper_that_dies_is_explained() -> None:
    with pytest.raises(Error, match="what was finished is kept"), helpers(1) as pool:
        pool.submit(os._exit, 1).result()


def break_off() -> None:
    with helpers(1) as pool:
        pool.submit(int).result()
        pool.submit(time.sleep, 60)
        raise KeyboardInterrupt


def test_helpers_stop_at_once_when_the_work_is_broken_off() -> None:
    began = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert time.perf_counter() - began < 30


def test_a_quick_demo_does_every_part_with_less(contest: Contest) -> None:
    plan, quick = DemoPlan(), DemoPlan().quick()
    assert quick.episodes < plan.episodes
    assert quick.recipe.dynamics.steps < plan.recipe.dynamics.steps
    assert plan.trials >= 200


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_the_quick_demo_ends_with_a_report_and_can_be_called_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(["demo", "--quick", "--out", str(tmp_path / "demo")]) == 0
        assert f"Open {tmp_path / 'demo' / 'report.html'}" in " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "goals it had never seen" in page
    assert len(list((tmp_path / "demo" / "results").glob("*.json"))) == 1  # the second call measured nothing
    assert main(["demo", "--quick", "--seed", "1", "--out", str(tmp_path / "demo")]) == 2
