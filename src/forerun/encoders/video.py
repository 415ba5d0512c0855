"""Pictures to latents and back: a small convolutional pair, and a patch transformer from size ``s`` up.

Letters: B pictures, S side in pixels, N tokens per picture, D latent width, E encoder width, K keypoints.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from forerun.config import SizeConfig
from forerun.layers import SpaceAttention, mlp
from forerun.types import ConfigError

KEYPOINTS = 32
GRID = 8
"""Side of the coarsest feature map, whatever the picture size."""


class Centre(nn.Module):
    """Pictures as deviations from the camera's mean picture, in units of their overall spread.

    With a fixed camera this leaves what moves: without it, the same encoder needed several times as many
    steps to see a small tool.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((side, side, 3), 127.5))
        self.register_buffer("std", torch.tensor(60.0))

    def fit(self, pictures: Tensor) -> None:
        """Take the mean picture and the spread around it: pictures (n, S, S, 3) uint8."""
        pictures = pictures.float()
        self.mean.copy_(pictures.mean(0))
        self.std.copy_((pictures - self.mean).std().clamp_min(1.0))

    def forward(self, picture: Tensor) -> Tensor:
        """uint8 RGB (..., S, S, 3) -> float deviations of unit spread."""
        return picture.float().sub_(self.mean).div_(self.std)

    def inverse(self, centred: Tensor) -> Tensor:
        """Deviations -> uint8 0..255, clipped."""
        return (centred * self.std + self.mean).round().clamp(0, 255).to(torch.uint8)


class ConvEncoder(nn.Module):
    """Strided convolutions, read out two ways: keypoints say where things are, a coarse map what they are.

    The keypoints are spatial soft-argmaxes (Finn et al. 2016, arXiv:1509.06113): a displacement of one pixel
    moves them smoothly, which is what planning to centimetres needs. The stem strides by four at once: full
    resolution activations cost most of the time of a small encoder on a CPU.
    """

    def __init__(self, size: SizeConfig, side: int) -> None:
        super().__init__()
        w = size.encoder_width
        if side % (2 * GRID) or side < 32:
            raise ConfigError(
                f"pictures are {side} pixels wide; the conv encoder takes multiples of 16 from 32 up"
            )
        stride = side // (2 * GRID)
        self.fine = nn.Sequential(
            nn.Conv2d(3, w, 2 * stride, stride=stride, padding=stride // 2), nn.ReLU(),
            nn.Conv2d(w, 2 * w, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.coarse = nn.Sequential(
            nn.Conv2d(2 * w, 2 * w, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(2 * w, w, 1), nn.ReLU()
        )
        self.heatmaps = nn.Conv2d(2 * w, KEYPOINTS, 1)
        with torch.no_grad():
            self.heatmaps.weight.mul_(5)  # peaked from the start: a flat softmax learns slowly
        self.readout = mlp(
            w * GRID * GRID + 2 * KEYPOINTS, 256, size.video_tokens * size.latent_dim, norm=True
        )
        self.tokens = size.video_tokens
        self.register_buffer("line", torch.linspace(-1, 1, 2 * GRID), persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """picture (B, S, S, 3) centred -> (B, N, D)."""
        x = rearrange(picture, "b h w c -> b c h w")  # a channels-last view: 2.3 times faster than a copy
        fine = self.fine(x)
        heat = self.heatmaps(fine).flatten(2).softmax(-1).unflatten(-1, (2 * GRID, -1))
        keypoints = torch.cat([heat.sum(2) @ self.line, heat.sum(3) @ self.line], dim=-1)
        flat = torch.cat([self.coarse(fine).flatten(1), 2 * keypoints], dim=-1)
        return rearrange(self.readout(flat), "b (n d) -> b n d", n=self.tokens)


class PatchEncoder(nn.Module):
    """A patch transformer with learned latent tokens that read the picture (as in Dreamer 4's tokenizer)."""

    def __init__(self, size: SizeConfig, side: int) -> None:
        super().__init__()
        width, self.patch = size.encoder_width, 8
        if side % self.patch:
            raise ConfigError(
                f"pictures are {side} pixels wide; the patch encoder takes multiples of {self.patch}"
            )
        heads = max(1, width // 64)
        self.tokens = size.video_tokens
        self.embed = nn.Linear(3 * self.patch**2, width)
        self.place = nn.Parameter(0.02 * torch.randn((side // self.patch) ** 2, width))
        self.queries = nn.Parameter(0.02 * torch.randn(self.tokens, width))
        self.blocks = nn.ModuleList(_PatchBlock(width, heads) for _ in range(size.encoder_layers))
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, size.latent_dim))

    def forward(self, picture: Tensor) -> Tensor:
        """picture (B, S, S, 3) centred -> (B, N, D)."""
        x = rearrange(picture, "b (h p) (w q) c -> b (h w) (p q c)", p=self.patch, q=self.patch)
        x = torch.cat([self.queries.expand(len(x), -1, -1), self.embed(x) + self.place], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.out(x[:, : self.tokens])


class _PatchBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.attention = SpaceAttention(width, heads)
        self.mlp = mlp(width, 4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norms[0](x))
        return x + self.mlp(self.norms[1](x))


class VideoDecoder(nn.Module):
    """Latents back to a picture, for people to look at and for errors in pixels; planning never needs it."""

    def __init__(self, size: SizeConfig, side: int) -> None:
        super().__init__()
        w = 2 * size.encoder_width if size.encoder == "conv" else 128
        self.width, stride = w, side // (2 * GRID)
        self.seed = mlp(size.video_tokens * size.latent_dim, 256, w * GRID * GRID)
        self.up = nn.Sequential(
            nn.ReLU(), nn.ConvTranspose2d(w, w, 4, stride=2, padding=1),
            nn.ReLU(), nn.Conv2d(w, 3 * stride**2, 3, padding=1), nn.PixelShuffle(stride),
        )  # fmt: skip

    def forward(self, latents: Tensor) -> Tensor:
        """latents (B, N, D) -> picture (B, S, S, 3), centred."""
        x = self.seed(latents.flatten(1)).unflatten(-1, (self.width, GRID, GRID))
        return rearrange(self.up(x.contiguous(memory_format=torch.channels_last)), "b c h w -> b h w c")


def video_encoder(size: SizeConfig, side: int) -> nn.Module:
    return (ConvEncoder if size.encoder == "conv" else PatchEncoder)(size, side)
