"""The states of all live worlds in tensors that are made once: any set of slots can form a batch.

A slot keeps, in rings, what attention needs of the last ticks and some more, so that going back a few ticks
only turns a counter. Keys are stored turned by their own tick, so sessions of any age share a pass.

Letters: S slots, B rows of a batch, t ticks that a step looks back, R ticks that can be taken back, L layers
that look back, N x D latents of a tick; M, H, C as in `forerun.dynamics.cache`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from forerun.dynamics.cache import Memory
from forerun.dynamics.state import Pace, State
from forerun.world_model import WorldModel


class Arena:
    """S slots for states of one model. Slot numbers are the caller's to give out.

    Args:
        slots: S.
        rollback: R.
    """

    def __init__(self, model: WorldModel, slots: int, rollback: int = 16) -> None:
        like = _example(model)
        self.look_back, self.rollback = model.config.size.window - 1, rollback
        self.ring = max(1, self.look_back + rollback)
        device, dtype = like.latents.device, like.latents.dtype

        def room(*shape: int) -> Tensor:
            return torch.zeros(slots, *shape, dtype=dtype, device=device)

        self.latents = room(rollback + 1, *like.latents.shape[1:])
        self.log_error = room(rollback + 1)
        self.embedding, self.tick_s = room(like.pace.embedding.shape[1]), room()
        self.tick = torch.zeros(slots, dtype=torch.long, device=device)
        layers = like.memory.own if like.memory else ()
        self.memory = room(self.ring, len(layers), *layers[0].shape[2:]) if layers else None
        self._back = torch.arange(self.look_back, 0, -1, device=device)

    @property
    def bytes_per_slot(self) -> int:
        parts = [self.latents, self.log_error, self.embedding, self.tick_s, self.tick]
        parts += [] if self.memory is None else [self.memory]
        return sum(part[0].nbytes for part in parts)

    def gather(self, slots: Tensor) -> State:
        """The states in ``slots`` (B,), which may repeat: a batch of one row each."""
        tick = self.tick[slots]
        now = tick % (self.rollback + 1)
        memory = None
        if self.memory is not None:
            place = (tick[:, None] - self._back) % self.ring
            own = self.memory[slots[:, None], place].unbind(2)
            memory = Memory(own=own, empty=(self.look_back - tick).clamp_min(0))
        return State(
            latents=self.latents[slots, now],
            memory=memory,
            tick=tick,
            pace=Pace(self.tick_s[slots], self.embedding[slots]),
            log_error=self.log_error[slots, now],
        )

    def advance(self, slots: Tensor, after: State) -> None:
        """Write what `gather` gave, one tick later."""
        now = after.tick % (self.rollback + 1)
        self.latents[slots, now] = after.latents
        self.log_error[slots, now] = after.log_error
        if self.memory is not None and after.memory is not None:
            newest = torch.stack([layer[:, -1] for layer in after.memory.own], dim=1)
            self.memory[slots, (after.tick - 1) % self.ring] = newest
        self.tick[slots] = after.tick

    def put(self, slot: int, state: State) -> None:
        """Begin from ``state``, one row, with all that it remembers."""
        tick = int(state.tick[0])
        now = tick % (self.rollback + 1)
        self.latents[slot, now], self.log_error[slot, now] = state.latents[0], state.log_error[0]
        self.tick[slot], self.tick_s[slot] = tick, state.tick_s[0]
        self.embedding[slot] = state.pace.embedding[0]
        if self.memory is not None:
            self.memory[slot] = 0
            if state.memory is not None:
                own = torch.stack(state.memory.settled().own, dim=2)[0]  # (u, L, M, 2, H, C)
                known = min(len(own), tick, self.look_back)
                places = torch.arange(tick - known, tick) % self.ring
                self.memory[slot, places] = own[len(own) - known :]

    def copy(self, source: int, into: int) -> None:
        """A second world that goes on from the same state, and can go back as far."""
        parts = [self.latents, self.log_error, self.embedding, self.tick_s, self.tick]
        for part in parts if self.memory is None else [*parts, self.memory]:
            part[into] = part[source]

    def back(self, slot: int, ticks: int) -> None:
        """Take back so many ticks, at most R; what was there then is there again."""
        self.tick[slot] -= ticks


def _example(model: WorldModel) -> State:
    """Any state that remembers."""
    with torch.no_grad():
        latents = torch.zeros(1, 1, *model.layout.shape, device=model.used.device)
        state = model.start(latents)
        return model.step(state, None)
