"""Choose actions by imagining many futures at once: iCEM and MPPI over forked states.

The search starts from what the goal policy would do, and judges each future by the learned distance to the
goal; neither sees a position. Letters: B problems, K candidates, H ticks of horizon, A action size, G goal size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from forerun.types import ConfigError, ShapeError
from forerun.world_model import State, WorldModel


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """Search effort and shape. The defaults decide in about 20 ms on one CPU core at size ``xs``."""

    method: Literal["icem", "mppi", "policy"] = "icem"
    """``policy`` takes the goal policy's action without any search."""
    candidates: int = 64
    iterations: int = 4
    horizon: int = 5
    """Ticks imagined. Longer is not better: errors compound, and the distance already looks further."""
    elites: int = 8
    spread: float = 0.5
    """First standard deviation of the search, in standardised action units, around the policy's plan."""
    narrowest: float = 0.05
    colour: float = 2.0
    """Exponent of the noise spectrum: 0 is white, 2 gives smooth actions (iCEM, arXiv:2008.06389)."""
    temperature: float = 0.5
    """Of MPPI's weights, in ticks of distance."""
    momentum: float = 0.1
    caution: float = 0.0
    """Cost per unit of predicted squared latent error along the way."""

    def __post_init__(self) -> None:
        if min(self.candidates, self.iterations, self.horizon) < 1 or not 1 <= self.elites <= self.candidates:
            raise ConfigError(
                f"candidates={self.candidates}, iterations={self.iterations}, horizon={self.horizon}, elites="
                f"{self.elites}: each must be at least 1, and elites at most candidates"
            )


@dataclass(frozen=True)
class Plan:
    """What was chosen, and what is expected of it."""

    action: Tensor
    """(B, A) to do now, in the robot's own units."""
    actions: Tensor
    """(B, H, A) the whole chunk, in the robot's own units."""
    distance: Tensor
    """(B,) expected ticks to the goal at the end of the chunk."""


class Planner:
    """Plans towards a goal latent, one chunk per call; execute its first action and call again."""

    def __init__(self, model: WorldModel, config: PlannerConfig | None = None, seed: int = 0) -> None:
        if model.config.action is None:
            raise ConfigError("this model was trained without actions; it can imagine, but there is nothing to plan")
        self.model, self.config = model, config or PlannerConfig()
        self.random = torch.Generator().manual_seed(seed)
        low, high = self._bounds()
        self.low, self.high = low, high
        self.filter = _colour_filter(self.config.horizon, self.config.colour)

    def _bounds(self) -> tuple[Tensor, Tensor]:
        """Action bounds in standardised units; three standard deviations where the robot states none."""
        spec, scale = self.model.config.action, self.model.action_scale
        assert spec is not None
        three = torch.full((spec.size,), 3.0)
        low = scale(torch.tensor(spec.low)) if spec.low else -three
        high = scale(torch.tensor(spec.high)) if spec.high else three
        return low, high

    @torch.inference_mode()
    def plan(self, state: State, goal: Tensor) -> Plan:
        """Search from B states (rows of ``state``) towards B goals (B, G) from `WorldModel.goal`."""
        if goal.ndim != 2 or len(goal) != len(state):
            raise ShapeError(f"goals arrive as {tuple(goal.shape)}; expected one row for each of {len(state)} states")
        mean, distance = self._follow_policy(state, goal)
        if self.config.method != "policy":
            mean, distance = self._search(state, goal, mean)
        actions = self.model.action_scale.inverse(mean)
        return Plan(action=actions[:, 0], actions=actions, distance=distance)

    def _follow_policy(self, state: State, goal: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, A) what the goal policy would do in imagination, and where that ends."""
        model, actions = self.model, []
        horizon = 1 if self.config.method == "policy" else self.config.horizon
        for _ in range(horizon):
            actions.append(model.goals.act(state.latents.flatten(1), goal).clamp(self.low, self.high))
            state = model.step_standardised(state, actions[-1])
        return torch.stack(actions, dim=1), model.distance(state, goal)

    def _search(self, state: State, goal: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """Sample, imagine, keep the best, refit; returns the best chunk (B, H, A) and its cost (B,)."""
        c = self.config
        forked = state.fork(c.candidates)
        goals = goal.repeat_interleave(c.candidates, dim=0)
        std = torch.full_like(mean, c.spread)
        kept = mean[:, None]
        for _ in range(c.iterations):
            fresh = c.candidates - kept.shape[1]
            noise = self._noise(len(state), fresh, mean.shape[-1])
            sampled = (mean[:, None] + std[:, None] * noise).clamp(self.low, self.high)
            candidates = torch.cat([kept, sampled], dim=1)
            cost = self._cost(forked, goals, candidates)
            best, index = cost.topk(c.elites, dim=1, largest=False)
            kept = candidates.gather(1, index[..., None, None].expand(-1, -1, *candidates.shape[2:]))
            weight = self._weights(best)[..., None, None]
            refit = (weight * kept).sum(1)
            std = ((weight * (kept - refit[:, None]).square()).sum(1).sqrt() + c.momentum * std).clamp_min(c.narrowest)
            mean = refit
        return kept[:, 0], best[:, 0]

    def _weights(self, cost: Tensor) -> Tensor:
        """(B, elites) shares: equal for iCEM, soft for MPPI."""
        if self.config.method == "mppi":
            return (-(cost - cost[:, :1]) / self.config.temperature).softmax(dim=1)
        return torch.full_like(cost, 1 / cost.shape[1])

    def _cost(self, forked: State, goals: Tensor, candidates: Tensor) -> Tensor:
        """candidates (B, K, H, A) standardised -> (B, K) ticks to the goal at the end."""
        rows = candidates.flatten(0, 1)
        state, doubt = forked, torch.zeros(len(rows))
        for t in range(rows.shape[1]):
            state = self.model.step_standardised(state, rows[:, t])
            if self.config.caution:
                doubt = doubt + state.log_error.exp()
        cost = self.model.distance(state, goals) + self.config.caution * doubt
        return cost.unflatten(0, candidates.shape[:2])

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
