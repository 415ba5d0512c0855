"""What every task offers: the Gymnasium calls, and the simulator's whole state to read and to set.

A task knows nothing of models. It draws 64x64 camera pictures, reports what the robot itself feels, takes
actions in SI units, and can be put into any state, so that a goal is simply another state of the same world.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, cast, get_args

import gymnasium
import numpy as np

from forerun.types import ShapeError, StreamSpec

Level = Literal["moderate", "strict"]
Quality = Literal["expert", "noisy", "weak", "random"]

CAMERA_SIZE = 64


class Task(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """A goal-reaching task with a camera, proprioception and a settable simulator.

    Observations are ``{"camera": (64, 64, 3) uint8, "proprio": (P,) float32}``; actions are float32 within
    ``action_space``, in the unit of ``stream_specs()["action"]``, clipped to its bounds. The reward is 1.0
    while the moderate success test holds, else 0.0; an episode is terminated by success, truncated at
    ``max_steps``. Stepping on after either is allowed; nothing resets itself. ``info`` holds ``goal`` (the
    observation at the goal), ``goal_state``, ``success``, ``success_strict`` and each of the errors.

    Args:
        max_steps: control steps until ``truncated``; the task's own default if None.
        render_mode: None or "rgb_array".
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    control_hz: ClassVar[float] = 10.0
    default_max_steps: ClassVar[int] = 100
    action_spec: ClassVar[StreamSpec]
    proprio_spec: ClassVar[StreamSpec]
    state_names: ClassVar[tuple[str, ...]]
    thresholds: ClassVar[dict[str, dict[str, float]]]
    """Success: every error is below its threshold, by level ("moderate", "strict")."""
    hold_steps: ClassVar[dict[str, int]] = {"moderate": 1, "strict": 1}
    """For so many control steps in a row, before ``info`` calls it a success."""

    def __init__(self, max_steps: int | None = None, render_mode: str | None = None) -> None:
        self.max_steps = self.default_max_steps if max_steps is None else int(max_steps)
        self.render_mode = render_mode
        action, proprio = self.action_spec, self.proprio_spec
        self.action_space = gymnasium.spaces.Box(
            np.asarray(action.low, np.float32), np.asarray(action.high, np.float32), dtype=np.float32
        )
        self.observation_space = gymnasium.spaces.Dict(  # type: ignore[assignment]
            {
                "camera": gymnasium.spaces.Box(0, 255, (CAMERA_SIZE, CAMERA_SIZE, 3), np.uint8),
                "proprio": gymnasium.spaces.Box(
                    np.asarray(proprio.low, np.float32),
                    np.asarray(proprio.high, np.float32),
                    dtype=np.float32,
                ),
            }
        )
        self._goal_state: np.ndarray | None = None
        self._goal: dict[str, np.ndarray] = {}
        self._num_steps = 0
        self._held = dict.fromkeys(self.hold_steps, 0)

    # What a task must say about itself.

    @abstractmethod
    def state(self) -> np.ndarray:
        """The complete simulator state, float64 (S,), named by ``state_names``."""

    @abstractmethod
    def set_state(self, state: np.ndarray) -> None:
        """Put the simulator exactly into ``state``; the same actions then give the same states."""

    @abstractmethod
    def advance(self, action: np.ndarray) -> None:
        """Move the simulator by one control step, without drawing anything."""

    @abstractmethod
    def picture(self, state: np.ndarray | None = None, size: int = CAMERA_SIZE) -> np.ndarray:
        """The camera's picture (size, size, 3) uint8 now, or at ``state`` without disturbing the present."""

    @abstractmethod
    def proprio_of(self, state: np.ndarray) -> np.ndarray:
        """What the robot would feel at ``state``, float32 (P,)."""

    @abstractmethod
    def errors(self, state: np.ndarray, goal_state: np.ndarray) -> dict[str, float]:
        """How far ``state`` is from ``goal_state``, by name; the unit is the end of the name."""

    @abstractmethod
    def sample_start_goal(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """An unsolved start state and a reachable goal state."""

    @abstractmethod
    def make_policy(self, quality: Quality, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        """A data policy that reads the simulator; see :func:`forerun.tasks.scripted_policy`."""

    @abstractmethod
    def make_expert(self, goal_state: np.ndarray, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        """A policy that reads the simulator and reaches ``goal_state``: proof that the task can be solved."""

    # What follows from it.

    def solved(self, state: np.ndarray, goal_state: np.ndarray, level: Level = "moderate") -> bool:
        """Whether every error is below its threshold at this level, at this one moment."""
        return self._within(self.errors(state, goal_state), level)

    @classmethod
    def tests(cls) -> str:
        """What its two levels of success ask for, for people."""
        return "; ".join(
            f"{level}: {limits(cls.thresholds[level], cls.hold_steps[level])}" for level in cls.thresholds
        )

    def _within(self, errors: dict[str, float], level: Level) -> bool:
        return all(errors[name] < limit for name, limit in self.thresholds[level].items())

    def stream_specs(self) -> dict[str, StreamSpec]:
        """The streams "camera", "proprio", "action" and the privileged "state", all at ``control_hz``."""
        camera = StreamSpec(
            name="camera",
            kind="video",
            shape=(CAMERA_SIZE, CAMERA_SIZE, 3),
            unit="rgb",
            rate_hz=self.control_hz,
        )
        state = StreamSpec(
            name="state",
            kind="privileged",
            shape=(len(self.state_names),),
            names=self.state_names,
            rate_hz=self.control_hz,
        )
        return {"camera": camera, "proprio": self.proprio_spec, "action": self.action_spec, "state": state}

    def observe(self, state: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The observation now, or at ``state`` without disturbing the present."""
        feeling = self.proprio_of(self.state() if state is None else state)
        proprio = np.clip(feeling, self.proprio_spec.low, self.proprio_spec.high).astype(np.float32)
        return {"camera": self.picture(state), "proprio": proprio}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode; ``options`` may give ``state`` and ``goal_state``, what is missing is sampled."""
        super().reset(seed=seed)
        options = options or {}
        start, goal = options.get("state"), options.get("goal_state")
        if start is None or goal is None:
            sampled = self.sample_start_goal(self.np_random)
            start = sampled[0] if start is None else start
            goal = sampled[1] if goal is None else goal
        self._goal_state = self.check_state(goal).copy()
        self._goal = self.observe(self._goal_state)
        self.set_state(self.check_state(start))
        self._num_steps = 0
        self._held = dict.fromkeys(self.hold_steps, 0)
        return self.observe(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One control step of ``1 / control_hz`` seconds."""
        self.advance(self.clip(action))
        self._num_steps += 1
        info = self._info()
        success = bool(info["success"])
        return self.observe(), float(success), success, self._num_steps >= self.max_steps, info

    def render(self) -> np.ndarray:  # type: ignore[override]
        """The camera's picture, four times as large."""
        return self.picture(size=4 * CAMERA_SIZE)

    def clip(self, action: np.ndarray) -> np.ndarray:
        """``action`` as float64 within its bounds; ShapeError if it has another size or is not finite."""
        space = cast(gymnasium.spaces.Box, self.action_space)
        return np.clip(checked_action(action, self.action_spec, type(self).__name__), space.low, space.high)

    def check_state(self, state: np.ndarray) -> np.ndarray:
        """``state`` as float64 (S,); ShapeError if it has another size or is not finite."""
        values = np.asarray(state, dtype=np.float64)
        if values.shape != (len(self.state_names),) or not np.isfinite(values).all():
            raise ShapeError(
                f"a state of shape {values.shape} was given; {type(self).__name__} needs "
                f"{len(self.state_names)} finite values ({', '.join(self.state_names)}). "
                "Use a row of the stream 'state', or what env.state() returns"
            )
        return values

    def _info(self) -> dict[str, Any]:
        if self._goal_state is None:
            return {}
        errors = self.errors(self.state(), self._goal_state)
        for level in get_args(Level):
            held = self._num_steps > 0 and self._within(errors, level)
            self._held[level] = self._held[level] + 1 if held else 0
        return {
            "goal": {name: value.copy() for name, value in self._goal.items()},
            "goal_state": self._goal_state.copy(),
            "success": self._held["moderate"] >= self.hold_steps["moderate"],
            "success_strict": self._held["strict"] >= self.hold_steps["strict"],
            **errors,
        }


def checked_action(action: np.ndarray, spec: StreamSpec, taker: str) -> np.ndarray:
    """``action`` as float64; ShapeError, in its ``taker``'s name, if it is not finite or not as specified."""
    values = np.asarray(action, dtype=np.float64)
    if values.shape != spec.shape or not np.isfinite(values).all():
        raise ShapeError(
            f"action {values.tolist()} was given; {taker} takes {spec.size} finite values "
            f"({', '.join(spec.names)}) in {spec.unit}"
        )
    return values


def limits(limits: dict[str, float], steps: int) -> str:
    """Thresholds as words; angles in degrees."""
    words = []
    for name, limit in limits.items():
        what, _, unit = name.rpartition("_")
        value = f"{np.rad2deg(limit):.3g} degrees" if unit == "rad" else f"{limit:.3g} {unit}"
        words.append(f"{what} within {value}")
    held = f", for {steps} steps in a row" if steps > 1 else ""
    return " and ".join(words) + held


def wrap(angle_rad: Any) -> Any:
    """The same angle in [-pi, pi)."""
    return (angle_rad + np.pi) % (2 * np.pi) - np.pi
