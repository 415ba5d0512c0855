"""Small networks on latents: how far to a goal, what to do about it, how sure the next tick is.

Letters: B rows, Z = N * D numbers of one tick's latents, G those that make a goal, A action size.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from forerun.layers import mlp


@dataclass(frozen=True, kw_only=True)
class GoalConfig:
    """How goals are learned. The distance follows implicit value learning over hindsight goals."""

    discount: float = 0.98
    """Per tick: distances saturate at 1 / (1 - discount) ticks."""
    expectile: float = 0.8
    """Above 0.5: trust the faster of the ways seen from here to there."""
    advantage: float = 3.0
    """Inverse temperature of the policy's preference for actions that brought the goal nearer."""
    target_rate: float = 0.01
    same: float = 0.1
    """Share of training goals that are the present state."""
    random: float = 0.3
    """Share of training goals from anywhere in the data."""
    horizon: int = 60
    """Hindsight goals lie up to this many ticks ahead in the same episode,"""
    near: float = 0.0
    """this share of them log-uniformly: more lie a few ticks ahead, where the last centimetre is learned."""


class GoalHeads(nn.Module):
    """Distance to a goal in ticks, and a policy towards it, both on whitened latents.

    The distance is a goal-conditioned value learned by expectile regression (IQL, arXiv:2110.06169;
    goal-conditioned and action-free in HIQL, arXiv:2307.11949). The policy begins as
    advantage-weighted hindsight imitation and then practises in imagination (`forerun.practice`). Neither
    sees a reward, a position or a label.
    """

    def __init__(
        self, latent_size: int, goal_size: int, action_size: int, width: int, config: GoalConfig | None = None
    ) -> None:
        super().__init__()
        self.config = config or GoalConfig()
        pair = latent_size + goal_size
        self.value = nn.ModuleList(mlp(pair, width, width, 1, norm=True) for _ in range(2))
        self.target = copy.deepcopy(self.value).requires_grad_(False)
        self.policy = mlp(pair, width, width, max(action_size, 1), norm=True)

    def distance(self, z: Float[Tensor, "*B Z"], goal: Float[Tensor, "*B G"]) -> Float[Tensor, "*B"]:
        """Expected ticks to the goal, discounted: z (..., Z), goal (..., G) -> (...), about 0 at the goal."""
        pair = torch.cat([z, goal], dim=-1)
        return -torch.stack([v(pair)[..., 0] for v in self.value]).mean(0)

    def act(self, z: Float[Tensor, "*B Z"], goal: Float[Tensor, "*B G"]) -> Float[Tensor, "*B A"]:
        """Standardised action (..., A) towards the goal."""
        return self.policy(torch.cat([z, goal], dim=-1))

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step on transitions.

        Args:
            batch: ``z``, ``next_z`` (B, Z); ``goal`` (B, G) from the same place, from later in the episode or
                from anywhere; ``reached`` (B,) bool, the goal is here; ``ahead`` (B,) bool, it lies ahead in
                the episode, so the action (B, A) taken was a step on a way to it.

        Returns:
            ``distance``, which grows while targets do; ``imitation``, the policy's weighted squared error in
            standardised units; ``policy``, the same with weights that do not sum to one; ``total``.
        """
        c = self.config
        pair = torch.cat([batch["z"], batch["goal"]], dim=-1)
        with torch.no_grad():
            next_pair = torch.cat([batch["next_z"], batch["goal"]], dim=-1)
            bootstrap = torch.stack([v(next_pair)[:, 0] for v in self.target])
            wanted = -1 + c.discount * bootstrap.min(0).values
            wanted = torch.where(batch["reached"], torch.zeros_like(wanted), wanted)
        values = torch.stack([v(pair)[:, 0] for v in self.value])
        gap = wanted - values
        side = torch.where(gap < 0, 1 - c.expectile, c.expectile)
        distance = (side * gap.square()).mean()
        with torch.no_grad():
            gain = -1 + c.discount * bootstrap.mean(0) - values.mean(0)
            weight = batch["ahead"] * (c.advantage * gain).exp().clamp(max=20)
        error = (self.policy(pair) - batch["action"]).square().mean(-1)
        policy = (weight * error).sum() / batch["ahead"].sum().clamp_min(1)
        imitation = policy.detach() * batch["ahead"].sum() / weight.sum().clamp_min(1e-6)
        return {
            "distance": distance,
            "policy": policy,
            "imitation": imitation,
            "total": distance / 5 + policy,
        }

    @torch.no_grad()
    def update_target(self) -> None:
        """Move the bootstrap network a little towards the learned one; called after each optimiser step."""
        for slow, fast in zip(self.target.parameters(), self.value.parameters(), strict=True):
            slow.lerp_(fast, self.config.target_rate)


class Uncertainty(nn.Module):
    """Predicted log of the squared error of the next latents, from the trunk's hidden state.

    Gradients stay in this head: a trunk that could lower its doubt would learn to be sure, not to be right.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, hidden: Float[Tensor, "*B M E"]) -> Float[Tensor, "*B"]:
        """hidden (..., M, E) -> (...) log mean squared error expected in whitened latents."""
        return self.out(hidden.detach()).mean((-2, -1))

    @staticmethod
    def loss(log_error: Tensor, squared_error: Tensor) -> Tensor:
        """Gaussian likelihood of the errors that occurred; both of the same shape."""
        likelihood = squared_error.detach() * (-log_error).exp() + log_error
        return likelihood.mean() + F.relu(-log_error - 20).mean()
