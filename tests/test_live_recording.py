"""A live recording loses nothing silently: not at a kilohertz, not when killed, not on a full disk."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from forerun.data import LiveRecorder, open_recordings
from forerun.data.live import _Ring
from forerun.types import DataError, StorageError, StreamSpec

SKIN = StreamSpec(name="skin", kind="touch", shape=(64,), unit="N", rate_hz=1000.0, delay_s=0.001)
GEL = StreamSpec(name="gel/left", kind="touch", shape=(8, 8, 3), family="tactile_image", rate_hz=30.0)
ORIGIN_NS = 1_790_000_000_000_000_000


def sample(k: int) -> np.ndarray:
    return np.random.default_rng(k).normal(size=64).astype(np.float32)


def test_what_is_read_is_what_was_recorded_bit_for_bit(tmp_path: Path) -> None:
    stamps = ORIGIN_NS + np.arange(3000) * 1_000_003
    with LiveRecorder(
        tmp_path / "run", {"skin": SKIN, "gel/left": GEL}, origin_ns=ORIGIN_NS, dtypes={"gel/left": np.uint8}
    ) as recorder:
        for k, stamp in enumerate(stamps):
            recorder.append("skin", sample(k), int(stamp))
            if k % 33 == 0:
                recorder.append("gel/left", np.full((8, 8, 3), k % 256, np.uint8), int(stamp))
            if k % 1000 == 999:
                time.sleep(0.15)
        assert recorder.lost == {"skin": 0, "gel/left": 0}
    found = open_recordings(tmp_path / "run")
    skin, gel = found[0].streams["skin"], found[0].streams["gel/left"]
    assert not found.notes
    assert skin.spec == SKIN
    np.testing.assert_array_equal(np.rint(skin.times_s * 1e9).astype(np.int64) + ORIGIN_NS, stamps)
    np.testing.assert_array_equal(skin.read(), np.stack([sample(k) for k in range(3000)]))
    assert gel.read().dtype == np.uint8
    assert gel.read()[5, 0, 0, 0] == 165


def test_samples_without_room_are_counted_and_said(tmp_path: Path) -> None:
    with LiveRecorder(tmp_path / "run", {"skin": SKIN}, origin_ns=0, seconds=0.016) as recorder:
        kept = [recorder.append("skin", sample(0), k) for k in range(40)]  # faster than any disk
    assert kept.count(False) == recorder.lost["skin"] >= 8
    found = open_recordings(tmp_path / "run")
    assert len(found[0].streams["skin"]) == kept.count(True)
    assert any("were lost while recording" in note for note in found.notes)


CRASH = """
import sys, time, numpy as np
from forerun.data import LiveRecorder
from forerun.types import StreamSpec
spec = StreamSpec(name="skin", kind="touch", shape=(64,), rate_hz=1000.0)
recorder = LiveRecorder(sys.argv[1], {"skin": spec}, origin_ns=0)
for k in range(10**9):
    recorder.append("skin", np.full(64, k, np.float32), k * 1_000_000)
    time.sleep(0.001)
    if k == 400:
        print("running", flush=True)
"""


def test_a_killed_recorder_leaves_all_but_the_last_tenths_of_a_second(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", CRASH, str(tmp_path / "run")], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"running\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    found = open_recordings(tmp_path / "run")
    skin = found[0].streams["skin"].read()
    assert len(skin) >= 150
    assert any("was not closed" in note for note in found.notes)
    np.testing.assert_array_equal(skin[:, 0], np.arange(len(skin)))


def test_a_full_disk_keeps_what_was_written_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = LiveRecorder(tmp_path / "run", {"skin": SKIN}, origin_ns=0)
    for k in range(100):
        recorder.append("skin", sample(k), k)
    time.sleep(0.3)

    def full(self: _Ring) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_Ring, "drain", full)
    for k in range(100, 200):
        recorder.append("skin", sample(k), k)
    with pytest.raises(StorageError, match=r"No space left on device.*100 samples"):
        recorder.close()
    assert len(open_recordings(tmp_path / "run")[0].streams["skin"]) == 100


def test_a_recording_is_never_overwritten_and_a_broken_one_is_explained(tmp_path: Path) -> None:
    LiveRecorder(tmp_path / "run", {"skin": SKIN}, origin_ns=0).close()
    with pytest.raises(StorageError, match="does not exist yet"):
        LiveRecorder(tmp_path / "run", {"skin": SKIN}, origin_ns=0)
    (tmp_path / "run" / "skin.values").unlink()
    with pytest.raises(DataError, match=r"skin\.values"):
        open_recordings(tmp_path / "run")


def test_several_recordings_of_a_folder_are_episodes(tmp_path: Path) -> None:
    for k in range(3):
        with LiveRecorder(tmp_path / f"run{k}", {"skin": SKIN}, origin_ns=0, task="wipe") as recorder:
            recorder.append("skin", sample(k), 0)
    found = open_recordings(tmp_path)
    assert [episode.name for episode in found] == ["run0", "run1", "run2"]
    assert found[1].task == "wipe"


def test_the_example_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs" / "touch.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    names = {"sensor": [np.full((3, 4, 4), k, np.float32) for k in range(5)]}
    exec(compile(code, "touch.md", "exec"), names)
    assert len(names["touch"]) == 5  # type: ignore[arg-type]
