"""The one command: its verbs, its manners, and a surface that grows on purpose only."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shlex
import subprocess
import sys
import time
import typing
from pathlib import Path
from typing import Any

import pytest
import torch

import forerun
from forerun.cli import budget
from forerun.cli import main as command
from forerun.cli.main import VERBS, main, parse
from forerun.data import write_lerobot
from forerun.evaluation.errors import LATENTS, NEAREST
from forerun.practice import PracticeConfig
from forerun.teach import Recipe
from forerun.training.trainer import TrainConfig
from forerun.types import ConfigError
from moving_dot import episode, table

SURFACE = {
    "data inspect": 4,
    "data doctor": 4,
    "data convert": 9,
    "data record": 9,
    "train": 13,
    "imagine": 9,
    "control": 14,
    "serve": 19,
    "bench": 9,
    "demo": 3,
}
"""Options of every verb. Another one is a promise to keep: change the number knowingly."""


def commands() -> dict[str, type]:
    """Every command by the words that call it."""
    found: dict[str, type] = {}
    for name, verb in VERBS.items():
        kind = getattr(importlib.import_module(verb.module), verb.command)
        if isinstance(kind, type):
            found[name] = kind
            continue
        for part in typing.get_args(kind):
            inner, about = typing.get_args(part)
            found[f"{name} {about.name}"] = inner
    return found


def test_options_are_added_knowingly() -> None:
    assert {words: len(dataclasses.fields(kind)) for words, kind in commands().items()} == SURFACE


@pytest.mark.parametrize("words", SURFACE)
def test_every_command_is_explained_with_an_example_that_parses(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        parse([*words.split(), "--help"])
    assert stop.value.code == 0
    assert words in capsys.readouterr().out
    kind = commands()[words]
    assert kind.__doc__
    example = kind.__doc__.split("Example: forerun ")[1]
    assert isinstance(parse(shlex.split(example)), kind)


@pytest.mark.parametrize("words", SURFACE)
def test_no_help_shows_the_seams_of_the_source(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse([*words.split(), "--help"])
    printed = capsys.readouterr().out.translate({ord(c): " " for c in "│|"})
    assert '" "' not in " ".join(printed.split())


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--budget 0", "--budget is 0"),
        ("--budget nan", "--budget is nan"),
        ("--budget inf", "--budget is inf"),
        ("--minutes -1", "--minutes is -1"),
        ("--minutes inf", "--minutes is inf"),
        ("--minutes 1 --budget 2", "give one of them"),
        ("--cache-gb nan", "--cache-gb is nan"),
        ("--image-size 65", "multiple of 16"),
        ("--image-size 16", "from 32"),
        ("--holdout 2", "below 1"),
        ("--tick 0", "above 0"),
        ("--tick 100", "at most 10 seconds"),
        ("--tick nan", "--tick is nan"),
        ("--seed -1", "--seed is -1"),
    ],
)
def test_training_that_cannot_be_is_refused_before_anything_is_decoded(
    words: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "--data", "nowhere", "--out", "unused", *words.split()])
    assert stop.value.code == 2
    printed = capsys.readouterr()
    said = f"{printed.out} {printed.err}".translate({ord(c): " " for c in "│|"})
    assert reason in " ".join(said.split())
    assert not Path("unused").exists()


def test_trials_without_a_valid_seed_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["control", "--model", "nowhere", "--env", "forerun/Push-v0", "--seed", "-1"])
    assert stop.value.code == 2
    assert "--seed is -1" in "".join(capsys.readouterr())


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_minutes_are_timed_as_the_recipe_will_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, seen = table(tmp_path, *(episode(i, ticks=40) for i in range(4))), {}
    recipe = Recipe(seed=3, practising=PracticeConfig(horizon=2, ahead=5))

    def timed(learner: Any, config: TrainConfig, scratch: Path) -> float:
        seen[learner.name] = learner, config, torch.get_num_threads()
        return 0.01

    monkeypatch.setattr(budget, "_seconds_per_step", timed)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        steps = budget.steps_for(cache, recipe, minutes=1.0)
    finally:
        torch.set_num_threads(before)
    assert {name: threads for name, (_, _, threads) in seen.items()} == {
        "representation": 2, "dynamics": 1, "goals": 1, "practice": 1,
    }  # fmt: skip
    assert seen["practice"][0].config == recipe.practising
    assert {config.seed for _, config, _ in seen.values()} == {3}
    assert steps["goals"] / steps["practice"] == pytest.approx(5, rel=0.01)


@pytest.mark.parametrize("words", SURFACE)
def test_commands_cannot_be_changed_after_parsing(words: str) -> None:
    parameters = commands()[words].__dataclass_params__  # type: ignore[attr-defined]
    assert parameters.frozen


def test_help_lists_every_verb_without_loading_any(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["help"]):
        assert main(words) == 0
        printed = capsys.readouterr().out
        assert all(f"  {name} " in printed for name in VERBS)


def test_help_appears_at_once() -> None:
    code = "import sys; from forerun.cli.main import main; main(['--help']); print(*sys.modules)"
    began = time.perf_counter()
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert time.perf_counter() - began < 3  # 0.2 s on a quiet machine
    assert not {"torch", "tyro", "rich", "gymnasium"} & set(printed.split())


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"forerun {forerun.__version__}\n"


def test_a_mistyped_verb_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian", "--data", "x"]) == 2
    assert "Did you mean 'forerun train'?" in " ".join(capsys.readouterr().err.split())


def test_a_mistyped_option_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["data", "inspect", "x", "--shet", "y.png"])
    assert stop.value.code == 2
    printed = "".join(capsys.readouterr())
    assert "--shet" in printed
    assert "--sheet" in printed


def test_an_error_is_one_paragraph_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "inspect", str(tmp_path / "nothing here")]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("forerun: ")
    assert "Traceback" not in printed.err
    assert "\n\n" not in printed.err
    assert "nothing here" in " ".join(printed.err.split())
    assert printed.out == ""


def test_a_traceback_is_shown_to_those_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(command.TRACEBACK, "1")
    with pytest.raises(ConfigError, match="no verb"):
        main(["nonsense"])


def test_interrupting_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "parse", lambda words: interrupted)
    assert main(["train"]) == 130
    assert "same command again resumes" in " ".join(capsys.readouterr().err.split())


def test_a_bug_is_not_dressed_up_as_a_mistake_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(command, "parse", lambda words: broken)
    with pytest.raises(ZeroDivisionError):
        main(["train"])


def test_the_exit_code_of_the_process_is_the_commands() -> None:
    for words, code in ((["--version"], 0), (["nonsense"], 2), (["data", "inspect", "/nowhere"], 2)):
        done = subprocess.run([sys.executable, "-m", "forerun.cli.main", *words], capture_output=True)
        assert done.returncode == code


def test_a_reader_that_leaves_early_is_no_error() -> None:
    line = f"{sys.executable} -m forerun.cli.main --help | head -n 1"
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert done.stderr == ""


def test_the_console_script_is_this_command(root: Path) -> None:
    assert 'forerun = "forerun.cli.main:main"' in (root / "pyproject.toml").read_text()


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_of_recordings_that_grew_only_new_and_held_out_episodes_are_imagined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, count in (("before", 5), ("after", 6)):
        write_lerobot(tmp_path / name, (episode(i) for i in range(count)), fps=10)
    run, page = str(tmp_path / "run"), tmp_path / "page"
    words = ["--image-size", "32", "--budget", "0.003", "--holdout", "0.3"]
    assert main(["train", "--data", str(tmp_path / "before"), "--out", run, *words]) == 0
    about = json.loads(Path(run, "run.json").read_text())
    grown = ["imagine", run, "--data", str(tmp_path / "after"), "--seconds", "0.5", "--out"]
    capsys.readouterr()
    assert main([*grown, str(page)]) == 0
    left_out = f"{len(about['train_episodes'])} others left out"
    assert left_out in " ".join(capsys.readouterr().out.split())
    found = json.loads((page / "prediction.json").read_text())
    assert found["episodes"] == [*about["held_out_episodes"], 5]
    assert NEAREST in found["quantities"][LATENTS]["squared"]  # of those that are left out
    known = str(about["train_episodes"][0])
    assert main([*grown, str(tmp_path / "chosen"), "--episode", known]) == 0
    assert "1 of them trained on" in " ".join(capsys.readouterr().out.split())
