"""Stage one: teach the video encoders a latent that says where things are and does not collapse.

Four pressures, each divided by its running RMS so that no weight needs tuning per robot (Dreamer 4,
arXiv:2509.24527): predict the next latent, tell which action lies between two latents (inverse dynamics),
keep the latents spread out (SIGReg or variance-covariance), and, lightly, redraw the picture.

Letters: B windows, T ticks, Z = N * D numbers per tick, A action size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from forerun.layers import mlp


@dataclass(frozen=True, kw_only=True)
class RepresentationConfig:
    """Weights of the four pressures; zero leaves one out. LOG.md holds the ablation behind the defaults."""

    prediction: float = 1.0
    inverse: float = 1.0
    varcov: float = 1.0
    sigreg: float = 0.0
    reconstruction: float = 1.0
    directions: int = 128
    """Random projections of SIGReg per step."""
    knots: int = 9
    head_width: int = 256


class RunningScale(nn.Module):
    """A weighted sum of losses, each divided by its running RMS, which is saved for exact resume."""

    def __init__(self, weights: dict[str, float], decay: float = 0.99) -> None:
        super().__init__()
        self.weights, self.decay = weights, decay
        self.register_buffer("square", torch.ones(len(weights)))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, losses: dict[str, Tensor]) -> Tensor:
        """losses holds one scalar per weight; weights apply after scaling, or scaling would cancel them."""
        values = torch.stack([losses[name] for name in self.weights])
        if self.training:
            decay = torch.where(self.seen > 0, self.decay, 0.0)
            self.square.mul_(decay).add_((1 - decay) * values.detach() ** 2)
            self.seen.add_(1)
        weights = torch.tensor(list(self.weights.values()), device=values.device)
        return (weights * values / self.square.sqrt().clamp_min(1.0)).sum()


def variance_covariance(z: Tensor) -> Tensor:
    """Hinge on each dimension's spread plus squared correlations (VICReg, arXiv:2105.04906): z (B, Z)."""
    z = z - z.mean(0)
    std = (z.var(0) + 1e-4).sqrt()
    covariance = (z.T @ z) / (len(z) - 1)
    off_diagonal = (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[1]
    return (1 - std).relu().mean() + 0.04 * off_diagonal


def sigreg(z: Tensor, directions: int, knots: int) -> Tensor:
    """Distance of random projections from a unit Gaussian (LeJEPA's SIGReg): z (B, Z).

    The characteristic function of each projection is compared with that of N(0, 1) at ``knots`` points of
    [0, 3]. Divided by the batch size, so the value does not grow with it.
    """
    a = torch.randn(z.shape[1], directions, device=z.device)
    h = z @ (a / a.norm(dim=0))
    t = torch.linspace(0, 3, knots, device=z.device)
    phi = (-0.5 * t**2).exp()
    weight = torch.full_like(t, 2 * 3 / (knots - 1))
    weight[[0, -1]] /= 2
    angle = h[..., None] * t
    gap = (angle.cos().mean(0) - phi) ** 2 + angle.sin().mean(0) ** 2
    return (gap * (weight * phi)).sum(-1).mean()


class Representation(nn.Module):
    """The training-only heads of stage one, around the video encoders of a world model.

    Args:
        latent_size: Z, numbers per tick of all cameras together.
        action_size: A; 0 leaves inverse dynamics out and predicts without actions.
    """

    def __init__(self, latent_size: int, action_size: int, config: RepresentationConfig) -> None:
        super().__init__()
        self.config, self.action_size = config, action_size
        width = config.head_width
        self.predict = mlp(latent_size + action_size, width, width, latent_size)
        self.inverse = mlp(2 * latent_size, width, action_size) if action_size else None
        weights = {n: getattr(config, n) for n in ("prediction", "inverse", "varcov", "sigreg", "reconstruction")}
        if not action_size:
            weights["inverse"] = 0.0
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.scale = RunningScale(self.weights)

    def forward(self, z: Tensor, action: Tensor | None, reconstruction: Tensor | None) -> dict[str, Tensor]:
        """Losses of a window: z (B, T, Z), action (B, T, A) standardised; ``total`` is what is minimised."""
        losses: dict[str, Tensor] = {}
        before, after = z[:, :-1], z[:, 1:]
        if "prediction" in self.weights:
            inputs = before if action is None else torch.cat([before, action[:, :-1]], dim=-1)
            spread = z.detach().flatten(0, 1).var(0).mean().clamp_min(1e-6)  # or shrinking z would lower the loss
            losses["prediction"] = (before + self.predict(inputs) - after).square().mean() / spread
        if "inverse" in self.weights:
            assert self.inverse is not None and action is not None
            losses["inverse"] = (self.inverse(torch.cat([before, after], dim=-1)) - action[:, :-1]).square().mean()
        if "varcov" in self.weights:
            losses["varcov"] = variance_covariance(z.flatten(0, 1))
        if "sigreg" in self.weights:
            c = self.config
            losses["sigreg"] = torch.stack([sigreg(z[:, t], c.directions, c.knots) for t in range(z.shape[1])]).mean()
        if "reconstruction" in self.weights:
            assert reconstruction is not None
            losses["reconstruction"] = reconstruction
        return {**losses, "total": self.scale(losses)}
