"""Block-causal transformer: tokens of one tick attend to each other, ticks attend to the past.

Letters: B rows, T ticks, N latent tokens per tick, D latent width, M trunk tokens per tick (1 if packed, else
N), E trunk width, A action size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from forerun.config import SizeConfig
from forerun.dynamics.cache import Memory
from forerun.layers import Modulation, SpaceAttention, TimeAttention, mlp

KV = tuple[Tensor, Tensor]


class Block(nn.Module):
    """Attention over space and, in some layers, over time; then an MLP; each gated by the action."""

    def __init__(self, size: SizeConfig, condition: int, space: bool, time: bool) -> None:
        super().__init__()
        width = size.width
        self.space = SpaceAttention(width, size.heads) if space else None
        self.time = TimeAttention(width, size.heads) if time else None
        self.mlp = mlp(width, size.mlp_ratio * width, width)
        self.modulation = Modulation(condition, width, branches=1 + space + time)
        self.window = size.window

    def forward(
        self, x: Tensor, condition: Tensor, ticks: Tensor, memory: Memory | None, layer: int
    ) -> tuple[Tensor, KV | None]:
        """x (B, T, M, E) -> the same shape, and this layer's new keys and values if it looks back in time."""
        branches = iter(self.modulation(condition))
        stored = None
        if self.space is not None:
            shift, scale, gate = next(branches)
            x = x + gate * self.space(_modulate(x, shift, scale))
        if self.time is not None:
            shift, scale, gate = next(branches)
            q, k, v = self.time.project(_modulate(x, shift, scale), ticks)
            if memory is None:
                attended = F.scaled_dot_product_attention(q, k, v, attn_mask=_causal(ticks, ticks, self.window))
            else:
                attended = _attend_memory(q, k, v, ticks, memory, layer, self.window)
            x = x + gate * self.time.merge(attended)
            stored = (k, v)
        shift, scale, gate = next(branches)
        return x + gate * self.mlp(_modulate(x, shift, scale)), stored


class Trunk(nn.Module):
    """From latents and actions up to now, one hidden vector per token that knows what comes next."""

    def __init__(self, size: SizeConfig, num_tokens: int, action_size: int) -> None:
        super().__init__()
        self.size, self.num_tokens = size, num_tokens
        condition = max(32, size.width // 4)
        inputs = num_tokens * size.latent_dim if size.packed else size.latent_dim
        self.embed = nn.Linear(inputs, size.width)
        self.place = nn.Parameter(torch.zeros(1 if size.packed else num_tokens, size.width))
        self.action = nn.Linear(max(action_size, 1), condition)
        self.no_action = nn.Parameter(torch.zeros(condition))
        self.tick_length = mlp(1, condition, condition)
        times = [(i + 1) % size.time_every == 0 for i in range(size.layers)]
        self.blocks = nn.ModuleList(
            Block(size, condition, space=not size.packed, time=time) for time in times
        )
        self.norm = nn.LayerNorm(size.width)

    def forward(
        self,
        latents: Tensor,
        action: Tensor | None,
        present: Tensor | None,
        tick_s: Tensor,
        ticks: Tensor,
        memory: Memory | None = None,
    ) -> tuple[Tensor, list[KV]]:
        """Read T ticks at once, or continue from ``memory``.

        Args:
            latents: (B, T, N, D), whitened.
            action: (B, T, A) standardised, taken at each tick; None if this robot's actions are unknown.
            present: (B, T) bool, False where a row carries no action; None if all do.
            tick_s: (B,) seconds between ticks.
            ticks: (B, T) age of each tick in its own row.
            memory: what earlier ticks left behind.

        Returns:
            hidden (B, T, M, E), and the keys and values of each layer that looks back.
        """
        x = rearrange(latents, "b t n d -> b t 1 (n d)") if self.size.packed else latents
        x = self.embed(x) + self.place
        condition = self.condition(latents.shape[:2], action, present, tick_s)
        stored: list[KV] = []
        for block in self.blocks:
            x, kv = block(x, condition, ticks, memory, len(stored))
            if kv is not None:
                stored.append(kv)
        return self.norm(x), stored

    def condition(
        self, shape: torch.Size, action: Tensor | None, present: Tensor | None, tick_s: Tensor
    ) -> Tensor:
        """(B, T, condition): what was done at each tick, and how long the tick lasts."""
        length = self.tick_length(tick_s.log()[:, None])[:, None]
        if action is None:
            return (self.no_action + length).expand(*shape, -1)
        done = self.action(action)
        if present is not None:
            done = torch.where(present[..., None], done, self.no_action)
        return done + length


def remember(memory: Memory | None, stored: list[KV], ticks: Tensor) -> Memory:
    """Append the newest ticks' keys and values to each row's own memory; with none yet, they become the past."""
    if memory is None:
        empty = tuple((k[..., :0, :], v[..., :0, :]) for k, v in stored)
        return Memory(past=tuple(stored), past_ticks=ticks, own=empty, own_ticks=ticks[:, :0])
    own = tuple(
        (torch.cat([ok, k], dim=-2), torch.cat([ov, v], dim=-2))
        for (ok, ov), (k, v) in zip(memory.own, stored, strict=True)
    )
    return Memory(memory.past, memory.past_ticks, own, torch.cat([memory.own_ticks, ticks], dim=1), memory.fan)


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


def _causal(queries: Tensor, keys: Tensor, window: int) -> Tensor:
    """(B, 1, 1, T, t) bool: a query sees its own tick and the window before it."""
    distance = queries[:, :, None] - keys[:, None, :]
    return ((distance >= 0) & (distance < window))[:, None, None]


def _attend_memory(
    q: Tensor, k: Tensor, v: Tensor, ticks: Tensor, memory: Memory, layer: int, window: int
) -> Tensor:
    """Attend to the shared past and to the row's own ticks, without copying the past per candidate."""
    past_k, past_v = memory.past[layer]
    own_k, own_v = (torch.cat([old, new], dim=-2) for old, new in zip(memory.own[layer], (k, v), strict=True))
    own_ticks = torch.cat([memory.own_ticks, ticks], dim=1)
    fan, t, steps = memory.fan, past_k.shape[-2], q.shape[-2]
    q = q * q.shape[-1] ** -0.5
    shared = rearrange(q, "(p f) m h s c -> p m h (f s) c", f=fan)
    past_scores = rearrange(shared @ past_k.transpose(-1, -2), "p m h (f s) t -> (p f) m h s t", f=fan)
    scores = torch.cat([past_scores, q @ own_k.transpose(-1, -2)], dim=-1)
    past_ticks = memory.past_ticks.repeat_interleave(fan, dim=0)
    visible = _causal(ticks, torch.cat([past_ticks, own_ticks], dim=1), window)
    weights = scores.masked_fill(~visible, float("-inf")).softmax(dim=-1)
    from_past = rearrange(weights[..., :t], "(p f) m h s t -> p m h (f s) t", f=fan) @ past_v
    return rearrange(from_past, "p m h (f s) c -> (p f) m h s c", f=fan, s=steps) + weights[..., t:] @ own_v
