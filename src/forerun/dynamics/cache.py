"""What one rollout remembers: keys and values of past ticks, shared by forked candidates.

Letters: B rows, P parents, F candidates per parent (B = P * F), M trunk tokens per tick, H heads, C channels
per head, t past ticks, u own ticks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

EMPTY = -(10**6)
"""Tick of a slot that holds nothing: always outside every attention window."""


@dataclass(frozen=True)
class Memory:
    """Keys and values of one rollout: a shared past, and each row's own ticks since the last fork.

    A fork multiplies ``fan`` and copies nothing of the past: P rows of past serve P * fan rows of state.

    Args:
        past: per time layer (keys, values), each (P, M, H, t, C).
        past_ticks: (P, t) tick of each slot, ``EMPTY`` where there is none.
        own: per time layer (keys, values), each (B, M, H, u, C).
        own_ticks: (B, u).
        fan: F, rows per parent; row r descends from parent r // fan.
    """

    past: tuple[tuple[Tensor, Tensor], ...]
    past_ticks: Tensor
    own: tuple[tuple[Tensor, Tensor], ...]
    own_ticks: Tensor
    fan: int = 1

    def __len__(self) -> int:
        """Rows B."""
        return self.own_ticks.shape[0]

    def fork(self, count: int) -> Memory:
        """Every row becomes ``count`` neighbouring rows that share its past."""
        settled = self.settled()
        rows = len(settled) * count
        return replace(
            settled,
            own=tuple((_empty_like(k, rows), _empty_like(v, rows)) for k, v in settled.past),
            own_ticks=settled.own_ticks.new_empty((rows, 0)),
            fan=count,
        )

    def settled(self) -> Memory:
        """The same memory with every row's ticks in its past and nothing of its own; free if already so."""
        if self.fan == 1 and self.own_ticks.shape[1] == 0:
            return self
        parents = torch.arange(len(self), device=self.own_ticks.device) // self.fan
        return self._gather(parents, None)

    def select(self, rows: Tensor) -> Memory:
        """Keep these rows, in this order (indices may repeat). Copies their past."""
        return self._gather(rows // self.fan, rows)

    def trim(self, ticks: int) -> Memory:
        """Forget all but the newest ``ticks`` slots of every row."""
        settled = self.settled()
        return replace(
            settled,
            past=tuple((k[..., -ticks:, :], v[..., -ticks:, :]) for k, v in settled.past),
            past_ticks=settled.past_ticks[:, -ticks:],
        )

    def _gather(self, parents: Tensor, rows: Tensor | None) -> Memory:
        def join(old: Tensor, new: Tensor) -> Tensor:
            return torch.cat([old[parents], new if rows is None else new[rows]], dim=-2)

        past = tuple(
            (join(pk, ok), join(pv, ov))
            for (pk, pv), (ok, ov) in zip(self.past, self.own, strict=True)
        )  # fmt: skip
        own_ticks = self.own_ticks if rows is None else self.own_ticks[rows]
        return Memory(
            past=past,
            past_ticks=torch.cat([self.past_ticks[parents], own_ticks], dim=1),
            own=tuple((_empty_like(k, len(parents)), _empty_like(v, len(parents))) for k, v in past),
            own_ticks=own_ticks[:, :0],
        )


def concatenate(memories: list[Memory]) -> Memory:
    """Rows of several memories, of any age, as one batch; shorter pasts are padded with empty slots."""
    settled = [m.settled() for m in memories]
    longest = max(m.past_ticks.shape[1] for m in settled)

    def pad(x: Tensor, dim: int, value: float) -> Tensor:
        missing = longest - x.shape[dim]
        shape = list(x.shape)
        shape[dim] = missing
        return x if not missing else torch.cat([x.new_full(shape, value), x], dim=dim)

    layers = range(len(settled[0].past))
    past = tuple(
        tuple(torch.cat([pad(m.past[i][part], -2, 0.0) for m in settled]) for part in (0, 1)) for i in layers
    )
    ticks = torch.cat([pad(m.past_ticks, 1, EMPTY) for m in settled])
    return Memory(
        past=past,  # type: ignore[arg-type]
        past_ticks=ticks,
        own=tuple((_empty_like(k, len(ticks)), _empty_like(v, len(ticks))) for k, v in past),
        own_ticks=ticks[:, :0],
    )


def _empty_like(x: Tensor, rows: int) -> Tensor:
    return x.new_empty((rows, *x.shape[1:-2], 0, x.shape[-1]))
