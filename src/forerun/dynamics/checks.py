"""What the waist refuses, in words: tensors that are not this model's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from forerun.config import ModelConfig
from forerun.dynamics.heads import GoalConfig
from forerun.types import CheckpointError, ConfigError, ShapeError, StreamSpec

Shape = tuple[int, ...]


def check_latents(latents: Tensor, wanted: Shape) -> None:
    """Latents of this model; else ShapeError."""
    if latents.shape != wanted:
        raise ShapeError(
            f"latents arrive as {tuple(latents.shape)}; expected {wanted}: this model's (rows, ticks, "
            "tokens, width), without ticks for one observation. Use its own encode."
        )


def check_actions(actions: Tensor, rows: Shape, spec: StreamSpec | None) -> None:
    """Actions (*rows, A) of this robot; else ShapeError."""
    wanted = (*rows, spec.size if spec else 0)
    if actions.shape != wanted:
        channels = f"{list(spec.names) or spec.size} [{spec.unit}]" if spec else "none: it has no action"
        raise ShapeError(
            f"actions arrive as {tuple(actions.shape)}; expected {wanted}: one row per state, one tick less "
            f"than a context has latents, this model's channels ({channels})"
        )


def check_goal(goal: Tensor, wanted: Shape) -> None:
    """A goal for each row; else ShapeError."""
    if goal.shape != wanted:
        raise ShapeError(
            f"goals arrive as {tuple(goal.shape)}; expected {wanted}, one for each row of the state. Use "
            "this model's own goal, and repeat it for forked rows."
        )


def described(config: dict[str, Any], source: Path) -> tuple[ModelConfig, GoalConfig]:
    """What a checkpoint's config.json says about the model and its goals."""
    try:
        return ModelConfig.from_json(config["model"]), GoalConfig(**config.get("goal", {}))
    except ConfigError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as cause:
        raise CheckpointError(
            f"config.json of the checkpoint does not describe a model ({type(cause).__name__}: {cause}); "
            f"expected what forerun wrote there. Copy the checkpoint again, or train again. Path: {source}"
        ) from cause
