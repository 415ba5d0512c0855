"""train, imagine and control as a person runs them: from recordings to figures, and all that can go wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from forerun.cli import control as controlling
from forerun.cli import train as training
from forerun.cli.main import main
from forerun.data import open_recordings, write_lerobot
from forerun.evaluation import tally
from forerun.evaluation.results import read_results
from moving_dot import episode

ENV = "forerun/TwoRoom-v0"
EPISODES, STEPS = 8, 30
TINY = ("--budget", "0.003")
pytestmark = [  # said by stages.py
    pytest.mark.filterwarnings("ignore:The given NumPy array is not writable"),
    pytest.mark.filterwarnings("ignore:std.*degrees of freedom"),
]

Said = Callable[..., tuple[int, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Run forerun with these words; the exit code, and all it said on one line."""

    def run(*words: object) -> tuple[int, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, " ".join(f"{captured.out} {captured.err}".split())

    return run


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Play in the two rooms; the last half second of each episode is another's, so that none are alike."""
    path = tmp_path_factory.mktemp("recorded") / "rooms"
    words = ("--episodes", EPISODES, "--max-steps", STEPS, "--past-the-end", "--policy", "noisy")
    assert main(["data", "record", ENV, str(path), *map(str, words)]) == 0
    return path


@pytest.fixture(scope="module")
def run(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; its model has seen next to nothing."""
    path = tmp_path_factory.mktemp("runs") / "rooms"
    words = ("train", recordings, "--out", path, *TINY, "--holdout", "0.4")
    assert main([str(word) for word in words]) == 0
    return path


def stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def filmed(run: Path) -> list[tuple[str, int]]:
    """The stages that change what is drawn, and where they end."""
    recipe = json.loads((run / "run.json").read_text())["recipe"]
    return [(stage, recipe[stage]["steps"]) for stage in ("dynamics", "representation")]


def test_a_run_holds_the_model_its_films_and_its_errors(run: Path) -> None:
    held_out = json.loads((run / "run.json").read_text())["held_out_episodes"]
    errors = json.loads((run / "prediction.json").read_text())
    assert (run / "model" / "config.json").is_file()
    assert [f.name for f in sorted((run / "videos").iterdir())] == [
        f"{s}-{n:06d}.mp4" for s, n in filmed(run)
    ]
    assert errors["episodes"] == held_out
    page, plans = (run / "report.html").read_text(), json.loads((run / "planning.json").read_text())
    for heading in (
        "What was recorded",
        "What was learned",
        "Real and imagined",
        "Planning, beside what was done",
    ):
        assert heading in page
    assert {"planner", "policy alone", "mean action", "previous action"} < set(plans["error_in_spreads"])
    assert plans["episodes"] == len(held_out)
    assert not list(run.rglob("*partial*"))


def test_data_alone_is_enough_and_a_run_stopped_at_its_report_continues(
    said: Said, recordings: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "runs" / recordings.name
    shutil.copytree(run, copy)
    monkeypatch.chdir(tmp_path)
    for file in ("prediction.json", "report.html"):
        (copy / file).unlink()  # and films of a page that is not there are left
    words = ("train", "--data", recordings, *TINY, "--holdout", "0.4")
    with monkeypatch.context() as patch:
        patch.setattr(training, "write_page", stop)
        assert said(*words)[0] == 130
    assert not (copy / "report.html").exists()
    code, text = said(*words)
    assert code == 0
    assert f"report runs/{recordings.name}/report.html" in text
    assert "open the report" in text
    assert (copy / "report.html").is_file()


def test_a_finished_run_says_if_the_recordings_are_others(said: Said, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    write_lerobot(tmp_path / "dots", (episode(i) for i in range(2)), fps=10)
    words = ("--data", tmp_path / "dots", "--out", tmp_path / "run", *TINY, "--holdout", "0.4")
    code, text = said("train", *words)
    assert code == 2
    assert "trained on other recordings" in text


def test_a_finished_run_says_so_and_changes_nothing(said: Said, recordings: Path, run: Path) -> None:
    before = everything(run)
    code, text = said("train", "--data", recordings, "--out", run, *TINY, "--holdout", "0.4")
    assert code == 0
    assert "finished" in text
    assert "changed pixels" in text
    assert f"forerun imagine {run}" in text
    assert everything(run) == before


def test_a_run_with_other_settings_is_left_alone(said: Said, recordings: Path, run: Path) -> None:
    code, text = said("train", "--data", recordings, "--out", run, *TINY, "--holdout", "0.4", "--seed", 5)
    assert code == 2
    assert "--seed was 0, is 5" in text


def test_a_run_stopped_while_filming_ends_as_if_it_had_not_been(
    said: Said, recordings: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", "--data", recordings, "--out", tmp_path / "run", *TINY, "--holdout", "0.4")
    with monkeypatch.context() as patch:
        patch.setattr(training, "write_clip_film", stop)
        assert said(*words)[0] == 130
    assert not (tmp_path / "run" / "model").exists()
    code, text = said("control", "--model", tmp_path / "run", "--env", ENV)
    assert code == 2
    assert "training was stopped before the end" in text
    assert said(*words)[0] == 0
    ours, theirs = weights(tmp_path / "run"), weights(run)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_minutes_become_steps_that_a_resumed_run_repeats(
    said: Said, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"representation": 2, "dynamics": 3, "goals": 4, "practice": 5}
    timed = []

    def timing(*_: object) -> dict[str, int]:
        timed.append(1)
        return counts

    monkeypatch.setattr(training, "steps_for", timing)
    out = tmp_path / "run"
    for _ in range(2):
        assert said("train", "--data", recordings, "--out", out, "--minutes", 5, "--holdout", "0.4")[0] == 0
        shutil.rmtree(out / "model", ignore_errors=True)
    assert len(timed) == 1
    recipe = json.loads((out / "run.json").read_text())["recipe"]
    assert {stage: recipe[stage]["steps"] for stage in counts} == counts


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a place where nobody may write")
@pytest.mark.parametrize("verb", ["train", "imagine", "control", "reach"])
def test_a_place_that_cannot_be_written_is_explained(
    said: Said, recordings: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    for trying in ("compare", "approach"):
        monkeypatch.setattr(controlling, trying, lambda *_, **__: pytest.fail("trials were run first"))
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "goal.png")
    plan = ("control", "--model", run, "--env", ENV, "--method", "policy", "--budget-steps", 1)
    words = {
        "train": ("train", "--data", recordings),
        "imagine": ("imagine", run, "--seconds", 0.3),
        "control": (*plan, "--trials", 1, "--offset", 5, "--floors", "random"),
        "reach": (*plan, "--goal", tmp_path / "goal.png", "--floors", "random"),
    }
    code, text = said(*words[verb], "--out", "/proc/forerun")
    assert code == 2
    assert "/proc/forerun" in text


def test_a_folder_of_something_else_is_not_touched(said: Said, recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    before = everything(tmp_path)
    code, text = said("train", "--data", recordings, "--out", tmp_path, *TINY)
    assert code == 2
    assert "thesis.txt" in text
    assert everything(tmp_path) == before
    assert "inside the recordings" in said("train", "--data", recordings, "--out", recordings / "run")[1]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--data", "nowhere"), "nothing at the given path"),
        (("--streams", "camera", "cam"), "no stream 'cam'"),
        (("--tick", "2"), "shorter --tick"),
        (("--cache-gb", "0.000001"), "larger --cache-gb"),
    ],
)
def test_a_wrong_setting_is_explained_and_may_be_mended_in_the_same_folder(
    said: Said, recordings: Path, tmp_path: Path, words: tuple[str, ...], reason: str
) -> None:
    out = tmp_path / "run"
    code, text = said("train", "--data", recordings, "--out", out, *TINY, *words)
    assert code == 2
    assert reason in text
    code, text = said("train", "--data", "nowhere", "--out", out)
    assert "nothing at the given path" in text


def test_recordings_without_actions_train_too_and_cannot_be_planned_with(said: Said, tmp_path: Path) -> None:
    write_lerobot(tmp_path / "dots", (episode(i, action=False) for i in range(4)), fps=10)
    words = ("--image-size", 32, *TINY, "--holdout", 0.3)
    code, text = said("train", "--data", tmp_path / "dots", "--out", tmp_path / "run", *words)
    assert code == 0
    assert "actions of another clip" not in text
    assert (
        "hold no actions, so the model can imagine but not plan" in (tmp_path / "run/report.html").read_text()
    )
    code, text = said("control", "--model", tmp_path / "run", "--env", ENV)
    assert code == 2
    assert said("imagine", tmp_path / "run", "--seconds", 0.5)[0] == 0


def test_a_page_of_imagination_shows_films_and_figures(said: Said, run: Path, tmp_path: Path) -> None:
    code, text = said("imagine", run, "--seconds", 1, "--clips", 2, "--out", tmp_path / "page")
    assert code == 0
    assert f"Open {tmp_path / 'page' / 'index.html'}" in text
    assert "held-out episodes" in text
    page = (tmp_path / "page" / "index.html").read_text()
    assert "copy of the last picture" in page
    assert len(list((tmp_path / "page").glob("*.mp4"))) == 2
    code, text = said("imagine", run, "--seconds", 1, "--out", tmp_path / "page")
    assert code == 2
    assert "exists already" in text


def test_a_horizon_beyond_the_recordings_is_cut_and_said(said: Said, run: Path, tmp_path: Path) -> None:
    code, text = said("imagine", run, "--seconds", 60, "--clips", 1, "--out", tmp_path / "page")
    assert code == 0
    assert "no episode is long enough for 60 s" in text


def test_episodes_that_were_trained_on_are_named_as_such(said: Said, run: Path, tmp_path: Path) -> None:
    known = json.loads((run / "run.json").read_text())["train_episodes"][0]
    code, text = said("imagine", run, "--seconds", 0.5, "--episode", known, "--out", tmp_path / "page")
    assert code == 0
    assert "1 of them trained on" in text


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--episode", "99"), "no episode 99"),
        (("--camera", "wrist"), "--camera wrist is none of this model's: camera"),
        (("--context", "500"), "shorter --context"),
    ],
)
def test_what_cannot_be_imagined_is_explained(
    said: Said, run: Path, tmp_path: Path, words: tuple[str, ...], reason: str
) -> None:
    code, text = said("imagine", run, "--out", tmp_path / "page", *words)
    assert code == 2
    assert reason in text
    assert not (tmp_path / "page").exists()


def test_recordings_of_another_robot_are_refused(said: Said, run: Path, tmp_path: Path) -> None:
    write_lerobot(tmp_path / "dots", (episode(i) for i in range(2)), fps=10)
    code, text = said("imagine", run, "--data", tmp_path / "dots", "--out", tmp_path / "page")
    assert code == 2
    assert "no stream 'proprio'" in text


def test_recordings_in_another_unit_are_refused(
    said: Said, run: Path, recordings: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "rooms"
    shutil.copytree(recordings, copy)
    info = copy / "meta" / "info.json"
    unit = open_recordings(copy).specs["proprio"].unit
    info.write_text(info.read_text().replace(json.dumps(unit), json.dumps("inch")))
    code, text = said("imagine", run, "--data", copy, "--out", tmp_path / "page")
    assert code == 2
    assert "[inch]" in text


def test_a_folder_without_a_model_is_refused(said: Said, tmp_path: Path) -> None:
    code, text = said("imagine", tmp_path)
    assert code == 2
    assert "no forerun checkpoint here" in text


def test_the_planner_acts_in_a_trial_beside_chance(
    said: Said, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "TIMED", 3)
    words = ("--trials", 2, "--offset", 5, "--budget-steps", 2, "--floors", "random", "--out", tmp_path)
    code, text = said("control", "--model", run, "--env", ENV, *words)
    assert code == 0
    assert "planner (iCEM)" in text


def test_everybody_attempts_the_same_trials_at_every_distance(said: Said, run: Path, tmp_path: Path) -> None:
    words = ("--trials", 4, "--offset", 5, 8, "--budget-steps", 6, "--out", tmp_path, "--method", "policy")
    code, text = said("control", "--model", run, "--env", ENV, *words)
    assert code == 0
    assert (run / "cloning" / "policy").is_dir()
    results = read_results(tmp_path)
    assert [r.settings["offset"] for r in results] == [5, 8]
    for result in results:
        assert list(result.metrics) == ["goal policy", "random", "cloned (BC)"]
        for figures in result.metrics.values():
            assert figures["n"] == 4
            assert set(figures["moderate"]) == {"estimate", "low", "high"}
            assert figures["strict"]["estimate"] <= figures["moderate"]["estimate"]
            assert figures["ms_per_decision"] > 0
    assert len(list(tmp_path.glob("*.mp4"))) == 2
    assert "held-out episodes" in text
    assert "10 Hz" in text


def test_a_model_of_some_streams_starts_from_simulator_states_all_the_same(
    said: Said, recordings: Path, tmp_path: Path
) -> None:
    words = ("--streams", "camera", "proprio", "action", "--holdout", 0.4, *TINY)
    assert said("train", "--data", recordings, "--out", tmp_path / "run", *words)[0] == 0
    words = ("--method", "policy", "--floors", "random", "--trials", 1, "--offset", 5, "--budget-steps", 1)
    for more in ((), ("--data", recordings)):
        code, text = said("control", "--model", tmp_path / "run", "--env", ENV, *words, *more)
        assert code == 0
        assert "held-out episodes" in text


def test_goals_may_be_drawn_by_the_task(said: Said, run: Path, tmp_path: Path) -> None:
    drawn = ("--starts", "sampled", "--floors", "random", "--trials", 2)
    words = (*drawn, "--budget-steps", 3, "--out", tmp_path)
    code, text = said("control", "--model", run / "model", "--env", ENV, "--method", "policy", *words)
    assert code == 0
    assert "drawn by the task" in text


def test_everybody_approaches_a_picture_from_the_same_starts_and_nobody_is_said_to_reach_it(
    said: Said, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "TIMED", 3)
    picture = np.random.default_rng(0).integers(0, 255, (100, 50, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "goal.png")
    words = ("--goal", tmp_path / "goal.png", "--trials", 3, "--budget-steps", 2, "--out", tmp_path / "out")
    code, text = said("control", "--model", run, "--env", ENV, *words)
    assert code == 0
    assert "50 x 100: resized to 64 x 64, which squashes it" in text
    assert "Success cannot be counted" in text
    assert "10 Hz" in text
    (result,) = read_results(tmp_path / "out")
    assert list(result.metrics) == ["planner (iCEM)", "goal policy", "random", "cloned (BC)"]
    starts = [figures["distance_at_start"] for figures in result.metrics.values()]
    assert starts == [starts[0]] * 4
    for figures in result.metrics.values():
        assert figures["n"] == result.n == 3
        assert figures["pixel_error_left"]["low"] <= figures["pixel_error_left"]["high"]
        assert figures["ms_per_decision"] > 0
    assert result.settings["goal"] == "goal.png"
    assert result.settings["replan"] == {"steps": 1, "hz": 10.0}
    assert "moderate" not in json.dumps(result.metrics)
    assert len(list((tmp_path / "out").glob("*.mp4"))) == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--goal", "goal.png", "--offset", "25"), "--offset has no effect with --goal"),
        (("--goal", "goal.png", "--starts", "sampled"), "--starts has no effect with --goal"),
        (("--starts", "sampled", "--offset", "25"), "--offset has no effect with --starts sampled"),
        (("--floors", "random", "--starts", "sampled", "--data", "here"), "--data has no effect"),
        (("--floors", "random", "--goal", "goal.png", "--data", "here"), "--data has no effect"),
        (("--floors", "random", "--bc", "somewhere"), "--floors leaves it out"),
        (("--budget-steps", "0"), "each must be at least 1"),
    ],
)
def test_a_setting_without_effect_is_refused(
    said: Said, run: Path, tmp_path: Path, words: tuple[str, ...], reason: str
) -> None:
    try:
        code, text = said("control", "--model", run, "--env", ENV, "--out", tmp_path / "out", *words)
    except SystemExit as stop:
        pytest.skip(str(stop))
    assert code == 2
    assert reason in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--env", "forerun/Nowhere-v0"), "is unknown"),
        (("--env", "TwoRoom-v0"), "did you mean forerun/TwoRoom-v0?"),
        (("--env", "nosuchmodule:Foo-v0"), "cannot be made (No module named 'nosuchmodule'"),
        (("--env", "a:b:c"), "cannot be made (too many values"),
        (("--env", "CartPole-v1"), "cannot be put into a chosen state"),
        (("--env", "forerun/Reach-v0"), "'proprio' of 'forerun/Reach-v0' arrives with shape"),
        (("--env", ENV, "--offset", "1000"), "only 0 unsolved starts"),
        (("--env", ENV, "--goal", "nowhere.png"), "the goal picture is not there"),
        (("--env", ENV, "--goal", __file__), "cannot be read as a picture"),
        (("--env", ENV, "--bc", "nowhere"), "no forerun checkpoint here"),
        (("--env", ENV, "--data", "nowhere"), "nothing at the given path"),
    ],
)
def test_what_cannot_be_tried_is_explained(
    said: Said, run: Path, tmp_path: Path, words: tuple[str, ...], reason: str
) -> None:
    code, text = said("control", "--model", run, "--out", tmp_path / "out", *words)
    assert code == 2
    assert reason in text
    assert not (tmp_path / "out").exists()
