"""Data policies that read the simulator: they make recordings, no model ever sees what they see."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast, get_args

import gymnasium
import numpy as np

from forerun.tasks.base import Quality, Task
from forerun.types import ConfigError


class SmoothNoise:
    """Gaussian noise with a memory: each sample keeps ``memory`` of the one before.

    Args:
        size: channels.
        std: stationary standard deviation per channel, in the unit of what it is added to.
        memory: correlation of neighbouring samples, 0..1.
    """

    def __init__(self, size: int, std: float | np.ndarray, memory: float, rng: np.random.Generator) -> None:
        self.std, self.memory, self.rng = np.asarray(std, np.float64), memory, rng
        self.value = self.rng.standard_normal(size) * self.std

    def __call__(self) -> np.ndarray:
        fresh = self.rng.standard_normal(self.value.shape) * self.std
        self.value = self.memory * self.value + np.sqrt(1 - self.memory**2) * fresh
        return self.value


def random_policy(env: Task, rng: np.random.Generator) -> Callable[[], np.ndarray]:
    """Temporally correlated random actions that fill most of the action space."""
    space = cast(gymnasium.spaces.Box, env.action_space)
    middle, half = (space.high + space.low) / 2, (space.high - space.low) / 2
    noise = SmoothNoise(len(half), 0.7 * half, 0.8, rng)
    return lambda: np.clip(middle + noise(), space.low, space.high).astype(np.float32)


def expert_towards(
    env: gymnasium.Env, goal_state: np.ndarray, rng: np.random.Generator
) -> Callable[[], np.ndarray]:
    """An expert that reads the simulator and reaches ``goal_state``; call it for each next action."""
    return cast(Task, env.unwrapped).make_expert(goal_state, rng)


def scripted_policy(
    env: gymnasium.Env, quality: Quality, rng: np.random.Generator
) -> Callable[[], np.ndarray]:
    """A policy for continuous play data; call it for each next action.

    It reads the simulator's state, and picks a new target as soon as one is reached, so that a long episode
    keeps moving things all over the workspace.

    Args:
        env: one of ``forerun.tasks.TASKS``, already reset.
        quality: "expert" (clean), "noisy" (expert with noise in actions, contact points and speed), "weak"
            (aimless contact), "random" (temporally correlated random actions).
        rng: where its choices come from.
    """
    if quality not in get_args(Quality):
        raise ConfigError(
            f"data quality '{quality}' is unknown; expected one of {', '.join(get_args(Quality))}"
        )
    task = cast(Task, env.unwrapped)
    return random_policy(task, rng) if quality == "random" else task.make_policy(quality, rng)
