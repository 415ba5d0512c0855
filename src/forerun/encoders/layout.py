"""Where in one tick's latents each stream lies.

Letters: N tokens per tick, D their width; n and d the same of one stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

Place = tuple[slice, slice]
"""Of one stream within (N, D)."""


class Layout:
    """Streams one below the other as tokens of equal width, or, packed, side by side in a single token.

    One row of numbers per tick is what a CPU is fast at; many tokens are what attention is for.

    Args:
        shapes: (n, d) of every stream, in order; all d are equal unless packed.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, int]], packed: bool) -> None:
        self.shapes, self.packed = dict(shapes), packed
        self.places: dict[str, Place] = {}
        first = 0
        for name, (tokens, width) in shapes.items():
            size = tokens * width if packed else tokens
            taken = slice(first, first + size)
            self.places[name] = (slice(0, 1), taken) if packed else (taken, slice(0, width))
            first += size
        self.shape: tuple[int, int] = (1, first) if packed else (first, next(iter(shapes.values()))[1])
        """(N, D) of one tick."""

    def join(self, parts: list[Tensor]) -> Tensor:
        """Every stream (..., n, d), in order, as one (..., N, D)."""
        if not self.packed:
            return torch.cat(parts, dim=-2)
        return torch.cat([part.flatten(-2) for part in parts], dim=-1).unsqueeze(-2)

    def part(self, latents: Tensor, name: str) -> Tensor:
        """One stream (..., n, d) of latents (..., N, D)."""
        return latents[..., *self.places[name]].unflatten(-1, (-1, self.shapes[name][1])).flatten(-3, -2)

    def numbers(self, names: Iterable[str]) -> Tensor:
        """Which of the N * D numbers belong to these streams, in their order."""
        index = torch.arange(self.shape[0] * self.shape[1]).view(self.shape)
        return torch.cat([index[self.places[name]].flatten() for name in names])
