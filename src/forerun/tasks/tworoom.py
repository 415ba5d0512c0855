"""TwoRoom: a dot must pass a door to reach a point in the other room."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from forerun.tasks import planar
from forerun.tasks.base import CAMERA_SIZE, Quality, Task
from forerun.tasks.policies import SmoothNoise
from forerun.types import StreamSpec

WORLD_PX = 224.0
BORDER_PX = 14.0
RADIUS_PX = 7.0
WALL_PX = (107.0, 117.0)
DOOR_PX = (35.0, 63.0)
SPEED_PX = 7.0
DOOR_CENTRE = np.array([112.0, 49.0])

_LOW, _HIGH = BORDER_PX + RADIUS_PX, WORLD_PX - BORDER_PX - RADIUS_PX
_SOLIDS = ((*WALL_PX, 0.0, DOOR_PX[0]), (*WALL_PX, DOOR_PX[1], WORLD_PX))


class TwoRoom(Task):
    """Move a dot to a point in the other room, through the only door, as the audited yardstick has it.

    World: 224 x 224 px, x to the right, y down. A border 14 px wide, a vertical wall at x 107-117 with one
    door at y 35-63, a dot of radius 7 px drawn as a Gaussian of that width, red on white, walls black; that
    is the default of stable-worldmodel's TwoRoom (galilai-group/stable-worldmodel, envs/two_room/env.py).
    Motion is resolved as CLEAR-LeWM's audit requires (EVALUATION_SPEC_V08.md): the whole disc is swept
    along its way and slides along walls, so that no step jumps a wall or clips a door post.

    Action: displacement (x, y) in px for one step, within +-7 (the original's 7 px times an action in -1..1).
    State and proprioception: x, y in px. There are no dynamics. Pictures are drawn at 64 x 64 directly.

    Success, moderate: within 16 px of the goal; strict: within 8 px (CLEAR-LeWM v0.8; with this motion
    every route is legal, so its route condition always holds). Start and goal are in opposite rooms; the
    budget is 50 steps. As in the audit, the goal is where noisy play was 25 steps after the start (most lie
    30-75 px away); "options" of reset takes any other pair.
    """

    default_max_steps = 50
    goal_offset = 25
    thresholds = {"moderate": {"distance_px": 16.0}, "strict": {"distance_px": 8.0}}  # noqa: RUF012
    state_names = ("x", "y")
    action_spec = StreamSpec(
        name="action",
        kind="action",
        shape=(2,),
        unit="px",
        names=("dx", "dy"),
        rate_hz=10.0,
        low=(-SPEED_PX, -SPEED_PX),
        high=(SPEED_PX, SPEED_PX),
    )
    proprio_spec = StreamSpec(
        name="proprio",
        kind="vector",
        shape=(2,),
        unit="px",
        names=("x", "y"),
        rate_hz=10.0,
        low=(0.0, 0.0),
        high=(WORLD_PX, WORLD_PX),
    )

    def __init__(self, max_steps: int | None = None, render_mode: str | None = None) -> None:
        super().__init__(max_steps, render_mode)
        self._position = np.array([64.0, 112.0])

    def state(self) -> np.ndarray:
        return self._position.copy()

    def set_state(self, state: np.ndarray) -> None:
        self._position = self.check_state(state).copy()

    def advance(self, action: np.ndarray) -> None:
        self._position = move(self._position, action)

    def picture(self, state: np.ndarray | None = None, size: int = CAMERA_SIZE) -> np.ndarray:
        scale = size / WORLD_PX
        image = _walls(size).copy()
        planar.glow(
            image, (self._position if state is None else state) * scale, RADIUS_PX * scale, (255, 0, 0)
        )
        return planar.finish(image)

    def proprio_of(self, state: np.ndarray) -> np.ndarray:
        return state.astype(np.float32)

    def errors(self, state: np.ndarray, goal_state: np.ndarray) -> dict[str, float]:
        return {"distance_px": float(np.hypot(*(state - goal_state)))}

    def sample_start_goal(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A state of noisy play and the one 25 steps later, in the other room; neither in the doorway."""
        before = self.state()
        while True:
            self.set_state(free_point(rng))
            play, visited = self.make_policy("noisy", rng), []
            for _ in range(100):
                visited.append(self.state())
                self.advance(self.clip(play()))
            pairs = [
                (a, b) for a, b in zip(visited, visited[self.goal_offset :], strict=False) if _apart(a, b)
            ]
            if pairs:
                self.set_state(before)
                return pairs[int(rng.integers(len(pairs)))]

    def make_policy(self, quality: Quality, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        return RoomPlay(self, quality, rng)

    def make_expert(self, goal_state: np.ndarray, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        return lambda: walk_towards(self.state(), goal_state).astype(np.float32)


def move(position: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """Where the disc ends up: swept in pieces of at most 0.5 px, pushed out of walls, sliding along."""
    x, y = position.tolist()
    dx, dy = displacement.tolist()
    pieces = max(1, int(np.ceil(2 * max(abs(dx), abs(dy)))))
    for _ in range(pieces):
        x = min(max(x + dx / pieces, _LOW), _HIGH)
        y = min(max(y + dy / pieces, _LOW), _HIGH)
        for left, right, top, bottom in _SOLIDS:
            x, y = _push_out(x, y, left, right, top, bottom)
    return np.array([x, y])


def _push_out(
    x: float, y: float, left: float, right: float, top: float, bottom: float
) -> tuple[float, float]:
    """The nearest disc centre clear of one rectangle."""
    out_x, out_y = x - min(max(x, left), right), y - min(max(y, top), bottom)
    distance = (out_x * out_x + out_y * out_y) ** 0.5
    if distance >= RADIUS_PX:
        return x, y
    if distance > 0:
        return x + out_x * (RADIUS_PX / distance - 1), y + out_y * (RADIUS_PX / distance - 1)
    return (left - RADIUS_PX if x - left < right - x else right + RADIUS_PX), y


def free_point(rng: np.random.Generator) -> np.ndarray:
    """A uniform position of the disc clear of walls, never in the doorway."""
    while True:
        point = rng.uniform(_LOW, _HIGH, 2)
        if not WALL_PX[0] - RADIUS_PX < point[0] < WALL_PX[1] + RADIUS_PX:
            return point


def _apart(start: np.ndarray, goal: np.ndarray) -> bool:
    """Whether the two lie in opposite rooms, neither in the doorway, 16 px or more from each other."""
    clear = (
        np.abs(np.array([start[0], goal[0]]) - DOOR_CENTRE[0]).min() > WALL_PX[1] - DOOR_CENTRE[0] + RADIUS_PX
    )
    return bool(clear and _side(start) != _side(goal) and np.hypot(*(start - goal)) >= 16.0)


def _side(point: np.ndarray) -> bool:
    return bool(point[0] > DOOR_CENTRE[0])


@lru_cache(maxsize=4)
def _walls(size: int) -> np.ndarray:
    scale = size / WORLD_PX
    image = planar.blank(size, (255, 255, 255))
    black = (0, 0, 0)
    middle, line = WORLD_PX / 2, 3.5
    solids = [((x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2) for x0, x1, y0, y1 in _SOLIDS]
    edge = BORDER_PX - line / 2
    for at in (edge, WORLD_PX - edge):
        solids += [(at, middle, line / 2, middle), (middle, at, middle, line / 2)]
    for part in solids:
        x, y, width, height = (v * scale for v in part)
        planar.boxes(image, np.zeros(2), 0.0, [(x, y, width, height)], black)
    return image


class RoomPlay:
    """Play data: walks from one random point to another, mostly through the door.

    Expert walks straight; noisy adds Gaussian noise of three times its speed and repeats one action in ten,
    as the original's data were made (stable-worldmodel, scripts/data/collect_tworooms.py); weak forgets its
    target half of the time.
    """

    def __init__(self, env: TwoRoom, quality: Quality, rng: np.random.Generator) -> None:
        self.env, self.quality, self.rng = env, quality, rng
        std, memory = {"expert": (0.0, 0.0), "noisy": (3 * SPEED_PX, 0.0), "weak": (6.0, 0.5)}[quality]
        self.noise = SmoothNoise(2, std, memory, rng)
        self.target, self.action = env.state(), np.zeros(2)

    def __call__(self) -> np.ndarray:
        here = self.env.state()
        if np.hypot(*(self.target - here)) < 2 * SPEED_PX or self.rng.random() < 0.01:
            self.target = free_point(self.rng)
            if _side(self.target) == _side(here) and self.rng.random() < 0.8:
                self.target[0] = WORLD_PX - self.target[0]
        if self.quality == "expert" or self.rng.random() > 0.1:
            wanted = walk_towards(here, self.target)
            lost = self.quality == "weak" and self.rng.random() < 0.5
            self.action = (0.0 if lost else 1.0) * wanted + self.noise()
        return np.clip(self.action, -SPEED_PX, SPEED_PX).astype(np.float32)


def walk_towards(here: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The displacement of an expert: to the door's near side, through it, then straight to the target."""
    goal = target
    if _side(here) != _side(target):
        near = DOOR_CENTRE + np.array([-16.0 if here[0] < DOOR_CENTRE[0] else 16.0, 0.0])
        in_line = abs(here[1] - DOOR_CENTRE[1]) < DOOR_PX[1] - DOOR_CENTRE[1] - RADIUS_PX - 1
        goal = 2 * DOOR_CENTRE - near if in_line else near
    elif abs(here[0] - DOOR_CENTRE[0]) < WALL_PX[1] - DOOR_CENTRE[0] + RADIUS_PX:
        goal = np.array([DOOR_CENTRE[0] + np.copysign(16.0, here[0] - DOOR_CENTRE[0]), DOOR_CENTRE[1]])
    way = goal - here
    return way * min(1.0, SPEED_PX / max(float(np.hypot(*way)), 1e-9))
