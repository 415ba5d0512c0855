"""Where episodes lie in a video that they share: what the doctor says when the table is wrong."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from forerun.data import Episode, write_lerobot
from forerun.data.doctor import examine
from forerun.data.repair import fix
from sample_recordings import CAMERA, FPS, clip, episode, real, stream


def shift(root: Path, episode: int, **by_s: float) -> None:
    """Move where an episode is said to lie in its video."""
    file = next((root / "meta/episodes").rglob("*.parquet"))
    for name, seconds in by_s.items():
        rows = pq.read_table(file)
        at = rows.column_names.index(f"videos/{CAMERA}/{name}")
        stamps = rows.column(at).to_pylist()
        stamps[episode] += seconds
        pq.write_table(rows.set_column(at, rows.schema.field(at), pa.array(stamps)), file)


def films_in_one_file(folder: Path) -> Path:
    films = [
        Episode(f"run_{i}", {CAMERA: stream(CAMERA, "video", clip(12, 12 * i), unit="rgb", rate_hz=10.0)})
        for i in range(3)
    ]
    return write_lerobot(folder, films, fps=FPS)


def spans(root: Path) -> list[tuple[str | None, str]]:
    return [(f.episode, f.found) for f in examine(root).of("fault") if f.check == "span"]


def test_an_episode_that_begins_too_early_in_its_video_is_found_and_left_out(tmp_path: Path) -> None:
    root = films_in_one_file(tmp_path / "set")
    assert spans(root) == []
    shift(root, 1, from_timestamp=-1.0)
    assert spans(root) == [
        ("run_1", "its stretch of the video, 0.200 to 2.400 s, is 22.0 frames long and it has 12 rows")
    ]
    assert "left out run_1: it lies at an uncertain place of its video" in fix(root, tmp_path / "copy")
    assert examine(tmp_path / "copy", full=True).sound


def test_episodes_that_claim_the_same_frames_are_both_named(tmp_path: Path) -> None:
    root = films_in_one_file(tmp_path / "set")
    shift(root, 1, from_timestamp=-0.1, to_timestamp=-0.1)
    assert spans(root) == [
        ("run_0", "its stretch of file-000.mp4, 0.000 to 1.200 s, overlaps that of run_1"),
        ("run_1", "its stretch of file-000.mp4, 1.100 to 2.300 s, overlaps that of run_0"),
    ]


def test_rounding_of_a_stretch_is_no_overlap(tmp_path: Path) -> None:
    root = films_in_one_file(tmp_path / "set")
    shift(root, 1, from_timestamp=-0.03, to_timestamp=0.01)
    assert spans(root) == []


def test_sets_of_many_files_and_real_ones_have_their_stretches_in_order(tmp_path: Path) -> None:
    split = write_lerobot(
        tmp_path / "set", (episode(i, n) for i, n in enumerate((8, 11, 5))), fps=FPS, video_mb=1e-6
    )
    assert spans(split) == []
    assert spans(real("unitree_g1_lerobot_v30")) == []
