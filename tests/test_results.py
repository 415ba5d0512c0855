"""What a benchmark writes down, and the tables made of it."""

from __future__ import annotations

import json
import platform
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

import forerun
from forerun.evaluation.results import Result, read_results, write_result
from forerun.evaluation.stats import wilson
from forerun.types import ConfigError, DataError, StorageError


def write(folder: Path, name: str = "push", **more) -> Path:
    content = {"settings": {"budget_s": 60}, "seed": 0, "n": 20} | more
    metrics = content.pop("metrics", {"success": {"planner": wilson(17, 20)}})
    return write_result(name, metrics, **content, folder=folder)


def test_a_result_comes_back_as_it_was_written(tmp_path: Path) -> None:
    metrics = {"ms": np.float32(2.5), "curve": torch.arange(3), "by": {"planner": wilson(1, 2)}, "kept": None}
    write(tmp_path, metrics=metrics, data_hash="abc", command="forerun demo")
    (result,) = read_results(tmp_path)
    assert result.metrics["ms"] == 2.5
    assert result.metrics["curve"] == [0, 1, 2]
    assert result.metrics["by"]["planner"]["estimate"] == 0.5
    assert result.metrics["kept"] is None
    assert (result.name, result.seed, result.n, result.data_hash) == ("push", 0, 20, "abc")
    assert result.command == "forerun demo"


def test_a_result_says_how_it_came_about(tmp_path: Path, root: Path) -> None:
    write(tmp_path, started=datetime(2026, 1, 31, 12, 0, tzinfo=UTC))
    (result,) = read_results(tmp_path)
    assert result.started == "2026-01-31T12:00:00Z"
    assert result.finished > result.started
    assert result.versions["python"] == platform.python_version()
    assert result.versions["forerun"] == forerun.__version__
    assert result.versions["torch"] == torch.__version__
    assert result.hardware["cores"] >= 1
    assert result.hardware["threads"] == torch.get_num_threads()
    if (root / ".git").exists():
        head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=root, text=True)
        assert result.commit == head.strip()
        assert result.dirty in (True, False)


def test_a_result_names_neither_folder_nor_computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/home/me/bin/forerun", "demo", "--out", "/home/me/out", "--size=xs"])
    monkeypatch.setattr(platform, "node", lambda: "the-secret-computer")
    monkeypatch.setattr(socket, "gethostname", lambda: "the-secret-computer")
    note = "3 m/s, ../shared/data"
    settings = {"data": Path("/home/me/secret/push"), "model": "/srv/models/m", "note": note}
    text = write(tmp_path, settings=settings).read_text()
    assert not any(word in text for word in ("/home", "secret", "/srv", str(tmp_path)))
    (result,) = read_results(tmp_path)
    assert result.command == "forerun demo --out out --size=xs"
    assert result.settings == {"data": "push", "model": "m", "note": note}


def test_two_results_of_one_second_are_both_kept(tmp_path: Path) -> None:
    assert len({write(tmp_path) for _ in range(3)}) == 3
    assert len(read_results(tmp_path)) == 3
    assert not list(tmp_path.glob(".*"))


def test_results_are_read_in_order_and_an_absent_folder_holds_none(tmp_path: Path) -> None:
    for name, seed in (("push", 1), ("push", 0), ("grasp", 0)):
        write(tmp_path, name, seed=seed)
    assert [r.name for r in read_results(tmp_path)] == ["grasp", "push", "push"]
    assert read_results(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"name": "Push 30"}, "lower-case"),
        ({"metrics": {"success": {"planner": float("nan")}}}, r"metrics\.success\.planner is nan"),
        ({"metrics": {"x": np.array([1.0, np.inf])}}, "finite"),
        ({"settings": {"x": object()}}, r"settings\.x is a object"),
    ],
)
def test_what_is_no_figure_is_refused(tmp_path: Path, wrong: dict, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        write(tmp_path, **wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write(tmp_path / "file")


@pytest.mark.parametrize("text", ["{torn", "[]", '{"name": "push"}'])
def test_a_file_that_is_no_result_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.json").write_text(text)
    with pytest.raises(DataError, match=r"odd\.json"):
        read_results(tmp_path)


def test_a_result_is_plain_json(tmp_path: Path) -> None:
    assert set(json.loads(write(tmp_path).read_text())) == set(Result.__dataclass_fields__)
