"""A scripted pusher for flat bodies made of boxes: plans one push at a time, walks around, presses.

A push is a contact point on the outline and a distance to travel. The body's motion is predicted without
slip: pushed with lever ``l`` about its turning centre, it turns by ``l / turn_radius^2`` for each unit it
moves. For a block sliding on a table ``turn_radius`` is its largest friction torque over its largest
friction force; for a body that only has inertia it is the radius of gyration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from forerun.tasks.base import wrap

_SAMPLES = np.linspace(0.0, 1.0, 15)[1:]


@dataclass(frozen=True)
class Outline:
    """A body of boxes, in its own frame about its turning centre, and the round tip that pushes it.

    Args:
        parts: (x, y, half width, half height) of each box.
        tip_radius: of the pusher.
        turn_radius: see the module's first lines.
        reach: the tip's centre stays within +-reach of ``middle`` in x and y.
        yaw_weight: a radian of heading counts as so much distance when pushes are compared.
    """

    parts: tuple[tuple[float, float, float, float], ...]
    tip_radius: float
    turn_radius: float
    reach: float
    yaw_weight: float
    middle: tuple[float, float] = (0.0, 0.0)

    def clearance(self, points: np.ndarray) -> np.ndarray:
        """Distance (...,) from the body to a tip at ``points`` (..., 2), both in the body's frame."""
        nearest: np.ndarray = np.full(points.shape[:-1], np.inf)
        for x, y, width, height in self.parts:
            out_x, out_y = np.abs(points[..., 0] - x) - width, np.abs(points[..., 1] - y) - height
            outside = np.hypot(np.maximum(out_x, 0), np.maximum(out_y, 0))
            nearest = np.minimum(nearest, outside + np.minimum(np.maximum(out_x, out_y), 0))
        return nearest - self.tip_radius

    @cached_property
    def contacts(self) -> np.ndarray:
        """(N, 4): where the tip's centre touches, and the outward normal, in the body's frame."""
        rows = []
        for x, y, width, height in self.parts:
            for share in np.linspace(-0.8, 0.8, 9):
                for sign in (-1.0, 1.0):
                    rows.append((x + sign * (width + self.tip_radius), y + share * height, sign, 0.0))
                    rows.append((x + share * width, y + sign * (height + self.tip_radius), 0.0, sign))
        contacts = np.array(rows)
        return contacts[self.accessible(contacts)]

    def accessible(self, contacts: np.ndarray) -> np.ndarray:
        """Whether the tip fits at contacts (..., 4) and, beside the body, in front of them."""
        fits = self.clearance(contacts[..., :2]) > -1e-9
        ready = contacts[..., :2] + self.gap * contacts[..., 2:]
        return fits & (self.clearance(ready) > 0.4 * self.tip_radius)

    @cached_property
    def ring(self) -> np.ndarray:
        """(36, 2): points around the body; neighbours see each other, and every contact sees one of them."""
        angles = np.arange(36) * np.pi / 18
        ways = np.stack([np.cos(angles), np.sin(angles)], -1)
        distances = np.linspace(0, 6 * self.turn_radius, 200)
        free = self.clearance(ways[:, None] * distances[:, None]) >= 0.9 * self.tip_radius
        inside = distances.size - np.argmin(free[:, ::-1], axis=1)
        inside = np.max([np.roll(inside, shift) for shift in (-1, 0, 1)], axis=0)
        return ways * distances[inside][:, None]

    @property
    def gap(self) -> float:
        """How near the tip comes to its contact before it presses."""
        return 0.55 * self.tip_radius

    def predict(self, pose: np.ndarray, contacts: np.ndarray, travel: np.ndarray) -> np.ndarray:
        """Poses (N, 3) of the turning centre after pressing at ``contacts`` (N, 4) for ``travel`` (N,)."""
        inward = -contacts[:, 2:]
        lever = contacts[:, 0] * inward[:, 1] - contacts[:, 1] * inward[:, 0]
        turn = lever / self.turn_radius**2
        moved = travel / (1 + lever * turn)
        heading = pose[2] + turn * moved / 2
        cos, sin = np.cos(heading), np.sin(heading)
        step = np.stack(
            [cos * inward[:, 0] - sin * inward[:, 1], sin * inward[:, 0] + cos * inward[:, 1]], -1
        )
        return np.concatenate([pose[:2] + step * moved[:, None], (pose[2] + turn * moved)[:, None]], -1)

    def distance(self, poses: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Distance (...,) of poses (..., 3) from a target pose, headings weighted by ``yaw_weight``."""
        turn = self.yaw_weight * wrap(poses[..., 2] - target[2])
        return np.sqrt(((poses[..., :2] - target[:2]) ** 2).sum(-1) + turn**2)


def to_world(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 2) of the body's frame at ``pose`` (x, y, heading), in the world's."""
    return pose[:2] + turned(points, pose[2])


def turned(vectors: np.ndarray, angle: float) -> np.ndarray:
    """Vectors (..., 2) turned by ``angle``, x towards y."""
    cos, sin = np.cos(angle), np.sin(angle)
    return vectors @ np.array([[cos, sin], [-sin, cos]])


class Pusher:
    """Pushes a body towards ``target``; call it for the tip's next displacement in one control step.

    Args:
        outline: the body and the tip.
        read: gives the tip's position (2,) and the pose (3,) of the body's turning centre.
        travel: distances a push may go, in the world's unit.
        pace: the tip's displacement per control step while pressing; it walks at ``max_pace``.
        sloppiness: 0 for clean pushes; 1 spreads contact points and distances widely.
    """

    def __init__(
        self,
        outline: Outline,
        read: Callable[[], tuple[np.ndarray, np.ndarray]],
        rng: np.random.Generator,
        *,
        travel: np.ndarray,
        pace: float,
        max_pace: float,
        sloppiness: float = 0.0,
    ) -> None:
        self.outline, self.read, self.rng = outline, read, rng
        self.pace, self.max_pace, self.sloppiness = pace, max_pace, sloppiness
        self._contacts = np.repeat(outline.contacts, len(travel), axis=0)
        self._travel = np.tile(travel, len(outline.contacts))
        self.towards(np.zeros(3))

    def towards(self, target: np.ndarray) -> None:
        """Aim for another pose (x, y, heading) of the turning centre, forgetting the push under way."""
        self.target = np.asarray(target, dtype=np.float64)
        self.steps_left, self.pressing = -1, False

    def __call__(self) -> np.ndarray:
        tip, pose = self.read()
        if self.steps_left <= 0:
            self.contact, self.to_go = self._choose(tip, pose)
            self.pressing, self.steps_left = False, 30
        self.steps_left -= 1
        here = turned(tip - pose[:2], -pose[2])
        normal = self.contact[2:]
        away = here - self.contact[:2]
        gap, across = float(away @ normal), float(abs(away[0] * normal[1] - away[1] * normal[0]))
        unit = self.outline.tip_radius
        if not self.pressing and across < 0.3 * unit and -0.3 * unit < gap < 2 * self.outline.gap:
            self.pressing, self.to_go = True, self.to_go + max(gap, 0.0)
        if self.pressing:
            return turned(self._press(here, normal), pose[2])
        way = self.next_point(here, self.contact[:2] + self.outline.gap * normal, pose) - here
        return turned(way * min(1.0, self.max_pace / max(float(np.hypot(*way)), 1e-9)), pose[2])

    def _press(self, here: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Inwards along the normal, and back onto the line through the contact point."""
        step = min(self.pace, self.to_go)
        self.to_go -= step
        if self.to_go <= 0.01 * self.outline.tip_radius:
            self.steps_left = -1
        away = here - self.contact[:2]
        return (away @ normal) * normal - away - step * normal

    def _choose(self, tip: np.ndarray, pose: np.ndarray) -> tuple[np.ndarray, float]:
        """The push that ends nearest to the target, with a small price on walking there."""
        outline = self.outline
        cost = outline.distance(outline.predict(pose, self._contacts, self._travel), self.target)
        ready = to_world(pose, self._contacts[:, :2] + outline.gap * self._contacts[:, 2:])
        cost = cost + 0.02 * np.hypot(*(ready - tip).T)
        if self.steps_left == 0 and not self.pressing:  # the last choice could not be reached in time
            cost *= self.rng.uniform(0.3, 3.0, cost.shape)
        cost += 10 * outline.reach * (np.abs(ready - outline.middle).max(-1) > outline.reach)
        best = int(np.argmin(cost))
        contact, travel = self._contacts[best].copy(), float(self._travel[best])
        slip = self.sloppiness * self.rng.normal(0, 0.6) * outline.tip_radius
        moved = contact + slip * np.array([-contact[3], contact[2], 0.0, 0.0])
        meets = (
            outline.clearance(moved[:2] - 0.5 * outline.tip_radius * moved[2:]) < -0.2 * outline.tip_radius
        )
        if meets and outline.accessible(moved):
            contact = moved
        return contact, travel * float(np.exp(self.sloppiness * self.rng.normal(0, 0.5)))

    def next_point(self, here: np.ndarray, goal: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """The next point, in the body's frame, of a short way from ``here`` to ``goal`` around the body."""
        outline = self.outline
        if self.step_off(here) is not here:
            return self.step_off(here)
        if self._free(here[None], goal[None])[0]:
            return goal
        ring = to_world(pose, outline.ring) - outline.middle
        ring = turned(np.clip(ring, -outline.reach, outline.reach) + outline.middle - pose[:2], -pose[2])
        enter, leave = self._free(here[None], ring), self._free(goal[None], ring)
        to_ring = np.hypot(*(ring - here).T)
        enter &= to_ring > 0.5 * outline.tip_radius  # the point just reached is behind us
        to_ring += np.where(enter, 0, 1e3 * outline.reach)
        to_goal = np.hypot(*(ring - goal).T) + np.where(leave, 0, 1e3 * outline.reach)
        blocked = outline.clearance(ring) < 0
        total = to_ring[:, None] + _ring_lengths(ring, 4 * outline.reach * blocked) + to_goal[None]
        return ring[int(np.argmin(total.min(1)))]

    def step_off(self, here: np.ndarray) -> np.ndarray:
        """The same point, or half a tip radius further out where it would touch the body."""
        touches = self.outline.clearance(here) < 0.15 * self.outline.tip_radius
        return here + self._outward(here) if touches else here

    def _free(self, start: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Whether the ways from ``start`` (1, 2) to ``ends`` (N, 2) keep clear of the body."""
        points = start[:, None] + _SAMPLES[:, None] * (ends - start)[:, None]
        return self.outline.clearance(points).min(1) > 0.1 * self.outline.tip_radius

    def _outward(self, here: np.ndarray) -> np.ndarray:
        """A step of half a tip radius straight away from the body."""
        small = 0.05 * self.outline.tip_radius
        x, y = np.array([small, 0.0]), np.array([0.0, small])
        clearance = self.outline.clearance
        slope = np.array(
            [clearance(here + x) - clearance(here - x), clearance(here + y) - clearance(here - y)]
        )
        return 0.5 * self.outline.tip_radius * slope / max(float(np.hypot(*slope)), 1e-9)


def _ring_lengths(ring: np.ndarray, price: np.ndarray) -> np.ndarray:
    """(K, K) length of the shorter way along a closed ring, plus the prices of the points passed."""
    count = len(ring)
    edges = np.hypot(*(np.roll(ring, -1, axis=0) - ring).T) + (price + np.roll(price, -1)) / 2
    at = np.concatenate([[0.0], np.cumsum(edges)])
    forward = (at[:count][None] - at[:count][:, None]) % at[-1]
    return np.minimum(forward, at[-1] - forward)


class PushPlay:
    """Endless play: one random target pose after another, each with its own style of pushing.

    Args:
        pusher: what pushes.
        draw_target: a new target pose, given the present one.
        act: turns a wanted displacement of the tip into an action.
        jitter: adds noise to the displacement, per control step.
        close: (distance, radians) at which a target counts as reached.
        patience: fewest and most control steps spent on one target.
        paces: slowest and fastest pressing, as displacement per control step.
    """

    def __init__(
        self,
        pusher: Pusher,
        draw_target: Callable[[np.ndarray], np.ndarray],
        act: Callable[[np.ndarray], np.ndarray],
        jitter: Callable[[], np.ndarray],
        *,
        close: tuple[float, float],
        patience: tuple[int, int],
        paces: tuple[float, float],
    ) -> None:
        self.pusher, self.draw_target, self.act, self.jitter = pusher, draw_target, act, jitter
        self.close, self.patience, self.paces = close, patience, paces
        self.steps_left = 0

    def __call__(self) -> np.ndarray:
        pose, target = self.pusher.read()[1], self.pusher.target
        near = np.hypot(*(pose[:2] - target[:2])) < self.close[0]
        if self.steps_left <= 0 or (near and abs(wrap(pose[2] - target[2])) < self.close[1]):
            self.pusher.pace = self.pusher.rng.uniform(*self.paces)
            self.pusher.towards(self.draw_target(pose))
            self.steps_left = int(self.pusher.rng.integers(*self.patience))
        self.steps_left -= 1
        return self.act(self.pusher() + self.jitter())
