"""A stand-in of an arm's controller: its own thread and clock, a driver that reaches it over shared memory.

The device lives in the process that makes it; whoever connects to it may be killed, and it stays.
"""

from __future__ import annotations

import threading
import time

import numpy as np

from forerun.control.shared import Block

Address = tuple[str, str, float]
STIFFNESS_N_PER_M = 2000.0
START_M = 0.002
"""Above the surface."""


class Device:
    """A tool over a stiff surface, moved by the velocity it was told last; use as a context."""

    def __init__(self) -> None:
        self.told, self.state = Block(4), Block(7)
        self.offset_s = 1000.0
        self.height_m, self.stopped = START_M, False
        self.history: list[tuple[float, float, float]] = []
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._alive = True

    @property
    def address(self) -> Address:
        """For `connect`, in any process."""
        return self.told.name, self.state.name, self.offset_s

    def stop(self) -> None:
        """The red button."""
        self.stopped = True

    def since(self, monotonic_s: float) -> np.ndarray:
        """Rows (N, 3) from then on: monotonic seconds, upward velocity in m/s, force in N."""
        rows = np.array(self.history)
        return rows[rows[:, 0] >= monotonic_s]

    def __enter__(self) -> Device:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._alive = False
        self._thread.join()
        self.told.close()
        self.state.close()

    def _live(self) -> None:
        before = time.monotonic()
        while self._alive:
            now, told = time.monotonic(), self.told.read().values
            self.stopped = self.stopped or bool(told[3])
            speed = 0.0 if self.stopped else float(told[2])
            self.height_m += speed * min(now - before, 0.005)
            force = max(0.0, -STIFFNESS_N_PER_M * self.height_m)
            self.state.write(np.array([0.0, 0.0, force, 0.0, 0.0, 0.0, now + self.offset_s]))
            self.history.append((now, speed, force))
            before = now
            time.sleep(0.001)


class Driver:
    """What a vendor's library offers."""

    def __init__(self, address: Address) -> None:
        self.told, self.state = Block(4, address[0]), Block(7, address[1])
        self.offset_s = address[2]
        self._halt = 0.0

    def clock(self) -> float:
        """Seconds on the controller's clock."""
        return time.monotonic() + self.offset_s

    def latest_wrench(self) -> tuple[np.ndarray, float]:
        """The newest wrench, and when it was measured."""
        values = self.state.read().values
        return values[:6], float(values[6])

    def set_velocity(self, velocity: np.ndarray) -> None:
        self.told.write(np.array([*velocity, self._halt]))

    def stop(self) -> None:
        self._halt = 1.0
        self.set_velocity(np.zeros(3))


def connect(address: Address) -> Driver:
    return Driver(address)
