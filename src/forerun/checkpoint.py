"""One folder per model: weights as safetensors, meaning as JSON. Strict, atomic, and never a pickle."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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

    Raises:
        StorageError: the disk is full or the place is not writable; whatever stood there is untouched.
    """
    draft = directory.with_name(f".{directory.name}.draft-{os.getpid()}")
    retired = directory.with_name(f".{directory.name}.old-{os.getpid()}")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        yield draft
        if directory.exists():
            directory.rename(retired)
        draft.rename(directory)
        shutil.rmtree(retired, ignore_errors=True)
    except (OSError, SafetensorError) as cause:
        shutil.rmtree(draft, ignore_errors=True)
        if retired.exists() and not directory.exists():
            retired.rename(directory)
        raise storage_error(cause, directory) from cause
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a small file atomically, making its folder; StorageError if that fails."""
    draft = path.with_name(f".{path.name}.draft-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text)
        draft.replace(path)
    except OSError as cause:
        draft.unlink(missing_ok=True)
        raise storage_error(cause, path) from cause


def storage_error(cause: Exception, path: Path) -> StorageError:
    """Say what a failed write means for the person who asked for it."""
    text = str(cause)
    if getattr(cause, "errno", None) == errno.ENOSPC or "No space left" in text:
        reason = "the disk is full; free some space and run the same command again, it will resume"
    elif getattr(cause, "errno", None) in (errno.EACCES, errno.EROFS, errno.EPERM):
        reason = "the folder is not writable; choose another --out"
    else:
        reason = f"{text}; check the disk and run the same command again"
    return StorageError(f"could not write {path.name}: {reason}. Nothing was half-written. Path: {path}")


def save(directory: Path, tensors: Mapping[str, Tensor], config: dict[str, Any]) -> None:
    """Write weights and config as one folder, atomically."""
    with replacing(directory) as draft:
        save_file({k: v.detach().contiguous() for k, v in tensors.items()}, draft / WEIGHTS)
        (draft / CONFIG).write_text(json.dumps(config, indent=1))


def load(directory: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a folder written by `save`; anything else raises CheckpointError."""
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            found = sorted(p.name for p in directory.iterdir())[:8] if directory.is_dir() else "no such folder"
            raise CheckpointError(
                f"no forerun checkpoint here: {name} is missing (found: {found}). A checkpoint is a folder with "
                f"{CONFIG} and {WEIGHTS}; forerun train writes one as RUN/model. Path: {directory}"
            )
    try:
        config = json.loads((directory / CONFIG).read_text())
        tensors = load_file(directory / WEIGHTS)
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as cause:
        raise CheckpointError(
            f"the checkpoint is corrupt or not a forerun checkpoint ({cause}); expected JSON and safetensors. "
            f"Copy it again, or train again. Path: {directory}"
        ) from cause
    return tensors, config


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Load weights strictly: every name and every shape must agree."""
    own = module.state_dict()
    missing, foreign = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    misshapen = [
        f"{k} {tuple(tensors[k].shape)} for {tuple(own[k].shape)}"
        for k in own.keys() & tensors.keys()
        if own[k].shape != tensors[k].shape
    ]
    if missing or foreign or misshapen:
        raise CheckpointError(
            f"the weights do not fit this model: {len(missing)} missing {missing[:3]}, {len(foreign)} unknown "
            f"{foreign[:3]}, {len(misshapen)} of another shape {misshapen[:3]}. The checkpoint belongs to another "
            f"size, robot or version. Path: {source}"
        )
    module.load_state_dict(dict(tensors))
