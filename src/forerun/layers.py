"""The only shared blocks: perceptrons, rotary time, attention over space and over a cached past.

Letters: B rows, T ticks, M trunk tokens per tick, E width, H heads, C channels per head, P parents,
F candidates per parent (B = P * F).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def mlp(*widths: int, norm: bool = False) -> nn.Sequential:
    """Linear layers with GELU between; with ``norm`` a LayerNorm before each GELU."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        layers.append(nn.Linear(a, b))
        if i < len(widths) - 2:
            if norm:
                layers.append(nn.LayerNorm(b))
            layers.append(nn.GELU(approximate="tanh"))
    return nn.Sequential(*layers)


def rotate(x: Tensor, ticks: Tensor) -> Tensor:
    """Rotary position embedding over time (Su et al. 2021): x (..., T, C), ticks broadcastable to (..., T)."""
    half = x.shape[-1] // 2
    frequency = 100.0 ** (-torch.arange(half, device=x.device, dtype=x.dtype) / half)
    angle = ticks[..., None].to(x.dtype) * frequency
    cos, sin = angle.cos(), angle.sin()
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class SpaceAttention(nn.Module):
    """Tokens of one tick attend to each other; nothing crosses ticks."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "... m (three h c) -> three ... h m c", three=3, h=self.heads)
        return self.out(rearrange(F.scaled_dot_product_attention(q, k, v), "... h m c -> ... m (h c)"))


class TimeAttention(nn.Module):
    """Each token attends to the same token of this and earlier ticks, through a sliding window.

    Keys are stored already rotated by their own tick, so a cached past needs no recomputation and rows
    of different age may share a batch.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def project(self, x: Tensor, ticks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, T, M, E), ticks (B, T) -> rotated q, k and plain v, each (B, M, H, T, C)."""
        q, k, v = rearrange(self.qkv(x), "b t m (three h c) -> three b m h t c", three=3, h=self.heads)
        where = ticks[:, None, None]
        return rotate(q, where), rotate(k, where), v

    def merge(self, attended: Tensor) -> Tensor:
        return self.out(rearrange(attended, "b m h t c -> b t m (h c)"))


class Modulation(nn.Module):
    """AdaLN-zero (Peebles & Xie 2023): shift, scale and gate from a condition, starting as the identity."""

    def __init__(self, condition: int, width: int, branches: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition, 3 * branches * width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.branches = branches

    def forward(self, condition: Tensor) -> list[tuple[Tensor, ...]]:
        """condition (B, T, condition) -> per branch (shift, scale, gate), each (B, T, 1, E)."""
        parts = self.linear(F.silu(condition)).unsqueeze(-2).chunk(3 * self.branches, dim=-1)
        return [tuple(parts[3 * i : 3 * i + 3]) for i in range(self.branches)]
