"""What the summary says and what the contact sheet shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from forerun.cli.data import run
from forerun.data import Episode, Recordings, open_recordings, write_lerobot
from forerun.data.contact_sheet import contact_sheet
from forerun.data.inspect import Summary, readable, summary
from forerun.types import ConfigError, DataError, StorageError
from sample_recordings import CAMERA, episode, make_v21, real, stream


def in_memory(*episodes: Episode) -> Recordings:
    specs = {name: s.spec for name, s in episodes[0].streams.items()}
    return Recordings(Path("sets/kitchen"), "memory", specs, len(episodes), lambda i: episodes[i])


def printed(about: Summary) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(about)
    return capture.get()


def test_a_summary_measures_rates_gaps_and_ranges() -> None:
    times_s = np.concatenate([np.arange(50), np.arange(90, 120)]) / 100
    touch = stream("touch", "touch", np.linspace(-1, 2, 80)[:, None], times_s, unit="N", rate_hz=100.0)
    about = summary(
        in_memory(Episode("a", {"touch": touch}, "press", True), Episode("b", {"touch": touch}, "press"))
    )
    found = about.streams["touch"]
    assert found.rates_hz == pytest.approx((100, 100))
    assert found.num_gaps == 2
    assert found.steps_s == pytest.approx((0.01, 0.41))
    assert (found.low, found.high, found.num_samples) == (-1, 2, 160)
    assert about.lengths_s == pytest.approx((1.2, 1.2))
    assert about.tasks == ("press",)
    assert about.successes == (True,)


def test_a_summary_is_printed_with_units_and_rates() -> None:
    text = printed(summary(in_memory(episode(0), episode(1))))
    assert "2 episodes, 2 s in all" in text
    assert "kitchen  memory" in text
    line = next(row for row in text.splitlines() if row.startswith("action"))
    assert line.split()[:4] == ["action", "action", "2", "N"]
    assert "10 Hz" in line


def test_an_episode_that_cannot_be_read_is_counted_and_shown(tmp_path: Path) -> None:
    folder = make_v21(tmp_path / "set")
    (folder / "data/chunk-000/episode_000001.parquet").write_bytes(b"torn")
    about = summary(open_recordings(folder))
    assert len(about.unreadable) == 1
    assert "unreadable: episode 1" in printed(about)


def test_an_empty_set_has_no_summary() -> None:
    with pytest.raises(DataError, match="holds no episode"):
        summary(replace(in_memory(episode()), num_episodes=0))


@pytest.mark.parametrize(("seconds", "words"), [(42.4, "42 s"), (942, "15.7 min"), (11520, "3.2 h")])
def test_durations_are_said_in_a_fitting_unit(seconds: float, words: str) -> None:
    assert readable(seconds) == words


def test_a_contact_sheet_has_a_row_for_each_camera_of_each_episode(tmp_path: Path) -> None:
    one = contact_sheet(in_memory(episode(0)), tmp_path / "one.png")
    two = contact_sheet(in_memory(episode(0), episode(1)), tmp_path / "two.png")
    with Image.open(one) as small, Image.open(two) as large:
        assert small.width == large.width
        assert large.height > small.height
        pixels = np.asarray(large.convert("L"))
    assert pixels[:, :200].min() < 80  # dark text
    assert (pixels > 245).mean() > 0.2  # on light ground


def test_a_set_without_video_is_drawn_as_curves(tmp_path: Path) -> None:
    numbers = {n: s for n, s in episode(0).streams.items() if s.spec.kind != "video"}
    sheet = contact_sheet(in_memory(replace(episode(0), streams=numbers)), tmp_path / "curves.png")
    with Image.open(sheet) as picture:
        assert np.asarray(picture.convert("L")).std() > 5


def test_a_damaged_video_leaves_its_cells_empty(tmp_path: Path) -> None:
    folder = make_v21(tmp_path / "set", (6, 9))
    film = folder / f"videos/chunk-000/{CAMERA}/episode_000001.mp4"
    film.write_bytes(film.read_bytes()[:900])
    assert contact_sheet(open_recordings(folder), tmp_path / "sheet.png").stat().st_size > 1000


def test_no_picture_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "sheet.png").write_text("mine")
    with pytest.raises(StorageError, match="exists already"):
        contact_sheet(in_memory(episode()), tmp_path / "sheet.png")
    with pytest.raises(StorageError, match="cannot be written"):
        contact_sheet(in_memory(episode()), tmp_path / "sheet.png" / "sheet.png")
    assert (tmp_path / "sheet.png").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]


def test_the_command_line_prints_and_draws(tmp_path: Path, capsys: Any) -> None:
    write_lerobot(tmp_path / "set", [episode(0)], fps=10)
    assert run(["inspect", str(tmp_path / "set"), "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert "observation.state" in capsys.readouterr().out
    assert (tmp_path / "sheet.png").is_file()


@pytest.mark.parametrize("episodes", ["-3", "0"])
def test_a_contact_sheet_of_no_episode_is_refused(tmp_path: Path, episodes: str) -> None:
    with pytest.raises(ConfigError, match=f"--episodes {episodes} .* at least 1 episode"):
        run(["inspect", str(make_v21(tmp_path / "set")), "--episodes", episodes])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--fps", "0"), "clock of 0 Hz .* a positive rate"),
        (("--fps", "-2"), "clock of -2 Hz .* a positive rate"),
        (("--crf", "999"), r"crf is 999; libx264 takes 0 \(best\) to 51"),
        (("--crf", "64", "--codec", "libsvtav1"), r"crf is 64; libsvtav1 takes 0 \(best\) to 63"),
    ],
)
def test_a_rate_or_quality_out_of_range_is_refused(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    folder = make_v21(tmp_path / "set")
    with pytest.raises(ConfigError, match=says):
        run(["convert", str(folder), str(tmp_path / "out"), *words])
    assert not (tmp_path / "out").exists()


def test_the_help_names_what_goes_where(capsys: Any) -> None:
    for words, usage in {"convert": "DATA OUT", "record": "ENV OUT", "doctor": "DATA"}.items():
        with pytest.raises(SystemExit):
            run([words, "--help"])
        assert usage in " ".join(capsys.readouterr().out.split("Example")[0].split())


def test_converting_from_the_command_line_states_units_and_keeps_clocks(tmp_path: Path) -> None:
    folder = make_v21(tmp_path / "set")
    assert (
        run(
            ["convert", str(folder), str(tmp_path / "out"), "--unit", "observation.state=rad", "action=rad/s"]
        )
        == 0
    )
    back = open_recordings(tmp_path / "out")
    assert back.specs["observation.state"].unit == "rad"
    assert np.array_equal(
        back[1].streams["action"].read(), open_recordings(folder)[1].streams["action"].read()
    )


@pytest.mark.parametrize(
    "name", ["unitree_g1_lerobot_v30", "droid_real_multiview", "wrench_screwdriving", "touch_icub_grasp"]
)
def test_real_sets_can_be_looked_at(tmp_path: Path, name: str) -> None:
    recordings = open_recordings(real(name))
    text = printed(summary(recordings))
    assert all(stream_name in text for stream_name in recordings.specs)
    with Image.open(contact_sheet(recordings, tmp_path / "sheet.png", episodes=2)) as picture:
        assert picture.width > 500
