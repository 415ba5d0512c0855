"""Scripted pushers of the T: an expert that reaches a goal, and play for recordings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from forerun.tasks.base import Quality
from forerun.tasks.policies import SmoothNoise
from forerun.tasks.pushing import Pusher, PushPlay, turned
from forerun.tasks.pusht_space import OUTLINE, REACH_PX, RESPONSE, centre_pose

if TYPE_CHECKING:
    from forerun.tasks.pusht import PushT


def pusher_of(env: PushT, rng: np.random.Generator, sloppiness: float = 0.0) -> Pusher:
    """A pusher for the T of ``env``; its displacements are in px per step, its poses about the T's centre."""

    def read() -> tuple[np.ndarray, np.ndarray]:
        state = env.state()
        return state[:2], centre_pose(state)

    travel = np.array([3.0, 6.0, 10.0, 16.0, 25.0, 40.0, 60.0, 90.0, 130.0])
    return Pusher(OUTLINE, read, rng, travel=travel, pace=20.0, max_pace=45.0, sloppiness=sloppiness)


def play(env: PushT, quality: Quality, rng: np.random.Generator) -> Callable[[], np.ndarray]:
    """Play data: one random pose of the T after another; ``scripted_policy`` lists the qualities."""
    turn = np.deg2rad({"expert": 90, "noisy": 60, "weak": 180}[quality])

    def draw_target(pose: np.ndarray) -> np.ndarray:
        return np.array([*rng.uniform(130, 382, 2), pose[2] + rng.uniform(-turn, turn)])

    pusher = pusher_of(env, rng, sloppiness={"expert": 0.0, "noisy": 0.8, "weak": 2.5}[quality])
    pusher.max_pace = 45.0 if quality == "expert" else 26.0
    return PushPlay(
        pusher,
        draw_target,
        lambda displacement: pull(env.state(), displacement),
        SmoothNoise(2, {"expert": 0.0, "noisy": 3.0, "weak": 6.0}[quality], 0.7, rng),
        close=(15.0, 0.2),
        patience=(10, 30) if quality == "weak" else (40, 90),
        paces=(20.0, 20.0) if quality == "expert" else (4.0, 16.0),
    )


def pull(state: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """The action that moves a free disc by ``displacement`` (x, y) px in one control step, within bounds."""
    from_action, from_velocity = RESPONSE
    action = (displacement - from_velocity * state[5:7]) / from_action
    return np.clip(action, -REACH_PX, REACH_PX).astype(np.float32)


class Expert:
    """Pushes the T to the pose of ``goal_state``, then the disc to its own; call it for each action."""

    def __init__(self, env: PushT, goal_state: np.ndarray, rng: np.random.Generator) -> None:
        self.env, self.goal = env, goal_state
        self.pusher = pusher_of(env, rng)
        self.pusher.towards(centre_pose(goal_state))

    def __call__(self) -> np.ndarray:
        state = self.env.state()
        errors = self.env.errors(state, self.goal)
        if errors["block_px"] < 6 and errors["angle_rad"] < 0.1:
            return pull(state, self._walk())
        return pull(state, self.pusher())

    def _walk(self) -> np.ndarray:
        """Around the T to where the disc is at the goal."""
        tip, pose = self.pusher.read()
        here, goal = turned(tip - pose[:2], -pose[2]), turned(self.goal[:2] - pose[:2], -pose[2])
        for _ in range(3):  # the goal may touch both bars
            goal = self.pusher.step_off(goal)
        way = turned(self.pusher.next_point(here, goal, pose) - here, pose[2])
        return way * min(1.0, 40.0 / max(float(np.hypot(*way)), 1e-9))
