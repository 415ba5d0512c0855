"""PushT: a disc pushes a T to a goal pose in the plane (pymunk)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from forerun.tasks import planar
from forerun.tasks.base import CAMERA_SIZE, Quality, Task, wrap
from forerun.tasks.policies import SmoothNoise
from forerun.tasks.pushing import Outline, Pusher, PushPlay, turned
from forerun.types import StreamSpec, require

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


class PushT(Task):
    """Push a T to a goal pose with a disc, as the field's Push-T yardstick has it.

    World: 512 x 512 px, x to the right, y down, walls at 5 and 506. A disc of radius 15 px moves by a
    controller (acceleration 100 x offset - 20 x velocity, every 10 ms) and pushes a T of two bars 160 x 40
    and 40 x 120 px without friction between them; velocities of the T do not outlive a 10 ms step (damping
    0). Geometry, controller and colours are those of stable-worldmodel's PushT
    (galilai-group/stable-worldmodel, envs/pusht/env.py, with its scale 40), which took them from Diffusion
    Policy and gym-pusht (scale 30). Its fixed green goal drawing, which has no part in the audited
    protocol, is left out. One difference: contacts are not carried from one control step to the next, so
    that the state is complete and can be set exactly.

    Action: where the controller pulls the disc, relative to the disc at the start of the step (x, y) in px,
    within +-100: the reference protocol's relative actions, -1..1 times 100. The place itself is kept
    within 0..512, as gym-pusht's absolute actions are. Proprioception: disc x, y [px] and its velocity
    [px/s]. State (10): disc x, y; T x, y (middle of its top edge), angle; disc velocity (the reference's
    seven), then velocity and turning rate of the T.

    Success as audited (DavidSunok/CLEAR-LeWM, EVALUATION_SPEC_V08.md), moderate: disc and T together within
    20 px (norm over all four coordinates) and 20 degrees; strict: the T alone within 10 px and 10 degrees,
    for three steps in a row. Goals are the state 25 steps later in the same scripted play, the budget is 50
    steps; a start that is already solved is drawn again.
    """

    default_max_steps = 50
    goal_offset = 25
    thresholds = {  # noqa: RUF012
        "moderate": {"joint_px": 20.0, "angle_rad": np.deg2rad(20.0)},
        "strict": {"block_px": 10.0, "angle_rad": np.deg2rad(10.0)},
    }
    hold_steps = {"moderate": 1, "strict": 3}  # noqa: RUF012
    state_names = (
        *("agent_x", "agent_y", "block_x", "block_y", "block_angle", "agent_vx", "agent_vy"),
        *("block_vx", "block_vy", "block_w"),
    )
    action_spec = StreamSpec(
        name="action",
        kind="action",
        shape=(2,),
        unit="px",
        names=("target_dx", "target_dy"),
        rate_hz=10.0,
        low=(-REACH_PX, -REACH_PX),
        high=(REACH_PX, REACH_PX),
    )
    proprio_spec = StreamSpec(
        name="proprio",
        kind="vector",
        shape=(4,),
        unit="px, px/s",
        names=("agent_x", "agent_y", "agent_vx", "agent_vy"),
        rate_hz=10.0,
        low=(-100.0, -100.0, -600.0, -600.0),
        high=(612.0, 612.0, 600.0, 600.0),
    )

    def __init__(self, max_steps: int | None = None, render_mode: str | None = None) -> None:
        super().__init__(max_steps, render_mode)
        self.pymunk = require("pymunk", "sim", "the task forerun/PushT-v0")
        self._state = np.array([256.0, 400.0, 256.0, 200.0, 0.0, *np.zeros(5)])

    def state(self) -> np.ndarray:
        return self._state.copy()

    def set_state(self, state: np.ndarray) -> None:
        self._state = self.check_state(state).copy()

    def advance(self, action: np.ndarray) -> None:
        # A new space each time: pymunk keeps contacts and corrections that no state could restore.
        space, agent, block = self._world(self._state)
        target_x, target_y = np.clip(self._state[:2] + action, 0, WORLD_PX).tolist()
        for _ in range(SUBSTEPS):
            (x, y), (vx, vy) = agent.position, agent.velocity
            agent.velocity = (
                vx + (STIFFNESS * (target_x - x) - DAMPING * vx) * TIMESTEP_S,
                vy + (STIFFNESS * (target_y - y) - DAMPING * vy) * TIMESTEP_S,
            )
            space.step(TIMESTEP_S)
        self._state = np.array(
            [
                *(*agent.position, *block.position, float(wrap(block.angle)), *agent.velocity),
                *(*block.velocity, block.angular_velocity),
            ]
        )

    def _world(self, state: np.ndarray) -> tuple[Any, Any, Any]:
        """A pymunk space with walls, agent and T at ``state``."""
        pymunk = self.pymunk
        space = pymunk.Space()
        space.damping = 0
        edge = ((5, 5), (5, 506), (506, 506), (506, 5), (5, 5))
        walls = [pymunk.Segment(space.static_body, a, b, 2) for a, b in itertools.pairwise(edge)]
        agent = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
        agent.position, agent.velocity = tuple(state[:2].tolist()), tuple(state[5:7].tolist())
        block = pymunk.Body(1.0, _MOMENT)
        block.center_of_gravity = tuple(CENTRE_OF_GRAVITY)
        block.angle = float(state[4])  # turning moves the origin, so the position comes after it
        block.position = tuple(state[2:4].tolist())
        block.velocity, block.angular_velocity = tuple(state[7:9].tolist()), float(state[9])
        shapes = [pymunk.Poly(block, [(x + i * w, y + j * h) for i, j in _CORNERS]) for x, y, w, h in T_PARTS]
        space.add(*walls, agent, pymunk.Circle(agent, AGENT_RADIUS_PX), block, *shapes)
        return space, agent, block

    def picture(self, state: np.ndarray | None = None, size: int = CAMERA_SIZE) -> np.ndarray:
        state = self._state if state is None else state
        scale = size / WORLD_PX
        image = _table(size).copy()
        parts = [(x * scale, y * scale, w * scale, h * scale) for x, y, w, h in T_PARTS]
        planar.boxes(image, state[2:4] * scale, float(state[4]), parts, (119, 136, 153))
        planar.disc(image, state[:2] * scale, AGENT_RADIUS_PX * scale, (65, 105, 225))
        return planar.finish(image)

    def proprio_of(self, state: np.ndarray) -> np.ndarray:
        return state[[0, 1, 5, 6]].astype(np.float32)

    def errors(self, state: np.ndarray, goal_state: np.ndarray) -> dict[str, float]:
        difference = state[:4] - goal_state[:4]
        return {
            "joint_px": float(np.sqrt(difference @ difference)),
            "block_px": float(np.hypot(difference[2], difference[3])),
            "angle_rad": float(abs(wrap(state[4] - goal_state[4]))),
        }

    def sample_start_goal(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A state of noisy play and the one 25 steps later, unsolved at both levels."""
        before = self.state()
        while True:
            self.set_state(random_state(rng))
            play = self.make_policy("noisy", rng)
            for _ in range(int(rng.integers(5, 60))):
                self.advance(self.clip(play()))
            start = self.state()
            for _ in range(self.goal_offset):
                self.advance(self.clip(play()))
            goal = self.state()
            if not (self.solved(start, goal) or self.solved(start, goal, "strict")):
                self.set_state(before)
                return start, goal

    def make_policy(self, quality: Quality, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        turn = np.deg2rad({"expert": 90, "noisy": 120, "weak": 180}[quality])

        def draw_target(pose: np.ndarray) -> np.ndarray:
            return np.array([*rng.uniform(130, 382, 2), pose[2] + rng.uniform(-turn, turn)])

        return PushPlay(
            pusher_of(self, rng, sloppiness={"expert": 0.0, "noisy": 0.8, "weak": 2.5}[quality]),
            draw_target,
            self.action_for,
            SmoothNoise(2, {"expert": 0.0, "noisy": 2.5, "weak": 6.0}[quality], 0.7, rng),
            close=(15.0, 0.2),
            patience=(10, 30) if quality == "weak" else (40, 90),
            paces=(20.0, 20.0) if quality == "expert" else (8.0, 30.0),
        )

    def action_for(self, displacement: np.ndarray) -> np.ndarray:
        """The action that moves a free disc by ``displacement`` (x, y) px in one step, within bounds."""
        from_action, from_velocity = _RESPONSE
        action = (displacement - from_velocity * self._state[5:7]) / from_action
        return np.clip(action, -REACH_PX, REACH_PX).astype(np.float32)


def _bar_moment() -> float:
    """Moment of the top bar about the origin, at mass 1."""
    x, y, width, height = T_PARTS[0]
    return ((2 * width) ** 2 + (2 * height) ** 2) / 12 + x * x + y * y


_CORNERS = ((-1, -1), (1, -1), (1, 1), (-1, 1))
_MOMENT = 2 * _bar_moment()
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


_RESPONSE = _response()
_OUTLINE = Outline(
    parts=tuple((x - CENTRE_OF_GRAVITY[0], y - CENTRE_OF_GRAVITY[1], w, h) for x, y, w, h in T_PARTS),
    tip_radius=AGENT_RADIUS_PX,
    turn_radius=float(np.sqrt(_MOMENT)),
    reach=250.0,
    yaw_weight=80.0,
    middle=(256.0, 256.0),
)


def pusher_of(env: PushT, rng: np.random.Generator, sloppiness: float = 0.0) -> Pusher:
    """A pusher for the T of ``env``; its displacements are in px per step, its poses about the T's centre."""

    def read() -> tuple[np.ndarray, np.ndarray]:
        state = env.state()
        return state[:2], centre_pose(state)

    travel = np.array([3.0, 6.0, 10.0, 16.0, 25.0, 40.0, 60.0, 90.0, 130.0])
    return Pusher(_OUTLINE, read, rng, travel=travel, pace=20.0, max_pace=45.0, sloppiness=sloppiness)


def centre_pose(state: np.ndarray) -> np.ndarray:
    """The T's centre of gravity x, y [px] and its angle [rad]."""
    return np.array([*(state[2:4] + turned(CENTRE_OF_GRAVITY, state[4])), state[4]])


def random_state(rng: np.random.Generator) -> np.ndarray:
    """T anywhere within the walls at any angle, disc anywhere clear of it, at rest."""
    while True:
        angle = rng.uniform(-np.pi, np.pi)
        centre = rng.uniform(120, 392, 2)
        agent = rng.uniform(40, 472, 2)
        if _OUTLINE.clearance(turned(agent - centre, -angle)) > 5:
            return np.array([*agent, *(centre - turned(CENTRE_OF_GRAVITY, angle)), angle, *np.zeros(5)])


def _table(size: int) -> np.ndarray:
    if size not in _tables:
        scale, image = size / WORLD_PX, planar.blank(size, (255, 255, 255))
        for at in (5.0, 506.0):
            planar.boxes(
                image, np.zeros(2), 0.0, [(at * scale, size / 2, 2 * scale, size / 2)], (211, 211, 211)
            )
            planar.boxes(
                image, np.zeros(2), 0.0, [(size / 2, at * scale, size / 2, 2 * scale)], (211, 211, 211)
            )
        _tables[size] = image
    return _tables[size]


_tables: dict[int, np.ndarray] = {}


class Expert:
    """Pushes the T to the pose of ``goal_state``, then the disc to its own; call it for each action."""

    def __init__(self, env: PushT, goal_state: np.ndarray, rng: np.random.Generator) -> None:
        self.env, self.goal = env, goal_state
        self.pusher = pusher_of(env, rng)
        self.pusher.towards(centre_pose(goal_state))

    def __call__(self) -> np.ndarray:
        errors = self.env.errors(self.env.state(), self.goal)
        if errors["block_px"] < 6 and errors["angle_rad"] < 0.1:
            return self.env.action_for(self._walk())
        return self.env.action_for(self.pusher())

    def _walk(self) -> np.ndarray:
        """Around the T to where the disc is at the goal."""
        tip, pose = self.pusher.read()
        here, goal = turned(tip - pose[:2], -pose[2]), turned(self.goal[:2] - pose[:2], -pose[2])
        goal = self.pusher.step_off(goal)
        way = turned(self.pusher.next_point(here, goal, pose) - here, pose[2])
        return way * min(1.0, 40.0 / max(float(np.hypot(*way)), 1e-9))
