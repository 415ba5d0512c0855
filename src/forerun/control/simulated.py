"""A contact task as a mission: what is simulated, driven as a robot would be."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from forerun.control.gru import NumpyStudent
from forerun.control.mission import Mission, Samples, TierName
from forerun.control.robot import Sample, SimulatedRobot
from forerun.control.senses import Felt, fast_features
from forerun.control.surprise import Usual
from forerun.tasks.touch import TouchWorlds, laws, make_worlds, worlds_class

_KEPT_MS = 4096


class RealTimeRobot(SimulatedRobot):
    """A simulated robot whose clock is the computer's: samples are stamped when their millisecond was lived.

    Args:
        per_write: milliseconds that a write moves the world by.
    """

    def __init__(self, task: str, seed: int = 0, per_write: int = 1) -> None:
        super().__init__(task, seed)
        self.per_write = per_write
        self.restart()

    def restart(self) -> None:
        """Everything was captured just now."""
        self._lived_s = np.full(_KEPT_MS, time.monotonic())

    def now(self) -> float:
        return time.monotonic()

    def read(self) -> dict[str, Sample]:
        self._lived_s[self.worlds.ms % _KEPT_MS] = time.monotonic()
        return {name: self._stamped(sample) for name, sample in super().read().items()}

    def write(self, command: np.ndarray) -> None:
        for _ in range(self.per_write):
            super().write(command)

    def _stamped(self, sample: Sample) -> Sample:
        return Sample(sample.value, float(self._lived_s[round(1000 * sample.time_s) % _KEPT_MS]))


class SimulatedTask(Mission):
    """Plan, law and perhaps a learned residual of a contact task.

    Args:
        weights: of the residual, of `forerun.control.student.read_student`; the law alone if None.
        usual: what touch usually is; without it nothing surprises.
    """

    def __init__(
        self,
        task: str,
        seed: int = 0,
        weights: Mapping[str, np.ndarray] | None = None,
        usual: Usual | None = None,
    ) -> None:
        kind = worlds_class(task)
        self.name, self.seed, self.weights, self.usual = task, seed, weights, usual
        self.actions, self.touch = len(kind.action_spec.names), kind.touch
        self.force_limit_n, self.wanted_n = kind.force_limit_n, kind.wanted_n
        self.about = "law and learned residual" if weights else "law alone"
        self.features = 0 if usual is None else usual.low.shape[1]

    def open(self, tier: TierName, hz: int) -> None:
        if tier != "fast":
            self.worlds: TouchWorlds = make_worlds(self.name)
            self.worlds.reset([self.seed])
            return
        self.robot = self.simulated = RealTimeRobot(self.name, self.seed, 1000 // hz)
        self.worlds = self.simulated.worlds
        self.net = NumpyStudent(self.weights) if self.weights else None
        self.law = laws(self.name).scripted().law
        names = self.robot.streams[self.touch].names
        self.forces = [i for i, name in enumerate(names) if name.rpartition(".")[2].startswith("f")]

    def start(self) -> np.ndarray:
        return self.worlds.nominal()[0]

    def plan(self, clock_s: float, steps: int) -> np.ndarray:
        self.worlds.ms = round(1000 * clock_s)
        return self.worlds.plan(steps)[:, 0]

    def envelope(self, clock_s: float, steps: int) -> tuple[np.ndarray, np.ndarray] | None:
        return None if self.usual is None else self.usual.ahead(clock_s, steps)

    def hold(self, action: np.ndarray) -> np.ndarray:
        return self.worlds.hold(action)

    def retreat(self, action: np.ndarray) -> np.ndarray:
        return self.worlds.retreat(action)

    def begin(self) -> None:
        """The same episode from its beginning."""
        self.worlds.reset([self.seed])
        self.simulated.restart()
        self.law.reset(self.worlds)
        self.smooth = Felt(self.worlds, blocks=False)
        self.residual = np.zeros((1, len(self.law.knobs)))
        if self.net:
            self.net.reset()

    @property
    def over(self) -> bool:
        return self.worlds.over

    @property
    def clock_s(self) -> float:
        return self.worlds.time_s

    def command(self, samples: Samples, action: np.ndarray) -> np.ndarray:
        worlds, action = self.worlds, action[None]
        if worlds.ms % 2 == 0:
            self.smooth.update(worlds)
        elif self.net is not None and worlds.ms >= self.law.from_ms:  # see `student.REACTS_MS`
            stance = self.law.stance(worlds, action)
            seen = fast_features(worlds, self.smooth, action, stance, self.residual)
            self.residual = np.minimum(np.maximum(self.net(seen[0]), -1.0), 1.0)[None]
        return self.law(worlds, action, self.residual if self.law.knobs else None)[0]

    def felt(self, samples: Samples) -> np.ndarray:
        return self.smooth.newest[0]

    def force_n(self, samples: Samples) -> float:
        return float(np.abs(samples[self.touch].value[self.forces]).max())

    def speed(self, samples: Samples) -> float:
        return float(np.abs(self.worlds.qvel[0]).max())
