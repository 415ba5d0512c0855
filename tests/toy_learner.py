"""The smallest thing that learns, and a process that trains it: toy_learner.py FOLDER SECONDS_PER_STEP."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from forerun.training.trainer import TrainConfig, train

CONFIG = TrainConfig(steps=60, learning_rate=1e-2, warmup=5, log_every=3, save_every=10)


class ToyLearner:
    """A small network, noise in the loss, and a slow copy: all that a resume must restore."""

    name = "toy"

    def __init__(self, seconds_per_step: float = 0.0, **settings: Any) -> None:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 1))
        self.module = nn.ModuleDict({"network": network, "slow": nn.Linear(8, 1).requires_grad_(False)})
        self.module.register_buffer("seen", torch.zeros(()))
        self.seconds_per_step, self.settings = seconds_per_step, settings
        self.asked: list[int] = []

    def batch(self, step: int) -> dict[str, Tensor]:
        self.asked.append(step)
        return {"x": torch.randn(16, 4, generator=torch.Generator().manual_seed(step))}

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        time.sleep(self.seconds_per_step)
        self.module.seen += 1  # type: ignore[index, operator]
        noisy = batch["x"] + 0.1 * torch.randn_like(batch["x"])
        error = (self.module["network"](noisy)[:, 0] - batch["x"].prod(1)).square().mean()
        return {"error": error, "total": error / (1 + self.module.seen)}

    def after_step(self) -> None:
        with torch.no_grad():
            self.module["slow"].weight.lerp_(self.module["network"][2].weight, 0.1)  # type: ignore[index, union-attr]

    def describe(self) -> dict[str, Any]:
        return {"shape": (4, 8, 1), "settings": self.settings}


def run(learner: ToyLearner, directory: Path, config: TrainConfig = CONFIG, **more: Any) -> dict[str, float]:
    return train(learner, config, directory, console=Console(quiet=True), **more)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(ToyLearner(float(sys.argv[2])), Path(sys.argv[1]))
