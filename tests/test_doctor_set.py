"""What the doctor finds by comparing episodes with each other: copies, leaks between splits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from forerun.data import Episode, open_recordings, write_lerobot
from forerun.data.doctor import SAMPLED_VIDEOS, examine
from forerun.data.findings import Finding
from forerun.data.repair import fix
from sample_recordings import CAMERA, FPS, HEIGHT, WIDTH, stream

STEPS = 4
MANY = SAMPLED_VIDEOS + 6  # more than are decoded by default


def filmed(number: int, gray: int) -> Episode:
    """Video of its own gray level; a vector and a label that are the same in every episode."""
    frames = (
        np.full((STEPS, HEIGHT, WIDTH, 3), gray, np.uint8)
        + np.arange(STEPS, dtype=np.uint8)[:, None, None, None]
    )
    streams = [
        stream(CAMERA, "video", frames, unit="rgb", rate_hz=10.0),
        stream("height", "vector", np.ones((STEPS, 1), "f4"), unit="m"),
        stream("next.done", "privileged", np.arange(STEPS)[:, None] == STEPS - 1),
    ]
    return Episode(f"run_{number}", {s.spec.name: s for s in streams})


def found(path: Path, *checks: str) -> list[tuple[str, str | None, str]]:
    return [(f.severity, f.episode, f.found) for f in findings(path) if f.check in checks]


def findings(path: Path) -> list[Finding]:
    return examine(path).findings


def test_different_videos_beside_the_same_constants_are_no_copies(tmp_path: Path) -> None:
    write_lerobot(tmp_path / "set", (filmed(i, 5 * i) for i in range(MANY)), fps=FPS, crf=0)
    assert found(tmp_path / "set", "duplicate") == []
    fix(tmp_path / "set", tmp_path / "copy")
    assert len(open_recordings(tmp_path / "copy")) == MANY


def test_the_same_video_beside_constants_is_a_copy_however_many_there_are(tmp_path: Path) -> None:
    grays = [5 * i for i in range(MANY - 1)]
    write_lerobot(
        tmp_path / "set", (filmed(i, g) for i, g in enumerate([*grays, grays[7]])), fps=FPS, crf=0, gop=STEPS
    )
    assert found(tmp_path / "set", "duplicate") == [("warning", f"run_{MANY - 1}", "same content as 'run_7'")]


def demonstrations(path: Path, contents: list[int], **splits: list[int]) -> Path:
    """A robomimic file; demonstrations of one number are the same, ``splits`` are its masks."""
    h5py = pytest.importorskip("h5py", reason="the extra 'hdf5' is not installed")
    with h5py.File(path, "w") as root:
        about = {"env_name": "Lift", "env_kwargs": {"control_freq": FPS}}
        root.create_group("data").attrs["env_args"] = json.dumps(about)
        for k, content in enumerate(contents):
            demo = root.create_group(f"data/demo_{k}")
            demo["actions"] = np.random.default_rng(content).normal(size=(STEPS, 2))
        for name, members in splits.items():
            root[f"mask/{name}"] = np.asarray([f"demo_{k}".encode() for k in members])
    return path


@pytest.mark.parametrize(
    ("splits", "leaked"),
    [
        ({"train": [0, 1], "valid": [2]}, True),
        ({"train": [0, 1], "valid": [2], "half": [0, 2]}, True),
        ({"valid": [2]}, True),
        ({"train": [0, 1, 2], "half_train": [0]}, False),
        ({}, False),
    ],
)
def test_a_copy_in_another_split_of_a_file_is_a_fault(
    tmp_path: Path, splits: dict[str, list[int]], leaked: bool
) -> None:
    path = demonstrations(tmp_path / "set.hdf5", [5, 6, 5], **splits)
    words = "same content as 'demo_0'" + (", which is in another split" if leaked else "")
    assert found(path, "duplicate") == [("fault" if leaked else "warning", "demo_2", words)]


def test_a_demonstration_that_is_trained_on_and_held_out_is_a_fault_and_left_out(tmp_path: Path) -> None:
    path = demonstrations(tmp_path / "set.hdf5", [5, 6, 7], half_train=[0, 1], half_valid=[1, 2], half=[0, 1])
    assert found(path, "split", "duplicate") == [
        ("fault", "demo_1", "it is in the split 'half_train' and in 'half_valid'")
    ]
    assert "left out demo_1: it is in a training and a held-out split at once" in fix(path, tmp_path / "copy")
    assert examine(tmp_path / "copy").sound
