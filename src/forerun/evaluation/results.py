"""One JSON file per benchmark run: the figures, and all that is needed to judge or repeat them.

Every figure in the README comes from such a file; `benchmarks/table.py` makes the tables. A file names
no folder and no computer of the person who ran it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import forerun
from forerun.types import ConfigError, DataError, StorageError

FOLDER = Path("benchmarks/results")
LIBRARIES = ("torch", "numpy", "mujoco", "mujoco-core", "pymunk", "gymnasium", "av", "pyarrow")
STAMP = "%Y-%m-%dT%H:%M:%SZ"
_STARTED = datetime.now(UTC)
_ABSOLUTE = re.compile(r"(?<![\w.:/~])(?:~|[A-Za-z]:(?=\\))?(?:[/\\][^\s/\\'\",;]+)*[/\\]([^\s/\\'\",;]+)")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one run found, and under which circumstances."""

    name: str
    """Which benchmark: lower-case words joined by "-", "push-30min" for instance."""
    metrics: dict[str, Any]
    """Figures by name. A share or mean with its interval is {"estimate", "low", "high"}."""
    settings: dict[str, Any]
    """What was asked for: budget, sizes, replan rate, thresholds."""
    seed: int
    n: int
    """Independent units behind the figures: episodes of a success rate, clips of an error."""
    data_hash: str | None
    """`forerun.data.fingerprint.source_hash` of the recordings, or the cache's hash; None without data."""
    command: str
    """What to type to get this file again."""
    started: str
    finished: str
    """UTC, as 2026-01-31T12:00:00Z."""
    commit: str | None
    """Of the source that ran, None where it is not a git checkout."""
    dirty: bool | None
    """Whether a tracked file other than results and Markdown differed from that commit."""
    hardware: dict[str, Any]
    """cpu, cores (usable by this process), memory_gb, accelerator, threads (of torch)."""
    versions: dict[str, str]
    """Of Python, forerun and the libraries that shape a figure."""


def write_result(
    name: str,
    metrics: Mapping[str, Any],
    *,
    settings: Mapping[str, Any],
    seed: int,
    n: int,
    data_hash: str | None = None,
    command: str | None = None,
    started: datetime | None = None,
    folder: str | Path = FOLDER,
) -> Path:
    """Write one run as ``folder/NAME.seedSEED.FINISHED.json`` and return that path.

    Args:
        name: lower-case words joined by "-"; the tables are made from it.
        metrics: numbers, texts, lists, `stats.Interval` (stored with its three names), or dicts of them.
            Every number must be finite: leave out what was not measured.
        settings: what was asked for, as JSON. Paths lose their folders.
        command: by default the command line of this process.
        started: timezone-aware; by default the moment this module was imported.

    Raises:
        ConfigError: the name is not of that form, or a figure is not finite or not JSON.
        StorageError: the file cannot be written.
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ConfigError(
            f"a result is called '{name}'; expected lower-case words joined by '-', as push-30min"
        )
    commit, dirty = commit_of(Path(__file__).parent)
    result = Result(
        name=name,
        metrics=_plain(metrics, "metrics"),
        settings=_plain(settings, "settings"),
        seed=seed,
        n=n,
        data_hash=data_hash,
        command=_portable(command or _command_line()),
        started=(started or _STARTED).astimezone(UTC).strftime(STAMP),
        finished=datetime.now(UTC).strftime(STAMP),
        commit=commit,
        dirty=dirty,
        hardware=hardware(),
        versions=_versions(),
    )
    return keep_result(result, folder)


def keep_result(result: Result, folder: str | Path = FOLDER) -> Path:
    """Write a result as it is, one that another process measured for instance; returns its path.

    Raises:
        StorageError: the file cannot be written.
    """
    finished = re.sub("[-:]", "", result.finished)
    text = json.dumps(asdict(result), indent=1, allow_nan=False) + "\n"
    return _write_new(Path(folder), f"{result.name}.seed{result.seed}.{finished}", text)


def read_results(folder: str | Path = FOLDER) -> list[Result]:
    """Every run under ``folder``, by name, then by when it finished; an absent folder holds none.

    Raises:
        DataError: a file is not what `write_result` writes.
    """
    results = []
    known = {f.name for f in fields(Result)}
    for path in sorted(Path(folder).glob("*.json")):
        try:
            values = json.loads(path.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError) as cause:
            raise DataError(
                f"a result is no JSON ({cause}); restore it from git, or remove it: {path}"
            ) from cause
        if not isinstance(values, dict) or set(values) != known:
            differs = sorted(set(values) ^ known) if isinstance(values, dict) else type(values).__name__
            raise DataError(
                f"a result has other entries than expected (they differ in {differs}); run its benchmark "
                f"again, or remove it: {path}"
            )
        results.append(Result(**values))
    return sorted(results, key=lambda r: (r.name, r.finished, r.seed))


def hardware() -> dict[str, Any]:
    """The machine as far as it shapes a figure: nothing that tells whose it is."""
    torch = sys.modules.get("torch")
    gpu = torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else None
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": _memory_gb(),
        "accelerator": gpu,
        "threads": torch.get_num_threads() if torch is not None else None,
    }


def _cpu() -> str:
    """The processor's own name; the architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "forerun": forerun.__version__}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit_of(source: Path) -> tuple[str | None, bool | None]:
    """The commit of a folder of source, and whether it was changed since: see `Result.dirty`."""
    try:
        commit = _git(source, "rev-parse", "HEAD")
        changed = ("status", "--porcelain", "--untracked-files=no", "--", ":/")
        dirty = bool(_git(source, *changed, ":(top,exclude)benchmarks/results", ":(top,exclude)*.md"))
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return commit, dirty


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _command_line() -> str:
    program, words = Path(sys.argv[0]), sys.argv[1:]
    if program.suffix != ".py":
        return " ".join([program.name, *words])
    inside = program.resolve().is_relative_to(Path.cwd())
    shown = program.resolve().relative_to(Path.cwd()).as_posix() if inside else program.name
    return " ".join(["python", shown, *words])


def _portable(text: str) -> str:
    """The text with every absolute path reduced to its last part."""
    return _ABSOLUTE.sub(r"\1", text)


def _plain(value: Any, where: str) -> Any:
    """The value as JSON: intervals by name, numpy as Python, paths without their folders."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict(), where)  # type: ignore[attr-defined]
    if isinstance(value, list | tuple | set):
        return [_plain(item, where) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist(), where)  # numpy and torch, scalars too
    if isinstance(value, Path):
        return value.name if value.is_absolute() else value.as_posix()
    if isinstance(value, str):
        return _portable(value)
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise ConfigError(f"{where} is {value}; a result holds finite numbers only: leave out what has none")
    if value is None or isinstance(value, bool | int | float):
        return value
    raise ConfigError(
        f"{where} is a {type(value).__name__}; a result holds numbers, texts, lists and dicts of them"
    )


def _write_new(folder: Path, stem: str, text: str) -> Path:
    """Write under a name that nobody has, whole or not at all."""
    draft = folder / f".{stem}.partial-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_text(text)
        for suffix in ("", *(f"-{i}" for i in range(2, 100))):
            path = folder / f"{stem}{suffix}.json"
            if not path.exists():
                draft.rename(path)
                return path
        raise FileExistsError("a hundred results of this second exist already")
    except OSError as cause:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise StorageError(
            f"the result {stem} cannot be written: {cause.strerror or cause}. Free some space, or choose a "
            f"folder that may be written ({folder})"
        ) from cause
