"""Sensors as they are: each with its own rate, delay, noise, gain error, drift and resolution.

The simulator is read at capture; what a controller gets is the newest sample that has had time to arrive. A
sensor's history is a plain list of arrays beside the physics, since noise, gain and taxels are made here too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from forerun.types import StreamSpec


class Reading(NamedTuple):
    """The newest available sample of one stream in B worlds."""

    values: np.ndarray
    """(B, *shape), in the stream's unit."""
    time_s: float
    """When it was captured, on the episode's clock; its age is the present minus this."""


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """How a stream is measured. Every spread is a standard deviation in the stream's unit; beyond ``low`` and
    ``high`` of the ``spec`` it saturates."""

    spec: StreamSpec
    every_ms: int
    delay_ms: int
    noise: float | tuple[float, ...] = 0.0
    gain_error: float = 0.0
    """Relative, per channel, drawn once an episode."""
    drift: float | tuple[float, ...] = 0.0
    """Of the zero, per channel: its rate is drawn once an episode, in units per second."""
    step: float | tuple[float, ...] = 0.0
    """Resolution: values are rounded to multiples of it; zero leaves them alone."""


class SensorLine:
    """One sensor in B worlds: captures on its clock, keeps samples until they have arrived.

    Noise is drawn per world at the start of the episode, so that no world depends on its batch mates.
    """

    def __init__(self, sensor: Sensor, worlds: int, seconds: float) -> None:
        self.sensor = sensor
        self.captures = int(1000 * seconds) // sensor.every_ms + 2
        self.channels = sensor.spec.size
        video = sensor.spec.kind == "video"
        shape = (self.captures, worlds, 0 if video or not sensor.noise else self.channels)
        self.noise = np.zeros(shape, np.float32)
        self.gain = np.ones((worlds, self.channels), np.float32) if not video else None
        self.drift = np.zeros((worlds, self.channels if not video else 0), np.float32)
        self.step = np.asarray(sensor.step) if sensor.step else None
        low, high = sensor.spec.low, sensor.spec.high
        self.reach = None if low is None or high is None else (np.asarray(low), np.asarray(high))
        self.waiting: deque[Reading] = deque()

    def restart(self, rngs: list[np.random.Generator]) -> None:
        """Draw the noise, gains and drifts of a new episode."""
        self.waiting.clear()
        self.taken = 0
        if self.gain is None:
            return
        for i, rng in enumerate(rngs):
            if self.noise.shape[2]:
                drawn = rng.standard_normal((self.captures, self.channels), np.float32)
                self.noise[:, i] = drawn * np.asarray(self.sensor.noise, np.float32)
            self.gain[i] = 1 + self.sensor.gain_error * rng.standard_normal(self.channels)
            self.drift[i] = np.asarray(self.sensor.drift) * rng.standard_normal(self.channels)

    def due(self, ms: int) -> bool:
        return ms % self.sensor.every_ms == 0

    def capture(self, ms: int, true: Callable[[], np.ndarray]) -> None:
        """Take a sample of the ``true`` values (B, channels), or pictures, at ``ms``."""
        values = true()
        if self.gain is not None:
            values = values * self.gain
            if self.sensor.drift:
                values = values + self.drift * (ms / 1000)
            if self.noise.shape[2]:
                values = values + self.noise[min(self.taken, self.captures - 1)]
            if self.step is not None:
                values = np.round(values / self.step) * self.step
            if self.reach is not None:
                values = np.clip(values, *self.reach)
            values = values.astype(np.float32)
        self.taken += 1
        self.waiting.append(Reading(values.reshape(-1, *self.sensor.spec.shape), ms / 1000))

    def read(self, ms: int) -> Reading:
        """The newest sample captured at least the sensor's delay ago; the very first until then."""
        newest_s = (ms - self.sensor.delay_ms) / 1000 + 1e-9
        while len(self.waiting) > 1 and self.waiting[1].time_s <= newest_s:
            self.waiting.popleft()
        return self.waiting[0]


GRAVITY = 9.81
PAD_NAMES = ("fx", "fy", "fz", "tx", "ty", "tz")
WRIST_REACH = (145.0, 145.0, 290.0, 10.0, 10.0, 10.0)
"""N and N m: what a force-torque sensor for a small arm measures."""


def wrist_sensor() -> Sensor:
    """A wrench (6) at the wrist or tip: 500 Hz, 2 ms old, a little noise, gains off by 2 %."""
    spec = StreamSpec(
        name="wrench",
        kind="touch",
        shape=(6,),
        unit="N, N m",
        names=PAD_NAMES,
        rate_hz=500.0,
        family="wrench",
        frame="tip",
        low=tuple(-reach for reach in WRIST_REACH),
        high=WRIST_REACH,
    )
    noise = (0.05, 0.05, 0.05, 0.005, 0.005, 0.005)
    return Sensor(spec=spec, every_ms=2, delay_ms=2, noise=noise, gain_error=0.02)


def pad_wrench(netforce: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Forces and torques (B, 6) about a pad's ``centre`` (B, 3) from MuJoCo's net contact force.

    Args:
        netforce: (B, 10) a contact sensor's found, force, torque, pos with ``reduce="netforce"``: in the
            world's axes, the torque about ``pos``.
        centre: (B, 3) in the world.
    """
    force, torque, arm = netforce[:, 1:4], netforce[:, 4:7], netforce[:, 7:10] - centre
    arm = np.where(netforce[:, :1] > 0, arm, 0.0)
    return np.concatenate([force, torque + np.cross(arm, force)], axis=1)


def splat(
    forces: np.ndarray, places: np.ndarray, half_m: float, cells: int = 8, sigma: float = 0.7
) -> np.ndarray:
    """Contact forces spread over a square pad's taxels, as an elastomer would: their sums stay exact.

    A flat face on a pad touches at a few points only; a Gaussian kernel (``sigma`` in cells) makes of each a
    patch. Claims force, shear and timing, never the picture of a gel.

    Args:
        forces: (B, K, 3) normal and two shears of K contact points, N; zero where there is none.
        places: (B, K, 2) of each on the pad, m, from its centre.
        half_m: half the pad's side.

    Returns:
        (B, 3, cells, cells): [normal, shear along the first axis, shear along the second], N per taxel.
    """
    middle = (np.arange(cells) + 0.5) / cells * 2 * half_m - half_m
    width = sigma * 2 * half_m / cells
    along = np.exp(-0.5 * ((places[:, :, :, None] - middle) / width) ** 2)
    along /= along.sum(-1, keepdims=True)
    return np.einsum("bkf,bkx,bky->bfxy", forces, along[:, :, 0], along[:, :, 1])
