"""Anti-aliased drawing of flat scenes: each shape touches only the pixels it covers.

Coverage is computed from distances, not from samples, so a shape moved by a tenth of a pixel changes the
picture: what a picture can tell is not lost to its 64 pixels. Pixel centres lie at (column + 0.5, row + 0.5).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Colour = tuple[int, int, int]


def blank(size: int, colour: Colour) -> np.ndarray:
    """A picture (size, size, 3) float32 of one colour, 0..255."""
    return np.full((size, size, 3), colour, dtype=np.float32)


def disc(image: np.ndarray, centre: np.ndarray, radius: float, colour: Colour) -> None:
    """Draw a disc; centre (x, y) and radius in pixels."""
    rows, columns, dx, dy = _window(image, centre, radius + 1)
    cover = np.clip(radius + 0.5 - np.sqrt(dx * dx + dy * dy), 0, 1)
    _blend(image[rows, columns], cover, colour)


def glow(image: np.ndarray, centre: np.ndarray, std: float, colour: Colour) -> None:
    """Draw a Gaussian dot of full colour in its middle; centre (x, y) and std in pixels."""
    rows, columns, dx, dy = _window(image, centre, 4 * std)
    _blend(
        image[rows, columns], np.exp(dy * dy / (-2 * std * std)) * np.exp(dx * dx / (-2 * std * std)), colour
    )


def boxes(
    image: np.ndarray,
    centre: np.ndarray,
    angle: float,
    parts: Sequence[tuple[float, float, float, float]],
    colour: Colour,
) -> None:
    """Draw one body made of boxes that touch but do not overlap.

    Args:
        image: (size, size, 3) float32, changed in place.
        centre: the body's origin (x, y) in pixels; ``angle`` turns x towards y, in radians.
        parts: (x, y, half width, half height) of each box in the body's frame, in pixels.
    """
    reach = max(np.hypot(abs(x) + w, abs(y) + h) for x, y, w, h in parts)
    rows, columns, dx, dy = _window(image, centre, reach + 1)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = cos * dx + sin * dy, cos * dy - sin * dx
    cover = np.zeros(along.shape, np.float32)
    for x, y, width, height in parts:
        cover += np.clip(width + 0.5 - np.abs(along - x), 0, 1) * np.clip(
            height + 0.5 - np.abs(across - y), 0, 1
        )
    _blend(image[rows, columns], np.minimum(cover, 1), colour)


def _window(
    image: np.ndarray, centre: np.ndarray, reach: float
) -> tuple[slice, slice, np.ndarray, np.ndarray]:
    """The pixels within ``reach`` of ``centre``: rows, columns, and offsets x (1, W) and y (H, 1) float32."""
    size = image.shape[0]
    x, y = float(centre[0]), float(centre[1])
    left, right = (min(max(int(v), 0), size) for v in (x - reach, x + reach + 1))
    top, bottom = (min(max(int(v), 0), size) for v in (y - reach, y + reach + 1))
    dx = np.arange(left, right, dtype=np.float32)[None, :] + np.float32(0.5 - x)
    dy = np.arange(top, bottom, dtype=np.float32)[:, None] + np.float32(0.5 - y)
    return slice(top, bottom), slice(left, right), dx, dy


def _blend(window: np.ndarray, cover: np.ndarray, colour: Colour) -> None:
    window += cover[..., None] * (np.asarray(colour, np.float32) - window)


def finish(image: np.ndarray) -> np.ndarray:
    """The picture as uint8."""
    return (image + 0.5).astype(np.uint8)
