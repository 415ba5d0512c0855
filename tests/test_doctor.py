"""What the doctor finds in broken recordings, and what it mends in a copy."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forerun.cli.data import run
from forerun.data import Episode, open_recordings, write_lerobot, write_video
from forerun.data.doctor import examine
from forerun.data.doctor_set import MAX_LAG, lag_correlation
from forerun.data.findings import Finding
from forerun.data.repair import fix
from forerun.types import DataError, StorageError
from sample_recordings import CAMERA, FPS, clip, make_v21, real, stream

LENGTHS = (8, 11, 9)
LONG = 120


@pytest.fixture(scope="module")
def flawless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LeRobot v2.1 folder with statistics and a running index: what mending leaves behind."""
    folder = tmp_path_factory.mktemp("flawless")
    fix(make_v21(folder / "raw", LENGTHS), folder / "set")
    return folder / "set"


@pytest.fixture
def sound(flawless: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(flawless, tmp_path / "set"))


def table(root: Path, index: int) -> Path:
    return root / f"data/chunk-000/episode_{index:06d}.parquet"


def film(root: Path, index: int) -> Path:
    return root / f"videos/chunk-000/{CAMERA}/episode_{index:06d}.mp4"


def put(file: Path, column: str, values: Any) -> None:
    rows = pq.read_table(file)
    at = rows.column_names.index(column)
    kind = rows.schema.field(at)
    pq.write_table(rows.set_column(at, kind, pa.array(values, type=kind.type)), file)


def column(file: Path, name: str) -> list:
    return pq.read_table(file).column(name).to_pylist()


def contents(root: Path) -> dict[str, str]:
    files = sorted(f for f in root.rglob("*") if f.is_file())
    return {str(f.relative_to(root)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def worth_a_look(path: Path, **options: Any) -> list[Finding]:
    return [f for f in examine(path, **options).findings if f.severity != "note"]


def lose_frames(root: Path) -> None:
    film(root, 1).unlink()
    write_video(film(root, 1), clip(LENGTHS[1] - 3), FPS)


def lose_rows(root: Path) -> None:
    pq.write_table(pq.read_table(table(root, 1)).slice(0, LENGTHS[1] - 3), table(root, 1))


def run_backwards(root: Path) -> None:
    stamps = column(table(root, 1), "timestamp")
    put(table(root, 1), "timestamp", [*stamps[:4], 0.05, *stamps[5:]])


def spoil(root: Path) -> None:
    state = column(table(root, 1), "observation.state")
    state[6][1] = float("nan")
    put(table(root, 1), "observation.state", state)


def cut_video_short(root: Path) -> None:
    content = film(root, 1).read_bytes()
    film(root, 1).write_bytes(content[: len(content) // 2])


def cut_table_short(root: Path) -> None:
    content = table(root, 1).read_bytes()
    table(root, 1).write_bytes(content[: len(content) // 2])


def misnumber(root: Path) -> None:
    put(table(root, 1), "frame_index", [0, 1, 2, 2, *range(4, LENGTHS[1])])


def misindex(root: Path) -> None:
    put(table(root, 1), "index", list(range(LENGTHS[1])))


def stale_numbers(root: Path) -> None:
    file = root / "meta/episodes_stats.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0]["stats"]["observation.state"]["max"][0] += 1.0
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def other_rate(root: Path) -> None:
    film(root, 1).unlink()
    write_video(film(root, 1), clip(LENGTHS[1]), FPS * 2)


BREAKAGES: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "frames lost": (lose_frames, "frames", "8 frames for 11 rows"),
    "rows lost": (lose_rows, "frames", "8 rows in the table"),
    "clock backwards": (run_backwards, "clock", "1 steps stand still or run backwards"),
    "not a number": (spoil, "finite", "first y of sample 6"),
    "video absent": (lambda root: film(root, 1).unlink(), "absent", "episode_000001.mp4 is not there"),
    "table absent": (lambda root: table(root, 1).unlink(), "absent", "episode_000001.parquet is not there"),
    "video cut short": (cut_video_short, "readable", "episode_000001.mp4"),
    "table cut short": (cut_table_short, "readable", "episode_000001.parquet"),
    "frames misnumbered": (misnumber, "index", "frame_index is 2 at row 3"),
    "index restarts": (misindex, "index", "index runs from 0 to 10"),
    "stale statistics": (stale_numbers, "statistics", "stored max of channel 0"),
    "video at another rate": (other_rate, "rate", "20.00 frames per second"),
}


def test_a_sound_set_has_nothing_but_notes(sound: Path) -> None:
    report = examine(sound)
    assert report.sound
    assert worth_a_look(sound) == []
    assert (report.num_episodes, report.num_examined) == (len(LENGTHS), len(LENGTHS))


@pytest.mark.parametrize("name", BREAKAGES)
def test_every_fault_is_found_where_it_is(sound: Path, name: str) -> None:
    breaking, check, words = BREAKAGES[name]
    breaking(sound)
    faults = examine(sound).of("fault")
    assert {f.check for f in faults} >= {check}
    told = next(f for f in faults if f.check == check)
    assert words in told.found
    assert told.episode == ("episode_000000" if name == "stale statistics" else "episode_000001")
    assert told.expected
    assert told.advice


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_mended_copy_is_sound_and_the_original_untouched(sound: Path, tmp_path: Path, name: str) -> None:
    BREAKAGES[name][0](sound)
    before = contents(sound)
    said = fix(sound, tmp_path / "copy")
    assert contents(sound) == before
    if name != "video at another rate":  # which of the two rates is wrong nobody can tell
        assert examine(tmp_path / "copy", full=True).of("fault") == []
    assert said


def test_mending_keeps_video_bytes_and_renumbers_what_is_left(sound: Path, tmp_path: Path) -> None:
    spoil(sound)
    said = fix(sound, tmp_path / "copy")
    assert "left out episode_000001: it holds values that are not finite" in said
    kept = open_recordings(tmp_path / "copy")
    assert len(kept) == 2
    assert film(tmp_path / "copy", 1).read_bytes() == film(sound, 2).read_bytes()
    assert column(table(tmp_path / "copy", 1), "index") == list(range(LENGTHS[0], LENGTHS[0] + LENGTHS[2]))
    assert kept[1].streams["observation.state"].read()[0, 0] == 20  # of the third episode


def test_mending_cuts_rows_that_have_no_frame(sound: Path, tmp_path: Path) -> None:
    lose_frames(sound)
    said = fix(sound, tmp_path / "copy")
    assert "episode_000001: cut 3 rows at the end that have no frame" in said
    assert len(open_recordings(tmp_path / "copy")[1].streams[CAMERA]) == LENGTHS[1] - 3


def test_frames_without_a_row_are_a_warning_and_mending_cuts_them(sound: Path, tmp_path: Path) -> None:
    film(sound, 1).unlink()
    write_video(film(sound, 1), clip(LENGTHS[1] + 2), FPS)
    assert [f.found for f in worth_a_look(sound) if f.check == "frames"] == ["13 frames for 11 rows"]
    assert f"episode_000001: cut 2 frames of {CAMERA} that have no row" in fix(sound, tmp_path / "copy")
    assert worth_a_look(tmp_path / "copy", full=True) == []


def test_mending_puts_a_broken_clock_right(sound: Path, tmp_path: Path) -> None:
    run_backwards(sound)
    fix(sound, tmp_path / "copy")
    np.testing.assert_allclose(
        column(table(tmp_path / "copy", 1), "timestamp"), np.arange(LENGTHS[1]) / FPS, atol=1e-6
    )


def test_nothing_is_overwritten_and_nothing_half_mended_stays(sound: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError, match="exists already"):
        fix(sound, tmp_path / "taken")
    for index in range(len(LENGTHS)):
        film(sound, index).write_bytes(b"")
    with pytest.raises(DataError, match="none of the 3 episodes is sound"):
        fix(sound, tmp_path / "copy")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set", "taken"]


def test_a_folder_that_is_no_data_set_is_one_fault(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    report = examine(tmp_path)
    assert [f.check for f in report.of("fault")] == ["readable"]
    assert not report.sound


def test_a_path_where_nothing_is_is_no_set_with_a_fault(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'nowhere' does not exist"):
        run(["doctor", str(tmp_path / "nowhere")])


def moving(seed: int, lag: int = 3, **changed: Any) -> Episode:
    """State follows the action by ``lag`` samples."""
    path = np.cumsum(np.random.default_rng(seed).normal(size=(LONG + 2 * MAX_LAG, 2)), axis=0).astype(
        np.float32
    )
    action, state = path[MAX_LAG : MAX_LAG + LONG], path[MAX_LAG - lag : MAX_LAG - lag + LONG]
    streams = {
        "action": stream("action", "action", action, unit="m", rate_hz=10.0),
        "observation.state": stream("observation.state", "vector", state, unit="m", rate_hz=10.0),
    }
    return Episode(f"run_{seed}", streams | changed, "follow")


def findings_of(folder: Path, *episodes: Episode) -> list[Finding]:
    write_lerobot(folder / "written", episodes, fps=FPS)
    return examine(folder / "written").findings


@pytest.mark.parametrize(
    ("lag", "severity", "words"),
    [
        (3, "note", "'observation.state' follows it by 0.300 s"),
        (9, "warning", "'observation.state' follows it by 0.900 s"),
        (-2, "warning", "it moves 0.200 s after 'observation.state'"),
        (0, "warning", "it equals 'observation.state' at every sample"),
    ],
)
def test_the_lag_between_action_and_state_is_measured(
    tmp_path: Path, lag: int, severity: str, words: str
) -> None:
    found = [f for f in findings_of(tmp_path, moving(0, lag), moving(1, lag)) if f.check == "lag"]
    assert [(f.severity, words in f.found) for f in found] == [(severity, True)]


def test_unrelated_streams_have_no_lag() -> None:
    rng = np.random.default_rng(0)
    assert lag_correlation(rng.normal(size=(500, 3)), rng.normal(size=(500, 3))).max() < 0.2


def test_copies_of_an_episode_are_found_and_worse_across_splits(tmp_path: Path) -> None:
    write_lerobot(tmp_path / "set", [moving(0), moving(1), moving(0)], fps=FPS)
    found = [f for f in examine(tmp_path / "set").findings if f.check == "duplicate"]
    assert [(f.severity, f.found) for f in found] == [("warning", "same content as 'run_0'")]
    info = json.loads((tmp_path / "set/meta/info.json").read_text())
    info["splits"] = {"train": "0:2", "val": "2:3"}
    (tmp_path / "set/meta/info.json").write_text(json.dumps(info))
    found = [f for f in examine(tmp_path / "set").findings if f.check == "duplicate"]
    assert [(f.severity, f.found) for f in found] == [
        ("fault", "same content as 'run_0', which is in another split")
    ]


def test_a_channel_that_never_changes_is_named(tmp_path: Path) -> None:
    values = np.stack([np.arange(LONG), np.full(LONG, 2.5)], axis=1).astype(np.float32)
    gripper = stream("gripper", "vector", values, unit="m", names=("open", "force"), rate_hz=10.0)
    found = [f for f in findings_of(tmp_path, moving(0, gripper=gripper)) if f.check == "dead"]
    assert [f.found for f in found] == ["1 of 2 channels never change: force = 2.5"]


def test_a_camera_that_shows_one_colour_is_named(tmp_path: Path) -> None:
    camera = stream("camera", "video", np.repeat(clip(1), LONG, axis=0), unit="rgb", rate_hz=10.0)
    found = [f for f in findings_of(tmp_path, moving(0, camera=camera)) if f.check == "dead"]
    assert [(f.stream, "one plain colour" in f.found) for f in found] == [("camera", True)]


@pytest.mark.parametrize(
    ("unit", "names", "values", "words"),
    [
        ("rad", (), [[90.0], [-45.0]], "these look like degrees"),
        ("m", (), [[512.0], [300.0]], "these look like millimetres"),
        ("", ("qw", "qx", "qy", "qz"), [[1, 0, 0, 0], [1, 1, 0, 0]], "norm 1"),
    ],
)
def test_values_unlike_their_unit_are_doubted(
    tmp_path: Path, unit: str, names: tuple[str, ...], values: list, words: str
) -> None:
    repeated = np.tile(np.asarray(values, dtype=np.float32), (LONG // 2, 1))
    pose = stream("pose", "vector", repeated, unit=unit, names=names, rate_hz=10.0)
    found = [
        f
        for f in findings_of(tmp_path, moving(0, pose=pose))
        if f.check == "units" and f.severity == "warning"
    ]
    assert [words in f.expected for f in found] == [True]


def test_actions_outside_their_bounds_are_doubted(tmp_path: Path) -> None:
    values = np.linspace(-3, 1, LONG, dtype=np.float32)[:, None]
    action = stream("action", "action", values, unit="m", low=(-1.0,), high=(1.0,), rate_hz=10.0)
    found = [f for f in findings_of(tmp_path, moving(0, action=action)) if f.check == "units"]
    assert [(f.stream, f.severity) for f in found] == [("action", "warning")]


def test_gaps_jitter_rates_and_late_starts_of_a_stream_are_found(tmp_path: Path) -> None:
    steps = np.random.default_rng(0).uniform(0.004, 0.02, size=400)
    steps[100] = 0.3
    touch = stream(
        "touch",
        "touch",
        np.random.default_rng(1).normal(size=(400, 3)),
        1.5 + np.cumsum(steps),
        rate_hz=200.0,
    )
    found = {
        (f.check, f.severity): f for f in findings_of(tmp_path, moving(0, touch=touch)) if f.stream == "touch"
    }
    assert "the longest 0.300 s" in found["gaps", "warning"].found
    assert "jittery clock" in found["gaps", "note"].found
    assert "200 Hz" in found["rate", "warning"].expected
    assert "after" in found["offset", "warning"].found
    assert "before" in found["offset", "note"].found


def test_a_set_of_another_format_is_mended_into_lerobot(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for index in range(3):
        write_video(tmp_path / f"clips/run_{index}.mp4", clip(12, index), FPS)
    shutil.copy(tmp_path / "clips/run_0.mp4", tmp_path / "clips/twin.mp4")
    said = fix(tmp_path / "clips", tmp_path / "copy")
    assert "left out twin: it repeats another episode" in said
    assert open_recordings(tmp_path / "copy").format == "lerobot-v3.0"


def test_the_exit_code_tells_of_faults_and_mending(sound: Path, tmp_path: Path, capsys: Any) -> None:
    assert run(["doctor", str(sound)]) == 0
    run_backwards(sound)
    assert run(["doctor", str(sound)]) == 1
    assert "run backwards" in capsys.readouterr().out.replace("\n", " ")
    assert run(["doctor", str(sound), "--fix", str(tmp_path / "copy")]) == 0
    assert "put the time stamps" in capsys.readouterr().out.replace("\n", " ")


def test_findings_can_be_read_by_a_program(sound: Path, capsys: Any) -> None:
    run_backwards(sound)
    assert run(["doctor", str(sound), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["sound"] is False
    assert "clock" in {f["check"] for f in told["findings"]}


def test_real_statistics_of_other_pictures_are_noticed() -> None:
    root = real("unitree_g1_small_lerobot_v21")
    stale = [f for f in examine(root).findings if f.check == "statistics"]
    assert stale
    assert {(f.severity, f.stream) for f in stale} == {("warning", "observation.images.cam_high")}


def test_a_real_shard_that_is_named_but_absent_is_noticed() -> None:
    absent = [f for f in examine(real("bridge_rlds_mini")).findings if f.check == "absent"]
    assert [f.found for f in absent] == ["0 of 1 shards of the split 'val' are there"]


def test_real_clocks_that_start_apart_are_noticed() -> None:
    found = {f.check: f for f in worth_a_look(real("wrench_screwdriving"))}
    assert "0.659 s after 'observation.tip'" in found["offset"].found
    assert "39 gaps, the longest 0.153 s" in found["gaps"].found
