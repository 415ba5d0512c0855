"""Two small networks for touch recordings, taught by the trainer that teaches everything."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from forerun.evaluation.linear import scales
from forerun.layers import Gelu
from forerun.training.learner import Batch
from forerun.training.trainer import TrainConfig, train

Score = Callable[[Tensor, Batch], Tensor]
"""Outputs and the batch they answer, to a loss."""


class Standardised(nn.Module):
    """Inputs by the mean and spread of the training rows (..., F), kept with the weights."""

    mean: Tensor
    spread: Tensor

    def __init__(self, inputs: np.ndarray) -> None:
        super().__init__()
        mean, spread = scales(inputs.reshape(-1, inputs.shape[-1]))
        self.register_buffer("mean", torch.from_numpy(mean).float())
        self.register_buffer("spread", torch.from_numpy(spread).float())

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs - self.mean) / self.spread


class Perceptron(nn.Module):
    """(B, F) to (B, K): two hidden layers, dropout after each."""

    def __init__(self, inputs: np.ndarray, outputs: int, *, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.net = nn.Sequential(
            Standardised(inputs),
            *(nn.Linear(inputs.shape[-1], width), Gelu(), nn.Dropout(dropout)),
            *(nn.Linear(width, width), Gelu(), nn.Dropout(dropout)),
            nn.Linear(width, outputs),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        return self.net(inputs)


class Recurrent(nn.Module):
    """(B, T, F) to (B, T, K), causally: a GRU and a linear way past it, and an answer at every step.

    The way past it makes copying and extrapolating easy, so that what the GRU adds is more than that.
    """

    def __init__(self, inputs: np.ndarray, outputs: int, *, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.scale = Standardised(inputs)
        self.gru = nn.GRU(inputs.shape[-1], width, batch_first=True)
        self.dropout, self.out = nn.Dropout(dropout), nn.Linear(width + inputs.shape[-1], outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.scale(inputs)
        return self.out(torch.cat([self.dropout(self.gru(x)[0]), x], dim=-1))


class Supervised:
    """A network and the rows it learns from, as the trainer asks for them."""

    name = "touch"

    def __init__(
        self, module: nn.Module, rows: dict[str, np.ndarray], score: Score, *, batch_size: int, seed: int
    ) -> None:
        self._module, self.score, self.batch_size, self.seed = module, score, batch_size, seed
        self.rows = {name: torch.from_numpy(values) for name, values in rows.items()}

    @property
    def module(self) -> nn.Module:
        return self._module

    def batch(self, step: int) -> Batch:
        count = len(self.rows["inputs"])
        drawn = np.random.default_rng([self.seed, step]).integers(count, size=min(self.batch_size, count))
        return {name: values[drawn] for name, values in self.rows.items()}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return {"total": self.score(self._module(batch["inputs"]), batch)}

    def after_step(self) -> None:
        return None

    def describe(self) -> dict[str, Any]:
        return {"rows": len(self.rows["inputs"]), "batch_size": self.batch_size, "seed": self.seed}


def taught(
    make: Callable[[], nn.Module],
    rows: dict[str, np.ndarray],
    score: Score,
    config: TrainConfig,
    *,
    batch_size: int = 128,
) -> nn.Module:
    """A network after its training; ``config.seed`` decides its first weights, its batches and its dropout.

    Args:
        make: the network, untrained.
        rows: arrays with one first axis; "inputs" goes through the network, ``score`` sees them all.
    """
    torch.manual_seed(config.seed)
    learner = Supervised(make(), rows, score, batch_size=batch_size, seed=config.seed)
    with tempfile.TemporaryDirectory() as scratch:
        train(learner, config, Path(scratch), console=Console(quiet=True))
    return learner.module


@torch.no_grad()
def answers(module: nn.Module, inputs: np.ndarray) -> np.ndarray:
    """What a network says of all rows at once."""
    return module(torch.from_numpy(inputs)).numpy()
