"""Plan on a server: the search runs here, every future is imagined there.

Needs torch on this side for the search alone; no model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from forerun.imagination.search import PlannerConfig, Search, judged_ticks, total
from forerun.serving.client import World
from forerun.types import ConfigError


class ServedPlanner:
    """`forerun.Planner` for a served world: the same search, one message a population.

    Args:
        world: where candidates fork from; its server must have been met with actions.
    """

    def __init__(self, world: World, config: PlannerConfig | None = None, seed: int = 0) -> None:
        self.world, self.config = world, config or PlannerConfig()
        if self.config.cost != "distance" or self.config.force_limit_n is not None:
            raise ConfigError(
                "a served planner judges by distance alone; set cost='distance' and no force limit"
            )
        space = world.server.hello["model"]["standardised"]
        if space is None:
            raise ConfigError("this world was learned without actions; there is nothing to plan")
        self.mean, self.scale = (np.asarray(space[name], np.float32) for name in ("mean", "scale"))
        low, high = (torch.tensor(space[name]) for name in ("low", "high"))
        self.search = Search(self.config, low, high, seed)

    def plan(self, goal: Mapping[str, np.ndarray]) -> np.ndarray:
        """The chunk (H, A) to do next, in the robot's own units, towards a goal observation."""
        chunk, _ = self.search.run(_Served(self, goal), 1)
        return chunk[0].numpy() * self.scale + self.mean


class _Served:
    """Futures of one served world; every population forks anew, which copies nothing."""

    def __init__(self, planner: ServedPlanner, goal: Mapping[str, np.ndarray]) -> None:
        self.planner, self.goal = planner, goal
        self.judged = judged_ticks(planner.config.horizon)

    def follow(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        seen = self._play(noise[0].numpy(), follow=True)
        assert seen.actions is not None
        return torch.from_numpy(np.array(seen.actions))[None], self._cost(seen.distance)

    def judge(self, candidates: Tensor) -> Tensor:
        own_units = candidates[0].numpy() * self.planner.scale + self.planner.mean
        return self._cost(self._play(own_units).distance)

    def _play(self, actions: np.ndarray, follow: bool = False):
        return self.planner.world.imagine(actions, self.goal, judge=list(self.judged), follow=follow)

    def _cost(self, distance: np.ndarray | None) -> Tensor:
        assert distance is not None
        return total(list(torch.from_numpy(np.array(distance)).unbind(1)))[None]
