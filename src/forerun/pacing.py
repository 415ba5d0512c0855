"""One world model at several tick lengths: the same weights are told how long a tick lasts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from forerun.stages import DynamicsLearner
from forerun.training.learner import Batch

REACH = 4
"""Ticks over which a pace's change is measured."""


class PacedLearner:
    """Stage two on several tables in turn.

    In a short tick little changes, and what is wrong about it would drown in what long ticks leave open. So
    every pace's loss counts in units of what changes within a few of its own ticks.

    Args:
        learners: of one model, each on a table of its own tick.
    """

    name = "dynamics"

    def __init__(self, learners: Sequence[DynamicsLearner]) -> None:
        self.learners, self.module = list(learners), learners[0].module
        change = torch.stack([_change(learner) for learner in self.learners])
        self.weights = change.max() / change

    def batch(self, step: int) -> Batch:
        turn, which = divmod(step, len(self.learners))
        learner = self.learners[which]
        batch = learner.batch(turn)
        tick_s = torch.full((len(batch["latents"]),), learner.table.cache.tick_s)
        return {**batch, "tick_s": tick_s, "pace_weight": self.weights[which]}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        losses = self.learners[0].loss(batch)
        return {**losses, "total": losses["total"] * batch["pace_weight"]}

    def after_step(self) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        paces = [learner.describe() for learner in self.learners]
        return {"paces": paces, "weights": self.weights.tolist()}


def _change(learner: DynamicsLearner) -> Tensor:
    """Mean squared change within `REACH` ticks, as a share of variance, in one batch of windows."""
    latents = learner.batch(0)["latents"]
    reach = min(REACH, latents.shape[1] - 1)
    gap = (latents[:, reach:] - latents[:, :-reach]).square()
    return (gap.flatten(2) @ learner.model.loss_weight().flatten()).mean()
