"""The step on ONNX Runtime: the same numbers to rounding, a third of the time for few rows on a CPU.

`benchmarks/export.py` measures both. The graph is written once per model and kept in a cache folder.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import torch
from torch import Tensor

from forerun.dynamics.cache import Memory
from forerun.dynamics.state import State
from forerun.serving.exported import load_exported
from forerun.serving.snapshot import fingerprint
from forerun.types import ConfigError
from forerun.world_model import WorldModel

CACHE = "FORERUN_CACHE"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def available() -> bool:
    """Whether everything that is needed is installed."""
    return all(importlib.util.find_spec(name) is not None for name in PACKAGES)


class OnnxStep:
    """`WorldModel.step` for rows that all carry an action.

    Args:
        threads: of ONNX Runtime.

    Raises:
        ConfigError: the model has no actions, or remembers nothing: there is no such step.
        MissingExtraError: ONNX or its runtime is not installed.
    """

    def __init__(self, model: WorldModel, threads: int = 1) -> None:
        if model.config.action is None or model.config.size.window < 2:
            raise ConfigError(
                "only a model with actions and a memory has an exported step; serve it with torch"
            )
        self.run = load_exported(_kept(model), "onnx", threads)

    def __call__(self, before: State, actions: Tensor) -> State:
        """One tick for every row: actions (B, A) in the robot's own units."""
        memory = before.memory
        assert memory is not None
        assert memory.empty is not None
        latents, kept, log_error = self.run(
            before.latents.numpy(),
            torch.stack(memory.own, dim=2).numpy(),
            memory.empty.numpy(),
            before.tick.numpy(),
            before.pace.embedding.numpy(),
            actions.numpy(),
        )
        return State(
            latents=torch.from_numpy(latents),
            memory=Memory(own=torch.from_numpy(kept).unbind(2), empty=(memory.empty - 1).clamp_min(0)),
            tick=before.tick + 1,
            pace=before.pace,
            log_error=torch.from_numpy(log_error),
        )

    def vectors(self, latents: Tensor) -> dict[str, Tensor]:
        """Numbers of every stream that is no video, (B, *shape)."""
        return {name: torch.from_numpy(part) for name, part in self.run.vectors(latents.numpy()).items()}

    def pictures(self, latents: Tensor) -> dict[str, Tensor]:
        """Pictures (B, S, S, 3) uint8 by camera."""
        return {name: torch.from_numpy(part) for name, part in self.run.pictures(latents.numpy()).items()}


def _kept(model: WorldModel) -> Path:
    """The folder with this model's graph, written if it is not there yet."""
    root = Path(os.environ.get(CACHE) or Path.home() / ".cache" / "forerun")
    folder = root / "exported" / fingerprint(model)
    if not (folder / "export.json").is_file():
        from forerun.serving.export import export_model

        export_model(model, folder, ("onnx",))
    return folder
