"""What client and server say to each other: requests as typed values, errors as codes. Needs no torch.

One WebSocket carries any number of sessions; the client numbers them (``id``). The server speaks first
(``hello``). Every request is a map with a ``type`` and an ``id``; all that change a session carry a ``seq``
that strictly increases, and every answer repeats it. See docs/serving.md for each message.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from forerun.types import Error

VERSION = 1
PATH = "/v1/world"

Picture = Literal["jpeg", "raw", "none"]
Code = Literal[
    "bad_message",  # no such message, a field is missing or ill-formed
    "bad_action",  # another shape, names, unit or range than the world takes, or not finite
    "bad_context",  # observations that the model cannot begin from
    "out_of_order",  # a sequence number that does not increase
    "unknown_session",
    "too_many",  # sessions of this client, steps in flight, candidates
    "no_room",  # no slot or no time left on this server
    "overloaded",  # best-effort work dropped for those with deadlines
    "rate_limited",
    "not_finite",  # this world became NaN and began anew
    "too_far_back",  # a rollback beyond what is kept
    "snapshot_refused",
    "storage",  # the disk is full or read-only
    "draining",  # the server is about to stop
    "internal",
]


class Refusal(Error):
    """A request that is not carried out: a code for programs, a sentence for people."""

    def __init__(self, code: Code, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code, self.retry_after_s = code, retry_after_s

    def reply(self, session: int | None = None, seq: int | None = None) -> dict[str, Any]:
        """As a message."""
        out = {"type": "error", "id": session, "seq": seq, "code": self.code, "message": str(self)}
        if self.retry_after_s is not None:
            out["retry_after_s"] = self.retry_after_s
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a session wants to see and how fast."""

    observe: tuple[str, ...] | None = None
    """Streams of numbers in every reply; None for all."""
    picture: Picture = "none"
    quality: int = 80
    """Of JPEG, 1 to 95."""
    latents: bool = False
    period_s: float | None = None
    """Seconds between steps, if they come at a rate; None if each waits for the last."""
    deadline_s: float | None = None
    """Seconds from a step to its reply; the period by default."""
    best_effort: bool = False
    """Fills what deadlines leave over, and is dropped first."""
    tick_s: float | None = None
    """Seconds of the world per step; the period, or else the training tick, by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A new session, from a recorded start or from the client's own observations."""

    id: int
    view: View = field(default_factory=View)
    start: int | None = None
    context: dict[str, np.ndarray] | None = None
    """Per stream (T, *shape)."""
    actions: np.ndarray | None = None
    """(T - 1, A) between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One tick: an action (A,), or (n, A) for n candidates, or (n, H, A) for chunks; None for none known."""

    id: int
    seq: int
    action: np.ndarray | None
    follow: bool = False
    """Of candidates: add ``action`` to what the goal policy does, in standard deviations of the data."""
    judge: tuple[int, ...] | None = None
    """Of chunks: the ticks after which the distance to the goal is told; by default the last."""
    brief: bool = False
    """Of candidates: tell distances alone, not what they look like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """``count`` candidates that share this session's past, as the new session ``into``."""

    id: int
    seq: int
    into: int
    count: int
    goal: dict[str, np.ndarray] | None = None
    """An observation to reach; then replies say how far each candidate is from it."""
    quiet: bool = False
    """No answer but an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Select:
    """Keep these candidates, in this order."""

    id: int
    seq: int
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """Go back so many ticks."""

    id: int
    seq: int
    ticks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The whole state as bytes, or kept by the server under a name."""

    id: int
    seq: int
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """A session that goes on from a snapshot."""

    id: int
    view: View = field(default_factory=View)
    data: bytes | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """Forget a session."""

    id: int
    quiet: bool = False


Change = Step | Fork | Select | Rollback | Snapshot
"""What changes a session, in the order of its sequence numbers."""
Request = Open | Restore | Change | Close
