"""World models small enough for a test: one camera, one arm, random weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from forerun.config import model_config
from forerun.types import StreamSpec
from forerun.world_model import State, WorldModel

SIDE, JOINTS, ACTIONS, TICK_S = 32, 3, 2, 0.1
CAMERA = StreamSpec(name="camera", kind="video", shape=(SIDE, SIDE, 3), unit="rgb")
ARM = StreamSpec(name="arm.position", kind="vector", shape=(JOINTS,), unit="rad", names=("a", "b", "c"))
ACTION = StreamSpec(name="action", kind="action", shape=(ACTIONS,), unit="rad/s", names=("left", "right"))

TINY = {"latent_dim": 8, "encoder_width": 8, "encoder_layers": 1, "width": 16, "heads": 2, "head_width": 8}
PACKED = {**TINY, "layers": 2, "window": 3}
UNPACKED = {
    **TINY, "layers": 4, "window": 3, "packed": False, "time_every": 2, "video_tokens": 2, "encoder": "patch",
}  # fmt: skip
SHAPES = {"packed": PACKED, "unpacked": UNPACKED}


def world(seed: int = 0, untrained: bool = False, **size: Any) -> WorldModel:
    """A model in evaluation mode; every weight is disturbed unless ``untrained``, so that nothing is zero."""
    streams = size.pop("streams", (CAMERA, ARM))
    torch.manual_seed(seed)
    model = WorldModel(model_config("xs", streams, size.pop("action", ACTION), TICK_S, **(size or PACKED)))
    if not untrained:
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.2 * torch.randn_like(weight))
    return model.eval()


def clip(rows: int, ticks: int, seed: int = 0) -> dict[str, Tensor]:
    """Random observations: streams (rows, ticks, ...) in their own units."""
    random = torch.Generator().manual_seed(seed)
    return {
        "camera": torch.randint(0, 256, (rows, ticks, SIDE, SIDE, 3), dtype=torch.uint8, generator=random),
        "arm.position": torch.randn(rows, ticks, JOINTS, generator=random),
    }


def latents(model: WorldModel, rows: int, ticks: int, seed: int = 0) -> Tensor:
    with torch.no_grad():
        return model.encode(clip(rows, ticks, seed))


def actions(rows: int, ticks: int, seed: int = 1) -> Tensor:
    return torch.randn(rows, ticks, ACTIONS, generator=torch.Generator().manual_seed(seed))


def imagine(model: WorldModel, state: State, chosen: Tensor) -> State:
    """Step through actions (B, T, A)."""
    with torch.no_grad():
        for t in range(chosen.shape[1]):
            state = model.step(state, chosen[:, t])
    return state


def assert_same(one: State, other: State, atol: float = 0.0) -> None:
    for name in ("latents", "tick", "tick_s", "log_error"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), atol=atol, rtol=0, msg=name)
