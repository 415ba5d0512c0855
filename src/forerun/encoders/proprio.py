"""Vectors to latents: standardised and zero-padded, a fixed code that cannot collapse and decodes exactly."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forerun.types import ShapeError


class Standardise(nn.Module):
    """(x - mean) / std per channel, and back; the statistics travel with the checkpoint."""

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def fit(self, values: Tensor) -> None:
        """Take the statistics of ``values`` (N, C); a channel that never moves keeps unit scale."""
        self.mean.copy_(values.mean(0))
        std = values.std(0)
        self.std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))

    def forward(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.std

    def inverse(self, values: Tensor) -> Tensor:
        return values * self.std + self.mean


class VectorCode(nn.Module):
    """A vector stream as latent tokens of width D, as many as its channels need."""

    def __init__(self, channels: int, latent_dim: int, name: str) -> None:
        super().__init__()
        self.channels, self.latent_dim, self.name = channels, latent_dim, name
        self.tokens = -(-channels // latent_dim)
        self.scale = Standardise(channels)

    def forward(self, values: Tensor) -> Tensor:
        """values (..., C) in the stream's unit -> (..., N, D)."""
        if values.shape[-1] != self.channels:
            raise ShapeError(
                f"stream '{self.name}' arrives with {values.shape[-1]} channels; this model was trained on "
                f"{self.channels}. Use recordings of the same robot, or train a new model."
            )
        padded = F.pad(self.scale(values), (0, self.tokens * self.latent_dim - self.channels))
        return padded.unflatten(-1, (self.tokens, self.latent_dim))

    def decode(self, latents: Tensor) -> Tensor:
        """latents (..., N, D) -> (..., C) in the stream's unit."""
        return self.scale.inverse(latents.flatten(-2)[..., : self.channels])
