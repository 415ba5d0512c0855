"""What a robot must offer to be driven in tiers, and the simulated one.

An arm of your own needs four methods around its vendor's driver; docs/robots.md has an example.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from forerun.tasks.touch import TouchWorlds, make_worlds
from forerun.types import StreamSpec


class Sample(NamedTuple):
    """One sample of one stream."""

    value: np.ndarray
    """In the stream's unit and shape."""
    time_s: float
    """When it was captured, on the robot's clock (`Robot.now`)."""


class Robot(Protocol):
    """A robot as the fast tier sees it. All calls come from one process; `stop` may come from anywhere."""

    @property
    def streams(self) -> Mapping[str, StreamSpec]:
        """What can be read, by name."""
        ...

    @property
    def command(self) -> StreamSpec:
        """What is taken."""
        ...

    def now(self) -> float:
        """Seconds on the robot's own clock."""
        ...

    def read(self) -> Mapping[str, Sample]:
        """The newest sample of every stream that has arrived. Never waits."""
        ...

    def write(self, command: np.ndarray) -> None:
        """Send a command (C,) to the servos. Never waits."""
        ...

    def stop(self) -> None:
        """Bring the robot to a safe stand: brakes, or zero speed with the grip kept. May be called twice."""
        ...


class SimulatedRobot:
    """One world of a contact task. A write moves it by one millisecond; after `stop` it only holds."""

    def __init__(self, task: str, seed: int = 0) -> None:
        self.worlds: TouchWorlds = make_worlds(task)
        self.worlds.reset([seed])
        self.streams, self.command = self.worlds.streams, self.worlds.command_spec
        self.stopped = False
        self._last: np.ndarray | None = None

    def now(self) -> float:
        return self.worlds.time_s

    def read(self) -> dict[str, Sample]:
        return {name: Sample(r.values[0], r.time_s) for name, r in self.worlds.readings().items()}

    def write(self, command: np.ndarray) -> None:
        if not self.stopped or self._last is None:
            self._last = np.asarray(command, np.float64)[None]
        self.worlds.tick(self._last)

    def stop(self) -> None:
        self.stopped = True
