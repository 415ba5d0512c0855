"""Pages, strips and charts, made from synthetic pictures."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forerun.data.video import index_video, read_frames
from forerun.evaluation import report
from forerun.evaluation.charts import COLOURS, error_chart, loss_chart
from forerun.evaluation.report import (
    Attempt,
    Clip,
    Command,
    ErrorCurve,
    LossCurve,
    Planned,
    Recorded,
    Score,
    demo_page,
    imagination_page,
    read_loss,
)
from forerun.evaluation.stats import Band, bootstrap_band, wilson
from forerun.evaluation.strips import attempt_strip, clip_strip, difference
from forerun.types import DataError, ShapeError, StorageError

T, S, TICK_S = 6, 16, 0.1


def film(seed: int, ticks: int = T) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (ticks, S, S, 3), dtype=np.uint8)


def clip(name: str = "episode 3") -> Clip:
    return Clip(real=film(0), imagined=film(1), name=name, context_ticks=2, tick_s=TICK_S)


def attempt(reached: bool, ticks: int = T) -> Attempt:
    return Attempt(name="trial 1", frames=film(2, ticks), goal=film(3)[0], reached=reached, tick_s=TICK_S)


def curve(**more: Band) -> ErrorCurve:
    seconds = TICK_S * np.arange(1, T)
    band = bootstrap_band(np.random.default_rng(0).random((8, T - 1)), resamples=50)
    return ErrorCurve(seconds=seconds, model=band, copy_last=band, n=8, **more)


def loss(name: str = "dynamics") -> LossCurve:
    return LossCurve(name=name, steps=np.array([1.0, 2.0]), values=np.array([2.0, 0.5]))


def write_demo(path: Path, **changed) -> list[Path]:
    sheet = path.parent / "sheet.png"
    Image.fromarray(film(4)[0]).save(sheet)
    scores = [
        Score(name="planner", success=wilson(17, 20), n=20, ms_per_decision=21.3, replan_hz=10),
        Score(name="random moves", success=wilson(0, 20), n=20),
    ]
    content = {
        "title": "A robot that learned to push",
        "summary": "It reached 85 % of 20 goals.",
        "facts": {"machine": "2 cores"},
        "recorded": Recorded(sheet=sheet, facts={"episodes": "20"}),
        "learned": [loss("representation"), loss()],
        "clips": [clip()],
        "curve": curve(),
        "planned": Planned(scores=scores, attempts=[attempt(True, 3), attempt(False)], facts={"seed": "0"}),
        "limits": ["It knows this block & nothing else."],
        "commands": [Command(line="forerun train --data PATH", about="Train; `PATH` is a folder.")],
    }
    return demo_page(path, **(content | changed))


class Sources(HTMLParser):
    """Collects where a page gets things from, and its text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.text = ""
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [v for k, v in attrs if k in ("src", "href", "data", "xlink:href") and v]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("write", [write_demo, None])
def test_a_page_needs_nothing_but_itself(tmp_path: Path, write) -> None:
    page = tmp_path / "page.html"
    files = (
        write(page)
        if write
        else imagination_page(page, title="t", clips=[clip()], curve=curve(), facts={"a": "b"})
    )
    outside = [s for s in Sources(page).found if not s.startswith(("data:", "#"))]
    assert files[0] == page
    assert outside == []
    assert all(f.is_file() for f in files)
    assert "url(http" not in page.read_text()


def test_the_demo_page_says_what_was_done_and_how_well(tmp_path: Path) -> None:
    write_demo(tmp_path / "report.html")
    text = " ".join(Sources(tmp_path / "report.html").text.split())
    for words in ("85 % (64 to 95 %)", "21.3 ms", "10 per s", "0 % (0 to 16 %)", "block & nothing else"):
        assert words in text
    for heading in ("recorded", "learned", "imagines", "plans", "cannot do", "your own recordings"):
        assert heading in text


def test_pages_can_be_told_less(tmp_path: Path) -> None:
    nothing = Planned(scores=[], attempts=[], facts={})
    assert len(write_demo(tmp_path / "report.html", learned=[], curve=None, planned=nothing)) == 2
    imagination_page(tmp_path / "imagined.html", title="t", clips=[clip()], curve=None, facts={})


def test_a_film_shows_three_panels_and_plays_in_browsers(tmp_path: Path) -> None:
    files = imagination_page(tmp_path / "p.html", title="t", clips=[clip()], curve=None, facts={})
    assert [f.name for f in files] == ["p.html", "p-clip-1.mp4"]
    assert index_video(files[1]).num_frames == T
    frames = read_frames(files[1], np.arange(T))
    assert frames.shape[0] == T
    assert frames.shape[2] == 3 * 192 + 2 * 8
    blue_bar = frames[:, -3, 100].astype(int)
    assert (blue_bar[2:, 2] - blue_bar[2:, 0] > 80).all()  # imagined from tick 2 on
    assert (abs(blue_bar[:2, 2] - blue_bar[:2, 0]) < 40).all()


def test_a_large_film_is_played_from_beside_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "INLINE_BYTES", 10)
    imagination_page(tmp_path / "p.html", title="t", clips=[clip()], curve=None, facts={})
    assert "p-clip-1.mp4" in Sources(tmp_path / "p.html").found


def test_names_from_recordings_cannot_inject_markup(tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    facts = {"data": "<script>alert(1)</script>"}
    imagination_page(page, title="<b>", clips=[clip("<img src=x>")], curve=None, facts=facts)
    assert "<script>" not in page.read_text()
    assert "<img src=x>" not in page.read_text()


def test_no_page_is_overwritten_and_none_half_written(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(StorageError, match="exists already"):
        write_demo(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == "mine"
    torn = clip()
    object.__setattr__(torn, "imagined", np.zeros((2, 3, 3, 3), np.uint8))
    with pytest.raises(ValueError, match="broadcast"):
        imagination_page(tmp_path / "other.html", title="t", clips=[clip(), torn], curve=None, facts={})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "sheet.png"]


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        imagination_page(tmp_path / "file" / "p.html", title="t", clips=[clip()], curve=None, facts={})


def test_a_clip_counts_time_from_the_last_picture_seen() -> None:
    assert clip().seconds == pytest.approx([-0.1, 0, 0.1, 0.2, 0.3, 0.4])


def test_a_clip_of_unequal_films_is_refused() -> None:
    with pytest.raises(ShapeError, match="episode 3"):
        Clip(real=film(0), imagined=film(0, 5), name="episode 3", context_ticks=2, tick_s=TICK_S)
    with pytest.raises(ShapeError, match="gives 7 of 6"):
        Clip(real=film(0), imagined=film(0), name="episode 3", context_ticks=7, tick_s=TICK_S)


def test_difference_is_black_where_pictures_agree_and_bright_where_not() -> None:
    black, white = np.zeros((1, S, S, 3), np.uint8), np.full((1, S, S, 3), 255, np.uint8)
    assert difference(white, white).max() < 8
    assert difference(white, black).min() > 180


def test_strips_have_a_row_for_each_film_on_clear_ground() -> None:
    one, two = attempt_strip([attempt(True)]), attempt_strip([attempt(True), attempt(False, 2)])
    assert two.height > one.height
    assert clip_strip(clip()).mode == "RGBA"
    assert clip_strip(clip()).getpixel((0, 0)) == (0, 0, 0, 0)


def test_charts_take_their_colours_and_type_from_the_page() -> None:
    band = bootstrap_band(np.random.default_rng(1).random((8, T - 1)), resamples=50)
    svg = error_chart(curve(nearest=band, mean=band)) + loss_chart([loss(), loss("goals")])
    assert not any(colour in svg for colour in COLOURS.values())
    assert "var(--model)" in svg
    assert "<text" in svg
    for words in (
        "copy of the last picture",
        "nearest recording",
        "mean picture",
        "dynamics",
        "goals",
    ):
        assert words in svg


def test_a_chart_is_the_same_every_time() -> None:
    assert error_chart(curve()) == error_chart(curve())


def test_a_curve_with_gaps_is_drawn() -> None:
    points = np.array([float("nan"), *np.linspace(0.1, 0.2, T - 2)])
    band = Band(points, points, points)
    assert "copy of the last" in error_chart(
        ErrorCurve(seconds=TICK_S * np.arange(1, T), model=band, copy_last=band, n=3)
    )


def test_a_curve_needs_a_point_for_each_time() -> None:
    short = Band(np.zeros(2), np.zeros(2), np.zeros(2))
    with pytest.raises(ShapeError, match="nearest recording"):
        curve(nearest=short)


def test_losses_are_read_from_the_log_of_a_run_that_was_killed(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    rows = [json.dumps({"step": k, "total": 1 / k}) for k in (20, 40)]
    log.write_text("\n".join([*rows, '{"step": 60, "to']))
    found = read_loss(log, "dynamics")
    assert found.steps.tolist() == [20, 40]
    assert found.values.tolist() == [0.05, 0.025]
    log.write_text("{}\n")
    with pytest.raises(DataError, match="no line"):
        read_loss(log, "dynamics")


def test_pictures_in_a_page_are_whole(tmp_path: Path) -> None:
    page = write_demo(tmp_path / "report.html")[0]
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page.read_text())
    assert len(found) == 3
    for data in found:
        (tmp_path / "one.png").write_bytes(base64.b64decode(data))
        with Image.open(tmp_path / "one.png") as picture:
            picture.verify()
