"""Film strips: what happened beside what was imagined, as pictures to print and films to play.

Letters: T ticks, S side of a picture in pixels. Pictures are uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from forerun.data.video_writer import write_video
from forerun.types import ShapeError

LABEL = (125, 133, 144, 255)  # legible on a light and on a dark page
SEEN, IMAGINED = (125, 133, 144), (45, 125, 210)
CELL, GAP, SIDE, HEAD = 168, 8, 172, 40  # pixels of a strip, which a page shows at half size
PANEL = 192  # pixels of a film's panel, at least
BAR = 6
FULL_DIFFERENCE = 0.25  # share of the brightness range that is drawn brightest


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A recorded stretch beside the model's imagination of it."""

    real: np.ndarray
    """(T, S, S, 3) what happened."""
    imagined: np.ndarray
    """(T, S, S, 3) what the model drew; up to ``context_ticks`` it saw the real picture of that tick."""
    name: str
    """Which episode, and where in it."""
    context_ticks: int
    """Ticks the model was given, 1 .. T; the others it imagined. After all T it merely drew what it saw."""
    tick_s: float
    """Seconds per tick."""

    def __post_init__(self) -> None:
        if self.real.shape != self.imagined.shape or self.real.ndim != 4 or self.real.shape[1] % 2:
            raise ShapeError(
                f"clip '{self.name}' has real pictures {self.real.shape} and imagined ones "
                f"{self.imagined.shape}; expected (ticks, S, S, 3) twice, with even S"
            )
        if not 1 <= self.context_ticks <= len(self.real):
            raise ShapeError(
                f"clip '{self.name}' gives {self.context_ticks} of {len(self.real)} ticks to the model; "
                "expected at least one, and no more than there are"
            )

    @property
    def seconds(self) -> np.ndarray:
        """(T,) time of each tick; 0 is the last one the model saw."""
        return (np.arange(len(self.real)) - self.context_ticks + 1) * self.tick_s


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt to reach a goal."""

    name: str
    frames: np.ndarray
    """(T, S, S, 3) what the camera saw, from the start to the end."""
    goal: np.ndarray
    """(S, S, 3) the picture to reach."""
    reached: bool | None
    """None where nobody can know: a goal picture without a state."""
    tick_s: float


def difference(real: np.ndarray, imagined: np.ndarray) -> np.ndarray:
    """How far two films (T, S, S, 3) are apart: black where equal, brightest from a quarter range on."""
    apart = np.abs(real.astype(np.float32) - imagined.astype(np.float32)).mean(-1) / 255
    coloured = matplotlib.colormaps["magma"](np.clip(apart / FULL_DIFFERENCE, 0, 1), bytes=True)
    return np.asarray(coloured)[..., :3]


def clip_strip(clip: Clip, columns: int = 8) -> Image.Image:
    """Real, imagined and difference below each other, time running to the right; on a clear ground."""
    last = clip.context_ticks - 1
    chosen = np.unique(np.linspace(last, len(clip.real) - 1, columns).astype(int))
    rows = {
        "real": clip.real[chosen],
        "imagined": clip.imagined[chosen],
        "difference": difference(clip.real[chosen], clip.imagined[chosen]),
    }
    heads = ["last seen" if i == last else f"{clip.seconds[i]:.1f} s" for i in chosen]
    return picture_grid(rows, heads)


def attempt_strip(attempts: Sequence[Attempt], columns: int = 6) -> Image.Image:
    """A row for each attempt: start, steps on the way, end, and the goal it was given."""
    rows = {}
    for attempt in attempts:
        chosen = np.linspace(0, len(attempt.frames) - 1, columns).astype(int)
        end = {True: "reached\n", False: "not reached\n", None: ""}[attempt.reached]
        label = f"{attempt.name}\n{end}{(len(attempt.frames) - 1) * attempt.tick_s:.1f} s"
        rows[label] = [*attempt.frames[chosen], attempt.goal]
    sheet = picture_grid(rows, ["start", *[""] * (columns - 2), "end", "goal"])
    draw, left = ImageDraw.Draw(sheet), SIDE + columns * (CELL + GAP)
    for row in range(len(rows)):
        top = HEAD + row * (CELL + GAP)
        draw.rectangle((left, top, left + CELL - 1, top + CELL - 1), outline=IMAGINED, width=5)
    return sheet


def picture_grid(rows: Mapping[str, Sequence[np.ndarray] | np.ndarray], heads: Sequence[str]) -> Image.Image:
    """Pictures (S, S, 3) in labelled rows and columns, enlarged without smoothing, on a clear ground."""
    width = SIDE + len(heads) * (CELL + GAP)
    sheet = Image.new("RGBA", (width, HEAD + len(rows) * (CELL + GAP)), (0, 0, 0, 0))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(24)
    for column, head in enumerate(heads):
        draw.text((SIDE + column * (CELL + GAP), 4), head, LABEL, font)
    for row, (label, pictures) in enumerate(rows.items()):
        top = HEAD + row * (CELL + GAP)
        draw.multiline_text((0, top + CELL // 2), label, LABEL, font, anchor="lm", spacing=8)
        for column, picture in enumerate(pictures):
            enlarged = Image.fromarray(picture).resize((CELL, CELL), _enlarging(picture))
            sheet.paste(enlarged, (SIDE + column * (CELL + GAP), top))
    return sheet


def _enlarging(picture: np.ndarray) -> Image.Resampling:
    return Image.Resampling.NEAREST if len(picture) <= CELL else Image.Resampling.LANCZOS


def write_clip_film(path: Path, clip: Clip) -> Path:
    """Real, imagined and difference side by side as an MP4 that browsers play.

    The bar below is grey while the model is given pictures and blue while it imagines.
    """
    panels = [_enlarged(film) for film in (clip.real, clip.imagined, difference(clip.real, clip.imagined))]
    frames = _side_by_side(panels)
    foot = np.full((len(frames), 2 * BAR, frames.shape[2], 3), 255, np.uint8)
    foot[: clip.context_ticks, BAR:], foot[clip.context_ticks :, BAR:] = SEEN, IMAGINED
    return write_video(path, np.concatenate([frames, foot], axis=1), 1 / clip.tick_s, crf=18)


def write_attempt_film(path: Path, attempts: Sequence[Attempt]) -> Path:
    """All attempts at once, each above its goal; a finished one waits; known ends colour its bar."""
    length = max(len(attempt.frames) for attempt in attempts)
    columns = []
    for attempt in attempts:
        waiting = np.repeat(attempt.frames[-1:], length - len(attempt.frames), axis=0)
        held = np.concatenate([attempt.frames, waiting])
        live, goal = _enlarged(held), np.repeat(_enlarged(attempt.goal[None]), length, axis=0)
        bar = np.full((length, 2 * BAR, live.shape[2], 3), 255, np.uint8)
        if attempt.reached is not None:
            bar[len(attempt.frames) - 1 :, BAR // 2 : -BAR // 2] = IMAGINED if attempt.reached else SEEN
        columns.append(np.concatenate([live, bar, goal], axis=1))
    return write_video(path, _side_by_side(columns), 1 / attempts[0].tick_s, crf=18)


def _enlarged(film: np.ndarray) -> np.ndarray:
    """(T, S, S, 3) by a whole factor to at least a panel's side."""
    factor = -(-PANEL // film.shape[1])
    return film.repeat(factor, axis=1).repeat(factor, axis=2)


def _side_by_side(films: Sequence[np.ndarray]) -> np.ndarray:
    gap = np.full((*films[0].shape[:2], GAP, 3), 255, np.uint8)
    parts = [films[0]]
    for _, film in pairwise(films):
        parts += [gap, film]
    return np.concatenate(parts, axis=2)
