"""Every example runs, in its quick mode, in the order a reader meets them."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the examples share: later ones use what the first one recorded and trained."""
    return tmp_path_factory.mktemp("examples")


WORDS = {
    "01_push": ["--out", "runs/push"],
    "02_own_recordings": ["runs/push/recordings", "--out", "runs/mine"],
    "03_own_planner": ["runs/push/run/model"],
    "04_two_clocks": [],
    "05_served_policy": [],
}
SAID = {
    "01_push": "random moves",
    "02_own_recordings": "copy-last",
    "03_own_planner": "ticks to go",
    "04_two_clocks": "[0. 2.] N",
    "05_served_policy": "10 ticks at",
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_runs(
    example: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(sys, "argv", [str(example), *WORDS[example.stem], "--quick"])
    runpy.run_path(str(example), run_name="__main__")
    assert SAID[example.stem] in capsys.readouterr().out


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_says_how_to_run_it(example: Path) -> None:
    assert f"python examples/{example.name}" in example.read_text()
