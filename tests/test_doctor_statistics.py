"""Statistics that a LeRobot folder ships, against the data it ships."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forerun.data import Episode, write_lerobot
from forerun.data.doctor import examine
from forerun.data.doctor_statistics import FEW_EPISODES
from sample_recordings import CAMERA, FPS, HEIGHT, WIDTH, stream

STEPS = 12
MANY = FEW_EPISODES + 10


def moved(number: int) -> Episode:
    """Numbers of three kinds and a video that is brighter than the last episode's."""
    rng, gray = np.random.default_rng(number), np.uint8(4 * number)
    streams = [
        stream(CAMERA, "video", np.full((STEPS, HEIGHT, WIDTH, 3), gray), unit="rgb", rate_hz=10.0),
        stream("pose", "vector", rng.normal(1000, 1, size=(STEPS, 2)).astype("f4"), unit="m"),
        stream("gripper", "vector", rng.integers(0, 2, size=(STEPS, 1)).astype("f4")),
        stream("limit", "vector", np.full((STEPS, 1), 1000.0, "f4")),
    ]
    return Episode(f"run_{number}", {s.spec.name: s for s in streams})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lerobot(tmp_path_factory.mktemp("many") / "set", map(moved, range(MANY)), fps=FPS)


def stale(root: Path) -> list[tuple[str | None, str | None, str]]:
    return [(f.episode, f.stream, f.found) for f in examine(root).findings if f.check == "statistics"]


def test_the_statistics_of_a_large_set_that_forerun_wrote_are_right(written: Path) -> None:
    assert stale(written) == []


@pytest.mark.parametrize(
    ("statistic", "value", "words"),
    [("mean", 99.0, "the stored mean of channel 1 is 99"), ("count", 5, "the stored count is 5")],
)
def test_stale_statistics_of_a_large_set_are_found(
    written: Path, tmp_path: Path, statistic: str, value: float, words: str
) -> None:
    root = Path(shutil.copytree(written, tmp_path / "set"))
    told = json.loads((root / "meta/stats.json").read_text())
    told["pose"][statistic][-1] = value
    (root / "meta/stats.json").write_text(json.dumps(told))
    assert stale(root) == [(None, "pose", words)]


@pytest.mark.parametrize("statistic", ["min", "max", "mean", "std", "q01", "q10", "q50", "q90", "q99"])
def test_every_stale_statistic_of_one_episode_is_found(written: Path, tmp_path: Path, statistic: str) -> None:
    root = Path(shutil.copytree(written, tmp_path / "set"))
    file = next((root / "meta/episodes").rglob("*.parquet"))
    rows, name = pq.read_table(file), f"stats/pose/{statistic}"
    values = rows.column(name).to_pylist()
    values[7][0] += 5.0
    at = rows.column_names.index(name)
    pq.write_table(
        rows.set_column(at, rows.schema.field(at), pa.array(values, rows.schema.field(at).type)), file
    )
    said = f"the stored {statistic} of channel 0 is {values[7][0]:.6g}"
    assert stale(root) == [("run_7", "pose", said)]
