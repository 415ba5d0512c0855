"""Bursts of touch to latents and back: silent while nothing is touched.

A burst is what `forerun.data.ticks` makes of the fast samples of one tick: C means, C minima, C maxima and C
root mean squares, in the sensor's own unit. It becomes learned numbers, and beside them the statistics
themselves: what is copied of them is exact, so a model that has learned nothing repeats the last touch.

Letters: C channels of the sensor, S = 4 C statistics of a burst, L learned numbers, n tokens of width d.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from forerun.encoders.proprio import Standardise
from forerun.layers import mlp
from forerun.types import ShapeError

NOISES = 6.0
"""How many standard deviations of its own noise a channel must pass to count as touched."""


class Learned(nn.Module):
    """Standardised bursts (..., S) to L learned numbers and back; constants for no contact and no sensor."""

    def __init__(self, numbers: int, size: int, width: int) -> None:
        super().__init__()
        self.straight = nn.Linear(numbers, size)  # forces far beyond training stay ordered
        self.bent = mlp(numbers, width, size, norm=True)
        self.untouched = nn.Parameter(torch.zeros(size))
        self.absent = nn.Parameter(torch.randn(size))  # apart from anything felt
        self.straight_back = nn.Linear(size, numbers)
        self.bent_back = mlp(size, width, numbers, norm=True)

    def forward(self, scaled: Float[Tensor, "*B S"], touched: Bool[Tensor, "*B"]) -> Float[Tensor, "*B L"]:
        felt = self.straight(scaled) + self.bent(scaled)
        return torch.where(touched[..., None], felt, self.untouched)

    def back(self, latents: Float[Tensor, "*B L"]) -> Float[Tensor, "*B S"]:
        return self.straight_back(latents) + self.bent_back(latents)


class TouchCode(nn.Module):
    """One tick's burst as n tokens of width d; constant without contact, another constant without the sensor.

    The sensor's noise is read off its quietest ticks; it is assumed to rest at zero. Below that floor the
    latent does not move at all, so that no noise is predicted and none is planned with.

    Args:
        numbers: S.
        learned: L, or 0 for the statistics alone.
        exact: whether the statistics stand beside the learned numbers.
        token_width: d; None packs everything into one token, which then has no padding.
        width: of the small networks.
    """

    floor: Tensor

    def __init__(
        self, numbers: int, learned: int, exact: bool, token_width: int | None, width: int, name: str
    ) -> None:
        super().__init__()
        self.numbers, self.learned, self.exact, self.name = numbers, learned, exact, name
        self.used = learned + numbers * exact
        """How many numbers mean something; what follows them in the last token is padding."""
        self.token_width = token_width or self.used
        self.tokens = -(-self.used // self.token_width)
        self.scale = Standardise(numbers)
        self.register_buffer("floor", torch.zeros(numbers // 4))
        self.code = Learned(numbers, learned, width) if learned else None

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
    ) -> Float[Tensor, "*B n d"]:
        """Bursts in the sensor's unit to latents; where not ``present`` they are not looked at."""
        if bursts.shape[-1] != self.numbers:
            raise ShapeError(
                f"stream '{self.name}' arrives with {bursts.shape[-1]} numbers per burst; this model was "
                f"trained on {self.numbers}. Use recordings of the same sensor, or train a new model."
            )
        touched = self.touched(bursts)
        scaled = self.scale(bursts.where(touched[..., None], 0))
        latents = self._joined(self.code(scaled, touched) if self.code else None, scaled)
        if present is not None:
            latents = torch.where(present[..., None, None], latents, self.missing())
        return latents

    def missing(self, *batch: int) -> Float[Tensor, "*B n d"]:
        """What stands for a sensor that says nothing: a mark of its own, and the mean touch."""
        mean = torch.zeros_like(self.scale.mean)
        return self._joined(self.code.absent if self.code else None, mean).expand(*batch, -1, -1)

    def _joined(self, learned: Tensor | None, statistics: Tensor) -> Float[Tensor, "*B n d"]:
        parts = ([] if learned is None else [learned]) + [statistics] * self.exact
        padding = statistics.new_zeros(*statistics.shape[:-1], self.tokens * self.token_width - self.used)
        return torch.cat([*parts, padding], dim=-1).unflatten(-1, (self.tokens, self.token_width))

    def redrawn(self, latents: Float[Tensor, "*B n d"]) -> Float[Tensor, "*B S"]:
        """The learned numbers alone to standardised bursts, for losses."""
        assert self.code is not None
        return self.code.back(latents.flatten(-2)[..., : self.learned])

    def decode(self, latents: Float[Tensor, "*B n d"]) -> Float[Tensor, "*B S"]:
        """Latents to bursts in the sensor's own unit."""
        if self.exact:
            return self.scale.inverse(latents.flatten(-2)[..., self.learned : self.used])
        return self.scale.inverse(self.redrawn(latents))
