"""The physics of PushT, and what its state means: a new pymunk space for every control step.

pymunk keeps contacts and position corrections that no state could restore; without them the ten numbers of
the state are complete, and setting them is exact.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from forerun.tasks.base import wrap
from forerun.tasks.pushing import Outline, turned

WORLD_PX = 512.0
AGENT_RADIUS_PX = 15.0
SCALE_PX = 40.0
"""Thickness of both bars of the T; the top bar is 4 x 1 of it, the stem 1 x 3."""
T_PARTS = ((0.0, 20.0, 80.0, 20.0), (0.0, 100.0, 20.0, 60.0))
"""(x, y, half width, half height) of the top bar and the stem; the origin is the middle of the top edge."""
CENTRE_OF_GRAVITY = np.array([0.0, 60.0])
REACH_PX = 100.0
TIMESTEP_S, SUBSTEPS = 0.01, 10
STIFFNESS, DAMPING = 100.0, 20.0


def _bar_moment() -> float:
    """Moment of the top bar about the origin, at mass 1."""
    x, y, width, height = T_PARTS[0]
    return ((2 * width) ** 2 + (2 * height) ** 2) / 12 + x * x + y * y


_CORNERS = ((-1, -1), (1, -1), (1, 1), (-1, 1))
MOMENT = 2 * _bar_moment()
"""The original adds the bar's moment twice; the T turns accordingly."""


def _response() -> tuple[float, float]:
    """How far the disc moves in one step per px of action and per px/s of velocity."""
    moved = []
    for target, velocity in ((1.0, 0.0), (0.0, 1.0)):
        x = 0.0
        for _ in range(SUBSTEPS):
            velocity += (STIFFNESS * (target - x) - DAMPING * velocity) * TIMESTEP_S
            x += velocity * TIMESTEP_S
        moved.append(x)
    return moved[0], moved[1]


RESPONSE = _response()


def one_step(pymunk: Any, state: np.ndarray, action: np.ndarray) -> np.ndarray:
    """The state (10,) one control step after ``state``; ``action`` is relative to the disc, in px."""
    space, agent, block = _build(pymunk, state)
    target_x, target_y = np.clip(state[:2] + action, 0, WORLD_PX).tolist()
    for _ in range(SUBSTEPS):
        (x, y), (vx, vy) = agent.position, agent.velocity
        agent.velocity = (
            vx + (STIFFNESS * (target_x - x) - DAMPING * vx) * TIMESTEP_S,
            vy + (STIFFNESS * (target_y - y) - DAMPING * vy) * TIMESTEP_S,
        )
        space.step(TIMESTEP_S)
    pose = (*agent.position, *block.position, float(wrap(block.angle)))
    return np.array([*pose, *agent.velocity, *block.velocity, block.angular_velocity])


def _build(pymunk: Any, state: np.ndarray) -> tuple[Any, Any, Any]:
    """A space with walls, and its disc and T at ``state``."""
    space = pymunk.Space()
    space.damping = 0
    edge = ((5, 5), (5, 506), (506, 506), (506, 5), (5, 5))
    walls = [pymunk.Segment(space.static_body, a, b, 2) for a, b in itertools.pairwise(edge)]
    agent = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
    agent.position, agent.velocity = tuple(state[:2].tolist()), tuple(state[5:7].tolist())
    block = pymunk.Body(1.0, MOMENT)
    block.center_of_gravity = tuple(CENTRE_OF_GRAVITY)
    block.angle = float(state[4])  # turning moves the origin, so the position comes after it
    block.position = tuple(state[2:4].tolist())
    block.velocity, block.angular_velocity = tuple(state[7:9].tolist()), float(state[9])
    shapes = [pymunk.Poly(block, [(x + i * w, y + j * h) for i, j in _CORNERS]) for x, y, w, h in T_PARTS]
    space.add(*walls, agent, pymunk.Circle(agent, AGENT_RADIUS_PX), block, *shapes)
    return space, agent, block


OUTLINE = Outline(
    parts=tuple((x - CENTRE_OF_GRAVITY[0], y - CENTRE_OF_GRAVITY[1], w, h) for x, y, w, h in T_PARTS),
    tip_radius=AGENT_RADIUS_PX,
    turn_radius=float(np.sqrt(MOMENT)),
    reach=250.0,
    yaw_weight=80.0,
    middle=(256.0, 256.0),
)


def centre_pose(state: np.ndarray) -> np.ndarray:
    """The T's centre of gravity x, y [px] and its angle [rad]."""
    return np.array([*(state[2:4] + turned(CENTRE_OF_GRAVITY, state[4])), state[4]])


def random_state(rng: np.random.Generator) -> np.ndarray:
    """T anywhere within the walls at any angle, disc anywhere clear of it, at rest."""
    while True:
        angle = rng.uniform(-np.pi, np.pi)
        centre = rng.uniform(120, 392, 2)
        agent = rng.uniform(40, 472, 2)
        if OUTLINE.clearance(turned(agent - centre, -angle)) > 5:
            return np.array([*agent, *(centre - turned(CENTRE_OF_GRAVITY, angle)), angle, *np.zeros(5)])
