"""Scripted pushers of the Push task's block: an expert that reaches a goal, and play for recordings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from forerun.tasks.base import Quality
from forerun.tasks.policies import SmoothNoise
from forerun.tasks.push_scene import OUTLINE, block_pose
from forerun.tasks.pushing import Pusher, PushPlay

if TYPE_CHECKING:
    from forerun.tasks.push import Push

SPEED_MPS = 0.3
_TRAVEL_M = np.array([0.006, 0.012, 0.02, 0.03, 0.045, 0.065, 0.09, 0.12, 0.16])


def pusher_of(env: Push, rng: np.random.Generator, sloppiness: float = 0.0) -> Pusher:
    """A pusher for the block of ``env``; displacements in metres per control step."""

    def read() -> tuple[np.ndarray, np.ndarray]:
        state = env.state()
        return state[:2], block_pose(state)

    return Pusher(
        OUTLINE,
        read,
        rng,
        travel=_TRAVEL_M,
        pace=0.02,
        max_pace=SPEED_MPS / env.control_hz,
        sloppiness=sloppiness,
    )


def play(env: Push, quality: Quality, rng: np.random.Generator) -> Callable[[], np.ndarray]:
    """Play data: one random pose of the block after another; ``scripted_policy`` lists the qualities."""
    turn = np.deg2rad({"expert": 40, "noisy": 40, "weak": 120}[quality])

    def draw_target(pose: np.ndarray) -> np.ndarray:
        """As far away as the task's own goals, or back towards the middle from the rims."""
        way, distance = rng.uniform(-np.pi, np.pi), rng.uniform(0.06, 0.2)
        place = np.clip(pose[:2] + distance * np.array([np.cos(way), np.sin(way)]), -0.15, 0.15)
        return np.array([*place, pose[2] + rng.uniform(-turn, turn)])

    return PushPlay(
        pusher_of(env, rng, sloppiness={"expert": 0.0, "noisy": 0.8, "weak": 2.5}[quality]),
        draw_target,
        lambda displacement: velocity(env, displacement),
        SmoothNoise(2, {"expert": 0.0, "noisy": 0.006, "weak": 0.01}[quality], 0.7, rng),
        close=(0.02, 0.17),
        patience=(8, 30) if quality == "weak" else (30, 70),
        paces=(0.02, 0.02) if quality == "expert" else (0.008, 0.03),
    )


def velocity(env: Push, displacement: np.ndarray) -> np.ndarray:
    """The action that moves a free tip by ``displacement`` (x, y) m in one control step, within bounds."""
    return np.clip(displacement * env.control_hz, -SPEED_MPS, SPEED_MPS).astype(np.float32)


def expert(env: Push, goal_state: np.ndarray, rng: np.random.Generator) -> Callable[[], np.ndarray]:
    """An expert that pushes the block to the pose of ``goal_state``; call it for each action."""
    pusher = pusher_of(env, rng)
    pusher.towards(block_pose(goal_state))
    return lambda: velocity(env, pusher())
