"""A pusher that reads the simulator: plans one push at a time with a quasi-static model of the block."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from forerun.tasks.base import Quality, wrap
from forerun.tasks.policies import SmoothNoise

if TYPE_CHECKING:
    from forerun.tasks.push import Push

BLOCK_HALF_M, TIP_RADIUS_M = 0.045, 0.018
FRICTION_RADIUS_M = 0.034
"""Largest friction torque over largest friction force of the block on the table (0.38 times its side)."""
YAW_WEIGHT_M = 0.08
"""A radian of heading counts as so many metres when pushes are compared."""

APPROACH_M = 0.01
"""The tip comes so near to its contact point before it pushes."""

_KEEP_OUT_M = BLOCK_HALF_M + TIP_RADIUS_M + 0.002
_CORNERS = 0.078 * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
_FACES = np.arange(4) * np.pi / 2
_OFFSETS = np.linspace(-0.034, 0.034, 9)
_LENGTHS = np.array([0.006, 0.012, 0.02, 0.03, 0.045, 0.065, 0.09, 0.12, 0.16])
_PUSHES = np.stack(np.meshgrid(_FACES, _OFFSETS, _LENGTHS, indexing="ij"), -1).reshape(-1, 3)


def predict_pushes(pose: np.ndarray, pushes: np.ndarray) -> np.ndarray:
    """Poses (N, 3) after pushes (N, 3) of (face angle, offset along the face, contact travel) at ``pose``.

    The tip presses inwards at the face whose outward normal points along ``heading + face``; without slip the
    block turns by offset / radius^2 for each metre it moves.
    """
    face, offset, length = pushes.T
    turn = offset / FRICTION_RADIUS_M**2
    travel = length / (1 + offset * turn)
    middle = pose[2] + face + np.pi + turn * travel / 2
    moved = np.stack([np.cos(middle), np.sin(middle), np.zeros_like(face)], -1) * travel[:, None]
    moved[:, 2] = turn * travel
    return pose + moved


def pose_cost(poses: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Squared distance [m^2] of poses (N, 3) from a target pose, heading weighted by YAW_WEIGHT_M."""
    difference = poses - target
    difference[..., 2] = YAW_WEIGHT_M * wrap(difference[..., 2])
    return (difference**2).sum(-1)


def first_corner(tip: np.ndarray, goal: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """The next point of the shortest way from ``tip`` to ``goal`` around the block at ``pose``."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    turn = np.array([[cos, -sin], [sin, cos]])
    here, there = (tip - pose[:2]) @ turn, (goal - pose[:2]) @ turn
    if np.abs(here).max() < _KEEP_OUT_M:
        axis = int(np.argmax(np.abs(here)))
        here[axis] = np.copysign(_KEEP_OUT_M + 0.008, here[axis])
        return pose[:2] + turn @ here
    ways = [[here, there], *([here, a, there] for a in _CORNERS)]
    ways += [[here, _CORNERS[i], _CORNERS[(i + s) % 4], there] for i in range(4) for s in (1, 3)]
    best, shortest = _CORNERS[0], np.inf
    for way in ways:
        blocked = sum(_crosses(a, b) for a, b in itertools.pairwise(way))
        reach = sum(np.abs(pose[:2] + turn @ a).max() > 0.25 for a in way[1:-1])
        length = sum(np.linalg.norm(b - a) for a, b in itertools.pairwise(way)) + 9.0 * blocked + 0.3 * reach
        if length < shortest:
            best, shortest = way[1], length
    return pose[:2] + turn @ best


def _crosses(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the segment a-b, in the block's frame, enters the square the tip's centre must keep out of."""
    low, high = 0.0, 1.0
    for start, step in zip(a.tolist(), (b - a).tolist(), strict=True):
        if abs(step) < 1e-9:
            if abs(start) >= _KEEP_OUT_M:
                return False
            continue
        near, far = sorted(((-_KEEP_OUT_M - start) / step, (_KEEP_OUT_M - start) / step))
        low, high = max(low, near), min(high, far)
    return low < high


class Pusher:
    """Moves the block of a Push environment towards one target pose after another; call it for an action.

    Args:
        env: the environment whose state is read.
        speed_mps: tip speed while pushing.
        sloppiness: 0 for clean pushes; 1 spreads contact points and push lengths widely.
    """

    def __init__(
        self, env: Push, rng: np.random.Generator, speed_mps: float = 0.2, sloppiness: float = 0.0
    ) -> None:
        self.env, self.rng, self.speed, self.sloppiness = env, rng, speed_mps, sloppiness
        self.target = np.zeros(3)
        self.drop()

    def drop(self) -> None:
        """Forget the push under way."""
        self.push: np.ndarray | None = None
        self.touching = False
        self.steps_left = 0
        self.travel = 0.0

    def towards(self, target: np.ndarray) -> None:
        """Aim for the block pose ``target`` (x, y, heading)."""
        self.target = np.asarray(target, float)
        self.drop()

    def __call__(self) -> np.ndarray:
        from forerun.tasks.push import block_pose

        state = self.env.state()
        tip, pose = state[:2], block_pose(state)
        if self.push is None or self.steps_left <= 0:
            self.push, self.touching = self._choose(tip, pose), False
            self.steps_left = 40
        self.steps_left -= 1
        goal = self._waypoint(tip, pose)
        velocity = (goal - tip) * self.env.control_hz
        limit = self.speed if self.touching else 0.3
        return velocity * min(1.0, limit / max(float(np.abs(velocity).max()), 1e-9))

    def _waypoint(self, tip: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """Where the tip should be a control step from now: on its way to the contact, or pressing."""
        assert self.push is not None
        face, offset, length = self.push
        if not self.touching:
            ready = pose[:2] + self._outside(pose, face, offset, APPROACH_M)
            normal = pose[2] + face
            away = tip - pose[:2] - self._outside(pose, face, offset, 0.0)
            across = abs(away[1] * np.cos(normal) - away[0] * np.sin(normal))
            gap = away[0] * np.cos(normal) + away[1] * np.sin(normal)
            if across > 0.005 or not -0.005 < gap < 2 * APPROACH_M:
                return first_corner(tip, ready, pose)
            self.touching, self.travel = True, max(gap, 0.0) + length
        step = min(self.speed / self.env.control_hz, self.travel)
        self.travel -= step
        if self.travel <= 1e-4:
            self.steps_left = 0
        normal = pose[2] + face
        inward = -np.array([np.cos(normal), np.sin(normal)])
        line = pose[:2] + self._outside(pose, face, offset, 0.0)
        return line + inward * (inward @ (tip - line) + step)

    def _choose(self, tip: np.ndarray, pose: np.ndarray) -> np.ndarray:
        pushes = _PUSHES
        predicted = predict_pushes(pose, pushes)
        cost = pose_cost(predicted, self.target)
        contact = pose[:2] + np.stack([self._outside(pose, f, s, 0.0) for f, s in pushes[:, :2]])
        cost = np.sqrt(cost) + 0.02 * np.linalg.norm(contact - tip, axis=-1)
        cost += 1.0 * (np.abs(contact).max(-1) > 0.245)
        best = pushes[int(np.argmin(cost))].copy()
        best[1] += self.sloppiness * self.rng.normal(0, 0.012)
        best[2] *= np.exp(self.sloppiness * self.rng.normal(0, 0.5))
        best[1] = np.clip(best[1], -0.042, 0.042)
        return best

    @staticmethod
    def _outside(pose: np.ndarray, face: float, offset: float, gap: float) -> np.ndarray:
        """Tip centre relative to the block's for a contact ``gap`` metres off the face."""
        normal = pose[2] + face
        out = BLOCK_HALF_M + TIP_RADIUS_M + gap
        side = normal + np.pi / 2
        return np.array(
            [out * np.cos(normal) + offset * np.cos(side), out * np.sin(normal) + offset * np.sin(side)]
        )


class BlockPlay:
    """Play data: pushes the block to one random pose after another, as ``scripted_policy`` says."""

    def __init__(self, env: Push, quality: Quality, rng: np.random.Generator) -> None:
        self.env, self.quality, self.rng = env, quality, rng
        self.pusher = Pusher(env, rng)
        std = {"expert": 0.0, "noisy": 0.06, "weak": 0.1}[quality]
        self.noise = SmoothNoise(2, std, 0.7, rng)
        self.target = np.zeros(3)
        self.steps_left = 0

    def __call__(self) -> np.ndarray:
        from forerun.tasks.push import block_pose

        pose = block_pose(self.env.state())
        difference = np.abs(pose - self.target)
        reached = np.hypot(difference[0], difference[1]) < 0.02 and abs(wrap(difference[2])) < 0.17
        if self.steps_left <= 0 or reached:
            self._retarget(pose)
        self.steps_left -= 1
        action = self.pusher() + self.noise()
        return np.clip(action, -0.3, 0.3).astype(np.float32)

    def _retarget(self, pose: np.ndarray) -> None:
        """A new target pose anywhere on the table, with a new style of pushing."""
        turn = np.deg2rad({"expert": 60, "noisy": 90, "weak": 180}[self.quality])
        heading = pose[2] + self.rng.uniform(-turn, turn)
        self.target = np.array([*self.rng.uniform(-0.17, 0.17, 2), heading])
        self.steps_left = (
            int(self.rng.integers(30, 70)) if self.quality != "weak" else int(self.rng.integers(8, 30))
        )
        if self.quality != "expert":
            self.pusher.speed = self.rng.uniform(0.08, 0.3)
            self.pusher.sloppiness = 1.0 if self.quality == "noisy" else 2.5
        self.pusher.towards(self.target)


def expert_towards(env: Push, goal_state: np.ndarray, rng: np.random.Generator) -> Pusher:
    """An expert that pushes the block to the pose of ``goal_state``; call it for each action."""
    from forerun.tasks.push import block_pose

    pusher = Pusher(env, rng)
    pusher.towards(block_pose(goal_state))
    return pusher
