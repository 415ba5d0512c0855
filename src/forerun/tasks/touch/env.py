"""One world of a contact task as a Gymnasium environment, 50 actions a second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, cast

import gymnasium
import numpy as np

from forerun.tasks.base import CAMERA_SIZE, Quality, checked_action
from forerun.tasks.policies import SmoothNoise
from forerun.tasks.touch import laws, make_worlds
from forerun.tasks.touch.law import Law
from forerun.types import StreamSpec

STEP_MS = 20
NOISE = {"expert": 0.0, "noisy": 0.03, "weak": 0.15}
"""Of a data policy's actions, as shares of their range."""


class TouchEnv(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """A contact task for one robot; the benchmarks play many in lockstep, see ``forerun.tasks.touch``.

    Observations are ``{"camera": (64, 64, 3) uint8, "proprio": (P,) float32, touch: (10, C) float32}``: the
    touch stream is called "pads" or "wrench", and holds what arrived in the last 20 ms, oldest first. Actions
    are float32 in the units of ``stream_specs()["action"]``, clipped to its bounds. The reward is 1.0 at the
    end of an episode that succeeded, else 0.0; episodes last the task's own time and are then truncated.
    ``info`` has the task's score so far, such as ``success`` and ``force_n`` (peak, N).

    Args:
        task: one of ``forerun.tasks.touch.TOUCH_TASKS``.
        reflex: whether the task's analytic law acts on touch at 1 kHz between actions; if not, actions reach
            the servos as they are.
        render_mode: None or "rgb_array".
        settings: the task's own, such as ``clearance_m`` of PegFeel.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012
    control_hz: ClassVar[float] = 50.0

    def __init__(
        self, task: str, reflex: bool = False, render_mode: str | None = None, **settings: float
    ) -> None:
        self.task, self.reflex, self.render_mode = task, reflex, render_mode
        self.worlds = make_worlds(task, 1, True, **settings)
        self.law = laws(task).scripted().law if reflex else Law()
        action, specs = self.worlds.action_spec, self.worlds.streams
        self.action_space = gymnasium.spaces.Box(
            np.asarray(action.low, np.float32), np.asarray(action.high, np.float32), dtype=np.float32
        )
        touch = specs[self.worlds.touch]
        self.observation_space = gymnasium.spaces.Dict(  # type: ignore[assignment]
            {
                "camera": gymnasium.spaces.Box(0, 255, (CAMERA_SIZE, CAMERA_SIZE, 3), np.uint8),
                "proprio": _unbounded(specs["proprio"].shape),
                self.worlds.touch: _unbounded((STEP_MS // 2, *touch.shape)),
            }
        )

    def stream_specs(self) -> dict[str, StreamSpec]:
        """The streams of a recording; touch at its own rate, "state" with what is hidden."""
        worlds = self.worlds
        state = StreamSpec(
            name="state",
            kind="privileged",
            shape=(len(worlds.hidden_names),),
            names=worlds.hidden_names,
            rate_hz=self.control_hz,
        )
        slow = {"camera": worlds.streams["camera"], "proprio": worlds.streams["proprio"]}
        slow = {k: replace(spec, rate_hz=self.control_hz) for k, spec in slow.items()}
        return slow | {
            worlds.touch: worlds.streams[worlds.touch],
            "action": worlds.action_spec,
            "state": state,
        }

    def state(self) -> np.ndarray:
        """What is hidden in this world (H,), named by ``worlds.hidden_names``; never for control."""
        return self.worlds.hidden[0].copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode that the seed decides."""
        super().reset(seed=seed)
        self.worlds.reset([int(self.np_random.integers(2**31))])
        self.law.reset(self.worlds)
        first = self.worlds.read(self.worlds.touch).values
        return self._observe(np.repeat(first, STEP_MS // 2, axis=0)), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """20 ms of one action."""
        worlds, burst = self.worlds, []
        spec = worlds.action_spec
        asked = np.clip(checked_action(action, spec, self.task), spec.low, spec.high)[None]
        for _ in range(STEP_MS):
            worlds.tick(self.law(worlds, asked))
            if worlds.ms % 2 == 0:
                burst.append(worlds.read(worlds.touch).values[0])
        info = self._info()
        won = float(info["success"]) if worlds.over else 0.0
        return self._observe(np.stack(burst)), won, False, worlds.over, info

    def render(self) -> np.ndarray:  # type: ignore[override]
        """The camera's picture, four times as large."""
        return self.worlds.picture(0, 4 * CAMERA_SIZE)

    def make_policy(self, quality: Quality, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        """A data policy: the expert who knows what is hidden, with noise; "weak" with much of it."""
        expert, space = laws(self.task).expert, cast(gymnasium.spaces.Box, self.action_space)
        noise = SmoothNoise(len(space.low), NOISE[quality] * (space.high - space.low), 0.8, rng)
        return lambda: np.clip(expert(self.worlds)[0] + noise(), space.low, space.high).astype(np.float32)

    def _observe(self, burst: np.ndarray) -> dict[str, np.ndarray]:
        now = self.worlds
        return {
            "camera": now.read("camera").values[0].copy(),
            "proprio": now.read("proprio").values[0].copy(),
            now.touch: burst.astype(np.float32),
        }

    def _info(self) -> dict[str, Any]:
        return {name: value[0].item() for name, value in self.worlds.score().items()}


def _unbounded(shape: tuple[int, ...]) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float32)
