"""Bursts of touch to latents and back: learned, and silent while nothing is touched.

A burst is what `forerun.data.ticks` makes of the fast samples of one tick: C means, C minima, C maxima and C
root mean squares, in the sensor's own unit.

Letters: C channels of the sensor, S = 4 C numbers of a burst, D latent width.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from forerun.encoders.proprio import Standardise
from forerun.layers import mlp
from forerun.types import ShapeError

WIDTH = 64
"""Latent numbers of a touch stream at packed sizes, at most; a burst of fewer numbers takes as many."""
NOISES = 6.0
"""How many standard deviations of its own noise a channel must pass to count as touched."""


class TouchCode(nn.Module):
    """One tick's burst as one latent token (1, D); a constant without contact, another without the sensor.

    The sensor's noise is read off its quietest ticks; it is assumed to rest at zero. Below that floor the
    latent does not move at all, so that no noise is predicted and none is planned with.
    """

    floor: Tensor

    def __init__(self, numbers: int, latent_dim: int, width: int, name: str) -> None:
        super().__init__()
        self.numbers, self.latent_dim, self.name = numbers, latent_dim, name
        self.tokens = 1
        self.scale = Standardise(numbers)
        self.register_buffer("floor", torch.zeros(numbers // 4))
        self.straight = nn.Linear(numbers, latent_dim)  # forces far beyond training stay ordered
        self.bent = mlp(numbers, width, latent_dim, norm=True)
        self.untouched = nn.Parameter(torch.zeros(latent_dim))
        self.absent = nn.Parameter(torch.randn(latent_dim))  # apart from anything felt
        self.straight_back = nn.Linear(latent_dim, numbers)
        self.bent_back = mlp(latent_dim, width, numbers, norm=True)

    @torch.no_grad()
    def fit(self, bursts: Float[Tensor, "n S"]) -> None:
        """Take scale and noise floor from bursts in the sensor's unit."""
        self.scale.fit(bursts)
        mean, _, _, rms = bursts.unflatten(-1, (4, -1)).unbind(-2)
        noise = (rms.square() - mean.square()).clamp_min(0).sqrt()
        self.floor.copy_(NOISES * noise.quantile(0.1, dim=0))

    def touched(self, bursts: Float[Tensor, "*B S"]) -> Bool[Tensor, "*B"]:
        """Whether any channel left its noise within the tick."""
        _, low, high, _ = bursts.unflatten(-1, (4, -1)).unbind(-2)
        return (torch.maximum(-low, high) > self.floor).any(-1)

    def forward(
        self, bursts: Float[Tensor, "*B S"], present: Bool[Tensor, "*B"] | None = None
    ) -> Float[Tensor, "*B 1 D"]:
        """Bursts in the sensor's unit to latents; where not ``present`` they are not looked at."""
        if bursts.shape[-1] != self.numbers:
            raise ShapeError(
                f"stream '{self.name}' arrives with {bursts.shape[-1]} numbers per burst; this model was "
                f"trained on {self.numbers}. Use recordings of the same sensor, or train a new model."
            )
        scaled = self.scale(bursts)
        felt = self.straight(scaled) + self.bent(scaled)
        latents = torch.where(self.touched(bursts)[..., None], felt, self.untouched)
        if present is not None:
            latents = torch.where(present[..., None], latents, self.absent)
        return latents[..., None, :]

    def missing(self, *batch: int) -> Float[Tensor, "*B 1 D"]:
        """What stands for a sensor that says nothing."""
        return self.absent.expand(*batch, 1, -1)

    def redrawn(self, latents: Float[Tensor, "*B 1 D"]) -> Float[Tensor, "*B S"]:
        """Latents to standardised bursts, for losses."""
        flat = latents[..., 0, :]
        return self.straight_back(flat) + self.bent_back(flat)

    def decode(self, latents: Float[Tensor, "*B 1 D"]) -> Float[Tensor, "*B S"]:
        """Latents to bursts in the sensor's own unit."""
        return self.scale.inverse(self.redrawn(latents))
