"""Every bundled real set opens by its path, with the streams, units and clocks its authors describe."""

from __future__ import annotations

import json
import re
import textwrap

import numpy as np
import pytest

from forerun.data import Recordings, align, open_recordings, write_lerobot, write_video
from forerun.data import manifest as documented
from forerun.data.folder import VIDEO_STREAM
from sample_recordings import FPS, HEIGHT, WIDTH, clip, frame_numbers, make_v21, real

SETS = {
    "unitree_g1_small_lerobot_v21": ("lerobot-v2.1", 81, {"video", "vector", "action"}),
    "unitree_g1_lerobot_v21": ("lerobot-v2.1", 14, {"video", "vector", "action"}),
    "unitree_g1_lerobot_v30": ("lerobot-v3.0", 3, {"video", "vector", "action"}),
    "bridge_rlds_mini": ("rlds", 25, {"video", "vector", "action", "privileged"}),
    "droid_real_multiview": ("folder", 9, {"video", "vector", "action"}),
    "franka_goal_pair": ("folder", 1, {"video", "vector"}),
    "physics_hands_liquid_ball": ("folder", 3, {"video"}),
    "physics_objects_intel": ("folder", 2, {"video"}),
    "fluid_particles_microscopy": ("folder", 1, {"video"}),
    "rigid_cube_tosses": ("folder", 456, {"vector"}),
    "touch_icub_grasp": ("folder", 176, {"vector", "touch"}),
    "touch_biotac_stability": ("folder", 3187, {"touch"}),
    "touch_softfinger_wrench": ("folder", 2, {"touch"}),
    "wrench_screwdriving": ("folder", 1, {"vector", "touch"}),
}


@pytest.mark.parametrize("name", SETS)
def test_every_bundled_set_opens_by_its_path(name):
    form, count, kinds = SETS[name]
    recordings = open_recordings(real(name))
    assert (recordings.format, len(recordings)) == (form, count)
    assert {spec.kind for spec in recordings.specs.values()} == kinds
    for index in (0, -1):
        episode = recordings[index]
        assert list(episode.streams) == list(recordings.specs)
        for stream in episode.streams.values():
            sample = stream.read(np.asarray([0, len(stream) - 1]))
            assert sample.shape == (2, *stream.spec.shape)
            assert (sample.dtype == np.uint8) == (stream.spec.kind == "video")
        pictures = [s.read(np.asarray([0])).std() for s in episode.of_kind("video")]
        assert not pictures or max(pictures) > 5  # some camera shows more than a blank


def test_droid_pictures_at_5_hz_belong_to_every_third_row():
    recordings = open_recordings(real("droid_real_multiview"))
    episode = recordings[0]
    camera, state = (
        episode.streams["observation.images.wrist"],
        episode.streams["observation.state.joint_position"],
    )
    assert (len(camera), len(state)) == (56, 167)
    assert np.array_equal(camera.times_s, state.times_s[::3])
    assert align(state, camera.times_s).age_s.max() == 0
    assert [e.success for e in recordings] == [True, True, True, True, False, False, False, False, False]


def test_bridge_notes_the_absent_shard_and_that_there_is_no_clock():
    recordings = open_recordings(real("bridge_rlds_mini"))
    assert (
        "bridge_dataset-val.tfrecord-00000-of-00001 (25 episodes of split 'val') is absent"
        in recordings.notes[0]
    )
    assert "no clock: steps are put at 5 Hz" in recordings.notes[1]
    episode = recordings[0]
    assert episode.task == "put cup from counter or drying rack into sink"
    assert episode.metadata["split"] == "train"
    assert np.allclose(np.diff(episode.streams["action"].times_s), 0.2)
    assert len(np.unique([e.streams["observation.image_0"].read().sum() for e in recordings])) == 25


def test_cube_tosses_are_in_metres_and_fall_with_gravity():
    recordings = open_recordings(real("rigid_cube_tosses"))
    assert recordings.specs["observation.position"].unit == "m"
    falls = []
    for episode in recordings[:40]:
        speed = episode.streams["observation.velocity"]
        falls.append(np.diff(speed.read()[:8, 2]) / np.diff(speed.times_s[:8]))
    assert np.median(falls) == pytest.approx(-9.81, rel=0.1)
    norms = np.linalg.norm(recordings[5].streams["observation.orientation"].read(), axis=1)
    assert np.allclose(norms, 1, atol=1e-3)


def test_icub_taxels_are_touch_and_an_index_clock_is_admitted():
    recordings = open_recordings(real("touch_icub_grasp"))
    assert recordings.specs["observation.taxels"].shape == (5, 12)
    assert any("no time stamps" in note for note in recordings.notes)
    assert sum(len(e.streams["observation.taxels"]) for e in recordings) == 2226
    taxels = recordings[0].streams["observation.taxels"].read()
    assert taxels.min() >= 0
    assert taxels.max() <= 255
    assert {e.metadata["reliable"] for e in recordings} == {True, False}


def test_biotac_grasps_are_one_sample_each_with_the_outcome():
    recordings = open_recordings(real("touch_biotac_stability"))
    assert recordings[0].streams["observation.tactile"].read().shape == (1, 3, 24)
    splits = [(e.metadata["split"], e.metadata["object"]) for e in recordings]
    train, test = ({o for s, o in splits if s == split} for split in ("train", "test"))
    assert train.isdisjoint(test)  # test = new objects


def test_screwdriving_clocks_share_one_zero_in_seconds():
    episode = open_recordings(real("wrench_screwdriving"))[0]
    wrench, tip = episode.streams["observation.wrench_force"], episode.streams["observation.tip"]
    assert (tip.times_s[0], wrench.times_s[0]) == (0.0, 0.659)
    assert np.median(np.diff(wrench.times_s)) == pytest.approx(0.021, abs=0.002)
    assert wrench.spec.unit == "N"
    assert wrench.spec.kind == "touch"


def test_a_converted_real_set_keeps_both_rates(tmp_path):
    episode = open_recordings(real("droid_real_multiview"))[0]
    again = open_recordings(write_lerobot(tmp_path / "set", [episode], fps=15))[0]
    for name, stream in episode.streams.items():
        assert again.streams[name].spec == stream.spec
        assert np.array_equal(again.streams[name].times_s, stream.times_s)
    first, second = (e.streams["observation.images.wrist"].read(np.arange(3)) for e in (episode, again))
    assert np.abs(first.astype(int) - second).mean() < 6


def described(root, **episode) -> Recordings:
    """A folder of one film and the stream files that a manifest describes."""
    write_video(root / "a.mp4", clip(6), FPS)
    manifest = {"episodes": [{"name": "a", **episode}], "notes": ["made by hand"]}
    (root / "forerun.json").write_text(json.dumps(manifest))
    return open_recordings(root)


VALUES = np.arange(12, dtype=np.float64).reshape(6, 2)


def as_csv(path):
    path.write_text("t,x,y\n" + "\n".join(f"{100 * k},{x},{y}" for k, (x, y) in enumerate(VALUES)))


def as_npz(path):
    np.savez(path, t=100 * np.arange(6), x=VALUES[:, 0], y=VALUES[:, 1])


def as_json(path):
    path.write_text(
        json.dumps(
            {"t": (100 * np.arange(6)).tolist(), "x": VALUES[:, 0].tolist(), "y": VALUES[:, 1].tolist()}
        )
    )


def as_json_lines(path):
    path.write_text("\n".join(json.dumps({"t": 100 * k, "x": x, "y": y}) for k, (x, y) in enumerate(VALUES)))


def as_parquet(path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"t": 100 * np.arange(6), "x": VALUES[:, 0], "y": VALUES[:, 1]}), path)


WRITERS = {
    "s.csv": as_csv,
    "s.npz": as_npz,
    "s.json": as_json,
    "s.jsonl": as_json_lines,
    "s.parquet": as_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_manifest_reads_side_streams_of_every_kind(tmp_path, name):
    WRITERS[name](tmp_path / name)
    touch = {"file": name, "time": "t", "time_scale_s": 0.001, "unit": "N", "kind": "touch", "scale": 2.0}
    recordings = described(
        tmp_path, task="press", success=True, streams={"cam": {"file": "a.mp4"}, "ft": touch}
    )
    episode = recordings[0]
    assert (episode.task, episode.success, recordings.notes) == ("press", True, ("made by hand",))
    ft = episode.streams["ft"]
    assert (ft.spec.kind, ft.spec.unit, ft.spec.names) == ("touch", "N", ("x", "y"))
    assert np.array_equal(ft.read(), 2 * VALUES)
    assert np.allclose(ft.times_s, np.arange(6) / 10)
    assert frame_numbers(episode.streams["cam"].read()) == list(range(6))


def test_a_manifest_reads_headerless_text_by_column_number(tmp_path):
    np.savetxt(tmp_path / "s.txt", VALUES)
    recordings = described(
        tmp_path, streams={"y": {"file": "s.txt", "columns": ["1"], "rate_hz": 20, "start_s": 0.5}}
    )
    assert np.array_equal(recordings[0].streams["y"].read()[:, 0], VALUES[:, 1])
    assert recordings[0].streams["y"].times_s[:2].tolist() == [0.5, 0.55]
    assert recordings.specs["y"].names == ()


def test_episodes_may_share_files_by_rows_and_templates(tmp_path):
    as_csv(tmp_path / "all.csv")
    write_video(tmp_path / "one.mp4", clip(3), FPS)
    write_video(tmp_path / "two.mp4", clip(3, first=3), FPS)
    content = {
        "streams": {
            "cam": {"file": "{name}.mp4"},
            "x": {"file": "all.csv", "columns": ["x"], "rate_hz": FPS},
        },
        "episodes": [
            {"name": "one", "streams": {"x": {"rows": [0, 3]}}},
            {"name": "two", "streams": {"x": {"rows": [3, 6]}}},
        ],
    }
    (tmp_path / "forerun.json").write_text(json.dumps(content))
    found = [
        (frame_numbers(e.streams["cam"].read()), e.streams["x"].read()[:, 0].tolist())
        for e in open_recordings(tmp_path)
    ]
    assert found == [([0, 1, 2], [0, 2, 4]), ([3, 4, 5], [6, 8, 10])]


def test_the_example_in_the_manifests_documentation_reads_a_folder(tmp_path):
    text = documented.__doc__ or ""
    page = textwrap.dedent(re.findall(r"^    \{$.*?^    \}$", text, re.DOTALL | re.MULTILINE)[0])
    (tmp_path / "forerun.json").write_text(page)
    for name in ("run_01", "run_02"):
        (tmp_path / name).mkdir()
        write_video(tmp_path / name / "cam.mp4", clip(6), FPS)
        rows = "".join(f"{7 + 2 * k},{k},0,-1\n" for k in range(600))
        (tmp_path / name / "ft.csv").write_text("stamp_ms,Fx,Fy,Fz\n" + rows)
        np.savez(tmp_path / name / "robot.npz", q=np.ones((30, 7)), gains=np.zeros(3))
    recordings = open_recordings(tmp_path)
    one, two = recordings
    assert [(e.name, e.task, e.success) for e in (one, two)] == [
        ("run_01", "open the drawer", True),
        ("run_02", "open the drawer", False),
    ]
    assert one.metadata == {"operator": "A"}
    assert [len(e.streams["wrench"]) for e in (one, two)] == [600, 500]
    wrench = one.streams["wrench"]
    assert (wrench.spec.unit, wrench.spec.names) == ("N", ("Fx", "Fy", "Fz"))
    assert np.allclose(wrench.times_s, 0.002 * np.arange(600))
    assert np.allclose(one.streams["state"].times_s, np.arange(30) / 50)
    assert len(one.streams["camera"]) == 6
    assert recordings.notes == ("the wrist camera was unplugged",)


def test_a_video_may_take_its_stamps_from_a_table(tmp_path):
    (tmp_path / "stamps.csv").write_text("t\n" + "\n".join(str(t) for t in (5.0, 5.1, 5.3, 5.35, 5.5, 5.9)))
    recordings = described(
        tmp_path, streams={"cam": {"file": "a.mp4", "time": "t", "time_file": "stamps.csv"}}
    )
    assert np.allclose(recordings[0].streams["cam"].times_s, [0, 0.1, 0.3, 0.35, 0.5, 0.9])


def test_a_manifest_may_lie_elsewhere(tmp_path):
    (tmp_path / "films").mkdir()
    write_video(tmp_path / "films" / "a.mp4", clip(4), FPS)
    page = tmp_path / "page.json"
    page.write_text(
        json.dumps({"episodes": [{"name": "x", "streams": {"cam": {"file": "a.mp4", "rate_hz": 2}}}]})
    )
    assert open_recordings(tmp_path / "films", manifest=page)[0].duration_s == 1.5


def test_a_manifest_can_correct_the_rate_of_a_whole_set(tmp_path):
    page = tmp_path / "page.json"
    page.write_text(json.dumps({"rate_hz": 20}))
    recordings = open_recordings(make_v21(tmp_path / "set"), manifest=page)
    assert recordings[0].streams["action"].times_s[:3].tolist() == [0, 0.05, 0.1]
    assert recordings.specs["action"].rate_hz == 20


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi", ".gif"])
def test_a_folder_of_video_needs_no_manifest(tmp_path, suffix):
    from PIL import Image

    (tmp_path / "deep").mkdir()
    for name, first in (("a", 0), ("deep/b", 5)):
        path = tmp_path / f"{name}{suffix}"
        if suffix == ".gif":
            pictures = [Image.fromarray(f) for f in clip(4, first)]
            pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
        else:
            codec = {".mp4": "libx264", ".webm": "libvpx-vp9", ".avi": "mpeg4"}[suffix]
            write_video(path, clip(4, first), FPS, codec=codec)
    recordings = open_recordings(tmp_path)
    assert [e.name for e in recordings] == ["a", "deep/b"]
    assert recordings.specs[VIDEO_STREAM].shape == (HEIGHT, WIDTH, 3)
    assert [frame_numbers(e.streams[VIDEO_STREAM].read())[0] for e in recordings] == [0, 5]
    assert recordings[0].duration_s == pytest.approx(0.3)


def test_one_video_file_is_a_data_set_of_one_episode(tmp_path):
    path = write_video(tmp_path / "a.mp4", clip(4), FPS)
    write_video(tmp_path / "b.mp4", clip(4), FPS)
    assert [e.name for e in open_recordings(path)] == ["a"]


def test_two_videos_of_one_name_keep_their_endings(tmp_path):
    write_video(tmp_path / "a.mp4", clip(4), FPS)
    write_video(tmp_path / "a.mkv", clip(4), FPS)
    assert [e.name for e in open_recordings(tmp_path)] == ["a.mkv", "a.mp4"]
