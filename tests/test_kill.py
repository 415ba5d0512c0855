"""The real command, the real model, and kill -9 in the middle of two of its stages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from forerun.data import write_lerobot
from forerun.teach import STAGES
from moving_dot import SIDE, episode

EPISODES, BUDGET = 8, 0.04
TIMING = ("steps_per_s", "data_wait")
OFTEN = "from forerun.training import trainer; trainer.SAVE_S = 0.05"
"""A run of seconds never reaches the checkpoint that is saved every half minute."""
COMMAND = "import sys; from forerun.cli.main import main; sys.exit(main(sys.argv[1:]))"


def forerun(*words: object, before: str = "") -> subprocess.Popen[bytes]:
    """The command in a process of its own."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    code = f"{before}\n{COMMAND}"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def kill_within(stage: Path, process: subprocess.Popen[bytes]) -> None:
    """SIGKILL as soon as the stage has saved its first checkpoint."""
    deadline = time.monotonic() + 300
    while not (stage / "checkpoint").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def curve(stage: Path) -> list[dict[str, float]]:
    """Every logged number that must not depend on interruptions."""
    lines = (stage / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMING} for line in lines]


@pytest.mark.slow
def test_a_run_killed_twice_ends_with_the_very_weights_of_one_that_was_not(tmp_path: Path) -> None:
    write_lerobot(tmp_path / "dots", (episode(i) for i in range(EPISODES)), fps=10)
    words = ("train", "--data", tmp_path / "dots", "--image-size", SIDE, "--budget", BUDGET, "--holdout", 0.3)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for stage in ("dynamics", "practice"):
        kill_within(killed / stage, forerun(*words, "--out", killed, before=OFTEN))
        about = json.loads((killed / stage / "checkpoint" / "config.json").read_text())
        assert 0 < about["step"] < about["identity"]["train"]["steps"]
        assert not (killed / "model").exists()
    for out in (killed, whole):
        process = forerun(*words, "--out", out)
        _, said = process.communicate()
        assert process.returncode == 0, said
    for stage in STAGES:
        assert curve(killed / stage) == curve(whole / stage), stage
    ours, theirs = (load_file(out / "model" / "model.safetensors") for out in (killed, whole))
    assert ours.keys() == theirs.keys()
    assert all(value.equal(theirs[name]) for name, value in ours.items())
