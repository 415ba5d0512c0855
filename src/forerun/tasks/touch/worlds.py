"""Contact tasks that hide what cannot be seen: B worlds in lockstep, physics at 1 kHz.

    worlds = LiftFragile(64)
    worlds.reset(range(64))
    while not worlds.over:
        if worlds.ms % 20 == 0:
            action = policy(worlds)              # 50 Hz
        worlds.tick(worlds.follow(action))       # 1 kHz: what the servos get
    worlds.score()["success"]                    # (64,)

A world depends on its own seed alone, never on its batch mates. The action is what a policy decides at 50 Hz;
the command is what a fast tier writes to the servos every millisecond. `follow` turns one into the other
without feeling anything; a fast tier does better.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from forerun.tasks.base import CAMERA_SIZE
from forerun.tasks.scene import compile_scene, load_mujoco, renderer
from forerun.tasks.touch.sensors import Reading, Sensor, SensorLine
from forerun.types import ShapeError, StreamSpec

CAMERA = Sensor(
    spec=StreamSpec(
        name="camera", kind="video", shape=(CAMERA_SIZE, CAMERA_SIZE, 3), unit="rgb", rate_hz=30.0
    ),
    every_ms=33,
    delay_ms=40,
)
PHYSICS_HZ, CONTROL_HZ = 1000, 50
ACTION_MS = PHYSICS_HZ // CONTROL_HZ
OPTIONS = """
  <option timestep="0.001" cone="elliptic" impratio="100" tolerance="1e-8"
          iterations="30"/>
  <size memory="2M"/>"""
"""Elliptic cones and impratio 100: without them a firm grip creeps at millimetres a second. Euler steps:
implicit ones damp stiff servos after the contacts are solved, and what is held then creeps ahead of the
hand."""


class TouchWorlds(ABC):
    """B worlds of one contact task.

    Args:
        count: B, how many worlds.
        camera: draw pictures at 30 Hz; leave it off where nobody looks.
    """

    env_id: ClassVar[str]
    seconds: ClassVar[float]
    action_spec: ClassVar[StreamSpec]
    """What a policy decides at 50 Hz."""
    command_spec: ClassVar[StreamSpec]
    """What the servos take at 1 kHz."""
    hidden_names: ClassVar[tuple[str, ...]]
    """What neither camera nor proprioception shows."""
    force_limit_n: ClassVar[float]
    """Above this the task counts a violation."""
    wanted_n: ClassVar[float | None] = None
    """The force it asks for, where it asks for one."""
    sensors: ClassVar[tuple[Sensor, ...]]
    proprio_scale: ClassVar[tuple[float, ...]]
    """What counts as one in each channel of proprioception, for networks."""
    stays: ClassVar[tuple[bool, ...]]
    """Which channels of the action a safe hold keeps; the others become zero."""
    backs_off: ClassVar[tuple[float, ...]]
    """The action of a retreat; NaN where the held value stays."""
    touch: ClassVar[str] = "wrench"
    """The touch stream a controller feels."""

    def __init__(self, count: int = 1, camera: bool = False) -> None:
        self.mujoco = load_mujoco()
        self.count, self.camera, self.numb = count, camera, False
        self.template = compile_scene(self.xml())
        self.models = [copy.copy(self.template) for _ in range(count)]
        self.data = [self.mujoco.MjData(model) for model in self.models]
        self._shown = self.mujoco.MjData(self.template)
        self.raw = np.zeros((count, self.template.nsensordata))
        self.qpos = np.zeros((count, self.template.nq))
        self.qvel = np.zeros((count, self.template.nv))
        self.hidden = np.zeros((count, len(self.hidden_names)))
        chosen = (*self.sensors, CAMERA) if camera else self.sensors
        self.lines = {s.spec.name: SensorLine(s, count, self.seconds) for s in chosen}
        self._low = np.asarray(self.command_spec.low)
        self._high = np.asarray(self.command_spec.high)
        self.ms = 0

    # What a task says about itself.

    @classmethod
    @abstractmethod
    def xml(cls) -> str:
        """The scene, as MJCF."""

    @abstractmethod
    def begin(self, i: int, rng: np.random.Generator) -> None:
        """Draw what is hidden in world ``i``, write it into its model and ``hidden``, place everything."""

    @abstractmethod
    def measure(self, stream: str) -> np.ndarray:
        """The true values (B, channels) of a stream now, from ``raw``, ``qpos`` and ``qvel``."""

    @abstractmethod
    def follow(self, action: np.ndarray) -> np.ndarray:
        """The command (B, C) of this millisecond for an action (B, A), without feeling anything."""

    @abstractmethod
    def watch(self) -> None:
        """Keep account of what the score needs; called every 2 ms."""

    @abstractmethod
    def score(self) -> dict[str, np.ndarray]:
        """Of the episode so far, (B,) each: ``success``, ``force_n`` (peak), and the task's own figures."""

    @abstractmethod
    def nominal(self, at_s: float | None = None) -> np.ndarray:
        """The action (B, A) planned for ``at_s`` (now, if None) from what is seen and nothing felt."""

    def plan(self, steps: int) -> np.ndarray:
        """The actions (steps, B, A) of the next steps at 50 Hz, as a planner would send them."""
        return np.stack([self.nominal(self.time_s + k / CONTROL_HZ) for k in range(steps)])

    def hold(self, action: np.ndarray) -> np.ndarray:
        """What is safe where no plan is left: speeds become zero, forces and grips stay, (B, A)."""
        return action * np.asarray(self.stays)

    def retreat(self, action: np.ndarray) -> np.ndarray:
        """What is safe when no plan comes: let go along the contact normal, but never of what is carried."""
        return np.where(np.isnan(self.backs_off), action, self.backs_off)

    @staticmethod
    def features(touch: np.ndarray) -> np.ndarray:
        """Samples (B, 6) of the task's touch stream as numbers (B, F) of order one, for networks."""
        scaled = touch / (5.0, 5.0, 5.0, 0.05, 0.05, 0.05)
        return np.concatenate([scaled, np.sign(scaled) * np.log1p(20 * np.abs(scaled)) / 3], axis=1)

    def disturb(self) -> None:  # noqa: B027
        """What the world does by itself before each millisecond: tugs, moving tables."""

    def correct(self, model: Any) -> None:  # noqa: B027
        """Change what MuJoCo worked out from the masses of a world, before its first step."""

    def restart(self) -> None:  # noqa: B027
        """Forget the account of the last episode."""

    # What follows from it.

    def attach(self, sensor: Sensor) -> None:
        """Read one more sensor from the next episode on, if the task can `measure` it."""
        self.lines[sensor.spec.name] = SensorLine(sensor, self.count, self.seconds)

    def resense(self, stream: str, **changes: Any) -> None:
        """Give a sensor another ``every_ms``, ``delay_ms``, ``noise``, ... from the next episode on."""
        self.attach(replace(self.lines[stream].sensor, **changes))

    @property
    def streams(self) -> dict[str, StreamSpec]:
        """What can be read, by name."""
        return {name: line.sensor.spec for name, line in self.lines.items()}

    @property
    def time_s(self) -> float:
        return self.ms / PHYSICS_HZ

    @property
    def over(self) -> bool:
        return self.ms >= round(self.seconds * PHYSICS_HZ)

    def reset(self, seeds: Sequence[int]) -> None:
        """Start an episode in every world; ``seeds`` (B,) decide everything in it."""
        if len(seeds) != self.count:
            raise ShapeError(
                f"{len(seeds)} seeds were given; there are {self.count} worlds. Give one seed to each"
            )
        rngs = [np.random.default_rng([_salt(self.env_id), seed]) for seed in seeds]
        self.ms = 0
        for i, rng in enumerate(rngs):
            self.mujoco.mj_resetData(self.models[i], self.data[i])
            self.begin(i, rng)
            self._settle(self.models[i], self.data[i])
        self._gather()
        self.restart()
        for line in self.lines.values():
            line.restart(rngs)
        self._capture()

    def _settle(self, model: Any, data: Any) -> None:
        """Let the solver know of a changed mass: with the compiled one, contacts are too stiff and burst."""
        start = data.qpos.copy(), data.mocap_pos.copy(), data.mocap_quat.copy()
        self.mujoco.mj_setConst(model, data)
        self.correct(model)
        data.qpos[:], data.mocap_pos[:], data.mocap_quat[:] = start
        self.mujoco.mj_forward(model, data)

    def tick(self, command: np.ndarray) -> None:
        """One millisecond: commands (B, C), clipped to their bounds, drive the servos.

        Raises:
            ShapeError: another shape, or a value that is not finite.
        """
        command = np.asarray(command, dtype=np.float64)
        if command.shape != (self.count, len(self._low)) or not np.isfinite(command).all():
            raise ShapeError(
                f"a command of shape {command.shape} was given, finite: {np.isfinite(command).all()}; "
                f"{type(self).__name__} takes {(self.count, len(self._low))} finite values "
                f"({', '.join(self.command_spec.names)}) in {self.command_spec.unit}"
            )
        self.disturb()
        controls = self.servo(np.clip(command, self._low, self._high))
        step = self.mujoco.mj_step
        for model, data, control in zip(self.models, self.data, controls, strict=True):
            data.ctrl[:] = control
            step(model, data)
        self.ms += 1
        if self.ms % 2 == 0 or any(line.due(self.ms) for line in self.lines.values()):
            self._gather()
            self._capture()
            if self.ms % 2 == 0:
                self.watch()

    def servo(self, command: np.ndarray) -> np.ndarray:
        """Motor inputs (B, U) for commands (B, C) within their bounds."""
        return command

    def read(self, stream: str) -> Reading:
        """The newest sample of ``stream`` that has arrived by now; zeros of touch in worlds made ``numb``."""
        reading = self.lines[stream].read(self.ms)
        if self.numb and reading.values.ndim == 2 and stream == self.touch:
            return Reading(np.zeros_like(reading.values), reading.time_s)
        return reading

    def readings(self) -> dict[str, Reading]:
        """The same for every stream."""
        return {name: self.read(name) for name in self.lines}

    def _gather(self) -> None:
        for i, data in enumerate(self.data):
            self.raw[i], self.qpos[i], self.qvel[i] = data.sensordata, data.qpos, data.qvel

    def _capture(self) -> None:
        for name, line in self.lines.items():
            if line.due(self.ms):
                line.capture(self.ms, lambda name=name: self._true(name))

    def _true(self, name: str) -> np.ndarray:
        if name == "camera":
            return np.stack([self.picture(i) for i in range(self.count)])
        return self.measure(name)

    def picture(self, i: int, size: int = CAMERA_SIZE) -> np.ndarray:
        """What the camera sees of world ``i`` now: (size, size, 3) uint8."""
        self._shown.qpos[:] = self.data[i].qpos
        self._shown.mocap_pos[:] = self.data[i].mocap_pos
        self.mujoco.mj_kinematics(self.template, self._shown)
        self.mujoco.mj_camlight(self.template, self._shown)
        view = renderer(self.template, size, size)
        view.update_scene(self._shown, camera="camera")
        return view.render()

    def address(self, sensor: str) -> slice:
        """Where a named MuJoCo sensor lies in ``raw``."""
        of: Any = self.template.sensor(sensor)
        return slice(int(of.adr[0]), int(of.adr[0] + of.dim[0]))


def _salt(name: str) -> int:
    """Worlds of different tasks with one seed have nothing in common."""
    return int.from_bytes(name.encode()[-6:], "little")


def min_jerk(share: np.ndarray | float) -> np.ndarray:
    """Position along a motion without jerks, both 0..1 (Flash and Hogan, 1985)."""
    s = np.clip(share, 0.0, 1.0)
    return s**3 * (10 + s * (6 * s - 15))
