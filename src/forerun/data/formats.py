"""Open recordings of any known format from a path."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from forerun.data.episode import Recordings
from forerun.data.folder import open_folder, videos_below
from forerun.data.foreign import manifest_for
from forerun.data.hdf5 import hdf5_files, open_hdf5
from forerun.data.lerobot import open_lerobot
from forerun.data.live import live_folders, open_live
from forerun.data.manifest import MANIFEST, corrected, parse_manifest
from forerun.data.mcap import mcap_files, open_mcap
from forerun.data.rlds import open_rlds
from forerun.data.tables import read_json
from forerun.data.video import VIDEO_SUFFIXES
from forerun.types import DataError

KNOWN = (
    "LeRobot v3.0 or v2.1 (meta/info.json)",
    "RLDS (features.json beside .tfrecord files)",
    "MCAP (.mcap)",
    "forerun's own live recordings (live.json)",
    "robomimic or ALOHA HDF5 (.hdf5)",
    f"a folder of video ({', '.join(VIDEO_SUFFIXES)})",
    f"any folder described by a {MANIFEST}",
)


def open_recordings(path: str | Path, *, manifest: str | Path | None = None) -> Recordings:
    """Open a data set; its format is found from what lies at ``path``.

    Args:
        path: a folder or a file. A folder that only contains the data set further down is fine.
        manifest: a forerun.json (see manifest.py) that lies elsewhere than in the folder.

    Raises:
        DataError: if nothing is there, no known format fits, or the metadata cannot be read. Faults of one
            episode are raised when that episode is read.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(
            f"there is nothing at the given path: '{path.name}' does not exist; expected a folder of "
            f"recordings. Check the path ({path})"
        )
    if manifest is None and (path / MANIFEST).is_file():
        manifest = path / MANIFEST
    if manifest is not None and "episodes" in (content := read_json(Path(manifest))):
        return open_folder(path, parse_manifest(content, Path(manifest)))
    recordings = _open(path)
    if manifest is None and (recordings.path / MANIFEST).is_file():
        manifest = recordings.path / MANIFEST
    return recordings if manifest is None else corrected(recordings, manifest)


def _open(path: Path) -> Recordings:
    inner = _only(path, "meta/info.json")
    if inner is not None:
        return open_lerobot(inner.parent.parent)
    inner = _only(path, "features.json")
    if inner is not None:
        return open_rlds(inner.parent)
    if live_folders(path):
        return open_live(path)
    if mcap_files(path):
        return open_mcap(path)
    if hdf5_files(path):
        return open_hdf5(path)
    content = manifest_for(path)
    if content is not None:
        return open_folder(path, parse_manifest(content, path))
    if (path / "meta").is_dir() and (path / "data").is_dir():
        raise DataError(
            f"this looks like a LeRobot data set, but meta/info.json is missing; found {_listing(path)}. "
            f"Copy the folder meta again ({path})"
        )
    videos = videos_below(path)
    if videos.episodes:
        return open_folder(path if path.is_dir() else path.parent, videos)
    raise DataError(
        f"no known recording format fits; found {_listing(path)}. forerun reads {'; '.join(KNOWN)}. "
        f"Describe the files with a {MANIFEST} ({path})"
    )


def _only(path: Path, pattern: str) -> Path | None:
    """The one file that matches in ``path`` or up to three folders below it."""
    for depth in range(4):
        found = sorted(path.glob("*/" * depth + pattern))
        if len(found) > 1:
            names = ", ".join(str(f.relative_to(path)) for f in found[:5])
            raise DataError(
                f"{len(found)} data sets lie below the given folder ({names}); open one at a time ({path})"
            )
        if found:
            return found[0]
    return None


def _listing(path: Path) -> str:
    files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
    kinds = Counter(f.suffix.lower() or "no ending" for f in files)
    return ", ".join(f"{n} file{'s' * (n > 1)} ({k})" for k, n in kinds.most_common(6)) or "an empty folder"
