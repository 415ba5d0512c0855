"""Imagined worlds as a value: step one, fork it, pick rows, put rows of any age together.

Letters: B rows, N latent tokens per tick, D latent width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from forerun.dynamics.cache import Memory, concatenate


@dataclass(frozen=True)
class Pace:
    """How long a tick of every row lasts, and what the trunk makes of it: worked out once per start.

    Args:
        tick_s: (B,) seconds per tick.
        embedding: (B, condition), by `Trunk.pace`.
    """

    tick_s: Float[Tensor, " B"]
    embedding: Float[Tensor, "B condition"]


@dataclass(frozen=True)
class State:
    """B imagined worlds, each at its own age. Nothing is changed in place: an old state stays usable.

    Args:
        latents: (B, N, D) whitened latents of the present tick.
        memory: what the ticks before it left behind; None at age zero.
        tick: (B,) age of each row in ticks.
        pace: how long its ticks last.
        log_error: (B,) predicted log mean squared error of these latents; -inf for observed ones.
    """

    latents: Float[Tensor, "B N D"]
    memory: Memory | None
    tick: Int[Tensor, " B"]
    pace: Pace
    log_error: Float[Tensor, " B"]

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def tick_s(self) -> Tensor:
        """(B,) seconds per tick."""
        return self.pace.tick_s

    def fork(self, count: int) -> State:
        """Each row becomes ``count`` neighbouring rows; they share its past, which is not copied."""
        return State(
            latents=self.latents.repeat_interleave(count, dim=0),
            memory=self.memory.fork(count) if self.memory else None,
            tick=_repeat(self.tick, count),
            pace=Pace(_repeat(self.tick_s, count), _repeat(self.pace.embedding, count)),
            log_error=self.log_error.repeat_interleave(count),
        )

    def select(self, rows: Tensor) -> State:
        """Keep these rows, in this order: indices, which may repeat, or a mask (B,)."""
        if rows.dtype == torch.bool:
            rows = rows.nonzero()[:, 0]
        return State(
            latents=self.latents[rows],
            memory=self.memory.select(rows) if self.memory else None,
            tick=_pick(self.tick, rows),
            pace=Pace(_pick(self.tick_s, rows), _pick(self.pace.embedding, rows)),
            log_error=self.log_error[rows],
        )

    def trim(self, ticks: int) -> State:
        """Forget all but the newest ``ticks`` of the past. Steps never keep more than the model can see."""
        return replace(self, memory=self.memory.trim(ticks) if self.memory else None)


def common(values: Tensor) -> Tensor:
    """The one row (1, ...) that all rows (B, ...) are expanded from; else the rows themselves."""
    return values[:1] if values.stride(0) == 0 else values


def _repeat(values: Tensor, count: int) -> Tensor:
    one = common(values)
    rows = len(values) * count
    return one.expand(rows, *one.shape[1:]) if len(one) == 1 else values.repeat_interleave(count, dim=0)


def _pick(values: Tensor, rows: Tensor) -> Tensor:
    one = common(values)
    return one.expand(len(rows), *one.shape[1:]) if len(one) == 1 else values[rows]


def join(states: list[State]) -> State:
    """Rows of several states, of any age, as one batch."""
    known = next((s.memory for s in states if s.memory is not None), None)
    memory = None
    if known is not None:
        memory = concatenate([known.blank(len(s)) if s.memory is None else s.memory for s in states])
    return State(
        latents=torch.cat([s.latents for s in states]),
        memory=memory,
        tick=torch.cat([s.tick for s in states]),
        pace=Pace(torch.cat([s.tick_s for s in states]), torch.cat([s.pace.embedding for s in states])),
        log_error=torch.cat([s.log_error for s in states]),
    )
