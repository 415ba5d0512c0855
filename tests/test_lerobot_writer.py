"""What is written comes back, and plain LeRobot readers find what they know."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from forerun.data import Episode, LeRobotWriter, Stream, open_recordings, write_lerobot
from forerun.data.lerobot_stats import PictureHistogram, PooledVector, vector_statistics
from forerun.types import ConfigError, DataError, StorageError
from sample_recordings import CAMERA, FPS, clip, episode, frame_numbers, stream

STATISTICS = ["min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[list[Episode], Path]:
    episodes = [episode(i, n) for i, n in enumerate((8, 11, 5, 8))]
    root = tmp_path_factory.mktemp("written") / "set"
    write_lerobot(root, iter(episodes), fps=FPS, robot_type="gantry", crf=8, data_mb=1e-6, video_mb=1e-6)
    return episodes, root


def test_everything_but_pictures_comes_back_exactly(written):
    episodes, root = written
    recordings = open_recordings(root)
    assert recordings.format == "lerobot-v3.0"
    assert list(recordings.specs) == list(episodes[0].streams)
    for before, after in zip(episodes, recordings, strict=True):
        assert (after.name, after.task, after.success) == (before.name, before.task, before.success)
        assert after.metadata == before.metadata
        assert list(after.streams) == list(before.streams)
        for name, was in before.streams.items():
            assert after.streams[name].spec == was.spec
            assert np.array_equal(after.streams[name].times_s, was.times_s)
            if was.spec.kind != "video":
                assert np.array_equal(after.streams[name].read(), was.read())
                assert after.streams[name].read().dtype == was.read().dtype


def test_pictures_come_back_in_step_although_files_are_shared(written):
    episodes, root = written
    for before, after in zip(episodes, open_recordings(root), strict=True):
        for name in (CAMERA, "observation.images.slow"):
            expected = frame_numbers(before.streams[name].read())
            assert frame_numbers(after.streams[name].read()) == expected


def test_small_caps_begin_new_files_and_large_ones_share(written, tmp_path):
    assert len(list((written[1] / "data").glob("*/*.parquet"))) == 4
    together = write_lerobot(tmp_path / "set", (episode(i) for i in range(4)), fps=FPS)
    assert len(list((together / "data").glob("*/*.parquet"))) == 1
    assert len(list((together / "videos").glob("*/*/*.mp4"))) == 1
    assert pq.ParquetFile(next((together / "data").glob("*/*.parquet"))).num_row_groups == 4


def test_videos_roll_over_at_their_cap(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (90, 32, 32, 3), dtype=np.uint8)
    films = [Episode(f"{i}", {CAMERA: stream(CAMERA, "video", noise[20 * i :])}) for i in range(3)]
    root = write_lerobot(tmp_path / "set", films, fps=FPS, crf=2, pix_fmt="yuv444p", video_mb=0.001)
    assert len(list((root / "videos").glob("*/*/*.mp4"))) == 3
    for before, after in zip(films, open_recordings(root), strict=True):
        apart = before.streams[CAMERA].read().astype(int) - after.streams[CAMERA].read()
        assert np.abs(apart).mean() < 5  # other noise is 85 away


def test_a_plain_reader_finds_lerobots_own_layout(written):
    _, root = written
    info = json.loads((root / "meta" / "info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (4, 32, 2)
    assert (info["fps"], info["splits"]) == (FPS, {"train": "0:4"})
    in_table = {k for k, f in info["features"].items() if f["dtype"] != "video"}
    table = pq.read_table(next((root / "data").glob("*/*.parquet")))
    assert set(table.column_names) == in_table
    assert "touch.fast" not in info["features"]
    assert info["features"]["action"] == {"dtype": "float64", "shape": [2], "names": None}
    assert "/" not in "".join(info["features"])
    rows = pq.read_table(root / "meta" / "episodes").to_pylist()
    assert [r["length"] for r in rows] == [8, 11, 5, 8]
    assert [r["dataset_from_index"] for r in rows] == [0, 8, 19, 24]
    assert rows[1]["tasks"] == ["task 1"]
    for row in rows:
        seconds = row[f"videos/{CAMERA}/to_timestamp"] - row[f"videos/{CAMERA}/from_timestamp"]
        assert seconds == pytest.approx(row["length"] / FPS)


def test_tasks_are_a_pandas_table_indexed_by_their_text(written):
    schema = pq.read_schema(written[1] / "meta" / "tasks.parquet")
    assert json.loads(schema.metadata[b"pandas"])["index_columns"] == ["__index_level_0__"]
    table = pq.read_table(written[1] / "meta" / "tasks.parquet")
    assert table.column("__index_level_0__").to_pylist() == ["task 0", "task 1"]
    assert table.column("task_index").to_pylist() == [0, 1]


def test_the_ten_statistics_are_those_of_the_values(written):
    episodes, root = written
    stats = json.loads((root / "meta" / "stats.json").read_text())
    assert all(list(s) == STATISTICS for s in stats.values())
    action = np.concatenate([e.streams["action"].read() for e in episodes])
    assert np.allclose(stats["action"]["mean"], action.mean(axis=0))
    assert np.allclose(stats["action"]["std"], action.std(axis=0))
    assert np.allclose(stats["action"]["min"], action.min(axis=0))
    assert stats["action"]["count"] == [32]
    assert np.shape(stats[CAMERA]["q50"]) == (3, 1, 1)
    grey = np.concatenate([e.streams[CAMERA].read() for e in episodes]).mean() / 255
    assert np.allclose(stats[CAMERA]["mean"], grey, atol=0.01)
    row = pq.read_table(root / "meta" / "episodes").to_pylist()[1]
    own = episodes[1].streams["action"].read()
    assert np.allclose(row["stats/action/q90"], np.quantile(own, 0.9, axis=0))
    assert row["stats/action/count"] == [11]


def test_pooled_statistics_equal_those_of_all_values_at_once():
    rng = np.random.default_rng(0)
    parts = [rng.normal(i, 1 + i, size=(n, 3)) for i, n in enumerate((5, 50, 17))]
    pooled = PooledVector()
    for part in parts:
        pooled.add(vector_statistics(part))
    everything = vector_statistics(np.concatenate(parts))
    for name in ("min", "max", "mean", "std", "count"):
        assert np.allclose(pooled.statistics()[name], everything[name])


def test_picture_statistics_are_exact_over_the_pixels():
    frames = np.random.default_rng(0).integers(0, 200, (4, 9, 7, 3), dtype=np.uint8)
    histogram = PictureHistogram()
    histogram.add_frames(frames, 0, 4)
    found, pixels = histogram.statistics(), frames.reshape(-1, 3) / 255
    for name, value in (("mean", pixels.mean(0)), ("std", pixels.std(0)), ("max", pixels.max(0))):
        assert np.allclose(found[name].ravel(), value)
    for name, share in (("q01", 0.01), ("q50", 0.5), ("q99", 0.99)):
        assert np.allclose(found[name].ravel(), np.quantile(pixels, share, axis=0, method="inverted_cdf"))


def test_episodes_are_written_one_at_a_time(tmp_path):
    living: list[weakref.ref] = []

    def produce():
        for i in range(3):
            gc.collect()
            assert all(ref() is None for ref in living[:-1])
            made = episode(i)
            living.append(weakref.ref(made))
            yield made
            del made

    assert len(open_recordings(write_lerobot(tmp_path / "set", produce(), fps=FPS))) == 3


def test_only_clocks_of_their_own_make_a_table_of_index_columns(tmp_path):
    times = np.asarray([0.0, 0.5, 0.9, 2.05])
    only = Episode("irregular", {"wrench": stream("wrench", "touch", np.ones((4, 6)), times, unit="N")})
    root = write_lerobot(tmp_path / "set", [only], fps=FPS)
    assert json.loads((root / "meta" / "info.json").read_text())["total_frames"] == 21
    again = open_recordings(root)[0]
    assert list(again.streams) == ["wrench"]
    assert np.array_equal(again.streams["wrench"].times_s, times)


def test_a_stream_can_be_kept_out_of_the_table(tmp_path):
    root = write_lerobot(tmp_path / "set", [episode()], fps=FPS, side=["action"])
    assert "action" not in json.loads((root / "meta" / "info.json").read_text())["features"]
    assert np.array_equal(
        open_recordings(root)[0].streams["action"].read(), episode().streams["action"].read()
    )


STATE, ONES = "observation.state", np.ones((12, 3), "f4")
NAMES = ("shoulder", "elbow", "wrist")


def changed(name: str, replacement: Stream | None = None) -> Episode:
    """A second episode with one stream exchanged, added, or, without a replacement, absent."""
    others = {k: s for k, s in episode(1).streams.items() if k != name}
    return Episode("second", others if replacement is None else others | {name: replacement})


def state(values: np.ndarray, times_s: np.ndarray | None = None, unit: str = "rad") -> Stream:
    return stream(STATE, "vector", values, times_s, unit=unit, names=NAMES)


MISFITS = {
    "new": (changed("extra", stream("extra", "vector", ONES)), "which the first episode lacks"),
    "unit": (changed(STATE, state(ONES, unit="deg")), "unit = 'deg'"),
    "size": (changed(CAMERA, stream(CAMERA, "video", clip(12)[:, :8], unit="rgb", rate_hz=10.0)), "shape = "),
    "absent": (changed("action"), "has none"),
    "clock": (changed(STATE, state(ONES, np.arange(12) / FPS + 0.02)), "has 12 samples off it"),
    "length": (changed(STATE, state(ONES[:5])), "differ in length"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_an_episode_unlike_the_first_is_refused_and_nothing_stays(tmp_path, misfit):
    odd, says = MISFITS[misfit]
    with pytest.raises(DataError, match=says):
        write_lerobot(tmp_path / "set", [episode(0), odd], fps=FPS)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_recording_leaves_nothing_under_its_name(tmp_path):
    def interrupted():
        yield episode(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_lerobot(tmp_path / "set", interrupted(), fps=FPS)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_touched(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("keep")
    with pytest.raises(StorageError, match="set exists already and is not overwritten"):
        write_lerobot(tmp_path / "set", [episode()], fps=FPS)
    assert [p.name for p in tmp_path.rglob("*")] == ["set", "mine.txt"]


def test_nothing_to_write_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no episode to write"):
        write_lerobot(tmp_path / "set", [], fps=FPS)
    with pytest.raises(ConfigError, match="fps is 0"):
        write_lerobot(tmp_path / "set", [], fps=0)
    assert list(tmp_path.iterdir()) == []


def test_a_stream_named_like_an_index_column_is_refused(tmp_path):
    taken = Episode("a", {"timestamp": stream("timestamp", "vector", np.ones((3, 1)))})
    with pytest.raises(DataError, match="'timestamp' is taken"):
        write_lerobot(tmp_path / "set", [taken], fps=FPS)


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot be written: (Not a directory|File exists)"):
        LeRobotWriter(tmp_path / "file" / "set", fps=FPS)


FULL_DISK = """
import resource, signal, sys
import numpy as np
from forerun.data import Episode, Stream, write_lerobot
from forerun.types import StorageError, StreamSpec
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
spec = StreamSpec(name="state", kind="vector", shape=(50,))
values = np.random.default_rng(0).normal(size=(2000, 50))
try:
    write_lerobot(sys.argv[1], [Episode("a", {"state": Stream(spec, np.arange(2000) / 10, values)})], fps=10)
except StorageError as error:
    print(error)
"""


def test_a_full_disk_leaves_no_half_data_set(tmp_path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "set")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "the data set set cannot be written" in said
    assert list(tmp_path.iterdir()) == []
