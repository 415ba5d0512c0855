"""What three tiers do with one robot: the part that differs from arm to arm and from task to task.

A mission is pickled into the process of every tier, and opened there: keep names and numbers in it, and open
devices in `open`. docs/robots.md has one for an arm.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal

import numpy as np

from forerun.control.robot import Robot, Sample

TierName = Literal["planner", "policy", "fast"]
TIERS: tuple[TierName, ...] = ("planner", "policy", "fast")
Samples = Mapping[str, Sample]


class Mission(ABC):
    """One job of one robot. A: numbers of an action, C: of a command, K: features of touch."""

    name: str
    actions: int
    """A."""
    touch: str
    """The stream that is felt: its age at the command is reported."""
    features: int = 0
    """K; with 0 nothing is compared with an envelope."""
    force_limit_n: float = float("inf")
    wanted_n: float | None = None
    """The force it should press with, if any: overshoot is counted from it, or else from the limit."""
    about: str = ""
    """A few words for the report."""
    robot: Robot
    """Set by `open` in the fast tier's process; the others never see it."""

    def open(self, tier: TierName, hz: int) -> None:  # noqa: B027
        """Called once in each tier's process, before anything else: the fast one, which will tick
        at ``hz``, opens the robot here; the others have no use for the rate."""

    @abstractmethod
    def start(self) -> np.ndarray:
        """The action (A,) before any plan has come: one that moves nothing."""

    @abstractmethod
    def plan(self, clock_s: float, steps: int) -> np.ndarray:
        """Planner: the actions (steps, A) of the next steps at 50 Hz, from ``clock_s`` on."""

    def envelope(self, clock_s: float, steps: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Planner: low and high (steps, K) of what will be felt meanwhile; None if it does not say."""
        return None

    @abstractmethod
    def command(self, samples: Samples, action: np.ndarray) -> np.ndarray:
        """Fast tier: the command (C,) of this tick, from what is felt and the action (A,). Never waits."""

    def hold(self, action: np.ndarray) -> np.ndarray:
        """What is safe where no plan is left, (A,): stand still, keep what is held. By default all zero."""
        return np.zeros_like(action)

    def retreat(self, action: np.ndarray) -> np.ndarray:
        """What is safe when no plan comes, (A,): leave the contact. By default a hold."""
        return self.hold(action)

    def begin(self) -> None:
        """Fast tier: the clock starts, here and again whenever the job is ``over``."""
        self._began_s = self.robot.now()

    @property
    def over(self) -> bool:
        """Fast tier: whether the job has ended and begins anew."""
        return False

    @property
    def clock_s(self) -> float:
        """Fast tier: seconds into the job, by the robot's own clock; plans are made for it."""
        return self.robot.now() - self._began_s

    def felt(self, samples: Samples) -> np.ndarray:
        """Fast tier: features (K,) of touch, compared with the envelope."""
        return np.zeros(self.features)

    def force_n(self, samples: Samples) -> float:
        """Fast tier: the largest force felt now, for the report."""
        return 0.0

    def speed(self, samples: Samples) -> float:
        """Fast tier: how fast anything moves, for the report."""
        return 0.0
