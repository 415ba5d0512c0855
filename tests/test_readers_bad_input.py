"""What a person reads when a folder, a manifest or a side file is not as it should be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from forerun.data import open_recordings, write_video
from forerun.types import ClockError, DataError
from sample_recordings import FPS, clip, write_tfrecords

ROWS = "t,x\n0.0,1\n0.1,2\n0.2,3\n"


def page(root: Path, streams: dict, **more) -> None:
    (root / "forerun.json").write_text(json.dumps({"episodes": [{"name": "a", "streams": streams}], **more}))


def side(root: Path, text: str = ROWS, name: str = "s.csv", **settings) -> None:
    (root / name).write_text(text)
    page(root, {"x": {"file": name, "time": "t", **settings}})


def film(root: Path, **settings) -> None:
    write_video(root / "a.mp4", clip(3), FPS)
    page(root, {"cam": {"file": "a.mp4", **settings}})


def stamps_of_another_length(root: Path) -> None:
    (root / "s.csv").write_text(ROWS + "0.3,4\n")
    film(root, time="t", time_file="s.csv")


def uneven_columns(root: Path) -> None:
    (root / "s.json").write_text(json.dumps({"x": [1, 2, 3], "y": [1, 2]}))
    page(root, {"v": {"file": "s.json", "columns": ["x", "y"], "rate_hz": 10}})


def empty_array(root: Path) -> None:
    np.savez(root / "s.npz", x=np.zeros((0, 2)))
    page(root, {"v": {"file": "s.npz", "rate_hz": 10}})


def broken_npz(root: Path) -> None:
    np.savez(root / "s.npz", x=np.zeros((40, 2)))
    whole = (root / "s.npz").read_bytes()
    (root / "s.npz").write_bytes(whole[: len(whole) // 2])
    page(root, {"v": {"file": "s.npz", "rate_hz": 10}})


def pickled_array(root: Path) -> None:
    np.savez(root / "s.npz", x=np.asarray([{"a": 1}], dtype=object))
    page(root, {"v": {"file": "s.npz", "rate_hz": 10}})


def single_value(root: Path, **settings) -> None:
    np.savez(root / "s.npz", x=np.zeros((4, 2)), mass=0.37)
    page(root, {"v": {"file": "s.npz", "rate_hz": 10, **settings}})


CASES = {
    "nothing there": (lambda r: r.rmdir(), DataError, "nothing at the given path"),
    "empty folder": (lambda r: None, DataError, "found an empty folder. forerun reads LeRobot"),
    "unknown files": (
        lambda r: [(r / f"{k}.xyz").write_text("?") for k in "ab"],
        DataError,
        r"found 2 files \(\.xyz\)\. forerun reads .* Describe the files with a forerun\.json",
    ),
    "broken manifest": (lambda r: (r / "forerun.json").write_text("{"), DataError, "no readable JSON"),
    "manifest is a list": (lambda r: (r / "forerun.json").write_text('["episodes"]'), DataError, "is a list"),
    "no episodes": (
        lambda r: (r / "forerun.json").write_text('{"episodes": []}'),
        DataError,
        "lists no episodes",
    ),
    "no streams": (lambda r: page(r, {}), DataError, "episode 0 of forerun.json has no stream"),
    "no file named": (
        lambda r: page(r, {"x": {"rate_hz": 3}}),
        DataError,
        "stream 'x' of episode 0 names no file",
    ),
    "misspelt setting": (
        lambda r: page(r, {"x": {"file": "s.csv", "rate": 3}}),
        DataError,
        "unknown setting 'rate'; known are file, kind",
    ),
    "misspelt page": (
        lambda r: page(r, {"x": {"file": "s.csv"}}, stream={}),
        DataError,
        "unknown setting 'stream'",
    ),
    "rate in words": (
        lambda r: page(r, {"x": {"file": "s", "rate_hz": "5"}}),
        DataError,
        "rate_hz = '5'; expected int",
    ),
    "one column": (
        lambda r: page(r, {"x": {"file": "s", "columns": "x"}}),
        DataError,
        "columns = 'x'; expected list",
    ),
    "unknown kind": (
        lambda r: page(r, {"x": {"file": "s", "kind": "tuch"}}),
        DataError,
        "kind 'tuch'; known are video",
    ),
    "file missing": (
        lambda r: page(r, {"x": {"file": "s.csv", "rate_hz": 3}}),
        DataError,
        r"s\.csv is missing",
    ),
    "file empty": (lambda r: side(r, ""), DataError, r"s\.csv is empty"),
    "no clock": (lambda r: side(r, time=""), DataError, "has no clock; expected 'rate_hz'"),
    "no time column": (lambda r: side(r, time="stamp"), DataError, "lacks the column stamp; it has t, x"),
    "time is text": (lambda r: side(r, "t,x\nnow,1\nthen,2\n"), DataError, "expected numbers"),
    "wrong columns": (lambda r: side(r, columns=["x", "y"]), DataError, "lacks the column y; it has t, x"),
    "ragged rows": (lambda r: side(r, ROWS + "0.3\n"), DataError, r"cannot be read as \.csv"),
    "clock backwards": (lambda r: side(r, ROWS + "0.1,4\n"), ClockError, "runs backwards .* at sample 3"),
    "clock stands": (lambda r: side(r, ROWS + "0.2,4\n"), ClockError, "stands still at sample 3"),
    "clock is nan": (lambda r: side(r, ROWS + "nan,4\n"), ClockError, "not a number at sample 3"),
    "wrong shape": (
        lambda r: side(r, shape=[3]),
        DataError,
        r"holds 1 numbers; the manifest says shape \[?\(?3",
    ),
    "unknown ending": (
        lambda r: side(r, name="s.dta"),
        DataError,
        r"unknown ending '\.dta'; a stream is read from",
    ),
    "torn text": (
        lambda r: side(r, "1 2 3\n4 5\n", "s.txt", time="index", numbers_per_row=3),
        DataError,
        "holds 5 numbers .* whole rows of 3",
    ),
    "words in text": (
        lambda r: side(r, "1 two\n", "s.txt", time="index"),
        DataError,
        r"cannot be read as \.txt",
    ),
    "uneven columns": (uneven_columns, DataError, r"have \[2, 3\] rows"),
    "no rows": (empty_array, DataError, "has no rows"),
    "single value": (
        single_value,
        DataError,
        r"'mass' of s\.npz is a single value \(0\.37\); a stream needs",
    ),
    "single clock": (lambda r: single_value(r, time="mass", rate_hz=None), DataError, "is a single value"),
    "no such item": (
        lambda r: single_value(r, item=4),
        DataError,
        r"shape \(4, 2\); .* entry 4 of its first",
    ),
    "broken npz": (broken_npz, DataError, r"cannot be read as \.npz"),
    "pickled npz": (pickled_array, DataError, r"cannot be read as \.npz"),
    "frames out of step": (
        stamps_of_another_length,
        DataError,
        "3 samples but 4 time stamps: .* out of step",
    ),
    "video empty": (lambda r: (r / "a.mp4").touch(), DataError, r"a\.mp4 is empty"),
    "video of text": (lambda r: (r / "a.mp4").write_text("no film"), DataError, "cannot be opened"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_told_in_one_paragraph(tmp_path, case):
    root = tmp_path / "set"
    root.mkdir()
    damage, error, says = CASES[case]
    damage(root)
    with pytest.raises(error, match=says) as caught:
        open_recordings(root)[0].streams.popitem()[1].read()
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) > 80


@pytest.mark.parametrize("name", ["tosses.npz", "run.bag", "joints.csv", "hostname"])
def test_a_single_file_that_is_no_video_is_answered_with_what_can_be_read(tmp_path, name):
    (tmp_path / name).write_text("t,x\n0,1\n")
    ending = Path(name).suffix or "no ending"
    with pytest.raises(
        DataError, match=rf"found 1 file \({ending}\)\. forerun reads LeRobot .* forerun\.json"
    ):
        open_recordings(tmp_path / name)


def test_a_correction_of_an_unknown_stream_is_refused(tmp_path):
    write_video(tmp_path / "a.mp4", clip(3), FPS)
    (tmp_path / "forerun.json").write_text(json.dumps({"streams": {"wrist": {"unit": "rad"}}}))
    with pytest.raises(DataError, match="describes 'wrist'; the streams are observation"):
        open_recordings(tmp_path)


def test_rlds_without_any_shard_names_what_is_expected(tmp_path):
    write_tfrecords(tmp_path, 2)[0].unlink()
    with pytest.raises(
        DataError, match=r"lists 1 shards and none .* such as toy-train\.tfrecord-00000-of-00001"
    ):
        open_recordings(tmp_path)


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_shard_says_how_many_records_are_whole(tmp_path, keep):
    shard = write_tfrecords(tmp_path, 2)[0]
    shard.write_bytes(shard.read_bytes()[: int(keep * shard.stat().st_size)])
    with pytest.raises(DataError, match=r"breaks off after [01] whole records, at byte \d+ of \d+"):
        open_recordings(tmp_path)[0]


def test_a_shard_with_fewer_episodes_than_listed_is_an_error(tmp_path):
    write_tfrecords(tmp_path, 2, listed=5)
    with pytest.raises(DataError, match=r"holds 2 episodes; dataset_info\.json lists 5"):
        open_recordings(tmp_path)[4]


def test_features_that_do_not_fit_the_record_are_an_error(tmp_path):
    write_tfrecords(tmp_path, 1, action_size=3)
    with pytest.raises(
        DataError, match="'steps/action' holds 8 values in an episode of 4 steps; 12 are expected"
    ):
        open_recordings(tmp_path)[0]
