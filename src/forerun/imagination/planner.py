"""Choose actions by imagining many futures at once: iCEM and MPPI over forked states.

The search starts from what the goal policy would do, and judges each future by the learned distance to the
goal; neither sees a position.

Letters: B problems, K candidates, H ticks of horizon, A action size, G goal size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from forerun.imagination.search import Dream, PlannerConfig, Search, judged_ticks, total
from forerun.types import ConfigError, ShapeError
from forerun.world_model import State, WorldModel

__all__ = ["Plan", "Planner", "PlannerConfig"]


@dataclass(frozen=True)
class Plan:
    """What was chosen, and what is expected of it."""

    action: Float[Tensor, "B A"]
    """(B, A) to do now, in the robot's own units."""
    actions: Float[Tensor, "B H A"]
    """(B, H, A) the whole chunk, in the robot's own units."""
    cost: Float[Tensor, " B"]
    """(B,) what the search judged it by: by default ticks to the goal at its end, plus 0.3 of those halfway;
    for a policy alone, ticks to the goal now."""


class Planner:
    """Plans towards a goal latent, one chunk per call; execute its first action and call again."""

    def __init__(self, model: WorldModel, config: PlannerConfig | None = None, seed: int = 0) -> None:
        if model.config.action is None:
            raise ConfigError(
                "this model was trained without actions; it can imagine, but there is nothing to plan"
            )
        self.model, self.config = model, config or PlannerConfig()
        if self.config.force_limit_n is not None and model.feel is None:
            raise ConfigError(
                f"a force limit of {self.config.force_limit_n:g} N is set, but this model predicts no force; "
                "expected one trained on bursts of touch. Leave force_limit_n out, or record touch and train"
            )
        self.search = Search(self.config, *model.action_bounds(), seed)

    @torch.inference_mode()
    def plan(self, state: State, goal: Tensor) -> Plan:
        """Search from B states (rows of ``state``) towards B goals (B, G) from `WorldModel.goal`."""
        if goal.ndim != 2 or len(goal) != len(state):
            raise ShapeError(
                f"goals arrive as {tuple(goal.shape)}; expected one row for each of {len(state)} states"
            )
        if self.config.method == "policy":
            wanted = self.model.goals.act(state.latents.flatten(1), goal)
            actions = wanted.clamp(self.search.low, self.search.high)[:, None]
            cost = self.model.distance(state, goal)
        else:
            actions, cost = self.search.run(self.dream(state, goal), len(state))
        actions = self.model.action_scale.inverse(actions)
        return Plan(action=actions[:, 0], actions=actions, cost=cost)

    def dream(self, state: State, goal: Float[Tensor, "B G"]) -> Dream:
        """The futures of B states, and what each costs on the way to its goal."""
        return _Forked(self, state, goal)


class _Forked:
    """Futures of forked states in this process."""

    def __init__(self, planner: Planner, state: State, goal: Float[Tensor, "B G"]) -> None:
        self.model, self.config, self.search = planner.model, planner.config, planner.search
        self.state, self.goal = state, goal
        self.judged, self.goal_weight = judged_ticks(self.config.horizon), self.model.goal_weight()

    def follow(self, noise: Float[Tensor, "B K H A"]) -> tuple[Tensor, Tensor]:
        imagined, goals = self._fork(noise.shape[1])
        actions, costs, strain = [], [], torch.zeros(())
        for t in range(self.config.horizon):
            wanted = self.model.goals.act(imagined.latents.flatten(1), goals) + noise[:, :, t].flatten(0, 1)
            actions.append(wanted.clamp(self.search.low, self.search.high))
            imagined = self.model.step_standardised(imagined, actions[-1])
            strain = strain + self._strain(imagined)
            if t in self.judged:
                costs.append(self._cost(imagined, goals))
        cost = total(costs) + strain
        return torch.stack(actions, dim=1).unflatten(0, noise.shape[:2]), cost.unflatten(0, noise.shape[:2])

    def judge(self, candidates: Float[Tensor, "B K H A"]) -> Float[Tensor, "B K"]:
        forked, goals = self._fork(candidates.shape[1])
        imagined = self.model.steps_standardised(forked, candidates.flatten(0, 1))
        costs, strain = [], torch.zeros(())
        for t, ahead in enumerate(imagined):
            strain = strain + self._strain(ahead)
            if t in self.judged:
                costs.append(self._cost(ahead, goals))
        return (total(costs) + strain).unflatten(0, candidates.shape[:2])

    def _fork(self, count: int) -> tuple[State, Tensor]:
        return self.state.fork(count), self.goal.repeat_interleave(count, dim=0)

    def _cost(self, state: State, goals: Tensor) -> Tensor:
        """(rows,) cost of being here."""
        c = self.config
        cost = torch.zeros(len(state))
        if c.cost != "latent":
            cost = cost + self.model.distance(state, goals)
        if c.cost != "distance":
            cost = cost + c.latent_weight * (
                (self.model.goal(state.latents) - goals).square() @ self.goal_weight
            )
        return cost

    def _strain(self, state: State) -> Tensor:
        """(rows,) cost of pressing harder than allowed; a plain zero where nothing is limited."""
        c = self.config
        if c.force_limit_n is None:
            return torch.zeros(())
        force = self.model.predict(state)["normal_force"].amax(-1)
        return c.force_weight * (force - c.force_limit_n).relu()
