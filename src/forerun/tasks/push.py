"""Push: a planar gantry pushes a square block to a goal pose."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from forerun.tasks.base import CAMERA_SIZE, Quality, Task, wrap
from forerun.tasks.push_policy import expert, play
from forerun.tasks.push_scene import SUBSTEPS, TIP_REACH_M, XML, block_pose, free_tip, reach_behind, state_of
from forerun.tasks.scene import Scene
from forerun.types import StreamSpec


class Push(Task):
    """Push a block of 9 x 9 x 4 cm to a goal position and heading on a table, seen from straight above.

    World: x to the right and y up in the picture, origin in the middle, metres. Rims 12 mm high at +-0.225
    m keep the block on the table; the tip (a vertical cylinder of radius 18 mm) runs above them, to +-0.25
    m, so that it can always get behind the block. The block is half yellow, half blue, so its heading is
    unambiguous. Friction of block and table 0.4: a block no longer pushed stops within a tenth
    of a second.

    Action: tip velocity (x, y) in m/s, within +-0.3. Proprioception: tip x, y [m] and its velocity [m/s].
    State (17): tip x, y; block x, y, z, quaternion w, x, y, z; the velocities of both (6 for the block).
    Control 10 Hz, physics 4 ms.

    Success, moderate: block within 0.03 m and 20 degrees of the goal; strict: 0.02 m and 10 degrees. Sampled
    goals lie 0.06-0.2 m and at most 40 degrees from the start.
    """

    default_max_steps = 100
    thresholds = {  # noqa: RUF012
        "moderate": {"position_m": 0.03, "yaw_rad": np.deg2rad(20.0)},
        "strict": {"position_m": 0.02, "yaw_rad": np.deg2rad(10.0)},
    }
    state_names = (
        *("tip_x", "tip_y", "block_x", "block_y", "block_z", "block_qw", "block_qx", "block_qy", "block_qz"),
        *("tip_vx", "tip_vy", "block_vx", "block_vy", "block_vz", "block_wx", "block_wy", "block_wz"),
    )
    action_spec = StreamSpec(
        name="action",
        kind="action",
        shape=(2,),
        unit="m/s",
        names=("tip_vx", "tip_vy"),
        rate_hz=10.0,
        low=(-0.3, -0.3),
        high=(0.3, 0.3),
    )
    proprio_spec = StreamSpec(
        name="proprio",
        kind="vector",
        shape=(4,),
        unit="m, m/s",
        names=("tip_x", "tip_y", "tip_vx", "tip_vy"),
        rate_hz=10.0,
        low=(-0.3, -0.3, -1.0, -1.0),
        high=(0.3, 0.3, 1.0, 1.0),
    )

    def __init__(self, max_steps: int | None = None, render_mode: str | None = None) -> None:
        super().__init__(max_steps, render_mode)
        self.scene = Scene(XML, SUBSTEPS)

    def state(self) -> np.ndarray:
        return self.scene.state()

    def set_state(self, state: np.ndarray) -> None:
        self.scene.set_state(self.check_state(state))

    def advance(self, action: np.ndarray) -> None:
        self.scene.advance(action)

    def picture(self, state: np.ndarray | None = None, size: int = CAMERA_SIZE) -> np.ndarray:
        return self.scene.picture(state, size)

    def proprio_of(self, state: np.ndarray) -> np.ndarray:
        return np.array([state[0], state[1], state[9], state[10]], dtype=np.float32)

    def errors(self, state: np.ndarray, goal_state: np.ndarray) -> dict[str, float]:
        now, goal = block_pose(state), block_pose(goal_state)
        distance = float(np.hypot(now[0] - goal[0], now[1] - goal[1]))
        return {"position_m": distance, "yaw_rad": float(abs(wrap(now[2] - goal[2])))}

    def sample_start_goal(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Block 0.06-0.2 m and <= 40 degrees from its goal; tip anywhere free, at the goal behind it."""
        while True:
            start = np.array([*rng.uniform(-0.14, 0.14, 2), rng.uniform(-np.pi, np.pi)])
            way = rng.uniform(-np.pi, np.pi)
            direction = np.array([np.cos(way), np.sin(way)])
            position = start[:2] + rng.uniform(0.06, 0.2) * direction
            if np.abs(position).max() > 0.15:
                continue
            goal = np.array([*position, start[2] + rng.uniform(-1, 1) * np.deg2rad(40.0)])
            tip = free_tip(start, rng)
            behind = goal[:2] - direction * reach_behind(goal[2], direction)
            return state_of(tip, start), state_of(np.clip(behind, -TIP_REACH_M, TIP_REACH_M), goal)

    def make_policy(self, quality: Quality, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        return play(self, quality, rng)

    def make_expert(self, goal_state: np.ndarray, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        return expert(self, goal_state, rng)
