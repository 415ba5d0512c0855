"""Served worlds as Gymnasium environments: code that learns or evaluates changes one line. Needs no torch.

env = ServedEnv("ws://127.0.0.1:8600", max_steps=50, reward=lambda seen, info: -info["heads"]["uncertainty"])
many = ServedVectorEnv("ws://127.0.0.1:8600", 64, max_steps=50)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array

from forerun.serving.client import Observation, Server, World, connect
from forerun.serving.parsing import checked_action
from forerun.serving.protocol import Refusal
from forerun.types import ConfigError, StreamSpec

URL = "ws://127.0.0.1:8600"
Seen = dict[str, np.ndarray]
"""An observation: an array per stream."""
Reward = Callable[[Seen, dict[str, Any]], float]
"""What an observation and its ``info`` are worth."""
PACE = frozenset({"period_s", "deadline_s", "tick_s", "best_effort"})


def nothing(seen: Seen, info: dict[str, Any]) -> float:
    """No reward: a world knows how it moves, not what is wanted."""
    return 0.0


class ServedEnv(gymnasium.Env[Seen, np.ndarray]):
    """One imagined world on a server.

    An observation holds every stream: numbers as float32 in the stream's own unit, and if asked for pictures
    as (H, W, 3) uint8. An action is in the robot's units, with its bounds where it states any.

    An episode begins from a recorded moment that the seed chooses, or ``reset(options={"start": 3})``. It is
    truncated after ``max_steps``. It is terminated only if the world became NaN and the server began it anew;
    then ``info["reset"]`` says so, and the observation is the last one that was finite.

    ``info`` has ``heads`` (uncertainty, with touch contact, slip and force), the ``level`` at which a busy
    server could serve, its ``timing`` of each step, and at a reset the number of the ``start``.

    Args:
        url: of the server; each environment has a connection of its own.
        max_steps: of an episode.
        pictures: whether observations hold cameras. A picture costs the server more than all else.
        reward: of an observation; see `Reward`.
        render_mode: "rgb_array" for `render`, the newest picture of the first camera.
        pace: ``period_s``, ``deadline_s``, ``tick_s``, ``best_effort`` as in `forerun.serving.protocol.View`.

    Raises:
        ConfigError: a setting that makes no sense for this world.
        ServerGoneError: nobody answers at ``url``.
        Refusal: the server will not do what it is asked, such as a step of another shape.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        url: str = URL,
        *,
        token: str | None = None,
        max_steps: int = 200,
        pictures: bool = False,
        reward: Reward = nothing,
        render_mode: str | None = None,
        **pace: Any,
    ) -> None:
        rules = _rules(max_steps, pictures, reward, render_mode, pace)
        self._server, self.observation_space, self.action_space = _met(url, token, rules)
        self.metadata, self.render_mode = _metadata(self._server), render_mode
        self._episodes = _Episodes(self._server, rules)
        # Timing and level differ from run to run, so that nobody may expect equal infos.
        settings = {"token": token, "max_steps": max_steps, "pictures": pictures, "reward": reward, **pace}
        self.spec = EnvSpec(
            "forerun/Served-v0", ServedEnv, nondeterministic=True, kwargs={"url": url, **settings}
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Seen, dict[str, Any]]:
        """Close the world and open another one."""
        super().reset(seed=seed)
        start = _option(options)
        return self._episodes.begin(_chosen(self._server, self.np_random) if start is None else int(start))

    def step(self, action: np.ndarray) -> tuple[Seen, float, bool, bool, dict[str, Any]]:
        """One tick: an action (A,)."""
        return self._episodes.read(self._episodes.send(action))

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """(H, W, 3) uint8, if "rgb_array" was chosen."""
        return None if self.render_mode is None else self._episodes.picture()

    def close(self) -> None:
        """End the connection, and the world with it."""
        self._server.close()


class ServedVectorEnv(VectorEnv[Seen, np.ndarray, np.ndarray]):
    """``num_envs`` worlds over one connection, advanced in the server's shared passes.

    A step sends all actions, then reads all replies, so that it costs one round trip. A world whose episode
    is over begins the next one at the following step, whatever its action says (``AutoresetMode.NEXT_STEP``).

    Args:
        num_envs: the server may allow a client fewer (``hello["limits"]["sessions"]``).

    The rest is as in `ServedEnv`, a row per world. Seed ``s`` gives world ``k`` the episodes of a `ServedEnv`
    of seed ``s + k``; ``options={"start": ...}`` takes one number, or one for each.
    """

    def __init__(
        self,
        url: str = URL,
        num_envs: int = 8,
        *,
        token: str | None = None,
        max_steps: int = 200,
        pictures: bool = False,
        reward: Reward = nothing,
        render_mode: str | None = None,
        **pace: Any,
    ) -> None:
        rules = _rules(max_steps, pictures, reward, render_mode, pace)
        if num_envs < 1:
            raise ConfigError(f"num_envs is {num_envs}; expected 1 or more")
        self._server, self.single_observation_space, self.single_action_space = _met(url, token, rules)
        most = self._server.hello["limits"]["sessions"]
        if num_envs > most:
            self._server.close()
            raise ConfigError(f"num_envs is {num_envs}; this server lets a client have {most} worlds")
        self.num_envs, self.render_mode = num_envs, render_mode
        self.metadata = {**_metadata(self._server), "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._episodes = [_Episodes(self._server, rules) for _ in range(num_envs)]
        self._random = [np_random()[0] for _ in range(num_envs)]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Seen, dict[str, Any]]:
        """Begin all episodes anew."""
        seeds: Any = seed
        if isinstance(seed, int | np.integer):
            super().reset(seed=int(seed))
            seeds = [int(seed) + k for k in range(self.num_envs)]
        starts = _option(options)
        starts = [starts] * self.num_envs if np.ndim(starts) == 0 else starts
        for name, values in (("seed", seeds), ("start", starts)):
            if values is not None and len(values) != self.num_envs:
                raise ConfigError(
                    f"{len(values)} values of '{name}' for {self.num_envs} worlds; give as many"
                )
        for k, own in enumerate(seeds or ()):
            if own is not None:
                self._random[k] = np_random(own)[0]
        return self._joined([self._begin(k, start) for k, start in enumerate(starts)])

    def step(self, actions: np.ndarray) -> tuple[Seen, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One tick of every world: actions (n, A)."""
        actions = self._checked(actions)
        sent = [None if e.over else e.send(a) for e, a in zip(self._episodes, actions, strict=True)]
        rows, scores = [], []
        for k, seq in enumerate(sent):
            if seq is None:
                rows.append(self._begin(k))
                scores.append((0.0, False, False))
            else:
                seen, *score, info = self._episodes[k].read(seq)
                rows.append((seen, info))
                scores.append(score)
        rewards, terminated, truncated = (np.array(part) for part in zip(*scores, strict=True))
        seen, infos = self._joined(rows)
        return seen, rewards.astype(np.float64), terminated, truncated, infos

    def render(self) -> tuple[np.ndarray, ...] | None:  # type: ignore[override]
        """The newest picture of every world."""
        return None if self.render_mode is None else tuple(e.picture() for e in self._episodes)

    def close_extras(self, **kwargs: Any) -> None:
        """End the connection, and all worlds with it."""
        self._server.close()

    def _begin(self, k: int, start: int | None = None) -> tuple[Seen, dict[str, Any]]:
        chosen = _chosen(self._server, self._random[k]) if start is None else int(start)
        return self._episodes[k].begin(chosen)

    def _checked(self, actions: np.ndarray) -> np.ndarray:
        """Refused here, before any world has moved, and not by the server in the midst of them."""
        found = checked_action(np.asarray(actions), self._server.action)
        if found.shape != self.action_space.shape:
            raise Refusal(
                "bad_action",
                f"actions of {found.shape} arrived; expected {self.action_space.shape}, a row per world",
            )
        if any(e.world is None for e in self._episodes):
            raise ResetNeeded("there are no worlds yet; call reset first")
        return found

    def _joined(self, rows: Sequence[tuple[Seen, dict[str, Any]]]) -> tuple[Seen, dict[str, Any]]:
        infos: dict[str, Any] = {}
        for k, (_, info) in enumerate(rows):
            infos = self._add_info(infos, info, k)
        space = self.single_observation_space
        seen: Any = concatenate(space, [seen for seen, _ in rows], create_empty_array(space, len(rows)))
        return seen, infos


@dataclass(frozen=True, kw_only=True)
class _Rules:
    """What all episodes of an environment have in common."""

    max_steps: int
    pictures: bool
    """In observations."""
    reward: Reward
    view: dict[str, Any]


class _Episodes:
    """One world after another over a connection, and the episode that runs in it."""

    def __init__(self, server: Server, rules: _Rules) -> None:
        self.server, self.rules = server, rules
        self.world: World | None = None
        self.steps, self.over = 0, False
        self._pictures: dict[str, np.ndarray] = {}

    def begin(self, start: int) -> tuple[Seen, dict[str, Any]]:
        """The next episode; the server forgets the last one."""
        if self.world is not None:
            self.world.close()
        self.world = None  # until there is a new one, should the server refuse it
        self.world = self.server.open(start, **self.rules.view)
        self.steps, self.over = 0, False
        found = self.world.observation
        return self._seen(found), {"start": start, **_told(found)}

    def send(self, action: np.ndarray) -> int:
        """An action, without waiting."""
        if self.world is None or self.over:
            raise ResetNeeded("the episode is over, or has not begun; call reset first")
        return self.world.send_step(action)

    def read(self, seq: int) -> tuple[Seen, float, bool, bool, dict[str, Any]]:
        """What came of it."""
        assert self.world is not None
        lost = None
        try:
            self.world.receive(seq)
        except Refusal as refusal:
            if refusal.code != "not_finite":
                raise
            lost = str(refusal)
        self.steps += 1
        found = self.world.observation  # if the world was lost, the one before
        seen, info = self._seen(found), _told(found)
        if lost is not None:
            info |= {"reset": lost, "timing": {}}
        truncated = lost is None and self.steps >= self.rules.max_steps
        self.over = truncated or lost is not None
        return seen, float(self.rules.reward(seen, info)), lost is not None, truncated, info

    def picture(self) -> np.ndarray:
        """(H, W, 3) uint8 of the first camera."""
        if not self._pictures:
            raise ResetNeeded("there is no picture yet; call reset first")
        return next(iter(self._pictures.values())).copy()

    def _seen(self, found: Observation) -> Seen:
        """The caller's own arrays. Where a busy server leaves pictures out, the last ones stand."""
        self._pictures |= found.picture or {}
        seen = {name: np.array(part, np.float32) for name, part in found.streams.items()}
        if self.rules.pictures:
            seen |= {name: part.copy() for name, part in self._pictures.items()}
        return seen


def _told(found: Observation) -> dict[str, Any]:
    heads = {n: np.array(v) if isinstance(v, np.ndarray) else v for n, v in found.heads.items()}
    return {"heads": heads, "level": found.level, "timing": dict(found.timing)}


def _rules(
    max_steps: int, pictures: bool, reward: Reward, render_mode: str | None, pace: dict[str, Any]
) -> _Rules:
    if max_steps < 1:
        raise ConfigError(f"max_steps is {max_steps}; expected 1 or more")
    if render_mode not in (None, "rgb_array"):
        raise ConfigError(f"render_mode is {render_mode!r}; expected None or 'rgb_array'")
    if unknown := sorted(set(pace) - PACE):
        raise ConfigError(f"a setting {unknown[0]!r} is unknown; expected one of {', '.join(sorted(PACE))}")
    view = {**pace, "picture": "raw" if pictures or render_mode else "none"}
    return _Rules(max_steps=max_steps, pictures=pictures, reward=reward, view=view)


def _met(url: str, token: str | None, rules: _Rules) -> tuple[Server, spaces.Space[Seen], spaces.Box]:
    """A connection and the spaces of its world; none is left open if the two do not fit the rules."""
    server = connect(url, token)
    try:
        return server, *_spaces(server, rules)
    except ConfigError:
        server.close()
        raise


def _metadata(server: Server) -> dict[str, Any]:
    modes = ["rgb_array"] if _cameras(server) else []
    return {"render_modes": modes, "render_fps": round(1 / server.tick_s)}


def _spaces(server: Server, rules: _Rules) -> tuple[Any, spaces.Box]:
    """Of observations, a `spaces.Dict`, and of actions."""
    action = server.action
    if action is None:
        raise ConfigError("this world was learned from video without actions; an environment needs some")
    if rules.view["picture"] != "none" and not _cameras(server):
        raise ConfigError("pictures were asked for; this world was learned without a camera")
    seen: dict[str, spaces.Space[Any]] = {
        name: _space(spec) for name, spec in server.streams.items() if spec.kind != "video" or rules.pictures
    }
    low, high = (
        np.full(action.size, sign * np.inf, np.float32) if bound is None else np.array(bound, np.float32)
        for sign, bound in ((-1, action.low), (1, action.high))
    )
    return spaces.Dict(seen), spaces.Box(low, high, dtype=np.float32)


def _space(spec: StreamSpec) -> spaces.Box:
    if spec.kind == "video":
        return spaces.Box(0, 255, spec.shape, np.uint8)
    return spaces.Box(-np.inf, np.inf, spec.shape, np.float32)


def _cameras(server: Server) -> list[str]:
    return [name for name, spec in server.streams.items() if spec.kind == "video"]


def _option(options: dict[str, Any] | None) -> Any:
    """``start``, if it was given."""
    if unknown := sorted(set(options or {}) - {"start"}):
        raise ConfigError(f"option {unknown[0]!r} of reset is unknown; expected 'start', a recorded moment")
    return (options or {}).get("start")


def _chosen(server: Server, random: np.random.Generator) -> int:
    if not server.starts:
        raise ConfigError("this server offers no recorded starts; start it with recordings (--data)")
    return int(random.integers(len(server.starts)))
