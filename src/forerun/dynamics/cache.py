"""What one rollout remembers: keys and values of past ticks, shared by forked candidates.

Letters: B rows, P parents, F candidates per parent (B = P * F), M trunk tokens per tick, H heads, C channels
per head, t remembered ticks, u of them a row's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Memory:
    """Keys beside values of the newest ticks of B rows, oldest first, without gaps.

    A fork copies nothing: the ticks so far become the ``past`` of P parents, which P * F candidates read, and
    each candidate grows its ``own`` from there. Nothing is ever written in place, so siblings cannot meet.

    Args:
        own: per layer that looks back (B, u, M, 2, H, C).
        past: per such layer (P, t - u, M, 2, H, C); None if no row shares anything.
        empty: (P,) how many of the t oldest slots hold nothing, where rows of different age were joined; None
            if all are filled.
    """

    own: tuple[Float[Tensor, "B u M 2 H C"], ...]
    past: tuple[Float[Tensor, "P s M 2 H C"], ...] | None = None
    empty: Int[Tensor, " P"] | None = None

    def __len__(self) -> int:
        """Rows B."""
        return len(self.own[0])

    @property
    def ticks(self) -> int:
        """Slots t of every row."""
        return self.own[0].shape[1] + (self.past[0].shape[1] if self.past else 0)

    @property
    def fan(self) -> int:
        """F, candidates per parent; row r descends from parent r // F."""
        return len(self.own[0]) // len(self.past[0]) if self.past else 1

    def fork(self, count: int) -> Memory:
        """Every row becomes ``count`` neighbouring rows that share its past."""
        settled = self.settled()
        return replace(self.blank(len(self) * count), past=settled.own, empty=settled.empty)

    def blank(self, rows: int) -> Memory:
        """A memory of the same kind that holds no ticks."""
        return Memory(own=tuple(z.new_empty((rows, 0, *z.shape[2:])) for z in self.own))

    def settled(self) -> Memory:
        """The same memory with nothing shared; free if nothing is."""
        return self if self.past is None else self.select(torch.arange(len(self), device=self.own[0].device))

    def select(self, rows: Tensor) -> Memory:
        """Keep these rows, in this order (indices may repeat). Copies their past."""
        own = tuple(z[rows] for z in self.own)
        parents = rows // self.fan
        if self.past is not None:
            own = tuple(torch.cat([p[parents], z], dim=1) for p, z in zip(self.past, own, strict=True))
        return Memory(own=own, empty=None if self.empty is None else self.empty[parents])

    def trim(self, ticks: int) -> Memory:
        """Forget all but the newest ``ticks`` slots of every row. Copies nothing."""
        surplus = self.ticks - ticks
        if surplus <= 0:
            return self
        empty = None if self.empty is None else (self.empty - surplus).clamp_min(0)
        shared = self.past[0].shape[1] if self.past else 0
        if self.past is not None and surplus < shared:
            return replace(self, past=tuple(z[:, surplus:] for z in self.past), empty=empty)
        if empty is not None:
            empty = empty.repeat_interleave(self.fan)
        return Memory(own=tuple(z[:, surplus - shared :] for z in self.own), empty=empty)

    def empty_slots(self) -> Tensor | None:
        """(B, t + 1) bool once a tick is added: which slots hold nothing; None if all are filled."""
        if self.empty is None:
            return None
        slots = torch.arange(self.ticks + 1, device=self.empty.device)
        return (slots < self.empty[:, None]).repeat_interleave(self.fan, dim=0)


def concatenate(memories: list[Memory]) -> Memory:
    """Rows of several memories, of any age, as one batch; shorter pasts are padded with empty slots."""
    settled = [m.settled() for m in memories]
    longest = max(m.ticks for m in settled)
    own = tuple(
        torch.cat([_pad(z, longest) for z in layer]) for layer in zip(*(m.own for m in settled), strict=True)
    )
    if all(m.ticks == longest and m.empty is None for m in settled):
        return Memory(own=own)
    device = own[0].device
    missing = [torch.full((len(m),), longest - m.ticks, device=device) for m in settled]
    empty = [n if m.empty is None else n + m.empty for n, m in zip(missing, settled, strict=True)]
    return Memory(own=own, empty=torch.cat(empty))


def _pad(kv: Tensor, ticks: int) -> Tensor:
    missing = ticks - kv.shape[1]
    return torch.cat([kv.new_zeros((len(kv), missing, *kv.shape[2:])), kv], dim=1) if missing else kv
