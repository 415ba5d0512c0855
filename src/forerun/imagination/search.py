"""The search of a planner: draw chunks of actions, keep the best, refit, repeat (iCEM and MPPI).

Where futures are imagined and judged is somebody else's business: in this process, or on a server.

Letters: B problems, K candidates, H ticks of horizon, A action size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from forerun.types import ConfigError


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


class Dream(Protocol):
    """B problems whose futures can be imagined; actions are standardised."""

    def follow(self, noise: Float[Tensor, "B K H A"]) -> tuple[Tensor, Tensor]:
        """The goal policy in closed loop, with noise on each of its actions.

        Returns:
            What was done (B, K, H, A), and its cost (B, K).
        """
        ...

    def judge(self, candidates: Float[Tensor, "B K H A"]) -> Float[Tensor, "B K"]:
        """Open loop: the cost of each chunk."""
        ...


class Search:
    """Looks for the chunk of actions with the least cost.

    Args:
        low, high: bounds (A,) of standardised actions.
    """

    def __init__(self, config: PlannerConfig, low: Tensor, high: Tensor, seed: int = 0) -> None:
        self.config, self.low, self.high = config, low, high
        self.random = torch.Generator().manual_seed(seed)
        self.filter = _colour_filter(config.horizon, config.colour)

    def run(self, dream: Dream, problems: int) -> tuple[Float[Tensor, "B H A"], Float[Tensor, " B"]]:
        """The best chunk of every problem, and its cost."""
        c, size = self.config, self.low.numel()
        if c.warm_start:
            noise = c.explore * self._noise(problems, c.candidates)
            noise[:, 0] = 0
            candidates, cost = dream.follow(noise)
        else:
            candidates = self._noise(problems, c.candidates).clamp(self.low, self.high)
            cost = dream.judge(candidates)
        for _ in range(c.iterations - 1):
            best, index = cost.topk(c.elites, dim=1, largest=False)
            elite = candidates.gather(1, index[..., None, None].expand(-1, -1, c.horizon, size))
            weight = self._weights(best)[..., None, None]
            mean = (weight * elite).sum(1, keepdim=True)
            std = (weight * (elite - mean).square()).sum(1, keepdim=True).sqrt().clamp_min(c.narrowest)
            noise = self._noise(problems, c.candidates - c.elites)
            fresh = (mean + std * noise).clamp(self.low, self.high)
            candidates = torch.cat([elite, fresh], dim=1)
            cost = torch.cat([best, dream.judge(fresh)], dim=1)
        best, index = cost.min(dim=1)
        return candidates[torch.arange(problems), index], best

    def _weights(self, cost: Tensor) -> Tensor:
        """(B, elites) shares: equal for iCEM, soft for MPPI."""
        if self.config.method == "mppi":
            return (-(cost - cost[:, :1]) / self.config.temperature).softmax(dim=1)
        return torch.full_like(cost, 1 / cost.shape[1])

    def _noise(self, problems: int, candidates: int) -> Tensor:
        """(B, K, H, A) unit noise, smooth over the horizon."""
        shape = (problems, candidates, self.low.numel(), self.config.horizon)
        white = torch.randn(shape, generator=self.random)
        return (white @ self.filter).transpose(-1, -2)


def judged_ticks(horizon: int) -> tuple[int, ...]:
    """The ticks, from 0, at which a future's distance counts: halfway and the end."""
    return tuple(sorted({(horizon - 1) // 2, horizon - 1}))


def total(costs: list[Tensor]) -> Tensor:
    """Of the costs at `judged_ticks`: the end counts most; halfway breaks ties towards being early."""
    return costs[-1] + 0.3 * costs[0]


def _colour_filter(horizon: int, exponent: float) -> Tensor:
    """(H, H) matrix that turns white noise rows into noise with spectrum 1/f^exponent and unit variance."""
    frequency = torch.fft.rfftfreq(2 * horizon)
    frequency[0] = frequency[1]
    kernel = torch.fft.irfft(frequency ** (-exponent / 2), n=2 * horizon)
    index = (torch.arange(horizon)[None] - torch.arange(horizon)[:, None]).abs()
    covariance = torch.fft.irfft(torch.fft.rfft(kernel).abs() ** 2, n=2 * horizon)[:horizon]
    correlation = (covariance / covariance[0])[index] + 1e-4 * torch.eye(horizon)
    return torch.linalg.cholesky(correlation).T
