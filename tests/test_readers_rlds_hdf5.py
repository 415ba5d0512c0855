"""RLDS without TensorFlow, robomimic and ALOHA through h5py."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forerun.data import open_recordings, resize_video
from forerun.data.tfrecord import masked_crc
from forerun.types import DataError, MissingExtraError
from sample_recordings import HEIGHT, WIDTH, clip, frame_numbers, write_tfrecords

h5py = pytest.importorskip("h5py", reason="the extra 'hdf5' is not installed")

STEPS = 5


def test_the_checksum_is_that_of_the_published_vectors():
    crc = ((masked_crc(b"123456789") - 0xA282EAD8) & 0xFFFFFFFF) << 15
    assert ((crc | crc >> 32) & 0xFFFFFFFF) == 0xE3069283  # CRC-32C of "123456789", RFC 3720


def test_rlds_records_are_read_without_tensorflow(tmp_path):
    write_tfrecords(tmp_path, 3)
    recordings = open_recordings(tmp_path)
    assert len(recordings) == 3
    for i, episode in enumerate(recordings):
        assert (episode.name, episode.task) == (f"train/{i:05d}", "lift")
        assert frame_numbers(episode.streams["observation.image_0"].read()) == [4 * i + k for k in range(4)]
        assert np.array_equal(episode.streams["action"].read(), np.arange(8).reshape(4, 2) + i)
        assert episode.streams["observation.count"].read()[:, 0].tolist() == [-1, 0, 300, 2**40]


def test_rlds_steps_without_a_known_rate_are_one_second_apart_unless_told(tmp_path):
    write_tfrecords(tmp_path, 1)
    recordings = open_recordings(tmp_path)
    assert "one second each" in recordings.notes[-1]
    assert recordings[0].duration_s == 3
    (tmp_path / "forerun.json").write_text(json.dumps({"rate_hz": 10}))
    assert open_recordings(tmp_path)[0].duration_s == pytest.approx(0.3)


def test_single_pictures_shrink_like_videos(tmp_path):
    write_tfrecords(tmp_path, 1)
    small = resize_video(open_recordings(tmp_path)[0].streams["observation.image_0"], 8, 8)
    assert small.read().shape == (4, 8, 8, 3)
    assert frame_numbers(small.read()) == [0, 1, 2, 3]


def robomimic(path: Path) -> Path:
    with h5py.File(path, "w") as root:
        data = root.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "env_kwargs": {"control_freq": 20}})
        for k in (0, 2, 10):
            demo = data.create_group(f"demo_{k}")
            demo["actions"] = np.full((STEPS, 7), k, "f8")
            demo["rewards"], demo["dones"] = np.zeros(STEPS), np.arange(STEPS) == STEPS - 1
            demo["states"] = np.zeros((STEPS, 11))
            demo["obs/agentview_image"] = clip(STEPS, k)
            demo["obs/robot0_eef_pos"] = np.full((STEPS, 3), k, "f8")
            demo["obs/agentview_depth"] = np.zeros((STEPS, 4, 4, 1), "f4")
            demo["next_obs/robot0_eef_pos"] = np.zeros((STEPS, 3))
        root["mask/train"] = np.asarray([b"demo_0", b"demo_10"])
    return path


def aloha(path: Path, index: int, compressed: bool) -> Path:
    with h5py.File(path, "w") as root:
        root.attrs["sim"] = True
        root["action"] = np.full((STEPS, 14), index, "f4")
        root["observations/qpos"] = np.full((STEPS, 14), index, "f4")
        frames = clip(STEPS, index)
        if compressed:
            cells = []
            for frame in frames:
                buffer = io.BytesIO()
                Image.fromarray(frame).save(buffer, "JPEG", quality=95)
                cells.append(np.frombuffer(buffer.getvalue(), np.uint8))
            longest = max(map(len, cells))
            frames = np.stack([np.pad(c, (0, longest - len(c))) for c in cells])
        root["observations/images/top"] = frames
    return path


def test_robomimic_demonstrations_come_in_the_order_of_their_numbers(tmp_path):
    recordings = open_recordings(robomimic(tmp_path / "lift.hdf5"))
    assert recordings.format == "hdf5-robomimic"
    assert [e.name for e in recordings] == ["demo_0", "demo_2", "demo_10"]
    assert {n: s.kind for n, s in recordings.specs.items()} == {
        "observation.agentview_image": "video",
        "observation.robot0_eef_pos": "vector",
        "action": "action",
        "rewards": "privileged",
        "dones": "privileged",
        "states": "privileged",
    }
    episode = recordings[2]
    assert frame_numbers(episode.streams["observation.agentview_image"].read(np.asarray([3, 0, 3]))) == [
        13,
        10,
        13,
    ]
    assert np.allclose(episode.streams["action"].times_s, np.arange(STEPS) / 20)
    assert episode.metadata == {"environment": "Lift", "splits": ["train"]}


@pytest.mark.parametrize("compressed", [False, True], ids=["raw", "jpeg"])
def test_aloha_episodes_are_files(tmp_path, compressed):
    for k in (10, 9):
        aloha(tmp_path / f"episode_{k}.hdf5", k, compressed)
    recordings = open_recordings(tmp_path)
    assert recordings.format == "hdf5-aloha"
    assert [e.name for e in recordings] == ["episode_9", "episode_10"]
    camera = recordings[0].streams["observation.images.top"]
    assert camera.spec.shape == (HEIGHT, WIDTH, 3)
    assert frame_numbers(camera.read()) == [9, 10, 11, 12, 13]
    assert recordings.specs["action"].rate_hz == 50
    assert recordings[0].metadata == {"simulated": True}


def test_hdf5_of_another_layout_names_its_groups(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as root:
        root["frames"] = np.zeros(3)
    with pytest.raises(DataError, match=r"has the groups frames; expected data/demo_0/actions"):
        open_recordings(tmp_path)


def test_rows_of_unequal_length_are_out_of_step(tmp_path):
    path = robomimic(tmp_path / "lift.hdf5")
    with h5py.File(path, "a") as root:
        del root["data/demo_2/rewards"]
        root["data/demo_2/rewards"] = np.zeros(STEPS - 1)
    with pytest.raises(
        DataError, match="'rewards' has 4 rows where the actions have 5: rows and frames are out of step"
    ):
        open_recordings(path)[1]


def test_a_truncated_hdf5_file_says_so(tmp_path):
    path = robomimic(tmp_path / "lift.hdf5")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"lift\.hdf5 \(5000 bytes\) is no readable HDF5 file.*truncated"):
        open_recordings(path)


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    path = robomimic(tmp_path / "lift.hdf5")
    monkeypatch.setitem(sys.modules, "h5py", None)  # what an import finds where a package is absent
    with pytest.raises(MissingExtraError, match=r"pip install 'forerun\[hdf5\]'"):
        open_recordings(path)
