"""forerun.json: a page that says which files of a plain folder are which stream.

    {
      "streams": {
        "camera": {"file": "{name}/cam.mp4"},
        "wrench": {"file": "{name}/ft.csv", "columns": ["Fx", "Fy", "Fz"], "unit": "N",
                   "time": "stamp_ms", "time_scale_s": 0.001},
        "state": {"file": "{name}/robot.npz", "columns": ["q"], "unit": "rad", "rate_hz": 50}
      },
      "episodes": [
        {"name": "run_01", "task": "open the drawer", "success": true, "metadata": {"operator": "A"}},
        {"name": "run_02", "task": "open the drawer", "success": false,
         "streams": {"wrench": {"rows": [0, 500]}}}
      ],
      "notes": ["the wrist camera was unplugged"]
    }

``streams`` are shared by all episodes, and an episode may add some or change settings of them; "{name}"
stands for the episode's name. Of an episode only the name is needed; ``notes`` is for whoever reads the set.

Of each stream (``Source`` lists all settings) the clock must be stated: ``time`` names the column with the
stamps (``time_file`` the file that holds it, if another), ``rate_hz`` says that samples are evenly spaced,
and ``"time": "index"`` admits that nothing is known (sample k is put at k seconds). A video brings its own
clock unless it is given one. Clocks read from a column are shifted together, so that the earliest of the
episode is 0.

Beside a self-describing data set (LeRobot, RLDS, HDF5) the same file has no "episodes"; it then corrects
what the format cannot say: ``rate_hz`` of the whole set, and kind, unit, names, low and high under
"streams".
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args

from forerun.data.episode import Episode, Recordings, Stream
from forerun.data.tables import read_json
from forerun.types import DataError, Kind, StreamSpec

MANIFEST = "forerun.json"

_CORRECTIONS = ("kind", "unit", "names", "low", "high")

_NUMBERS = ("item", "scale", "time_scale_s", "rate_hz", "start_s", "skip_lines", "numbers_per_row")
_LISTS = ("names", "low", "high", "columns", "rows", "channels", "shape")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where one stream of one episode lies, and how to read it."""

    file: str
    """Relative to the manifest; "{name}" is replaced by the episode's name."""
    kind: str = ""
    """Of StreamSpec; judged by the stream's name if empty."""
    unit: str = ""
    names: tuple[str, ...] = ()
    """One per channel; the columns' own names if empty."""
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    columns: tuple[str, ...] = ()
    """Columns of the table, in order; headerless tables count from "0". All but the time column if empty."""
    item: int | None = None
    """Takes one entry of a leading axis before anything else (arrays of episodes)."""
    rows: tuple[int, int] | None = None
    """First row, and the row after the last: many episodes may share a file."""
    channels: tuple[int, int] | None = None
    """First channel, and the channel after the last, of a wider array."""
    shape: tuple[int, ...] | None = None
    """Shape of one sample, when the file holds it flat."""
    scale: float = 1.0
    """Stored value times scale is in ``unit``."""
    time: str = ""
    """Column with the stamps, or "index"."""
    time_file: str = ""
    """File that holds the time column, if another than ``file``."""
    time_scale_s: float = 1.0
    """Seconds per unit of the stamps: 0.001 for milliseconds."""
    rate_hz: float | None = None
    start_s: float = 0.0
    """Time of the first sample where ``rate_hz`` makes the clock."""
    skip_lines: int = 0
    """Lines of a text or CSV file before the first row."""
    numbers_per_row: int | None = None
    """Cuts a text file, whatever its line breaks, into rows of so many numbers."""


@dataclass(frozen=True)
class EpisodeSource:
    """One episode of a manifest."""

    name: str
    streams: dict[str, Source]
    task: str = ""
    success: bool | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """A folder's description."""

    episodes: list[EpisodeSource]
    notes: tuple[str, ...] = ()


def parse_manifest(content: Any, where: Path) -> Manifest:
    """Check and complete the content of a forerun.json that lists episodes.

    Raises:
        DataError: for a missing or unknown key; a misspelt setting is never passed over.
    """
    _known(content, ("streams", "episodes", "notes", "rate_hz"), "the manifest", where)
    shared = content.get("streams", {})
    episodes = []
    for number, entry in enumerate(content.get("episodes", [])):
        label = f"episode {number}"
        _known(entry, ("name", "task", "success", "metadata", "streams"), label, where)
        name = str(entry.get("name", f"episode_{number:06d}"))
        merged = shared | {k: shared.get(k, {}) | v for k, v in entry.get("streams", {}).items()}
        streams = {k: _source(v, f"stream '{k}' of {label}", name, where) for k, v in merged.items()}
        if not streams:
            raise DataError(f"{label} of {where.name} has no stream; name at least one file ({where})")
        success, metadata = entry.get("success"), entry.get("metadata", {})
        episodes.append(EpisodeSource(name, streams, entry.get("task", ""), success, metadata))
    if not episodes:
        raise DataError(f"{where.name} lists no episodes; expected a list under 'episodes' ({where})")
    return Manifest(episodes, tuple(content.get("notes", ())))


def _known(content: Any, keys: tuple[str, ...], label: str, where: Path) -> None:
    if not isinstance(content, dict):
        raise DataError(
            f"{label} is a {type(content).__name__}; expected a JSON object. Correct it ({where})"
        )
    unknown = [k for k in content if k not in keys]
    if unknown:
        raise DataError(
            f"{label} has the unknown setting {', '.join(map(repr, unknown))}; known are {', '.join(keys)}. "
            f"Correct the manifest ({where})"
        )


def _source(values: Any, label: str, name: str, where: Path) -> Source:
    _known(values, tuple(f.name for f in fields(Source)), label, where)
    if "file" not in values:
        raise DataError(f"{label} names no file; give its path under 'file'. Correct the manifest ({where})")
    _typed(values, label, where)
    tuples: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    source = Source(**tuples)
    return replace(
        source, file=source.file.replace("{name}", name), time_file=source.time_file.replace("{name}", name)
    )


def _typed(values: dict[str, Any], label: str, where: Path) -> None:
    """Refuse a setting of the wrong JSON type, and a kind that no model knows."""
    for name, value in values.items():
        allowed: tuple[type, ...] = (str,)
        if name in _NUMBERS:
            allowed = (int, float)
        elif name in _LISTS:
            allowed = (list,)
        if value is not None and (not isinstance(value, allowed) or isinstance(value, bool)):
            expected = " or ".join(t.__name__ for t in allowed)
            raise DataError(
                f"{label} has {name} = {value!r}; expected {expected}. Correct the manifest ({where})"
            )
    kind = values.get("kind")
    if kind and kind not in get_args(Kind):
        raise DataError(
            f"{label} has the kind '{kind}'; known are {', '.join(get_args(Kind))}. Correct the manifest "
            f"({where})"
        )


def corrected(recordings: Recordings, manifest: str | Path) -> Recordings:
    """The same recordings with the rate, kinds, units, names and bounds that a manifest states.

    Raises:
        DataError: if the manifest names an unknown stream or setting.
    """
    where = Path(manifest)
    content = read_json(where)
    _known(content, ("streams", "rate_hz", "notes"), "the manifest", where)
    changes = content.get("streams", {})
    for name, values in changes.items():
        _known(values, _CORRECTIONS, f"stream '{name}'", where)
        _typed(values, f"stream '{name}'", where)
        if name not in recordings.specs:
            have = ", ".join(recordings.specs)
            raise DataError(f"the manifest describes '{name}'; the streams are {have}. Correct it ({where})")
    rate_hz = content.get("rate_hz")

    def describe(spec: StreamSpec) -> StreamSpec:
        rate = {"rate_hz": rate_hz} if rate_hz else {}
        return StreamSpec.from_json(spec.to_json() | rate | changes.get(spec.name, {}))

    def load(i: int) -> Episode:
        episode = recordings.load(i)
        streams = {}
        for name, stream in episode.streams.items():
            slower = (stream.spec.rate_hz or 1.0) / rate_hz if rate_hz else 1.0
            streams[name] = Stream(describe(stream.spec), stream.times_s * slower, stream.values)
        return replace(episode, streams=streams)

    specs = {name: describe(spec) for name, spec in recordings.specs.items()}
    notes = (*recordings.notes, *content.get("notes", ()))
    return replace(recordings, specs=specs, load=load, notes=notes)
