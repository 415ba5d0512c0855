"""The one command: its verbs, its manners, and a surface that grows on purpose only."""

from __future__ import annotations

import dataclasses
import importlib
import shlex
import subprocess
import sys
import time
import typing
from pathlib import Path

import pytest

import forerun
from forerun.cli import main as command
from forerun.cli.main import VERBS, main, parse
from forerun.types import ConfigError

SURFACE = {
    "data inspect": 4,
    "data doctor": 4,
    "data convert": 8,
    "data record": 9,
    "train": 13,
    "imagine": 9,
    "control": 14,
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
