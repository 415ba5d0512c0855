"""One live world as the engine sees it: where its state is, what waits, what its client wants to see."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from torch import Tensor

from forerun.dynamics.state import State
from forerun.serving.protocol import Change, Close, Refusal, View

IN_FLIGHT = 16
"""Requests of one session that may wait."""


@dataclass(eq=False)
class Session:
    """A world of one client. Its state is in a slot, in host memory (``frozen``), or a fan of candidates."""

    client: Hashable
    id: int
    view: View
    origin: State
    """What it began from, and begins from again if its numbers become NaN."""
    slot: int | None = None
    frozen: bytes | None = None
    fan: State | None = None
    goal: Tensor | None = None
    """(1, Z) that the candidates of a fan are judged by."""
    seq: int = -1
    used_s: float = 0.0
    steps_back: int = 0
    """Ticks that can be taken back."""
    pictures: int = 0
    """Steps that asked for a picture, to draw every second."""
    last_picture: dict[str, bytes | object] = field(default_factory=dict)
    waiting: deque[Change | Close] = field(default_factory=deque)
    busy: bool = False
    """Whether its oldest request is with the scheduler."""

    def accept(self, seq: int) -> None:
        """Sequence numbers strictly increase; else Refusal."""
        if seq <= self.seq:
            raise Refusal(
                "out_of_order", f"sequence number {seq} arrived after {self.seq}; they must strictly increase"
            )
        if len(self.waiting) >= IN_FLIGHT:
            raise Refusal(
                "too_many",
                f"{len(self.waiting)} requests of session {self.id} wait already; read the replies",
            )
        self.seq = seq

    @property
    def rows(self) -> int:
        return 1 if self.fan is None else len(self.fan)
