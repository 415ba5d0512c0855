"""Reach: a three-axis gantry brings its tip to a goal position."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from forerun.tasks.base import CAMERA_SIZE, Quality, Task
from forerun.tasks.gantry import REACH_M, SPEED_MPS, SUBSTEPS, VIEWS, gantry_xml
from forerun.tasks.policies import SmoothNoise
from forerun.tasks.scene import Scene
from forerun.types import StreamSpec

_TOOL = """
<geom type="sphere" size="0.012" mass="0.1" rgba="0.8 0.1 0.1 1" contype="0" conaffinity="0"/>
<geom type="cylinder" size="0.005 0.06" pos="0 0 0.06" mass="0.1" rgba="0.25 0.25 0.3 1" contype="0"
      conaffinity="0"/>
"""
XML = gantry_xml("reach", _TOOL) + "</mujoco>"


class Reach(Task):
    """Bring a tip on three axes to a goal position.

    World and the split picture (from above, and from the front): see :mod:`forerun.tasks.gantry`. Nothing
    else is on the table.

    Action (3): tip velocity x, y, z in m/s within +-0.25. Proprioception and state (6): tip x, y, z [m] and
    its velocity [m/s]. Control 10 Hz, physics 4 ms.

    Success, moderate: within 0.02 m of the goal; strict: 0.01 m. Sampled goals are 0.06 m or more away.
    """

    default_max_steps = 50
    thresholds = {"moderate": {"position_m": 0.02}, "strict": {"position_m": 0.01}}  # noqa: RUF012
    state_names = ("x", "y", "z", "vx", "vy", "vz")
    action_spec = StreamSpec(
        name="action",
        kind="action",
        shape=(3,),
        unit="m/s",
        names=("vx", "vy", "vz"),
        rate_hz=10.0,
        low=(-SPEED_MPS,) * 3,
        high=(SPEED_MPS,) * 3,
    )
    proprio_spec = StreamSpec(
        name="proprio",
        kind="vector",
        shape=(6,),
        unit="m, m/s",
        names=state_names,
        rate_hz=10.0,
        low=(-0.2, -0.2, -0.1, -1.0, -1.0, -1.0),
        high=(0.2, 0.2, 0.2, 1.0, 1.0, 1.0),
    )

    def __init__(self, max_steps: int | None = None, render_mode: str | None = None) -> None:
        super().__init__(max_steps, render_mode)
        self.scene = Scene(XML, SUBSTEPS, VIEWS)

    def state(self) -> np.ndarray:
        return self.scene.state()

    def set_state(self, state: np.ndarray) -> None:
        self.scene.set_state(self.check_state(state))

    def advance(self, action: np.ndarray) -> None:
        self.scene.advance(action)

    def picture(self, state: np.ndarray | None = None, size: int = CAMERA_SIZE) -> np.ndarray:
        return self.scene.picture(state, size)

    def proprio_of(self, state: np.ndarray) -> np.ndarray:
        return state.astype(np.float32)

    def errors(self, state: np.ndarray, goal_state: np.ndarray) -> dict[str, float]:
        return {"position_m": float(np.linalg.norm(state[:3] - goal_state[:3]))}

    def sample_start_goal(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Two resting tips anywhere within reach, 0.06 m or more apart."""
        while True:
            start, goal = random_point(rng), random_point(rng)
            if np.linalg.norm(start - goal) >= 0.06:
                return np.concatenate([start, np.zeros(3)]), np.concatenate([goal, np.zeros(3)])

    def make_policy(self, quality: Quality, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        return TipPlay(self, quality, rng)

    def make_expert(self, goal_state: np.ndarray, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        return lambda: _velocity(self, goal_state[:3] - self.state()[:3], SPEED_MPS, np.zeros(3))


def random_point(rng: np.random.Generator) -> np.ndarray:
    """A uniform position (x, y, z) of the tip."""
    return rng.uniform(*np.transpose(REACH_M))


class TipPlay:
    """Play data: from one random point straight to the next, with noise below "expert"."""

    def __init__(self, env: Reach, quality: Quality, rng: np.random.Generator) -> None:
        self.env, self.quality, self.rng = env, quality, rng
        self.noise = SmoothNoise(3, {"expert": 0.0, "noisy": 0.06, "weak": 0.15}[quality], 0.7, rng)
        self.target, self.speed = random_point(rng), SPEED_MPS

    def __call__(self) -> np.ndarray:
        here = self.env.state()[:3]
        if np.linalg.norm(self.target - here) < 0.01 or self.rng.random() < 0.02:
            self.target = random_point(self.rng)
            self.speed = SPEED_MPS if self.quality == "expert" else self.rng.uniform(0.08, SPEED_MPS)
        return _velocity(self.env, self.target - here, self.speed, self.noise())


def _velocity(env: Reach, way: np.ndarray, speed: float, noise: np.ndarray) -> np.ndarray:
    wanted = way * env.control_hz
    wanted *= min(1.0, speed / max(float(np.abs(wanted).max()), 1e-9))
    return np.clip(wanted + noise, -SPEED_MPS, SPEED_MPS).astype(np.float32)
