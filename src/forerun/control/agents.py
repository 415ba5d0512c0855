"""Who acts in a trial: the planner over a world model, its goal policy, or chance."""

from __future__ import annotations

import numpy as np
import torch

from forerun.control.trials import Observations
from forerun.imagination.planner import Planner, PlannerConfig
from forerun.types import StreamSpec
from forerun.world_model import State, WorldModel


class WorldModelAgent:
    """Encode what is seen, imagine, act, and carry the past along; replans at every step.

    Args:
        model: the world model; in evaluation mode.
        config: search effort; ``method="policy"`` acts without imagining.
        seed: of the search noise.
    """

    def __init__(self, model: WorldModel, config: PlannerConfig | None = None, seed: int = 0) -> None:
        self.model, self.planner = model.eval(), Planner(model, config, seed)
        self.state: State | None = None
        self.action: torch.Tensor | None = None

    @torch.inference_mode()
    def begin(self, observations: Observations, goals: Observations) -> None:
        self.state, self.action = None, None
        self.goal = self.model.goal(self._encode(goals))

    @torch.inference_mode()
    def act(self, observations: Observations) -> np.ndarray:
        latents = self._encode(observations)
        if self.state is None or self.action is None:
            self.state = self.model.start(latents[:, None])
        else:
            moved = self.model.step(self.state, self.action)
            self.state = self.model.observe(moved, latents).trim(self.model.config.size.window)
        self.action = self.planner.plan(self.state, self.goal).action
        return self.action.numpy()

    def _encode(self, observations: Observations) -> torch.Tensor:
        """(B, N, D) latents of one tick."""
        ticks = {s.name: torch.from_numpy(observations[s.name])[:, None] for s in self.model.config.streams}
        return self.model.encode(ticks)[:, 0]


class RandomAgent:
    """Uniform actions within the bounds: the floor under every success rate."""

    def __init__(self, action: StreamSpec, seed: int = 0) -> None:
        self.low, self.high = np.asarray(action.low), np.asarray(action.high)
        self.random = np.random.default_rng(seed)
        self.rows = 0

    def begin(self, observations: Observations, goals: Observations) -> None:
        self.rows = len(next(iter(observations.values())))

    def act(self, observations: Observations) -> np.ndarray:
        return self.random.uniform(self.low, self.high, (self.rows, len(self.low)))
