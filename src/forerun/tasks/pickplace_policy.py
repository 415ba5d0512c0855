"""Scripted hands for PickPlace: an expert that brings the cube to a goal, and play for recordings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from forerun.tasks.base import Quality
from forerun.tasks.gantry import REACH_M, SPEED_MPS
from forerun.tasks.policies import SmoothNoise

if TYPE_CHECKING:
    from forerun.tasks.pickplace import PickPlace

TRAVEL_HEIGHT_M = 0.07
OPEN_M, CLOSED_M = 0.075, 0.02
CUBE_HALF_M = 0.02


class Hand:
    """Grasps the cube and carries it to ``target``; call it for each action.

    Args:
        env: the environment whose state is read.
        speed: fastest motion along an axis, m/s.
    """

    def __init__(self, env: PickPlace, speed: float = SPEED_MPS) -> None:
        self.env, self.speed = env, speed
        self.offset = np.zeros(3)
        self.towards(np.array([0.0, 0.0, CUBE_HALF_M]), release=True)

    def towards(self, target: np.ndarray, release: bool) -> None:
        """Bring the cube's centre to ``target`` (x, y, z), and let go of it there if ``release``."""
        self.target, self.release = np.asarray(target, dtype=np.float64), release
        self.done = False

    def __call__(self) -> np.ndarray:
        state = self.env.state()
        hand, cube = state[:3], state[5:8]
        stalled = state[3] + state[4] < 0.06 and abs(state[15]) < 0.01  # the cube keeps the fingers apart
        held = stalled and bool(np.abs(hand - cube).max() < 0.02)
        if held and not self.done:
            return self._carry(hand, cube)
        if self.done:
            return self._leave(hand, cube)
        return self._grasp(hand, cube, state[3] + state[4])

    def _carry(self, hand: np.ndarray, cube: np.ndarray) -> np.ndarray:
        way = self.target - cube
        far = float(np.hypot(way[0], way[1]))
        if np.linalg.norm(way) < 0.008:
            self.done = self.release
            return self._action(np.zeros(3), OPEN_M if self.release else CLOSED_M)
        if far > 0.02:
            low = cube[2] < 0.035
            way = np.array(
                [*(way[:2] * (0.0 if low else 1.0)), max(TRAVEL_HEIGHT_M, self.target[2]) - cube[2]]
            )
        return self._action(way, CLOSED_M)

    def _grasp(self, hand: np.ndarray, cube: np.ndarray, opening: float) -> np.ndarray:
        aim = cube + self.offset
        away = hand - aim
        if np.hypot(away[0], away[1]) > 0.012:
            clear = away[2] > 0.045
            rise = np.array([0.0, 0.0, max(TRAVEL_HEIGHT_M, cube[2] + 0.055) - hand[2]])
            return self._action(rise if not clear else np.array([*-away[:2], rise[2]]), OPEN_M)
        if away[2] > 0.008:
            ready = opening > 0.06
            return self._action(np.array([*-away[:2], -away[2] if ready else 0.0]), OPEN_M)
        return self._action(-away, CLOSED_M)

    def _leave(self, hand: np.ndarray, cube: np.ndarray) -> np.ndarray:
        return self._action(np.array([0.0, 0.0, max(TRAVEL_HEIGHT_M, cube[2] + 0.055) - hand[2]]), OPEN_M)

    def _action(self, way: np.ndarray, opening: float) -> np.ndarray:
        velocity = np.clip(way * self.env.control_hz, -self.speed, self.speed)
        return np.array([*velocity, opening])


class HandPlay:
    """Play data: carries the cube from place to place, drops it, holds it, fumbles.

    Expert is clean; noisy moves at changing speeds with noise and imprecise grasps; weak also changes its
    mind every few steps and moves its fingers at random.
    """

    def __init__(self, env: PickPlace, quality: Quality, rng: np.random.Generator) -> None:
        self.env, self.quality, self.rng = env, quality, rng
        self.hand = Hand(env)
        speed = {"expert": 0.0, "noisy": 0.04, "weak": 0.09}[quality]
        opening = {"expert": 0.0, "noisy": 0.003, "weak": 0.012}[quality]
        self.noise = SmoothNoise(4, np.array([speed, speed, speed, opening]), 0.7, rng)
        self.steps_left = 0

    def __call__(self) -> np.ndarray:
        reached = np.linalg.norm(self.env.state()[5:8] - self.hand.target) < 0.012
        if reached and not self.hand.release:
            self.steps_left = min(self.steps_left, int(self.rng.integers(0, 6)))
        if self.hand.done:
            self.steps_left = min(self.steps_left, 4)
        if self.steps_left <= 0:
            self._retarget()
        self.steps_left -= 1
        space = self.env.action_space
        action = self.hand() + self.noise()
        return np.clip(action, space.low, space.high).astype(np.float32)  # type: ignore[attr-defined]

    def _retarget(self) -> None:
        rng = self.rng
        place = np.array([rng.uniform(-0.13, 0.13), rng.uniform(-0.08, 0.08), CUBE_HALF_M + 0.002])
        kind = rng.random()
        if kind > 0.4:  # in the air, held on or let fall
            place[2] = rng.uniform(0.04, REACH_M[2][1] - 0.005)
        self.hand.towards(place, release=kind < 0.5)
        self.steps_left = int(rng.integers(5, 25)) if self.quality == "weak" else int(rng.integers(30, 60))
        if self.quality != "expert":
            self.hand.speed = rng.uniform(0.1, SPEED_MPS)
            self.hand.offset = rng.normal(0, 0.004, 3) * (1.0 if self.quality == "noisy" else 2.0)


def expert(env: PickPlace, goal_state: np.ndarray) -> Callable[[], np.ndarray]:
    """An expert that brings the cube to where it is in ``goal_state``; call it for each action."""
    hand = Hand(env)
    goal = goal_state[5:8]
    hand.towards(goal + np.array([0.0, 0.0, 0.002]), release=bool(goal[2] < CUBE_HALF_M + 0.005))
    return lambda: hand().astype(np.float32)
