"""Two HTML pages a newcomer can read: what a model imagines, and what the demo did.

A page is one file that may be mailed: pictures, charts and short films are inside. Films lie beside it as
MP4 too.
"""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from PIL import Image

import forerun
from forerun.evaluation import first_action
from forerun.evaluation.charts import ErrorCurve, LossCurve, error_chart, loss_chart, read_loss
from forerun.evaluation.first_action import FirstActions
from forerun.evaluation.stats import Interval
from forerun.evaluation.strips import (
    Attempt,
    Clip,
    attempt_strip,
    clip_strip,
    write_attempt_film,
    write_clip_film,
)
from forerun.types import StorageError

__all__ = [
    "Attempt",
    "Clip",
    "Command",
    "ErrorCurve",
    "LossCurve",
    "Planned",
    "Recorded",
    "Score",
    "demo_page",
    "imagination_page",
    "read_loss",
]

INLINE_BYTES = 3_000_000
"""A film up to this size is put into the page; a larger one is played from the file beside it."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What the demo recorded."""

    sheet: Path
    """A contact sheet, PNG; see `forerun.data.contact_sheet`."""
    facts: Mapping[str, str]
    """Such as {"episodes": "300", "length": "50 min at 10 Hz"}."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """How often one way of acting reached its goals."""

    name: str
    """"planner", "random moves", "cloned policy"."""
    success: Interval
    """Share of the trials, 0..1."""
    n: int
    ms_per_decision: float | None = None
    """Median wall-clock of one decision in one trial; None if it decides nothing."""
    replan_hz: float | None = None
    """New plans per second of robot time."""
    about: str = ""
    """One sentence that says what it does."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What came of planning."""

    scores: Sequence[Score]
    """The planner first, then the floors; all on the same trials."""
    attempts: Sequence[Attempt]
    """A few trials to look at, failures among them."""
    facts: Mapping[str, str]
    """Such as {"budget": "50 steps", "seed": "0"}."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """Something to type, and what it does."""

    line: str
    about: str


def imagination_page(
    path: str | Path,
    *,
    title: str,
    clips: Sequence[Clip],
    curve: ErrorCurve | None,
    facts: Mapping[str, str],
    sheet: Path | None = None,
    learned: Sequence[LossCurve] = (),
    planned: FirstActions | str = "",
) -> list[Path]:
    """Write what a model imagines beside what happened, with films, and return all files, the page first.

    Args:
        path: the HTML file; films are called PAGE-clip-1.mp4 and so on, beside it.
        clips: at least one; drawn as film strips.
        curve: error over the horizon, or None if it was not measured.
        facts: a small table about model and data, in this order.
        sheet: a contact sheet of the recordings, PNG.
        learned: one curve per training stage, see `read_loss`.
        planned: how planned first actions compare with the recorded ones, or a sentence on why none do.

    Raises:
        StorageError: one of the files exists or cannot be written; then none is.
    """
    path = Path(path)
    with _draft(path) as draft:
        content = _Content(draft, path.stem)
        shown = [content.clip(clip, number) for number, clip in enumerate(clips, start=1)]
        content.page(
            "imagination.html",
            title=title,
            facts=facts,
            sheet=None if sheet is None else _data_uri(sheet.read_bytes(), "image/png"),
            losses=Markup(loss_chart(learned)) if learned else None,
            clips=shown,
            curve=curve,
            chart=Markup(error_chart(curve)) if curve is not None else None,
            planned=planned,
            about=first_action.ABOUT,
        )
    return content.final(path.parent)


def demo_page(
    path: str | Path,
    *,
    title: str,
    summary: str,
    facts: Mapping[str, str],
    recorded: Recorded,
    learned: Sequence[LossCurve],
    clips: Sequence[Clip],
    curve: ErrorCurve | None,
    planned: Planned,
    limits: Sequence[str],
    commands: Sequence[Command],
) -> list[Path]:
    """Write the demo's report, with films, and return all files, the page first.

    Args:
        path: the HTML file; films lie beside it.
        summary: one or two sentences: what was reached, with n and interval.
        facts: the machine, the time taken, the versions.
        learned: one curve per training stage, see `read_loss`.
        limits: what the model cannot do, a sentence each.
        commands: how to do the same with one's own recordings, in order.

    Raises:
        StorageError: one of the files exists or cannot be written; then none is.
    """
    path = Path(path)
    with _draft(path) as draft:
        content = _Content(draft, path.stem)
        shown = [content.clip(clip, number) for number, clip in enumerate(clips, start=1)]
        content.page(
            "demo.html",
            title=title,
            summary=summary,
            facts=facts,
            recorded=recorded,
            sheet=_data_uri(recorded.sheet.read_bytes(), "image/png"),
            losses=Markup(loss_chart(learned)) if learned else None,
            clips=shown,
            curve=curve,
            chart=Markup(error_chart(curve)) if curve is not None else None,
            planned=planned,
            attempts=content.attempts(planned.attempts) if planned.attempts else None,
            limits=limits,
            commands=commands,
        )
    return content.final(path.parent)


class _Content:
    """The files of one page, made in a folder of their own until all are there."""

    def __init__(self, folder: Path, stem: str) -> None:
        self.folder, self.stem = folder, stem
        self.names = [f"{stem}.html"]

    def clip(self, clip: Clip, number: int) -> dict[str, Any]:
        film = write_clip_film(self._new(f"clip-{number}"), clip)
        return {"clip": clip, "strip": _picture_uri(clip_strip(clip)), "film": self._source(film)}

    def attempts(self, attempts: Sequence[Attempt]) -> dict[str, str]:
        film = write_attempt_film(self._new("attempts"), attempts)
        return {"strip": _picture_uri(attempt_strip(attempts)), "film": self._source(film)}

    def _new(self, what: str) -> Path:
        self.names.append(f"{self.stem}-{what}.mp4")
        return self.folder / self.names[-1]

    def _source(self, film: Path) -> str:
        small = film.stat().st_size <= INLINE_BYTES
        return _data_uri(film.read_bytes(), "video/mp4") if small else film.name

    def page(self, template: str, **values: Any) -> None:
        html = _templates().get_template(template).render(version=forerun.__version__, **values)
        (self.folder / self.names[0]).write_text(html, encoding="utf-8")

    def final(self, folder: Path) -> list[Path]:
        return [folder / name for name in self.names]


@contextmanager
def _draft(page: Path) -> Iterator[Path]:
    """A folder beside the page; what is in it moves to the page's folder at the end, the page last."""
    draft = page.parent / f".{page.stem}.partial-{os.getpid()}"
    try:
        _refuse_existing([page, *page.parent.glob(f"{page.stem}-*.mp4")])
        draft.mkdir(parents=True)
        yield draft
        made = sorted(draft.iterdir(), key=lambda file: file.suffix == page.suffix)
        for file in made:
            file.rename(page.parent / file.name)
    except OSError as cause:
        if isinstance(cause, StorageError):
            raise
        raise StorageError(
            f"the report cannot be written: {cause.strerror or cause}. Free some space, or choose a folder "
            f"that may be written ({page})"
        ) from cause
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _refuse_existing(files: Sequence[Path]) -> None:
    there = [file for file in files if file.exists()]
    if there:
        raise StorageError(
            f"{there[0].name} exists already and is not overwritten; choose another name, or remove it "
            f"({there[0]})"
        )


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("forerun.evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.{int(0 < share < 0.1)}f}"
    environment.filters["code"] = _code
    return environment


def _code(text: str) -> Markup:
    """Plain text with what stands between backticks set as code."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _picture_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return _data_uri(buffer.getvalue(), "image/png")


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
