"""Stage one: teach the video encoders a latent that says where things are and does not collapse.

Four pressures, each divided by its running RMS where that exceeds one (Dreamer 4, arXiv:2509.24527): predict
the next latent, tell which action lies between two latents (inverse dynamics), keep the latents spread out
(SIGReg or variance-covariance), and redraw the picture.

Letters: B windows, Z = N * D numbers per tick, A action size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from forerun.layers import mlp


@dataclass(frozen=True, kw_only=True)
class RepresentationConfig:
    """Weights of the pressures; zero leaves one out. LOG.md holds the ablation behind the defaults."""

    prediction: float = 0.2
    inverse: float = 1.0
    """Which action lies between two neighbouring ticks."""
    reach_inverse: float = 0.0
    """Which action comes first on the way to a tick further ahead (multi-step inverse, arXiv:2207.08229)."""
    reach: int = 30
    """How many ticks ahead, at most."""
    sigreg: float = 0.3
    varcov: float = 0.0
    reconstruction: float = 2.0
    directions: int = 128
    """Random projections of SIGReg per step."""
    knots: int = 9
    head_width: int = 256


class RunningScale(nn.Module):
    """A weighted sum of losses, each divided by its running RMS, which is saved for exact resume."""

    square: Tensor
    seen: Tensor

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
        self.config = config
        width = config.head_width
        self.predict = mlp(latent_size + action_size, width, latent_size, norm=True)
        self.inverse = mlp(2 * latent_size, width, action_size, norm=True) if action_size else None
        self.reach_inverse = (
            mlp(2 * latent_size + 1, width, width, action_size, norm=True) if action_size else None
        )
        weights = {name: getattr(config, name) for name in _PRESSURES}
        if not action_size:
            weights["inverse"] = weights["reach_inverse"] = 0.0
        self.scale = RunningScale({name: weight for name, weight in weights.items() if weight})

    def forward(
        self, z: Tensor, action: Tensor | None, gap: Tensor, reconstruction: Tensor | None
    ) -> dict[str, Tensor]:
        """Losses by name; ``total`` is what is minimised.

        Args:
            z: (B, 3, Z) latents now, one tick later, and ``gap`` (B,) ticks later.
            action: (B, A) standardised, taken now.
            reconstruction: scalar error of the redrawn pictures.
        """
        now, next_, later = z.unbind(1)
        wanted, losses = self.scale.weights, {}
        if "prediction" in wanted:
            losses["prediction"] = self._prediction(now, next_, action)
        if "inverse" in wanted:
            losses["inverse"] = _error(self.inverse, [now, next_], action)
        if "reach_inverse" in wanted:
            way = gap[:, None] / self.config.reach
            losses["reach_inverse"] = _error(self.reach_inverse, [now, later, way], action)
        if "varcov" in wanted:
            losses["varcov"] = variance_covariance(z.flatten(0, 1))
        if "sigreg" in wanted:
            c = self.config
            losses["sigreg"] = torch.stack(
                [sigreg(t, c.directions, c.knots) for t in (now, next_, later)]
            ).mean()
        if "reconstruction" in wanted:
            assert reconstruction is not None
            losses["reconstruction"] = reconstruction
        return {**losses, "total": self.scale(losses)}

    def _prediction(self, now: Tensor, next_: Tensor, action: Tensor | None) -> Tensor:
        """Relative to the spread of the latents, or shrinking them would lower the loss."""
        inputs = now if action is None else torch.cat([now, action], dim=-1)
        spread = now.detach().var(0).mean().clamp_min(1e-6)
        return (now + self.predict(inputs) - next_).square().mean() / spread


_PRESSURES = ("prediction", "inverse", "reach_inverse", "varcov", "sigreg", "reconstruction")


def _error(head: nn.Module | None, inputs: list[Tensor], target: Tensor | None) -> Tensor:
    assert head is not None
    assert target is not None
    return (head(torch.cat(inputs, dim=-1)) - target).square().mean()
