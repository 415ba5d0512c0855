"""Open recordings of any known format from a path."""

from __future__ import annotations

from pathlib import Path

from forerun.data.episode import Recordings
from forerun.data.lerobot import open_lerobot
from forerun.types import DataError


def open_recordings(path: str | Path, *, manifest: str | Path | None = None) -> Recordings:
    """Open a data set; its format is found from what lies at ``path``.

    Args:
        path: a folder or a file.
        manifest: a forerun.json that describes the folder, when it lies elsewhere.

    Raises:
        DataError: if nothing is there, or no known format fits.
    """
    path = Path(path)
    if (path / "meta" / "info.json").is_file():
        return open_lerobot(path)
    raise DataError(f"no known recording format fits ({path})")
