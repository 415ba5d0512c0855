"""Compressed single pictures (JPEG, PNG), decoded only when somebody asks for them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from forerun.types import DataError


class Pictures:
    """The values of a video stream whose samples are separate compressed pictures.

    Args:
        cells: one per sample: bytes, a path, HuggingFace's {"bytes", "path"}, or a function that returns
            one of them.
        shape: (height, width, 3) of a decoded picture.
        label: names the stream in errors.
        folder: where relative paths begin.
    """

    def __init__(
        self, cells: Sequence[Any] | Callable[[int], Any], shape: tuple[int, ...], label: str, folder: Path
    ) -> None:
        self.cell = cells if callable(cells) else cells.__getitem__
        self.shape, self.label, self.folder = shape, label, folder
        self.size: tuple[int, int] | None = None

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        """(N, height, width, 3) uint8 RGB."""
        height, width = self.size or self.shape[:2]
        frames = np.empty((len(indices), height, width, 3), dtype=np.uint8)
        for row, i in enumerate(indices):
            frames[row] = self._decode(int(i))
        return frames

    @staticmethod
    def probe(cell: Any, folder: Path) -> tuple[int, int]:
        """(height, width) of a picture, read from its header."""
        picture = open_picture(cell, folder)
        return picture.height, picture.width

    def resized(self, height: int, width: int) -> Pictures:
        """The same pictures, reduced by averaging areas right after decoding."""
        smaller = Pictures(self.cell, self.shape, self.label, self.folder)
        smaller.size = (height, width)
        return smaller

    def _decode(self, i: int) -> np.ndarray:
        try:
            picture = open_picture(self.cell(i), self.folder).convert("RGB")
        except (OSError, TypeError, ValueError) as cause:
            raise DataError(
                f"picture {i} of '{self.label}' cannot be decoded ({cause}); expected JPEG or PNG of "
                f"{self.shape}. Restore it, or leave the episode out ({self.folder})"
            ) from cause
        if (picture.height, picture.width) != self.shape[:2]:
            raise DataError(
                f"picture {i} of '{self.label}' is {picture.height} x {picture.width} (height x width); the "
                f"data set declares {self.shape[0]} x {self.shape[1]}. Correct its metadata ({self.folder})"
            )
        if self.size is not None:
            picture = picture.resize((self.size[1], self.size[0]), Image.Resampling.BOX)
        return np.asarray(picture)


def open_picture(cell: Any, folder: Path) -> Image.Image:
    """A picture from bytes, a path, or a mapping with either."""
    if hasattr(cell, "as_py"):
        cell = cell.as_py()
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, str):
        return Image.open(folder / cell)
    if not cell:
        raise ValueError("it holds no bytes")
    return Image.open(io.BytesIO(cell))
