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

GRID = 16
"""Side of the map on which keypoints live, whatever the picture size."""
EDGE = 2.0
"""Keypoint coordinates run from -EDGE to EDGE across the picture."""


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


class KeypointEncoder(nn.Module):
    """Strided convolutions that end in keypoints; the latent is their coordinates and nothing else.

    Keypoints are spatial soft-argmaxes (Finn et al. 2016, arXiv:1509.06113). What moves in the world moves
    almost linearly in such a latent, and its dynamics are learned an order of magnitude sooner than behind a
    perceptron (LOG.md). The stem strides by four at once: full resolution activations cost most of the time
    of a small encoder on a CPU.
    """

    line: Tensor

    def __init__(self, size: SizeConfig, side: int) -> None:
        super().__init__()
        w, stride = size.encoder_width, side // GRID
        peaks = nn.Conv2d(2 * w, num_keypoints(size), 1)
        with torch.no_grad():
            peaks.weight.mul_(5)  # peaked from the start: a flat softmax learns slowly
        self.heatmaps = nn.Sequential(
            nn.Conv2d(3, w, stride + 2 * (stride // 2), stride=stride, padding=stride // 2), nn.ReLU(),
            nn.Conv2d(w, 2 * w, 3, padding=1), nn.ReLU(),
            peaks,
        )  # fmt: skip
        self.tokens = size.video_tokens
        self.register_buffer("line", torch.linspace(-EDGE, EDGE, GRID), persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """picture (B, S, S, 3) centred -> (B, N, D): x of all keypoints, then y."""
        x = rearrange(picture, "b h w c -> b c h w")  # a channels-last view: 2.3 times faster than a copy
        heat = self.heatmaps(x).flatten(2).softmax(-1).unflatten(-1, (GRID, -1))
        keypoints = torch.cat([heat.sum(2) @ self.line, heat.sum(3) @ self.line], dim=-1)
        return rearrange(keypoints, "b (n d) -> b n d", n=self.tokens)


def num_keypoints(size: SizeConfig) -> int:
    """K: every keypoint takes two numbers of a picture's latent."""
    return size.video_tokens * size.latent_dim // 2


class PatchEncoder(nn.Module):
    """A patch transformer with learned latent tokens that read the picture (as in Dreamer 4's tokenizer)."""

    def __init__(self, size: SizeConfig, side: int) -> None:
        super().__init__()
        width, self.patch = size.encoder_width, 8
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


class KeypointDecoder(nn.Module):
    """Draws a blob at each keypoint (Jakab et al. 2018, arXiv:1806.07823) and paints the picture from those.

    Blobs tie a keypoint to its place in the picture, so that redrawing pulls keypoints onto things; a
    perceptron from coordinates to pixels needs several times as many steps. Planning never decodes.
    """

    line: Tensor

    def __init__(self, size: SizeConfig, side: int) -> None:
        super().__init__()
        w, stride, keypoints = 2 * size.encoder_width, side // GRID, num_keypoints(size)
        self.spread = nn.Parameter(torch.full((keypoints,), 0.15 * EDGE))
        self.paint = nn.Sequential(
            nn.Conv2d(keypoints, w, 3, padding=1), nn.ReLU(),
            nn.Conv2d(w, w, 3, padding=1), nn.ReLU(),
            nn.Conv2d(w, 3 * stride**2, 3, padding=1), nn.PixelShuffle(stride),
        )  # fmt: skip
        self.register_buffer("line", torch.linspace(-EDGE, EDGE, GRID), persistent=False)

    def forward(self, latents: Tensor) -> Tensor:
        """latents (B, N, D) -> picture (B, S, S, 3), centred."""
        x, y = latents.flatten(1).chunk(2, dim=1)
        blobs = self._along(y)[..., :, None] * self._along(x)[..., None, :]
        painted = self.paint(blobs.contiguous(memory_format=torch.channels_last))
        return rearrange(painted, "b c h w -> b h w c")

    def _along(self, coordinate: Tensor) -> Tensor:
        """coordinate (B, K) -> (B, K, GRID): a bell along one side of the picture."""
        return (-0.5 * ((self.line - coordinate[..., None]) / self.spread[:, None]).square()).exp()


class PatchDecoder(nn.Module):
    """Latents of the patch encoder back to a picture, for people to look at and for errors in pixels."""

    def __init__(self, size: SizeConfig, side: int) -> None:
        super().__init__()
        self.width, stride = 128, side // GRID
        self.seed = mlp(size.video_tokens * size.latent_dim, 256, self.width * (GRID // 2) ** 2)
        self.up = nn.Sequential(
            nn.ReLU(), nn.ConvTranspose2d(self.width, self.width, 4, stride=2, padding=1),
            nn.ReLU(), nn.Conv2d(self.width, 3 * stride**2, 3, padding=1), nn.PixelShuffle(stride),
        )  # fmt: skip

    def forward(self, latents: Tensor) -> Tensor:
        """latents (B, N, D) -> picture (B, S, S, 3), centred."""
        x = self.seed(latents.flatten(1)).unflatten(-1, (self.width, GRID // 2, GRID // 2))
        return rearrange(self.up(x.contiguous(memory_format=torch.channels_last)), "b c h w -> b h w c")


def video_encoder(size: SizeConfig, side: int) -> nn.Module:
    """The encoder of square pictures; ConfigError unless ``side`` is a multiple of 16 pixels, at least 32."""
    if side % GRID or side < 2 * GRID:
        raise ConfigError(
            f"pictures are {side} pixels wide; the encoders take multiples of {GRID}, at least {2 * GRID}. "
            "Choose another --image-size"
        )
    return (KeypointEncoder if size.encoder == "conv" else PatchEncoder)(size, side)


def video_decoder(size: SizeConfig, side: int) -> nn.Module:
    return (KeypointDecoder if size.encoder == "conv" else PatchDecoder)(size, side)
