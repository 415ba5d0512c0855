"""The last stage: the goal policy practises in imagination until its futures end near their goals.

Imitation of play copies detours and never recovers; here the policy acts in its own imagined world, and the
gradient of the learned distance flows back through every imagined tick into its actions. No robot moves.

Letters: B rows, H imagined ticks, A action size, N x D latents, Z goal size.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from forerun.data.hindsight import Hindsight
from forerun.data.window import WindowSampler
from forerun.stages import LatentTable
from forerun.training.learner import Batch
from forerun.world_model import WorldModel


@dataclass(frozen=True, kw_only=True)
class PracticeConfig:
    """How the policy practises."""

    horizon: int = 8
    """Ticks imagined from every start."""
    noise: float = 0.3
    """Added to every action, in standardised units: a plan that only works exactly is not worth much."""
    cloning: float = 1.0
    """Weight of staying near what was done in the recordings, where the model can be trusted."""
    limits: float = 10.0
    """Weight of staying within the action's bounds before they clip, where no gradient would flow."""
    ahead: int = 60
    """Goals lie up to this many ticks ahead of the start in its episode,"""
    random: float = 0.3
    """or, for this share of rows, anywhere in the recordings."""


class PracticeLearner:
    """Analytic policy gradients through the world model (SVG, arXiv:1510.09142; Dreamer, arXiv:1912.01603).

    Only the goal policy is trained: neither the world nor the distance may bend to please it.
    """

    name = "practice"

    def __init__(
        self,
        model: WorldModel,
        table: LatentTable,
        episodes: np.ndarray,
        *,
        batch_size: int = 256,
        config: PracticeConfig | None = None,
        seed: int = 0,
    ) -> None:
        assert table.action is not None
        self.model, self.table, self.seed = model, table, seed
        self.config = config or PracticeConfig()
        self.sampler = WindowSampler(table.cache, episodes, 3, batch_size, seed)
        self.hindsight = Hindsight(table.cache, episodes)
        self.low, self.high = model.action_bounds()
        self.module = model.goals.policy

    def batch(self, step: int) -> Batch:
        """Two ticks of context (B, 2, N, D), the action between them (B, 1, A), what was done next (B, A).

        ``goal`` (B, Z) is for practice, ``ahead`` (B, Z) always lies ahead: what was done led there.
        """
        c, random = self.config, np.random.default_rng([self.seed, step])
        now = self.sampler.batch(step) + 1
        ahead = self.hindsight.later(now, c.ahead, random)
        anywhere = self.hindsight.anywhere(len(now), random)
        goal = np.where(random.random(len(now)) < c.random, anywhere, ahead)
        latents, action = self.table.latents, self.table.action
        assert action is not None
        noise = c.noise * random.standard_normal((len(now), c.horizon, action.shape[1]))
        return {
            "latents": torch.stack([latents[now - 1], latents[now]], dim=1),
            "action": action[now - 1][:, None],
            "done": action[now],
            "goal": self.model.goal(latents[goal]),
            "ahead": self.model.goal(latents[ahead]),
            "noise": torch.from_numpy(noise.astype(np.float32)),
        }

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """``distance``: mean over the imagined ticks, in ticks to the goal."""
        c, goals, goal = self.config, self.model.goals, batch["goal"]
        state = self.model.start(batch["latents"], batch["action"])
        now, wanted, reached = state.latents.flatten(1), [], []
        for noise in batch["noise"].unbind(1):
            wanted.append(goals.act(state.latents.flatten(1), goal))
            state = self.model.step_standardised(state, (wanted[-1] + noise).clamp(self.low, self.high))
            reached.append(state.latents.flatten(1))
        distance = goals.distance(torch.stack(reached), goal.expand(c.horizon, -1, -1)).mean()
        actions = torch.stack(wanted)
        beyond = (actions - actions.clamp(self.low, self.high)).square().mean()
        done = self.model.action_scale(batch["done"])
        cloning = (goals.act(now, batch["ahead"]) - done).square().mean()
        total = distance + c.cloning * cloning + c.limits * beyond
        return {"distance": distance, "cloning": cloning, "beyond_limits": beyond, "total": total}

    def after_step(self) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        return {
            "config": asdict(self.config),
            **self.sampler.describe(),
            "model": self.model.config.to_json(),
        }
