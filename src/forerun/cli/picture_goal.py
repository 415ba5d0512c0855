"""A goal that a person brings as a picture file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from forerun.types import ConfigError, DataError


def read_goal(path: Path, side: int) -> tuple[np.ndarray, str]:
    """A picture file as (side, side, 3) uint8, and what was done to it, if anything.

    Raises:
        DataError: the file is absent, or no picture.
    """
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except FileNotFoundError as cause:
        raise DataError(f"the goal picture is not there; check --goal. Path: {path}") from cause
    except (UnidentifiedImageError, OSError, SyntaxError) as cause:
        raise DataError(
            f"the goal cannot be read as a picture ({cause}); expected a PNG or JPEG file. Path: {path}"
        ) from cause
    if picture.size == (side, side):
        return np.array(picture), ""
    if min(picture.size) < 8:
        raise ConfigError(
            f"the goal picture has {picture.size} pixels; expected {side} x {side}. Path: {path}"
        )
    width, height = picture.size
    resized = picture.resize((side, side), Image.Resampling.BOX)
    squashed = "" if width == height else ", which squashes it"
    return np.asarray(
        resized
    ), f"the goal picture is {width} x {height}: resized to {side} x {side}{squashed}"
