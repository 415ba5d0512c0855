"""Who may speak to the server, how often and how much."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

BURST_S = 0.2
"""Of connections: a handshake takes the event loop milliseconds."""
PEERS = 10_000
"""Addresses whose rate is remembered."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """Rules for clients.

    Args:
        tokens: one of them must come as ``Authorization: Bearer TOKEN`` or ``?token=TOKEN``; none for all.
        connections: of one peer.
        connects_per_s: of one peer, in the long run, a fifth of them at once; later ones wait, so that who
            connects without end does not take the event loop from others.
        messages_per_s: of one connection, in the long run; twice as many at once. One that makes no sense
            counts a hundred times.
        message_bytes: of one message.
        outbox: replies that may wait for a slow reader; then the oldest observations are left out.
        patience_s: a reader that takes nothing for so long is cut off.
    """

    tokens: Sequence[str] = ()
    connections: int = 1024
    connects_per_s: float = 100.0
    messages_per_s: float = 20_000.0
    message_bytes: int = 16 * 2**20
    outbox: int = 256
    patience_s: float = 30.0

    def admits(self, header: str | None, query: str | None) -> bool:
        """Whether a token is right; compared in constant time."""
        if not self.tokens:
            return True
        said = (header or "").removeprefix("Bearer ") or query or ""
        right = [hmac.compare_digest(said.encode(), token.encode()) for token in self.tokens]
        return any(right)


class Peers:
    """Open connections by peer, and how often new ones come."""

    def __init__(self, most: int, per_s: float) -> None:
        self.most, self.per_s, self._open = most, per_s, Counter[str]()
        self._buckets: dict[str, Bucket] = {}

    async def turn(self, peer: str) -> None:
        """Wait until the peer may connect once more."""
        if len(self._buckets) > PEERS:  # who was not here for long starts with a full bucket anyway
            self._buckets = {name: b for name, b in self._buckets.items() if self._open[name]}
        bucket = self._buckets.setdefault(peer, Bucket(self.per_s, BURST_S))
        while wait_s := bucket.take():
            await asyncio.sleep(wait_s)

    def enter(self, peer: str) -> bool:
        """Count one in; False if there are too many."""
        if self._open[peer] >= self.most:
            return False
        self._open[peer] += 1
        return True

    def leave(self, peer: str) -> None:
        """Count one out."""
        self._open[peer] -= 1
        if not self._open[peer]:
            del self._open[peer]


class Bucket:
    """Tokens that fill up at a rate; each message takes one.

    Args:
        burst_s: seconds of them may be taken at once.
    """

    def __init__(self, per_s: float, burst_s: float = 2.0) -> None:
        self.per_s, self.most = per_s, max(1.0, burst_s * per_s)
        self.left, self.seen_s = self.most, time.monotonic()

    def take(self) -> float:
        """0 if a message may pass; else seconds until one may."""
        now = time.monotonic()
        self.left = min(self.most, self.left + (now - self.seen_s) * self.per_s)
        self.seen_s = now
        if self.left < 1:
            return (1 - self.left) / self.per_s
        self.left -= 1
        return 0.0
