"""Keeping a deadline from Python: what the process may be granted, and a clock that does not drift.

Linux. Where a right is missing, nothing fails: `prepare` says what was granted, and every report repeats it.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import gc
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

PRIORITY, BEAT_PRIORITY = 80, 40
"""Of the fast tier, and of what must not seem dead to it: short work that a busy core would put aside."""
_MCL_CURRENT, _MCL_FUTURE = 1, 2
_PR_SET_PDEATHSIG = 1
_BLAS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Granted:
    """What the operating system allowed this process."""

    fifo: bool
    """SCHED_FIFO: it runs before every ordinary process, whenever it wants to."""
    locked: bool
    """Its memory stays in RAM."""

    def words(self) -> str:
        """For reports."""
        fifo = (
            f"SCHED_FIFO {PRIORITY}"
            if self.fifo
            else "ordinary scheduling (SCHED_FIFO refused, or not asked for)"
        )
        return f"{fifo}, memory {'locked' if self.locked else 'not locked'}"


def prepare(fifo: bool = True) -> Granted:
    """Make this process fit for a deadline of a millisecond: call it once, after everything is allocated.

    Args:
        fifo: ask for SCHED_FIFO; without it an ordinary process may take the core for milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    return Granted(fifo=fifo and ask_fifo(PRIORITY), locked=_lock_memory())


def ask_fifo(priority: int) -> bool:
    """Put the calling thread before all ordinary ones; whether that was granted."""
    if not hasattr(os, "sched_setscheduler"):
        return False
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError:
        return False
    return True


def _lock_memory() -> bool:
    try:
        libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
        return libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) == 0
    except (OSError, AttributeError):
        return False


def end_with_parent() -> None:
    """Linux kills this process when its parent ends, however that ends; elsewhere nothing happens."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(ctypes.util.find_library("c")).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Processes spawned inside give linear algebra one thread: a pool would take cores from other tiers."""
    before = {name: os.environ.get(name) for name in _BLAS}
    os.environ.update(dict.fromkeys(_BLAS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def fifo_permitted() -> bool:
    """Whether `prepare` will be granted SCHED_FIFO; this process keeps the scheduling it has."""
    if not hasattr(os, "sched_setscheduler"):
        return False
    policy, param = os.sched_getscheduler(0), os.sched_getparam(0)
    granted = ask_fifo(PRIORITY)
    if granted:
        os.sched_setscheduler(0, policy, param)
    return granted


class Pacer:
    """Absolute deadlines: tick k is due at start + k periods, however late its predecessors were.

    Args:
        period_ns: between ticks.
    """

    def __init__(self, period_ns: int) -> None:
        self.period_ns = period_ns
        self.due_ns = time.monotonic_ns() + period_ns
        self.missed = 0

    def resume(self) -> None:
        """Go on from now: what came between was not the loop's own business, and is not missed."""
        self.due_ns = time.monotonic_ns() + self.period_ns

    def wait(self) -> int:
        """Sleep until the next tick is due; returns by how many ns it woke late.

        A tick that is already over by a whole period is missed: it is counted and left out.
        """
        ahead = self.due_ns - time.monotonic_ns()
        if ahead > 0:
            time.sleep(ahead * 1e-9)
        late = time.monotonic_ns() - self.due_ns
        skipped = late // self.period_ns if late > 0 else 0
        self.missed += int(skipped)
        self.due_ns += (1 + skipped) * self.period_ns
        return int(late)
