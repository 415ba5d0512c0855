"""robomimic and ALOHA HDF5 files, read through h5py (the extra ``hdf5``).

robomimic: one file, data/demo_k/{obs/<key>, actions, rewards, dones, states}. ALOHA: one file per episode,
observations/{qpos, qvel, effort, images/<camera>} and action. Streams are called as LeRobot would call them:
"observation.<key>", "observation.images.<camera>", "action"; rewards, dones and simulator states are
privileged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from forerun.data.episode import Episode, Recordings, Stream
from forerun.data.naming import kind_of
from forerun.data.pictures import Pictures
from forerun.data.tables import first_line, need_file
from forerun.types import DataError, StreamSpec, require

SUFFIXES = (".hdf5", ".h5")

ALOHA_HZ = 50.0
"""Control rate of ALOHA and of its simulation (DT = 0.02 s)."""

_PRIVILEGED = ("rewards", "dones", "states")


def hdf5_files(path: Path) -> list[Path]:
    """HDF5 files at ``path`` or directly below it, in the order of their numbers."""
    files = [path] if path.is_file() else [*path.glob("*"), *path.glob("*/*")]
    found = [f for f in files if f.suffix.lower() in SUFFIXES]
    return sorted(found, key=lambda f: (str(f.parent), _number(f.stem), f.name))


def _number(name: str) -> int:
    digits = "".join(c if c.isdigit() else " " for c in name).split()
    return int(digits[-1]) if digits else -1


def open_hdf5(path: str | Path) -> Recordings:
    """Open a robomimic file, or a file or folder of ALOHA episodes.

    Raises:
        MissingExtraError: without h5py.
        DataError: if a file is damaged or has another layout.
    """
    path = Path(path)
    files = hdf5_files(path)
    with _opened(files[0]) as root:
        layout = _layout(root, files[0])
    return _open_robomimic(path, files) if layout == "robomimic" else _open_aloha(path, files)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    h5py = require("h5py", "hdf5", "Reading HDF5 recordings")
    need_file(file, "HDF5 recordings are to be read from it")
    try:
        root = h5py.File(file, "r")
    except OSError as cause:
        raise DataError(
            f"{file.name} ({file.stat().st_size} bytes) is no readable HDF5 file: {first_line(cause)}. It "
            f"is truncated or was not closed by its recorder; copy or record it again ({file})"
        ) from cause
    with root:
        yield root


def _layout(root: Any, file: Path) -> str:
    if "data" in root and any("actions" in demo for demo in root["data"].values()):
        return "robomimic"
    if "observations" in root and "action" in root:
        return "aloha"
    raise DataError(
        f"{file.name} has the groups {', '.join(root) or 'none'}; expected data/demo_0/actions (robomimic) "
        "or observations and action (ALOHA). Convert it, or export its arrays and write a forerun.json "
        f"({file})"
    )


def _open_robomimic(path: Path, files: list[Path]) -> Recordings:
    demos: list[tuple[Path, str]] = []
    for file in files:
        with _opened(file) as root:
            _layout(root, file)
            demos += [(file, name) for name in sorted(root["data"], key=_number)]
    with _opened(files[0]) as root:
        environment = json.loads(root["data"].attrs.get("env_args", "{}"))
    rate_hz = environment.get("env_kwargs", {}).get("control_freq")

    def load(i: int) -> Episode:
        file, name = demos[i]
        with _opened(file) as root:
            demo = root["data"][name]
            masks = [k for k, v in root.get("mask", {}).items() if name.encode() in v[()].tolist()]
            found = {f"observation.{k}": v for k, v in demo.get("obs", {}).items()} | {
                "action": demo["actions"]
            }
            found |= {k: demo[k] for k in _PRIVILEGED if k in demo}
            streams = _streams(found, len(demo["actions"]), rate_hz, file)
        metadata = {"environment": environment.get("env_name"), "splits": masks}
        return Episode(name, streams, metadata={k: v for k, v in metadata.items() if v})

    return _recordings(path, "hdf5-robomimic", len(demos), load, rate_hz)


def _open_aloha(path: Path, files: list[Path]) -> Recordings:
    def load(i: int) -> Episode:
        with _opened(files[i]) as root:
            _layout(root, files[i])
            seen = dict(root["observations"].items())
            cameras = seen.pop("images", {})
            found = {f"observation.images.{k}": v for k, v in cameras.items()}
            found |= {f"observation.{k}": v for k, v in seen.items()} | {"action": root["action"]}
            streams = _streams(found, len(root["action"]), ALOHA_HZ, files[i])
            simulated = bool(root.attrs.get("sim", False))
        return Episode(files[i].stem, streams, metadata={"simulated": simulated})

    return _recordings(path, "hdf5-aloha", len(files), load, ALOHA_HZ)


def _recordings(path: Path, form: str, count: int, load: Any, rate_hz: float | None) -> Recordings:
    rate = f"{rate_hz:g} Hz" if rate_hz else "one second each"
    notes = (f"the files have no clock: steps are put at {rate}",)
    return Recordings(path, form, {n: s.spec for n, s in load(0).streams.items()}, count, load, notes)


def _streams(found: dict[str, Any], steps: int, rate_hz: float | None, file: Path) -> dict[str, Stream]:
    times_s = np.arange(steps) / (rate_hz or 1.0)
    streams = {}
    for name, data in found.items():
        if not hasattr(data, "shape") or "depth" in name:
            continue  # a nested group, or depth pictures, which are no colour video
        if len(data) != steps:
            raise DataError(
                f"'{name}' has {len(data)} rows where the actions have {steps}: rows and frames are out of "
                f"step. Trim the file ({file})"
            )
        spec, values = _stream(name, data, rate_hz, file)
        streams[name] = Stream(spec, times_s, values)
    return streams


def _stream(name: str, data: Any, rate_hz: float | None, file: Path) -> tuple[StreamSpec, Any]:
    if data.dtype == np.uint8 and data.ndim == 4 and data.shape[-1] == 3:
        frames = StoredFrames(file, data.name)
        return StreamSpec(name=name, kind="video", shape=data.shape[1:], unit="rgb", rate_hz=rate_hz), frames
    if name.startswith("observation.images.") and data.ndim <= 2:  # JPEG, padded to one length
        cells = StoredFrames(file, data.name)
        first = Pictures.probe(cells.cell(0), file.parent)
        spec = StreamSpec(name=name, kind="video", shape=(*first, 3), unit="rgb", rate_hz=rate_hz)
        return spec, Pictures(cells.cell, spec.shape, name, file.parent)
    values = data[()]
    values = values[:, None] if values.ndim == 1 else values
    kind = "privileged" if name in _PRIVILEGED else kind_of(name)
    return StreamSpec(name=name, kind=kind, shape=values.shape[1:], rate_hz=rate_hz), values


class StoredFrames:
    """Rows of a picture data set, read when asked for; the file is closed in between."""

    def __init__(self, file: Path, dataset: str) -> None:
        self.file, self.dataset = file, dataset

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        wanted, place = np.unique(indices, return_inverse=True)  # h5py reads increasing indices only
        with _opened(self.file) as root:
            return root[self.dataset][wanted][place]

    def cell(self, i: int) -> bytes:
        """One compressed picture as bytes."""
        with _opened(self.file) as root:
            return np.asarray(root[self.dataset][i]).tobytes()
