"""What the trainer asks of anything that learns. It knows no model."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

Batch = dict[str, Tensor]


class Learner(Protocol):
    """Something with parameters and a loss."""

    name: str

    @property
    def module(self) -> nn.Module:
        """Everything to train and to save: its parameters that require gradients are optimised."""
        ...

    def batch(self, step: int) -> Batch:
        """The batch of one step: a pure function of the step, so that resuming needs no loader state.

        Runs on another thread while the previous step is computed.
        """
        ...

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Scalars by name; ``total`` is minimised, the others are logged."""
        ...

    def after_step(self) -> None:
        """Called after each optimiser step (moving averages, say)."""
        ...

    def describe(self) -> dict[str, Any]:
        """Settings that must agree when a run is resumed, as JSON."""
        ...
