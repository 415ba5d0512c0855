"""Block-causal transformer: tokens of one tick attend to each other, ticks attend to the past.

Letters: B rows, T ticks, N tokens per tick, D latent width, E trunk width, A action size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from forerun.config import SizeConfig
from forerun.dynamics.cache import Memory
from forerun.layers import Modulation, Rotary, SpaceAttention, TimeAttention, Turn, mlp

Drive = list[Tensor]
"""Per layer its modulation (B, T, 1, 3 * branches * E); T or B is 1 where it is the same for all."""


def split(drive: Drive, lengths: list[int]) -> list[Drive]:
    """The drive of successive stretches of ticks."""
    stretches = [part.expand(-1, sum(lengths), -1, -1).split(lengths, dim=1) for part in drive]
    return [list(layers) for layers in zip(*stretches, strict=True)]


@dataclass(frozen=True)
class Sight:
    """What one call of the trunk may look back at: worked out once, for all layers.

    Args:
        by: how far each tick turns its queries and keys.
        visible: (T, T) bool, which tick of a context sees which; None with a memory.
        memory: what earlier ticks left behind; then one tick is added to it.
        empty: (B, t + 1) bool, its slots that hold nothing, or None.
    """

    by: Turn
    visible: Tensor | None
    memory: Memory | None
    empty: Tensor | None

    def back(self, attention: TimeAttention, x: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """x (B, T, N, E) -> what it sees, and the keys and values to remember."""
        if self.memory is None:
            return attention.read(x, self.by, self.visible)
        past = self.memory.past[layer] if self.memory.past else None
        return attention.recall(x, self.by, self.memory.own[layer], past, self.empty)


class Block(nn.Module):
    """Attention over space and, in some layers, over time; then an MLP; each gated by the action."""

    def __init__(self, size: SizeConfig, condition: int, space: bool, time: bool) -> None:
        super().__init__()
        width = size.width
        self.space = SpaceAttention(width, size.heads) if space else None
        self.time = TimeAttention(width, size.heads) if time else None
        self.mlp = mlp(width, size.mlp_ratio * width, width)
        self.modulation = Modulation(condition, width, branches=1 + space + time)

    def forward(self, x: Tensor, drive: Tensor, sight: Sight, layer: int) -> tuple[Tensor, Tensor | None]:
        """x (B, T, N, E) -> the same shape, and what to remember if this layer looks back in time."""
        branches = self.modulation.split(drive)
        remembered = None
        if self.space is not None:
            shift, scale, gate = next(branches)
            x = torch.addcmul(x, gate, self.space(_modulate(x, shift, scale)))
        if self.time is not None:
            shift, scale, gate = next(branches)
            seen, remembered = sight.back(self.time, _modulate(x, shift, scale), layer)
            x = torch.addcmul(x, gate, seen)
        shift, scale, gate = next(branches)
        return torch.addcmul(x, gate, self.mlp(_modulate(x, shift, scale))), remembered


class Trunk(nn.Module):
    """From latents and actions up to now, one hidden vector per token that knows what comes next."""

    def __init__(self, size: SizeConfig, tokens: int, latent_width: int, action_size: int) -> None:
        super().__init__()
        self.size = size
        condition = max(32, size.width // 4)
        self.embed = nn.Linear(latent_width, size.width)
        self.place = nn.Parameter(torch.zeros(tokens, size.width))
        self.action = nn.Linear(max(action_size, 1), condition)
        self.no_action = nn.Parameter(torch.zeros(condition))
        self.tick_length = mlp(1, condition, condition)
        times = [(i + 1) % size.time_every == 0 for i in range(size.layers)]
        self.blocks = nn.ModuleList(
            Block(size, condition, space=not size.packed, time=time) for time in times
        )
        self.norm = nn.LayerNorm(size.width)
        self.rotary = Rotary(size.width // size.heads)

    def forward(
        self,
        latents: Float[Tensor, "B T N D"],
        drive: Drive,
        ticks: Int[Tensor, "_ T"],
        memory: Memory | None = None,
    ) -> tuple[Float[Tensor, "B T N E"], Memory | None]:
        """Read a context of T ticks, or add one tick to a memory.

        Args:
            latents: (B, T, N, D), whitened; T is 1 with a memory.
            drive: what is done at these ticks, from `drive`.
            ticks: (B, T) or (1, T), age of each tick in its own row.
            memory: what earlier ticks left behind.

        Returns:
            hidden (B, T, N, E), and the memory that the next tick needs.
        """
        x = self.embed(latents) + self.place
        sight = Sight(
            by=self.rotary(ticks),
            visible=None if memory else _causal(latents.shape[1], self.size.window, x.device),
            memory=memory,
            empty=memory.empty_slots() if memory else None,
        )
        kept: list[Tensor] = []
        for block, driven in zip(self.blocks, drive, strict=True):
            x, remembered = block(x, driven, sight, len(kept))
            if remembered is not None:
                kept.append(remembered)
        return self.norm(x), self._remember(memory, kept)

    def _remember(self, memory: Memory | None, kept: list[Tensor]) -> Memory | None:
        """Only what the next tick can see: the window less that tick itself."""
        if not kept:
            return None
        grown = replace(memory, own=tuple(kept)) if memory else Memory(own=tuple(kept))
        return grown.trim(self.size.window - 1)

    def drive(self, action: Tensor | None, present: Tensor | None, pace: Tensor) -> Drive:
        """What was done and how long ticks last, as every layer takes it: worked out for many ticks at once.

        Args:
            action: (B, T, A) standardised, taken at each tick; None if this robot's actions are unknown.
            present: (B, T) bool, False where a row carries no action; None if all do.
            pace: (B, condition) or (1, condition) of `pace`.
        """
        if action is None:
            done = self.no_action
        elif present is None:
            done = self.action(action)
        else:  # what stands in for an unknown action may be NaN
            known = self.action(action.masked_fill(~present[..., None], 0))
            done = torch.where(present[..., None], known, self.no_action)
        condition = F.silu(done + pace[:, None])
        return [cast(Block, block).modulation(condition) for block in self.blocks]

    def pace(self, tick_s: Tensor) -> Tensor:
        """What the length of a tick (B,), in seconds, means to every layer: (B, condition)."""
        return self.tick_length(tick_s.log()[:, None])


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:]), scale)


def _causal(ticks: int, window: int, device: torch.device) -> Tensor:
    """(T, T) bool: a tick sees itself and the window before it."""
    every = torch.ones(ticks, ticks, dtype=torch.bool, device=device)
    return every.tril() & every.triu(1 - window)
