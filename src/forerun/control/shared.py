"""Numbers between processes without locks, sockets or pickles: a writer that never waits for its readers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from multiprocessing import shared_memory

import numpy as np

from forerun.types import Error


class TornReadError(Error):
    """A block changed under every attempt to read it: something writes without pause."""


@dataclass
class Message:
    """What a block held."""

    stamp_ns: int
    """Monotonic time of writing; 0 if nothing was ever written."""
    values: np.ndarray
    """A copy, float64, flat."""


class Block:
    """A fixed number of float64 in two slots (a seqlock with a spare): one writer, any number of readers.

    The writer fills the slot that nobody reads and then counts up; a reader copies the slot of the count it
    saw and looks whether it was overtaken twice meanwhile. So a real-time reader never waits for a writer
    that the scheduler has put aside in the middle of a write: with a single slot it would spin for ever.

    Args:
        size: how many numbers.
        name: of an existing block to open; a new one is made if None.
    """

    def __init__(self, size: int, name: str | None = None) -> None:
        self.size = size
        bytes_ = 24 + 16 * size
        self._memory = (
            shared_memory.SharedMemory(create=True, size=bytes_)
            if name is None
            else shared_memory.SharedMemory(name=name)
        )
        self.owner = name is None
        self._count = np.ndarray(1, np.int64, self._memory.buf)
        self._stamps = np.ndarray(2, np.int64, self._memory.buf, 8)
        self._slots = np.ndarray((2, size), np.float64, self._memory.buf, 24)
        if self.owner:
            self._count[0], self._stamps[:], self._slots[:] = 0, 0, 0

    @property
    def name(self) -> str:
        return self._memory.name

    def write(self, values: np.ndarray | float) -> None:
        """Replace the numbers, stamped with the present."""
        count = int(self._count[0])
        spare = (count + 1) % 2
        self._slots[spare] = values
        self._stamps[spare] = time.monotonic_ns()
        self._count[0] = count + 1

    def read(self) -> Message:
        """The newest numbers, whole.

        Raises:
            TornReadError: it was overtaken a thousand times.
        """
        for _ in range(1000):
            count = int(self._count[0])
            message = Message(int(self._stamps[count % 2]), self._slots[count % 2].copy())
            if int(self._count[0]) - count < 2:
                return message
        raise TornReadError(
            f"block {self.name} was overwritten during each of 1000 reads; expected a writer that pauses "
            "between writes. Give every block one writer, at the rate of its tier"
        )

    def age_s(self) -> float:
        """Seconds since it was written; infinite if it never was."""
        stamp = int(self._stamps[int(self._count[0]) % 2])
        return (time.monotonic_ns() - stamp) * 1e-9 if stamp else float("inf")

    def close(self) -> None:
        """Let go of the memory; who made it also removes it."""
        del self._count, self._stamps, self._slots
        self._memory.close()
        if self.owner:
            self._memory.unlink()
