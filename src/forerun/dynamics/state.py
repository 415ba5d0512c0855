"""Imagined worlds as a value: step one, fork it, pick rows, put rows of any age together.

Letters: B rows, N latent tokens per tick, D latent width.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from forerun.dynamics.cache import Memory, concatenate


@dataclass(frozen=True)
class State:
    """B imagined worlds, each at its own age. Nothing is changed in place: an old state stays usable.

    Args:
        latents: (B, N, D) whitened latents of the present tick.
        memory: what the ticks before it left behind; None at age zero.
        tick: (B,) age of each row in ticks.
        tick_s: (B,) seconds per tick.
        log_error: (B,) predicted log mean squared error of these latents; -inf for observed ones.
    """

    latents: Tensor
    memory: Memory | None
    tick: Tensor
    tick_s: Tensor
    log_error: Tensor

    def __len__(self) -> int:
        return len(self.latents)

    def fork(self, count: int) -> State:
        """Each row becomes ``count`` neighbouring rows; they share its past, which is not copied."""
        rows = {name: getattr(self, name).repeat_interleave(count, dim=0) for name in _ROW_FIELDS}
        return State(memory=self.memory.fork(count) if self.memory else None, **rows)

    def select(self, rows: Tensor) -> State:
        """Keep these rows, in this order: indices, which may repeat, or a mask (B,)."""
        if rows.dtype == torch.bool:
            rows = rows.nonzero()[:, 0]
        kept = {name: getattr(self, name)[rows] for name in _ROW_FIELDS}
        return State(memory=self.memory.select(rows) if self.memory else None, **kept)

    def trim(self, ticks: int) -> State:
        """Forget all but the newest ``ticks`` of the past. Steps never keep more than the model can see."""
        return replace(self, memory=self.memory.trim(ticks) if self.memory else None)


_ROW_FIELDS = tuple(f.name for f in fields(State) if f.name != "memory")


def join(states: list[State]) -> State:
    """Rows of several states, of any age, as one batch."""
    rows = {name: torch.cat([getattr(s, name) for s in states]) for name in _ROW_FIELDS}
    known = next((s.memory for s in states if s.memory is not None), None)
    if known is None:
        return State(memory=None, **rows)
    memories = [s.memory if s.memory is not None else known.blank(len(s)) for s in states]
    return State(memory=concatenate(memories), **rows)
