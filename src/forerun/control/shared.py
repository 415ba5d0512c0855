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
        self._memory = _memory(24 + 16 * size, name)
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

    @property
    def stamp_ns(self) -> int:
        """When it was written last, without reading it; 0 if it never was."""
        return int(self._stamps[int(self._count[0]) % 2])

    def age_s(self) -> float:
        """Seconds since it was written; infinite if it never was."""
        stamp = self.stamp_ns
        return (time.monotonic_ns() - stamp) * 1e-9 if stamp else float("inf")

    def close(self) -> None:
        """Let go of the memory; who made it also removes it."""
        del self._count, self._stamps, self._slots
        self._memory.close()
        if self.owner:
            self._memory.unlink()


class Notes:
    """Rows that outlive their writer: a tier that was killed has still reported.

    Args:
        rows: how many there is room for; later ones are left out.
        columns: by name.
        name: of existing notes to open; new ones are made if None.
    """

    def __init__(self, rows: int, columns: tuple[str, ...], name: str | None = None) -> None:
        self.rows, self.columns = rows, columns
        self._memory = _memory(16 + 8 * rows * len(columns), name)
        self.owner = name is None
        self._counts = np.ndarray(2, np.int64, self._memory.buf)  # of rows, of missed ticks
        self._table = np.ndarray((rows, len(columns)), np.float64, self._memory.buf, 16)
        if self.owner:
            self._counts[:] = 0

    @property
    def address(self) -> tuple[int, tuple[str, ...], str]:
        """What to open them with elsewhere."""
        return self.rows, self.columns, self._memory.name

    def add(self, *row: float, missed: int = 0) -> None:
        """One tick, and how many were missed so far."""
        count = int(self._counts[0])
        if count < self.rows:
            self._table[count] = row
            self._counts[:] = count + 1, missed

    def table(self) -> np.ndarray:
        """A copy (N, columns)."""
        return self._table[: int(self._counts[0])].copy()

    @property
    def missed(self) -> int:
        return int(self._counts[1])

    def close(self) -> None:
        """Let go of the memory; who made it also removes it."""
        del self._counts, self._table
        self._memory.close()
        if self.owner:
            self._memory.unlink()


def _memory(size: int, name: str | None) -> shared_memory.SharedMemory:
    if name is None:
        return shared_memory.SharedMemory(create=True, size=size)
    return shared_memory.SharedMemory(name=name)
