"""Helper processes that share the cores, and end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from forerun.types import Error


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def helpers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes to hand work to; an exception in the body, Ctrl-C included, stops them at once.

    Raises:
        Error: one of them ended abruptly.
    """
    context = multiprocessing.get_context("spawn")  # forking a process that has drawn with OpenGL is unsafe
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_follow_parent)
    try:
        yield pool
        pool.shutdown()
    except BaseException as cause:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()
        if isinstance(cause, BrokenProcessPool):
            raise Error(
                "a helper process ended abruptly, which mostly means that memory ran out; close other "
                "programs and run the same command again, what was finished is kept"
            ) from cause
        raise


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, and end when it ends, even if it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
