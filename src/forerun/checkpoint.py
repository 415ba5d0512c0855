"""One folder per model: weights as safetensors, meaning as JSON. Strict, atomic, and never a pickle."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from forerun.types import CheckpointError, StorageError

WEIGHTS, CONFIG = "model.safetensors", "config.json"


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """Write a folder under a temporary name, then swap it in: readers see the old or the new, never half.

    Two folders cannot be exchanged in one move everywhere: a kill between the two renames leaves the old one
    under its retired name, where `present` finds it.

    Raises:
        StorageError: the disk is full, the place is not writable, or what stands there is no checkpoint;
            it is untouched then.
    """
    directory = directory.resolve()
    draft = _draft(directory)
    try:
        present(directory)
        _check_replaceable(directory)
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(_retired(directory), ignore_errors=True)
        draft.mkdir(parents=True)
        yield draft
        for file in draft.iterdir():
            _settle(file)
        if directory.exists():
            directory.rename(_retired(directory))
        draft.rename(directory)
        shutil.rmtree(_retired(directory), ignore_errors=True)
    except BaseException as cause:
        shutil.rmtree(draft, ignore_errors=True)
        present(directory)
        if isinstance(cause, OSError | SafetensorError) and not isinstance(cause, StorageError):
            raise storage_error(cause, directory) from cause
        raise


def _check_replaceable(directory: Path) -> None:
    """Only a checkpoint may be replaced: whatever else stands there is somebody's work."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise StorageError(
            f"could not write {directory.name}: a file of that name stands there; expected a checkpoint or "
            f"nothing. Move it away, or choose another place. Path: {directory}"
        )
    others = sorted({p.name for p in directory.iterdir()} - {WEIGHTS, CONFIG})
    if others:
        raise StorageError(
            f"could not write {directory.name}: the folder holds {others[:3]}, which would be lost; expected "
            f"a checkpoint or nothing. Move them away, or choose another place. Path: {directory}"
        )


def present(directory: Path) -> bool:
    """Whether the folder is there, after putting back one that a kill caught between two names."""
    directory = directory.resolve()
    if not directory.exists() and _retired(directory).is_dir():
        try:
            _retired(directory).rename(directory)
        except OSError as cause:
            raise storage_error(cause, directory) from cause
    return directory.exists()


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.draft")


def _retired(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _settle(file: Path) -> None:
    """Wait until the file is on the disk: a rename must not overtake its contents when the power fails."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a small file atomically, making its folder; StorageError if that fails."""
    draft = _draft(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text)
        _settle(draft)
        draft.replace(path)
    except OSError as cause:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise storage_error(cause, path) from cause


def read_json(path: Path) -> Any:
    """What JSON a file of a run holds.

    Raises:
        CheckpointError: it is torn, absent or not readable.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as cause:  # a decoding error is a ValueError
        raise CheckpointError(
            f"{path.name} cannot be read ({cause}); expected the JSON that forerun wrote there. Copy the "
            f"folder again, or start anew with another --out. Path: {path}"
        ) from cause


def storage_error(cause: Exception, path: Path) -> StorageError:
    """Say what a failed write means for the person who asked for it."""
    number = getattr(cause, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(cause):
        reason = "the disk is full; free some space and run the same command again, it will resume"
    elif number in (errno.EACCES, errno.EROFS, errno.EPERM):
        reason = "the folder is not writable; choose another --out"
    elif number in (errno.EEXIST, errno.ENOTDIR):
        reason = "a file stands where a folder is needed; move it away or choose another --out"
    else:
        reason = f"{cause}; check the disk and run the same command again"
    return StorageError(f"could not write {path.name}: {reason}. Nothing was half-written. Path: {path}")


def save(directory: Path, tensors: Mapping[str, Tensor], config: dict[str, Any]) -> None:
    """Write weights and config as one folder, atomically."""
    with replacing(directory) as draft:
        save_file({k: v.detach().contiguous() for k, v in tensors.items()}, draft / WEIGHTS)
        (draft / CONFIG).write_text(json.dumps(config, indent=1))


def load(directory: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a folder written by `save`; anything else raises CheckpointError."""
    present(directory)
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            found = (
                sorted(p.name for p in directory.iterdir())[:8] if directory.is_dir() else "no such folder"
            )
            inside = (directory / "model" / CONFIG).is_file()
            hint = f"This is a run; its model is {directory / 'model'}" if inside else f"Path: {directory}"
            raise CheckpointError(
                f"no forerun checkpoint here: {name} is missing ({found}). A checkpoint is a folder "
                f"with {CONFIG} and {WEIGHTS}; forerun train writes one as RUN/model. {hint}"
            )
    try:
        config = json.loads((directory / CONFIG).read_text())
        tensors = load_file(directory / WEIGHTS)
    except (ValueError, OSError, SafetensorError) as cause:  # ValueError: neither JSON nor text
        raise _unreadable(str(cause), directory) from cause
    if not isinstance(config, dict):
        raise _unreadable(f"{CONFIG} holds {type(config).__name__}, not an object", directory)
    return tensors, config


def _unreadable(found: str, directory: Path) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint is corrupt or not forerun's ({found}); expected JSON and safetensors. Copy it "
        f"again, or train again. Path: {directory}"
    )


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Load weights strictly: every name and every shape must agree."""
    own = module.state_dict()
    missing, foreign = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    misshapen = [
        f"{k} is {tuple(tensors[k].shape)}, expected {tuple(own[k].shape)}"
        for k in sorted(own.keys() & tensors.keys())
        if own[k].shape != tensors[k].shape
    ]
    faults = {"missing": missing, "unknown": foreign, "of another shape": misshapen}
    if any(faults.values()):
        found = ", ".join(f"{len(names)} {fault} {names[:3]}" for fault, names in faults.items() if names)
        raise CheckpointError(
            f"the weights do not fit this model: {found}. The checkpoint is of another size, robot or "
            f"version: use the one of this model, or train again. Path: {source}"
        )
    module.load_state_dict(dict(tensors))


def differences(old: Any, new: dict[str, Any]) -> str:
    """The first few settings that differ, by their full names; of long lists only that they do."""
    if not isinstance(old, dict):
        return "it does not say which"
    was, now = _flat(old), _flat(new)
    names = [k for k in sorted(was.keys() | now.keys()) if was.get(k) != now.get(k)]
    changed = [_change(k, was.get(k, "absent"), now.get(k, "absent")) for k in names]
    more = f"; and {len(changed) - 4} more" if len(changed) > 4 else ""
    return "; ".join(changed[:4]) + more


def _change(name: str, was: Any, now: Any) -> str:
    long = any(isinstance(value, list) and len(str(value)) > 40 for value in (was, now))
    return f"{name} differ" if long else f"{name} was {was}, is {now}"


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level: {"learner.model.tick_s": 0.1}; lists of plain values stay whole."""
    nested = isinstance(values, list) and any(isinstance(v, dict | list) for v in values)
    if not (isinstance(values, dict) or nested):
        return {prefix: values} if prefix else {}
    pairs = values.items() if isinstance(values, dict) else enumerate(values)
    out: dict[str, Any] = {}
    for key, value in pairs:
        out |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return out
