"""Recorded moments from which worlds may begin, and the file that keeps them beside a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from forerun.types import CheckpointError

FORMAT = "forerun-starts-1"
FILE = "starts.safetensors"
"""In a run's folder."""


@dataclass(frozen=True)
class Start:
    """A recorded moment."""

    name: str
    context: dict[str, np.ndarray]
    """Per stream (T, *shape)."""
    actions: np.ndarray | None
    """(T - 1, A)."""


def save_starts(starts: Sequence[Start], path: Path) -> None:
    """Write them as one safetensors file."""
    tensors = {}
    for k, start in enumerate(starts):
        tensors |= {f"{k}/{name}": np.ascontiguousarray(part) for name, part in start.context.items()}
        if start.actions is not None:
            tensors[f"{k}//action"] = np.ascontiguousarray(start.actions)
    about = {"format": FORMAT, "names": json.dumps([start.name for start in starts])}
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata=about)
    part.replace(path)


def load_starts(path: Path) -> list[Start]:
    """What `save_starts` wrote.

    Raises:
        CheckpointError: another file.
    """
    try:
        with safe_open(path, "numpy") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as cause:
        raise CheckpointError(f"the file of starts cannot be read: {cause}. Remove it: {path}") from cause
    if about.get("format") != FORMAT:
        raise CheckpointError(f"'{path}' is no file of starts; expected format {FORMAT}. Remove it")
    starts = []
    for k, name in enumerate(json.loads(about["names"])):
        own = {key.partition("/")[2]: part for key, part in tensors.items() if key.startswith(f"{k}/")}
        actions = own.pop("/action", None)
        starts.append(Start(name, own, actions))
    return starts
