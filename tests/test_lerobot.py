"""LeRobot v3.0 and v2.1 folders as they are met in the wild."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from forerun.data import open_recordings, write_lerobot, write_video
from forerun.types import ClockError, DataError
from sample_recordings import (
    CAMERA,
    FPS,
    HEIGHT,
    WIDTH,
    clip,
    episode,
    frame_numbers,
    make_v21,
    real,
    table_v21,
)


def edit_json(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(content))


def make_v30(root: Path, num_episodes: int = 3) -> Path:
    return write_lerobot(root, (episode(i, 8 + i) for i in range(num_episodes)), fps=FPS, crf=8)


def table_file(root: Path, index: int = 0) -> Path:
    return root / "data" / "chunk-000" / f"episode_{index:06d}.parquet"


def film_file(root: Path, index: int = 0) -> Path:
    return root / "videos" / "chunk-000" / CAMERA / f"episode_{index:06d}.mp4"


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_same_real_episode_is_identical_as_v21_and_v30(index):
    old = open_recordings(real("unitree_g1_lerobot_v21"))[index]
    new = open_recordings(real("unitree_g1_lerobot_v30"))[index]
    assert list(old.streams) == list(new.streams)
    assert old.task == new.task
    for name, stream in old.streams.items():
        other = new.streams[name]
        assert stream.spec == other.spec
        assert np.array_equal(stream.times_s, other.times_s)
        few = np.arange(0, len(stream), 1 if index == 0 or stream.spec.kind != "video" else 3)
        assert np.array_equal(stream.read(few), other.read(few))


def test_feature_names_decide_what_a_stream_is_for(tmp_path):
    recordings = open_recordings(make_v21(tmp_path / "set"))
    assert recordings.format == "lerobot-v2.1"
    assert {n: s.kind for n, s in recordings.specs.items()} == {
        CAMERA: "video",
        "observation.state": "vector",
        "action": "action",
    }
    assert recordings.specs["observation.state"].names == ("x", "y")
    assert recordings.specs["action"].names == ("left", "right")


@pytest.mark.parametrize(
    "key", ["observation.tactile", "left_touch", "observation.wrench", "ee_force", "taxels"]
)
def test_touch_is_recognised_by_its_name(tmp_path, key):
    root = make_v21(tmp_path / "set")
    info = root / "meta" / "info.json"
    features = json.loads(info.read_text())["features"]
    edit_json(info, features=features | {key: {"dtype": "float32", "shape": [2], "names": None}})
    assert open_recordings(root).specs[key].kind == "touch"


def test_rows_and_frames_belong_together(tmp_path):
    recordings = open_recordings(make_v21(tmp_path / "set", (6, 9)))
    for i, found in enumerate(recordings):
        state = found.streams["observation.state"]
        assert state.read()[:, 0].tolist() == [10 * i + k for k in range(len(state))]
        assert frame_numbers(found.streams[CAMERA].read()) == list(range(len(state)))
        assert found.task == "push"


def test_stamps_within_tolerance_are_exactly_frame_over_rate(tmp_path):
    times = open_recordings(make_v21(tmp_path / "set"))[1].streams["action"].times_s
    assert times.dtype == np.float64
    assert np.array_equal(times, np.arange(9) / FPS)


def test_stamps_off_the_grid_are_kept(tmp_path):
    root = make_v21(tmp_path / "set", (4,))
    jittered = np.asarray([0.0, 0.11, 0.19, 0.31], dtype="f4")
    table = table_v21(0, 4)
    pq.write_table(table.set_column(2, "timestamp", pa.array(jittered)), table_file(root))
    times = open_recordings(root)[0].streams["action"].times_s
    assert np.allclose(times, jittered)
    assert not np.array_equal(times, np.arange(4) / FPS)


def test_one_extra_video_frame_is_no_fault(tmp_path):
    root = make_v21(tmp_path / "set", (6,))
    film_file(root).unlink()
    write_video(film_file(root), clip(7), FPS)
    assert frame_numbers(open_recordings(root)[0].streams[CAMERA].read()) == list(range(6))


def test_cameras_of_one_episode_may_begin_at_different_seconds_of_their_files(tmp_path):
    root = make_v30(tmp_path / "set")
    film = root / "videos" / CAMERA / "chunk-000" / "file-000.mp4"
    film.unlink()
    write_video(film, clip(35, first=5), FPS)
    table_file = root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(table_file)
    column = table.column_names.index(f"videos/{CAMERA}/from_timestamp")
    pq.write_table(
        table.set_column(column, table.column_names[column], pa.array([0.7, 0.0, 1.5])), table_file
    )
    recordings = open_recordings(root)
    assert [frame_numbers(e.streams[CAMERA].read(np.arange(2))) for e in recordings] == [
        [12, 13],
        [5, 6],
        [20, 21],
    ]


@pytest.mark.parametrize("cell", ["struct", "bytes", "path"])
def test_pictures_may_lie_in_the_table(tmp_path, cell):
    root = make_v21(tmp_path / "set", (3,))
    pngs = []
    for k, picture in enumerate(clip(3)):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        (root / f"{k}.png").write_bytes(buffer.getvalue())
        pngs.append(buffer.getvalue())
    struct = pa.array([{"bytes": p, "path": None} for p in pngs])
    named = pa.array([{"bytes": None, "path": f"{k}.png"} for k in range(3)])
    column = {"struct": struct, "bytes": pa.array(pngs), "path": named}[cell]
    pq.write_table(table_v21(0, 3).append_column("wrist", column), table_file(root))
    info = root / "meta" / "info.json"
    features = json.loads(info.read_text())["features"]
    shape = {"dtype": "image", "shape": [3, HEIGHT, WIDTH], "names": ["channels", "height", "width"]}
    edit_json(info, features=features | {"wrist": shape})
    stream = open_recordings(root)[0].streams["wrist"]
    assert stream.spec.shape == (HEIGHT, WIDTH, 3)
    assert np.array_equal(stream.read(np.asarray([2, 0])), clip(3)[[2, 0]])


def test_depth_and_annotation_columns_are_left_out_with_a_note(tmp_path):
    root = make_v21(tmp_path / "set")
    info = root / "meta" / "info.json"
    features = json.loads(info.read_text())["features"]
    depth = {"dtype": "video", "shape": [8, 8, 1], "names": None, "info": {"video.is_depth_map": True}}
    notes = {"dtype": "language", "shape": [1], "names": None}
    edit_json(info, features=features | {"depth": depth, "language_events": notes})
    recordings = open_recordings(root)
    assert not {"depth", "language_events"} & set(recordings.specs)
    assert len(recordings.notes) == 2


def test_a_count_that_disagrees_is_noted(tmp_path):
    root = make_v21(tmp_path / "set")
    edit_json(root / "meta" / "info.json", total_episodes=7)
    assert "counts 7 episodes, the episode table lists 2" in open_recordings(root).notes[0]


def test_too_many_channel_names_are_left_out_with_a_note(tmp_path):
    root = make_v21(tmp_path / "set")
    info = root / "meta" / "info.json"
    features = json.loads(info.read_text())["features"]
    features["action"]["names"] = ["a", "b", "c"]
    edit_json(info, features=features)
    recordings = open_recordings(root)
    assert recordings.specs["action"].names == ()
    assert "2 channels but 3 names" in recordings.notes[0]


def test_units_can_be_stated_beside_the_data_set(tmp_path):
    root = make_v21(tmp_path / "set")
    (root / "forerun.json").write_text(json.dumps({"streams": {"action": {"unit": "rad", "low": [-1, -1]}}}))
    recordings = open_recordings(root)
    assert recordings.specs["action"].unit == recordings[0].streams["action"].spec.unit == "rad"
    assert recordings.specs["action"].low == (-1, -1)


def test_a_data_set_further_down_is_found_and_two_are_told_apart(tmp_path):
    make_v21(tmp_path / "deep" / "one")
    assert len(open_recordings(tmp_path)) == 2
    make_v21(tmp_path / "deep" / "two")
    with pytest.raises(DataError, match="2 data sets lie below"):
        open_recordings(tmp_path)


def shifted_clock(root: Path) -> None:
    stamps = pa.array(np.asarray([0.0, 0.1, 0.1, 0.2, 0.3, 0.4], dtype="f4"))
    pq.write_table(table_v21(0, 6).set_column(2, "timestamp", stamps), table_file(root))


def nan_clock(root: Path) -> None:
    stamps = pa.array(np.asarray([0.0, np.nan, 0.2, 0.3, 0.4, 0.5], dtype="f4"))
    pq.write_table(table_v21(0, 6).set_column(2, "timestamp", stamps), table_file(root))


def short_film(root: Path) -> None:
    film_file(root).unlink()
    write_video(film_file(root), clip(4), FPS)


def small_film(root: Path) -> None:
    film_file(root).unlink()
    write_video(film_file(root), clip(6)[:, :8, :8], FPS)


def wide_state(root: Path) -> None:
    info = root / "meta" / "info.json"
    features = json.loads(info.read_text())["features"]
    features["observation.state"] |= {"shape": [5], "names": None}
    edit_json(info, features=features)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


FAULTS = {
    "no info": (lambda r: (r / "meta" / "info.json").write_text(""), DataError, r"info\.json is empty"),
    "broken info": (lambda r: (r / "meta" / "info.json").write_text("{'fps'"), DataError, "no readable JSON"),
    "no fps": (
        lambda r: edit_json(r / "meta" / "info.json", fps=0),
        DataError,
        "fps = 0; expected a positive",
    ),
    "no features": (
        lambda r: (r / "meta" / "info.json").write_text('{"codebase_version": "v2.1", "fps": 3}'),
        DataError,
        "lacks the columns features, data_path",
    ),
    "old version": (
        lambda r: edit_json(r / "meta" / "info.json", codebase_version="v1.6"),
        DataError,
        r"LeRobot v1\.6; forerun reads v3\.0",
    ),
    "no episodes": (
        lambda r: (r / "meta" / "episodes.jsonl").unlink(),
        DataError,
        r"episodes\.jsonl is missing",
    ),
    "broken line": (
        lambda r: (r / "meta" / "episodes.jsonl").write_text('{"episode_index": 0, "length": 6}\n{"epis'),
        DataError,
        r"line 2 of episodes\.jsonl",
    ),
    "no length": (
        lambda r: (r / "meta" / "episodes.jsonl").write_text('{"episode_index": 0}'),
        DataError,
        "lacks the column length",
    ),
    "no table": (lambda r: table_file(r).unlink(), DataError, r"episode_000000\.parquet is missing"),
    "cut table": (lambda r: cut(table_file(r)), DataError, "never finalized"),
    "few rows": (
        lambda r: pq.write_table(table_v21(0, 4), table_file(r)),
        DataError,
        "has 4 rows, the episode table says 6",
    ),
    "other episode": (lambda r: pq.write_table(table_v21(5, 6), table_file(r)), DataError, "has 0 rows"),
    "no column": (
        lambda r: pq.write_table(table_v21(0, 6).drop_columns(["action"]), table_file(r)),
        DataError,
        "lacks the column action; it has observation",
    ),
    "no stamps": (
        lambda r: pq.write_table(table_v21(0, 6).drop_columns(["timestamp"]), table_file(r)),
        DataError,
        "lacks the column timestamp",
    ),
    "wrong shape": (
        wide_state,
        DataError,
        r"holds 12 numbers in 6 rows; .* shape \(5,\), so 30 are expected",
    ),
    "standing clock": (shifted_clock, ClockError, "runs backwards or stands still at sample 2"),
    "clock of nothing": (nan_clock, ClockError, "not a number at sample 1"),
    "no film": (lambda r: film_file(r).unlink(), DataError, r"episode_000000\.mp4 is missing"),
    "empty film": (lambda r: film_file(r).write_bytes(b""), DataError, r"is empty \(0 bytes\)"),
    "cut film": (lambda r: cut(film_file(r)), DataError, "cannot be opened|promises|cannot be decoded"),
    "short film": (short_film, DataError, "has 4 frames .* expects 2 more, .* out of step"),
    "small film": (small_film, DataError, "are 8 x 8 .* declares 16 x 24"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_what_was_found_and_what_to_do(tmp_path, fault):
    root = make_v21(tmp_path / "set", (6,))
    damage, error, says = FAULTS[fault]
    damage(root)
    with pytest.raises(error, match=says) as caught:
        open_recordings(root)[0].streams[CAMERA].read()
    verbs = ("restore", "correct", "convert", "copy", "record", "run: forerun", "write")
    assert any(verb in str(caught.value).lower() for verb in verbs)
    assert len(str(caught.value).splitlines()) == 1


def test_a_fault_of_one_episode_does_not_hide_the_others(tmp_path):
    root = make_v21(tmp_path / "set", (6, 9))
    film_file(root, 0).unlink()
    assert frame_numbers(open_recordings(root)[1].streams[CAMERA].read(np.asarray([8]))) == [8]


def test_an_unfinished_v30_recording_says_that_its_episode_table_is_absent(tmp_path):
    root = make_v30(tmp_path / "set", 1)
    (root / "meta" / "episodes" / "chunk-000" / "file-000.parquet").unlink()
    with pytest.raises(DataError, match=r"meta/episodes holds no parquet file.*finalize"):
        open_recordings(root)


def test_an_absent_index_in_a_range_is_an_index_error(tmp_path):
    recordings = open_recordings(make_v21(tmp_path / "set"))
    assert recordings[-1].name == "episode_000001"
    assert [e.name for e in recordings[:5]] == ["episode_000000", "episode_000001"]
    with pytest.raises(IndexError, match="episode 2 of 2"):
        recordings[2]
