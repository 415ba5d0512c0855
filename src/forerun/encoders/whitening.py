"""Latents in the units of their own variation, so that a small turn counts like a long way.

Letters: N tokens per tick, D latent width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from forerun.encoders.layout import Place

FLOOR = 0.1
"""Directions that vary less than this share of the widest are not blown up to unit spread: they are noise."""


class Whitening(nn.Module):
    """Principal directions of each camera's tokens, scaled to unit spread down to a floor, and back.

    The whole-body motion of an object moves all its keypoints together and would drown its turning, which
    only moves them apart; in principal directions both count (LOG.md has the figures). It starts as the
    identity, which is what vectors keep.
    """

    mean: Tensor
    into: Tensor
    back: Tensor
    variance: Tensor

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        eye = torch.eye(width).repeat(tokens, 1, 1)
        self.register_buffer("mean", torch.zeros(tokens, width))
        self.register_buffer("into", eye)
        self.register_buffer("back", eye.clone())
        self.register_buffer("variance", torch.ones(tokens, width))

    def reset(self) -> None:
        """Back to the identity."""
        for own, fresh in zip(self.buffers(), Whitening(*self.mean.shape).buffers(), strict=True):
            own.copy_(fresh)

    @torch.no_grad()
    def fit(self, place: Place, latents: Tensor) -> None:
        """Take means and principal directions of a stream's place from its latents there (rows, n, d)."""
        tokens, numbers = place
        for token, values in zip(range(*tokens.indices(len(self.mean))), latents.unbind(1), strict=True):
            self._fit_token(token, numbers, values)

    def _fit_token(self, token: int, numbers: slice, latents: Tensor) -> None:
        mean = latents.mean(0)
        values, directions = torch.linalg.eigh(torch.cov((latents - mean).double().T))
        spread = values.clamp_min(0).sqrt().flip(0)
        directions = directions.flip(1)
        scale = spread.clamp_min(FLOOR * float(spread[0]))
        self.mean[token, numbers] = mean
        self.into[token, numbers, numbers] = (directions / scale).float()
        self.back[token, numbers, numbers] = (directions * scale).T.float()
        self.variance[token, numbers] = (spread / scale).square().float()

    def forward(self, latents: Tensor) -> Tensor:
        """latents (..., N, D) -> whitened, the same shape."""
        return torch.einsum("...nd,nde->...ne", latents - self.mean, self.into)

    def inverse(self, whitened: Tensor) -> Tensor:
        """whitened (..., N, D) -> latents, the same shape."""
        return torch.einsum("...nd,nde->...ne", whitened, self.back) + self.mean
