"""One picture that shows what a data set looks like: a few episodes over time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from forerun.data.episode import Episode, Recordings, Stream
from forerun.data.inspect import readable, title_of
from forerun.data.video import resize_video
from forerun.types import DataError, Error, StorageError, StreamSpec

GROUND, INK, FAINT, EDGE = "#fcfcfa", "#1f2328", "#6e7781", "#d8dbdf"
MARGIN, GAP, CELL, LABEL = 36, 8, 176, 208  # pixels
LINE = 17
TALLEST = 128
MAX_ROWS = 10


def contact_sheet(recordings: Recordings, path: str | Path, *, episodes: int = 4, columns: int = 6) -> Path:
    """Write a PNG: one row per camera of a few episodes, time running to the right.

    Sets without video are drawn as curves of their vector streams.

    Args:
        recordings: at least one readable episode.
        path: the PNG to write; it must not exist.
        episodes: how many, spread evenly over the set.
        columns: moments per episode, from its first frame to its last.

    Raises:
        StorageError: the file exists or cannot be written.
        DataError: no episode can be read.
    """
    path = Path(path)
    if path.exists():
        raise StorageError(f"the picture exists already; choose another name, or remove it: {path}")
    shown = _readable(recordings, episodes)
    if any(episode.of_kind("video") for episode in shown):
        picture = _sheet(recordings, shown, columns)
        _save(path, lambda partial: picture.save(partial, format="PNG", optimize=True))
    else:
        figure = _curves(recordings, shown[:3])
        _save(path, lambda partial: figure.savefig(partial, format="png", dpi=110, facecolor=GROUND))
    return path


def _readable(recordings: Recordings, episodes: int) -> list[Episode]:
    found, reasons = [], []
    for i in np.unique(np.linspace(0, len(recordings) - 1, episodes).astype(int)) if len(recordings) else ():
        try:
            found.append(recordings.load(int(i)))
        except Error as cause:
            reasons.append(str(cause))
    if not found:
        raise DataError(f"no episode can be shown: {reasons[0] if reasons else 'the set is empty'}")
    return found


def _save(path: Path, write: Callable[[Path], object]) -> None:
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        partial.rename(path)
    except OSError as cause:
        reason = (cause.strerror or str(cause)).lower()
        raise StorageError(
            f"the picture cannot be written: {reason}; choose another place: {path}"
        ) from cause
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _sheet(recordings: Recordings, shown: list[Episode], columns: int) -> Image.Image:
    cameras = max(len(episode.of_kind("video")) for episode in shown)
    shown = shown[: max(1, MAX_ROWS // cameras)]
    blocks = [[(camera, *_size(camera)) for camera in episode.of_kind("video")] for episode in shown]
    wide = max(w for block in blocks for _, w, _ in block)
    heights = [sum(tall + GAP for _, _, tall in block) + LINE + GAP for block in blocks]
    top = MARGIN + 64
    width = 2 * MARGIN + LABEL + columns * (wide + GAP) - GAP
    sheet = Image.new("RGB", (width, top + sum(heights) + MARGIN // 2), GROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 8), title_of(recordings), INK, _font(24))
    draw.text((MARGIN, MARGIN + 24), _subtitle(recordings, shown, cameras), FAINT, _font(13))
    for episode, block, height in zip(shown, blocks, heights, strict=True):
        draw.line((MARGIN, top - GAP, width - MARGIN, top - GAP), EDGE)
        _block(sheet, draw, top, episode, block, columns)
        top += height
    return sheet


def _size(camera: Stream) -> tuple[int, int]:
    """Width and height of a cell with the camera's aspect."""
    tall = min(round(CELL * camera.spec.shape[0] / camera.spec.shape[1]), TALLEST)
    return round(tall * camera.spec.shape[1] / camera.spec.shape[0]), tall


def _subtitle(recordings: Recordings, shown: list[Episode], cameras: int) -> str:
    seen = f"{cameras} camera{'s' * (cameras != 1)}, {len(shown)} of {len(recordings)} episodes"
    return f"{recordings.format}, {seen}, each from start to end"


def _block(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    top: int,
    episode: Episode,
    block: list[tuple[Stream, int, int]],
    columns: int,
) -> None:
    """One episode: what it is, then a row of pictures per camera and the times below."""
    room = sum(tall + GAP for _, _, tall in block) // LINE - len(block) - 1
    _label(draw, top, episode, max(room, 1))
    for camera, wide, tall in block:
        name = camera.spec.name.removeprefix("observation.").removeprefix("images.")
        y = top + tall - LINE
        draw.text((MARGIN, y), _cut(name, _font(12), LABEL - 16), FAINT, _font(12))
        moments = _moments(camera, columns)
        for column, index in enumerate(moments):
            x = MARGIN + LABEL + column * (wide + GAP)
            _cell(sheet, draw, (x, top), camera, index, (wide, tall))
            if camera is block[-1][0]:
                draw.text((x, top + tall + 3), f"{camera.times_s[index]:.1f} s", FAINT, _font(11))
        top += tall + GAP


def _label(draw: ImageDraw.ImageDraw, top: int, episode: Episode, room: int) -> None:
    outcome = {True: ", success", False: ", failure", None: ""}[episode.success]
    lines = [(part, INK, _font(14)) for part in _wrapped(episode.name, _font(14), LABEL - 20)[:2]]
    lines.append((readable(episode.duration_s) + outcome, FAINT, _font(12)))
    lines += [(part, FAINT, _font(12)) for part in _wrapped(episode.task, _font(12), LABEL - 20)]
    for text, colour, font in lines[: room + 1]:
        draw.text((MARGIN, top), _cut(text, font, LABEL - 16), colour, font)
        top += LINE


def _moments(camera: Stream, columns: int) -> list[int]:
    return sorted({round(i) for i in np.linspace(0, len(camera) - 1, columns)}) if len(camera) else []


def _cell(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    camera: Stream,
    index: int,
    size: tuple[int, int],
) -> None:
    try:
        sheet.paste(_thumbnail(camera, index, size), at)
    except Error:
        draw.text((at[0] + 8, at[1] + 8), "not readable", "#b42318", _font(12))
    draw.rectangle((*at, at[0] + size[0] - 1, at[1] + size[1] - 1), outline=EDGE)


def _thumbnail(camera: Stream, index: int, size: tuple[int, int]) -> Image.Image:
    wide, tall = size
    small = camera if camera.spec.shape[1] <= wide else resize_video(camera, tall, wide)
    picture = Image.fromarray(small.read(np.array([index]))[0])
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if font.getlength(longer) <= width else [*lines, word]
    return [line for line in lines if line]


def _curves(recordings: Recordings, shown: list[Episode]) -> Figure:
    names = [n for n, spec in recordings.specs.items() if spec.kind not in ("video", "text")][:MAX_ROWS]
    width = 8.5 if len(shown) == 1 else 1.2 + 3.6 * len(shown)
    figure = Figure(figsize=(width, 1.1 + 1.5 * len(names)), facecolor=GROUND, layout="constrained")
    heading = f"{title_of(recordings)}\n{recordings.format}, {len(shown)} of {len(recordings)} episodes"
    figure.suptitle(heading, x=0.01, ha="left", color=INK, fontsize=12)
    grid = figure.subplots(len(names), len(shown), squeeze=False, sharex="col")
    for column, episode in enumerate(shown):
        for row, name in enumerate(names):
            axis = grid[row, column]
            _style(axis)
            _headings(axis, recordings.specs[name], episode.name if row == 0 else "", first=column == 0)
            if row == len(names) - 1:
                axis.set_xlabel("s", fontsize=8, color=FAINT)
            if name in episode.streams:
                _plot(axis, episode.streams[name], legend=column == len(shown) - 1)
    return figure


def _headings(axis, spec: StreamSpec, episode: str, *, first: bool) -> None:
    unit = f" [{spec.unit}]" if spec.unit else ""
    stream = spec.name.removeprefix("observation.") + unit if first else ""
    axis.set_title(stream, fontsize=8, color=INK, loc="left")
    axis.set_title(episode, fontsize=8, color=FAINT, loc="right")


def _style(axis) -> None:
    axis.set_facecolor(GROUND)
    axis.tick_params(labelsize=7, colors=FAINT, length=2)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(EDGE)


def _plot(axis, stream: Stream, *, legend: bool) -> None:
    values = stream.read().reshape(len(stream), -1).astype(np.float64)
    if len(values) == 1:
        axis.bar(np.arange(values.shape[1]), values[0], width=0.8, color="#5b7fa6")
        axis.set_xlabel("channel", fontsize=8, color=FAINT)
        return
    if values.shape[1] > 16:  # taxels: a picture of channels over time tells more than a tangle of curves
        extent = (stream.times_s[0], stream.times_s[-1], values.shape[1], 0)
        axis.imshow(values.T, aspect="auto", cmap="cividis", interpolation="nearest", extent=extent)
        return
    names = stream.spec.names or [str(i) for i in range(values.shape[1])]
    for channel, name in enumerate(names):
        axis.plot(stream.times_s, values[:, channel], linewidth=0.9, label=name)
    if legend and 1 < len(names) <= 8:
        axis.legend(fontsize=6, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), labelcolor=FAINT)
