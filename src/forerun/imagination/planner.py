"""Choose actions by imagining many futures at once: iCEM and MPPI over forked states.

The search starts from what the goal policy would do, and judges each future by the learned distance to the
goal; neither sees a position.

Letters: B problems, K candidates, H ticks of horizon, A action size, G goal size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from forerun.types import ConfigError, ShapeError
from forerun.world_model import State, WorldModel


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """Search effort and shape. `benchmarks/speed.py` times the defaults."""

    method: Literal["icem", "mppi", "policy"] = "icem"
    """``policy`` takes the goal policy's action without any search."""
    candidates: int = 64
    iterations: int = 4
    horizon: int = 5
    """Ticks imagined."""
    cost: Literal["distance", "latent", "both"] = "distance"
    """What judges a future: learned ticks to the goal, squared distance of latents, or their sum."""
    warm_start: bool = True
    """Begin from what the goal policy would do; else from noise around doing the mean action."""
    explore: float = 0.4
    """Noise on the policy's action in each imagined tick of the first population; without it, one."""
    elites: int = 8
    latent_weight: float = 3.0
    """Ticks of distance per unit of squared latent distance, as a share of the variance of the data."""
    narrowest: float = 0.05
    """Smallest standard deviation of the search, in standardised action units."""
    colour: float = 2.0
    """Exponent of the noise spectrum: 0 is white, 2 gives smooth actions (iCEM, arXiv:2008.06389)."""
    temperature: float = 0.5
    """Of MPPI's weights, in ticks of distance."""

    force_limit_n: float | None = None
    """Predicted normal force above which a future costs more, in N; needs a model with touch."""
    force_weight: float = 10.0
    """Ticks of distance per newton above the limit, at every imagined tick."""

    def __post_init__(self) -> None:
        if self.force_limit_n is not None and self.force_limit_n < 0:
            raise ConfigError(f"force_limit_n is {self.force_limit_n}; expected newtons, 0 or more, or None")
        if min(self.candidates, self.iterations, self.horizon) < 1 or not 1 <= self.elites < self.candidates:
            raise ConfigError(
                f"candidates={self.candidates}, iterations={self.iterations}, horizon={self.horizon}, elites="
                f"{self.elites}: each must be at least 1, and elites fewer than candidates"
            )


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
        self.random = torch.Generator().manual_seed(seed)
        self.low, self.high = model.action_bounds()
        self.goal_weight = model.goal_weight()
        self.judged = {(self.config.horizon - 1) // 2, self.config.horizon - 1}
        self.filter = _colour_filter(self.config.horizon, self.config.colour)

    @torch.inference_mode()
    def plan(self, state: State, goal: Tensor) -> Plan:
        """Search from B states (rows of ``state``) towards B goals (B, G) from `WorldModel.goal`."""
        if goal.ndim != 2 or len(goal) != len(state):
            raise ShapeError(
                f"goals arrive as {tuple(goal.shape)}; expected one row for each of {len(state)} states"
            )
        if self.config.method == "policy":
            actions = self.model.goals.act(state.latents.flatten(1), goal).clamp(self.low, self.high)[:, None]
            cost = self.model.distance(state, goal)
        else:
            actions, cost = self._search(state, goal)
        actions = self.model.action_scale.inverse(actions)
        return Plan(action=actions[:, 0], actions=actions, cost=cost)

    def _search(self, state: State, goal: Tensor) -> tuple[Tensor, Tensor]:
        """Imagine, keep the best, refit, repeat; returns the best chunk (B, H, A) and its cost (B,)."""
        c, size = self.config, self.low.numel()
        if c.warm_start:
            candidates, cost = self._follow_policy(state, goal)
        else:
            candidates = self._noise(len(state), c.candidates, size).clamp(self.low, self.high)
            cost = self._evaluate(state, goal, candidates)
        for _ in range(c.iterations - 1):
            best, index = cost.topk(c.elites, dim=1, largest=False)
            elite = candidates.gather(1, index[..., None, None].expand(-1, -1, c.horizon, size))
            weight = self._weights(best)[..., None, None]
            mean = (weight * elite).sum(1, keepdim=True)
            std = (weight * (elite - mean).square()).sum(1, keepdim=True).sqrt().clamp_min(c.narrowest)
            noise = self._noise(len(state), c.candidates - c.elites, size)
            fresh = (mean + std * noise).clamp(self.low, self.high)
            candidates = torch.cat([elite, fresh], dim=1)
            cost = torch.cat([best, self._evaluate(state, goal, fresh)], dim=1)
        best, index = cost.min(dim=1)
        return candidates[torch.arange(len(state)), index], best

    def _follow_policy(
        self, state: State, goal: Float[Tensor, "B G"]
    ) -> tuple[Float[Tensor, "B K H A"], Float[Tensor, "B K"]]:
        """First population (B, K, H, A), the policy in closed loop, all but one with noise; and its cost."""
        c, actions, costs, strain = self.config, [], [], torch.zeros(())
        noise = c.explore * self._noise(len(state), c.candidates, self.low.numel())
        noise[:, 0] = 0
        imagined, goals = state.fork(c.candidates), goal.repeat_interleave(c.candidates, dim=0)
        for t in range(c.horizon):
            action = self.model.goals.act(imagined.latents.flatten(1), goals) + noise[:, :, t].flatten(0, 1)
            actions.append(action.clamp(self.low, self.high))
            imagined = self.model.step_standardised(imagined, actions[-1])
            strain = strain + self._strain(imagined)
            if t in self.judged:
                costs.append(self._judge(imagined, goals))
        shape, cost = (len(state), c.candidates), self._total(costs) + strain
        return torch.stack(actions, dim=1).unflatten(0, shape), cost.unflatten(0, shape)

    def _evaluate(
        self, state: State, goal: Float[Tensor, "B G"], candidates: Float[Tensor, "B K H A"]
    ) -> Float[Tensor, "B K"]:
        """Open loop: candidates (B, K, H, A) standardised -> cost (B, K)."""
        count = candidates.shape[1]
        forked, goals = state.fork(count), goal.repeat_interleave(count, dim=0)
        imagined = self.model.steps_standardised(forked, candidates.flatten(0, 1))
        costs, strain = [], torch.zeros(())
        for t, ahead in enumerate(imagined):
            strain = strain + self._strain(ahead)
            if t in self.judged:
                costs.append(self._judge(ahead, goals))
        return (self._total(costs) + strain).unflatten(0, candidates.shape[:2])

    def _judge(self, state: State, goals: Tensor) -> Tensor:
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

    def _total(self, costs: list[Tensor]) -> Tensor:
        """The end counts most; halfway breaks ties towards getting there sooner."""
        return costs[-1] + 0.3 * costs[0]

    def _weights(self, cost: Tensor) -> Tensor:
        """(B, elites) shares: equal for iCEM, soft for MPPI."""
        if self.config.method == "mppi":
            return (-(cost - cost[:, :1]) / self.config.temperature).softmax(dim=1)
        return torch.full_like(cost, 1 / cost.shape[1])

    def _noise(self, problems: int, candidates: int, action_size: int) -> Tensor:
        """(B, K, H, A) unit noise, smooth over the horizon."""
        white = torch.randn(problems, candidates, action_size, self.config.horizon, generator=self.random)
        return (white @ self.filter).transpose(-1, -2)


def _colour_filter(horizon: int, exponent: float) -> Tensor:
    """(H, H) matrix that turns white noise rows into noise with spectrum 1/f^exponent and unit variance."""
    frequency = torch.fft.rfftfreq(2 * horizon)
    frequency[0] = frequency[1]
    kernel = torch.fft.irfft(frequency ** (-exponent / 2), n=2 * horizon)
    index = (torch.arange(horizon)[None] - torch.arange(horizon)[:, None]).abs()
    covariance = torch.fft.irfft(torch.fft.rfft(kernel).abs() ** 2, n=2 * horizon)[:horizon]
    correlation = (covariance / covariance[0])[index] + 1e-4 * torch.eye(horizon)
    return torch.linalg.cholesky(correlation).T
