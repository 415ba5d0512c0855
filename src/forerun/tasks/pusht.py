"""PushT: a disc pushes a T to a goal pose in the plane (pymunk)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from forerun.tasks import planar
from forerun.tasks.base import CAMERA_SIZE, Quality, Task, wrap
from forerun.tasks.pusht_policy import Expert, play
from forerun.tasks.pusht_space import AGENT_RADIUS_PX, REACH_PX, T_PARTS, WORLD_PX, one_step, random_state
from forerun.types import StreamSpec, require


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
        self._state = one_step(self.pymunk, self._state, action)

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
        return play(self, quality, rng)

    def make_expert(self, goal_state: np.ndarray, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        return Expert(self, goal_state, rng)


@lru_cache(maxsize=4)
def _table(size: int) -> np.ndarray:
    scale, image, grey = size / WORLD_PX, planar.blank(size, (255, 255, 255)), (211, 211, 211)
    for at in (5.0, 506.0):
        planar.boxes(image, np.zeros(2), 0.0, [(at * scale, size / 2, 2 * scale, size / 2)], grey)
        planar.boxes(image, np.zeros(2), 0.0, [(size / 2, at * scale, size / 2, 2 * scale)], grey)
    return image
