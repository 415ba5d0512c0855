"""Every mistake through the front door: exit code 2, one paragraph that tells what to do, nothing touched."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from forerun.cli.main import main
from forerun.data import write_lerobot, write_video
from moving_dot import episode
from sample_recordings import FPS, clip
from test_readers_bad_input import CASES
from tiny_worlds import world

FRAME = str.maketrans(dict.fromkeys("╭╮╰╯│─", " "))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says; it must end with 2, in one paragraph, and leave the folder as it was."""
    before = contents(folder)
    capsys.readouterr()
    try:
        code = main(words)
    except SystemExit as ended:  # a value that an option does not take
        code = ended.code
    said = " ".join(capsys.readouterr().err.translate(FRAME).split())
    assert code == 2
    assert said.startswith("forerun: ") or "For full helptext" in said
    assert "Traceback" not in said
    assert contents(folder) == before
    return said


@pytest.mark.parametrize("case", CASES)
def test_recordings_that_cannot_be_read_are_refused_and_no_run_begins(
    tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, *_ = CASES[case]
    (tmp_path / "bad").mkdir()
    make(tmp_path / "bad")
    words = ["train", "--data", str(tmp_path / "bad"), "--out", str(tmp_path / "run"), "--budget", "0.001"]
    refused(words, tmp_path, capsys)
    assert not (tmp_path / "run").exists()


def dots(root: Path) -> None:
    write_lerobot(root / "dots", (episode(i) for i in range(4)), fps=10)


def truncated_film(root: Path) -> None:
    (root / "films").mkdir()
    write_video(root / "films" / "a.mp4", clip(12), FPS)
    whole = (root / "films" / "a.mp4").read_bytes()
    (root / "films" / "a.mp4").write_bytes(whole[: len(whole) // 2])


def empty_film(root: Path) -> None:
    (root / "films").mkdir()
    (root / "films" / "a.mp4").touch()


def without(pattern: str) -> Callable[[Path], None]:
    """A LeRobot folder that lost some files."""

    def make(root: Path) -> None:
        dots(root)
        for lost in sorted((root / "dots").glob(pattern)):
            lost.unlink()

    return make


def model(root: Path) -> None:
    world().save_pretrained(root / "model")


def corrupt_model(root: Path) -> None:
    model(root)
    weights = root / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])


def foreign_model(root: Path) -> None:
    model(root)
    (root / "model" / "config.json").write_text(json.dumps({"architectures": ["GPT2"]}))


def torn(path: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        dots(root)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text('{"half": ')

    return make


def someone_elses(root: Path) -> None:
    dots(root)
    (root / "run").mkdir()
    (root / "run" / "thesis.txt").write_text("years of work")


COMMANDS = {  # what is on the disk, what is asked for, what the answer tells
    "film cut short": (truncated_film, "train --data films --out run", "films"),
    "film empty": (empty_film, "train --data films --out run", "films"),
    "table lost": (
        without("data/**/*.parquet"),
        "train --data dots --out run",
        "parquet is missing",
    ),
    "film lost": (without("videos/**/*.mp4"), "train --data dots --out run", "mp4"),
    "info lost": (without("meta/info.json"), "data inspect dots", "info.json"),
    "info lost, train": (
        without("meta/info.json"),
        "train --data dots --out run",
        "info.json is missing",
    ),
    "no such verb": (dots, "trian --data dots", "Did you mean 'forerun train'"),
    "seed below zero, train": (dots, "train --data dots --seed -1", "--seed is -1"),
    "seed below zero, demo": (dots, "demo --out demo --seed -1", "--seed is -1"),
    "seed below zero, record": (dots, "data record forerun/TwoRoom-v0 new --seed -1", "seed"),
    "stream unknown": (dots, "train --data dots --out run --streams cam", "cam"),
    "size of pictures": (dots, "train --data dots --out run --image-size 20", "multiple of 16"),
    "all held out": (dots, "train --data dots --out run --holdout 1.5", "--holdout is 1.5"),
    "run inside its recordings": (dots, "train --data dots --out dots/run", "recordings"),
    "folder of another": (someone_elses, "train --data dots --out run", "run"),
    "settings torn": (torn("run/settings.json"), "imagine run", "run"),
    "plan torn": (torn("demo/demo.json"), "demo --quick --out demo", "demo.json cannot be read"),
    "model corrupt": (
        corrupt_model,
        "control --model model --env forerun/TwoRoom-v0",
        "is corrupt",
    ),
    "model foreign": (foreign_model, "control --model model --env forerun/TwoRoom-v0", "format"),
    "model absent": (dots, "control --model nowhere --env forerun/TwoRoom-v0", "nowhere"),
    "task unknown": (model, "control --model model --env forerun/TooRoom-v0", "forerun/TwoRoom-v0"),
    "task of another shape": (
        model,
        "control --model model --env forerun/PushT-v0",
        "was trained on",
    ),
    "record over recordings": (dots, "data record forerun/TwoRoom-v0 dots --episodes 1", "dots"),
    "convert over recordings": (dots, "data convert dots dots", "dots"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_a_mistake_is_explained_and_costs_nothing(
    tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make, line, told = COMMANDS[case]
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    assert told in refused(shlex.split(line), tmp_path, capsys)


@pytest.mark.parametrize("line", ["train --bogus 3", "train --data x --size q", "demo --seed many"])
def test_an_option_that_cannot_be_understood_ends_with_two(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(line))
    assert ended.value.code == 2
    assert "--help" in capsys.readouterr().err
