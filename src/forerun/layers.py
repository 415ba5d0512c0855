"""The only shared blocks: perceptrons, rotary time, attention over space and over a remembered past.

Letters: B rows, T ticks, M trunk tokens per tick, E width, H heads, C channels per head, P parents,
F candidates per parent (B = P * F), t remembered ticks, u of them a row's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Turn = tuple[Tensor, Tensor]
"""Cosines and signed sines for queries, keys and values, each (R, T, 1, 3, 1, C); see `Rotary`."""


def mlp(*widths: int, norm: bool = False) -> nn.Sequential:
    """Linear layers with GELU between; with ``norm`` a LayerNorm before each GELU."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(a, b))
        if i < len(widths) - 2:
            if norm:
                layers.append(nn.LayerNorm(b))
            layers.append(Gelu())
    return nn.Sequential(*layers)


class Gelu(nn.Module):
    """GELU in its tanh form (Hendrycks & Gimpel 2016).

    The same curve is x * sigmoid(2 y), and torch's tanh takes three times as long as its sigmoid on a CPU:
    imagination, which keeps no intermediate results for gradients, goes that way. Both agree within rounding.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("slope", torch.tensor(2 * (2 / math.pi) ** 0.5), persistent=False)

    slope: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or x.device.type != "cpu":
            return F.gelu(x, approximate="tanh")
        inner = torch.addcmul(self.slope, x, x, value=0.044715 * 2 * (2 / math.pi) ** 0.5)
        return inner.mul_(x).sigmoid_().mul_(x)


class Rotary(nn.Module):
    """Rotary position embedding over time (Su et al. 2021); ticks look alike again after some 600."""

    frequency: Tensor
    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        frequency = 100.0 ** (-torch.arange(half) / half)
        turning = torch.cat([-frequency, frequency])
        self.register_buffer(
            "frequency", torch.stack([turning, turning, 0 * turning])[:, None], persistent=False
        )
        scale = torch.tensor([channels**-0.5, 1.0, 1.0])
        self.register_buffer("scale", scale[:, None, None], persistent=False)

    def forward(self, ticks: Tensor) -> Turn:
        """Ticks (R, T): queries and keys turn, values do not; queries are scaled for attention as well."""
        angle = ticks[:, :, None, None, None, None] * self.frequency
        return angle.cos() * self.scale, angle.sin() * self.scale


def rotate(x: Tensor, by: Turn) -> Tensor:
    """Rotate the two halves of the channels (..., C) against each other."""
    cos, sin = by
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


class SpaceAttention(nn.Module):
    """Tokens of one tick attend to each other; nothing crosses ticks."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "*B M E"]) -> Float[Tensor, "*B M E"]:
        """x (..., M, E) -> the same shape."""
        tokens, width = x.shape[-2:]
        qkv = self.qkv(x).view(-1, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.out(attended.transpose(1, 2).flatten(2).view(x.shape))


class TimeAttention(nn.Module):
    """Each token attends to the same token of this and earlier ticks, through a sliding window.

    Keys are remembered already rotated by their own tick, so a past needs no recomputation and rows of
    different age may share a batch.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def project(self, x: Float[Tensor, "B T M E"], by: Turn) -> Float[Tensor, "B T M 3 H C"]:
        """x (B, T, M, E) -> queries, keys and values of this tick (B, T, M, 3, H, C), turned by its age."""
        return rotate(self.qkv(x).unflatten(-1, (3, self.heads, -1)), by)

    def read(self, x: Tensor, by: Turn, visible: Tensor | None) -> tuple[Tensor, Tensor]:
        """Many ticks at once.

        Args:
            x: (B, T, M, E).
            visible: (T, T) bool, which tick sees which; None for all.

        Returns:
            (B, T, M, E), and keys beside values (B, T, M, 2, H, C).
        """
        qkv = self.project(x, by)
        q, k, v = qkv.permute(3, 0, 2, 4, 1, 5).flatten(1, 2)  # (B M, H, T, C)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=1.0)
        by_row = attended.unflatten(0, (len(x), -1)).permute(0, 3, 1, 2, 4)
        return self.out(by_row.flatten(3)), qkv[:, :, :, 1:]

    def recall(
        self, x: Tensor, by: Turn, own: Tensor, past: Tensor | None, empty: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """One tick that remembers.

        Args:
            x: (B, 1, M, E).
            own: (B, u, M, 2, H, C) keys beside values of each row's own ticks.
            past: (P, t - u, M, 2, H, C), shared by B / P neighbouring rows and never copied; or None.
            empty: (B, t + 1) bool, slots that hold nothing; None if all are filled.

        Returns:
            (B, 1, M, E), and ``own`` with this tick appended.
        """
        q, fresh = self.project(x, by).split((1, 2), dim=3)
        own = torch.cat([own, fresh], dim=1)
        k, v = own.unbind(3)
        scores = (q[:, :, :, 0] * k).sum(-1)  # per row: small matrix products take twice as long
        if past is not None:
            scores = torch.cat([_shared_scores(q[:, 0, :, 0], past), scores], dim=1)
        if empty is not None:
            scores = scores.masked_fill(empty[:, :, None, None], float("-inf"))
        weights = scores.softmax(dim=1)  # (B, t + 1, M, H)
        own_weights = weights[:, weights.shape[1] - own.shape[1] :]
        attended = (own_weights[..., None] * v).sum(1)
        if past is not None:
            attended = attended + _shared_values(weights[:, : past.shape[1]], past)
        return self.out(attended.flatten(2)[:, None]), own


def _shared_scores(q: Tensor, past: Tensor) -> Tensor:
    """q (B, M, H, C) against the keys of its parent's past -> (B, t, M, H)."""
    queries = q.unflatten(0, (len(past), -1)).permute(0, 2, 3, 1, 4)  # (P, M, H, F, C)
    keys = past[:, :, :, 0].permute(0, 2, 3, 4, 1)
    return (queries @ keys).permute(0, 3, 4, 1, 2).flatten(0, 1)


def _shared_values(weights: Tensor, past: Tensor) -> Tensor:
    """weights (B, t, M, H) over the values of the parent's past -> (B, M, H, C)."""
    shares = weights.unflatten(0, (len(past), -1)).permute(0, 3, 4, 1, 2)  # (P, M, H, F, t)
    values = past[:, :, :, 1].permute(0, 2, 3, 1, 4)
    return (shares @ values).permute(0, 3, 1, 2, 4).flatten(0, 1)


class Modulation(nn.Module):
    """AdaLN-zero (Peebles & Xie 2023): shift, scale and gate from a condition, starting as the identity."""

    def __init__(self, condition: int, width: int, branches: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition, 3 * branches * width)
        nn.init.zeros_(self.linear.weight)
        with torch.no_grad():
            self.linear.bias.copy_(torch.tensor([0.0, 1.0, 0.0]).repeat(branches).repeat_interleave(width))
        self.branches = branches

    def forward(self, condition: Tensor) -> Tensor:
        """Activated condition (B, T, condition) -> (B, T, 1, 3 * branches * E), to be `split`."""
        return self.linear(condition)[:, :, None]

    def split(self, modulation: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Per branch shift, scale and gate, each (B, T, 1, E)."""
        parts = modulation.chunk(3 * self.branches, dim=-1)
        return (parts[i : i + 3] for i in range(0, len(parts), 3))
