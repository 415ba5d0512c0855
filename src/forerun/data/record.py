"""Record episodes from any Gymnasium environment.

Row k pairs observation k with the action taken on seeing it, at time k / control_hz. The observation after
the last action has no action of its own and is not kept: that is LeRobot's convention, one row per decision.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from PIL import Image

from forerun.data.episode import Episode, Stream
from forerun.data.spaces import (
    action_spec,
    action_texts,
    action_vector,
    has_fixed_size,
    observation_parts,
    to_action,
)
from forerun.types import ConfigError, StreamSpec

Policy = Callable[[Any], Any]
"""Observation to action. If it has a method ``reset(env, rng)``, every episode begins with that.

Where actions are no plain Box, it may answer with a vector such as the stream "action" holds, from a planner
for example: :func:`forerun.data.spaces.to_action` makes an action of it.
"""

REWARD = "next.reward"
CAMERA = "camera"
"""What the pictures are called that an environment draws of itself, beside what it observes."""


def record(
    env: gymnasium.Env,
    policy: Policy | None = None,
    *,
    episodes: int,
    seed: int = 0,
    max_steps: int | None = None,
    control_hz: float | None = None,
    past_the_end: bool = False,
    camera: int | None = None,
) -> Iterator[Episode]:
    """Run a policy and yield one episode after the other.

    Uint8 pictures become video, text stays text, other observations become vectors, nested ones named
    "outer.inner"; a compound action becomes one vector. :mod:`forerun.data.spaces` has the rules, and its
    ``space_notes`` says what of an environment is left out. If the environment has ``stream_specs()``, its
    names, units and kinds are taken; ``state()`` is kept as the privileged stream "state" and the reward as
    "next.reward". Episode i depends on ``seed`` and i alone.

    Args:
        env: with any spaces, as long as some part of what it observes has a fixed size.
        policy: observation to action; uniform samples of the action space if None.
        episodes: how many.
        seed: of the environment, the action space and the policy.
        max_steps: rows per episode at most; the environment's own limit if None.
        control_hz: steps per second; by default ``env.control_hz``, or ``metadata["render_fps"]``.
        past_the_end: record ``max_steps`` rows though the environment says the episode is over, as
            continuous play data wants. Only for environments that may be stepped on.
        camera: side, in pixels, of square pictures of ``env.render()`` to keep as the stream "camera"; the
            environment must be made with ``render_mode="rgb_array"``. Other aspects are squashed.

    Raises:
        ConfigError: a setting is out of range, the control rate is unknown, nothing is a number or a
            picture in what is observed, nothing a number in the action, or there is no picture to keep.
    """
    _check_settings(episodes, seed, max_steps, control_hz, past_the_end)
    rate_hz = control_hz or _control_hz(env)
    specs = stream_specs(env, rate_hz)
    if camera is not None:
        specs = {CAMERA: _camera_spec(env, specs, camera, rate_hz), **specs}
    _check_seen(env, specs)
    for i in range(episodes):
        yield _episode(env, policy, specs, i, seed, rate_hz, max_steps, past_the_end)


def _check_settings(
    episodes: int, seed: int, max_steps: int | None, control_hz: float | None, past_the_end: bool
) -> None:
    if episodes < 1 or (max_steps is not None and max_steps < 1):
        raise ConfigError(
            f"{episodes} episodes of at most {max_steps} steps were asked for; both must be at least 1"
        )
    if past_the_end and max_steps is None:
        raise ConfigError("recording past the end of an episode needs to know when to stop; give max_steps")
    if seed < 0:
        raise ConfigError(f"the seed is {seed}; expected 0 or a larger whole number. Give another --seed")
    if control_hz is not None and not (np.isfinite(control_hz) and control_hz > 0):
        raise ConfigError(
            f"a control rate of {control_hz:g} steps per second was asked for; expected a positive number. "
            "Give it, for example --control-hz 20, or leave it out where the environment knows it"
        )


def _camera_spec(env: gymnasium.Env, specs: dict[str, StreamSpec], side: int, rate_hz: float) -> StreamSpec:
    if CAMERA in specs:
        raise ConfigError(
            f"the environment has a stream '{CAMERA}' of its own, so its drawings cannot take that name; "
            "record without --camera"
        )
    if not 8 <= side <= 2048:
        raise ConfigError(
            f"camera pictures of {side} pixels a side were asked for; expected 8 to 2048, for "
            "example --camera 64"
        )
    if env.render_mode != "rgb_array":
        raise ConfigError(
            f"{type(env.unwrapped).__name__} was made with render_mode={env.render_mode!r}, so it gives no "
            'pictures; make it with render_mode="rgb_array"'
        )
    return StreamSpec(name=CAMERA, kind="video", shape=(side, side, 3), unit="rgb", rate_hz=rate_hz)


def _drawn(env: gymnasium.Env, side: int) -> np.ndarray:
    """(side, side, 3) uint8 of what ``env.render()`` draws now."""
    try:
        picture = np.asarray(env.render())
    except (gymnasium.error.DependencyNotInstalled, ImportError) as cause:
        raise ConfigError(
            f"{type(env.unwrapped).__name__} cannot draw itself: {str(cause).rstrip('.')}. Install what is "
            "missing, or record without --camera"
        ) from cause
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3:
        raise ConfigError(
            f"{type(env.unwrapped).__name__} draws {picture.dtype} of shape {picture.shape}; expected "
            "uint8 pictures of (height, width, 3). Record without --camera, or correct its render()"
        )
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BOX))


def _control_hz(env: gymnasium.Env) -> float:
    rate = getattr(env.unwrapped, "control_hz", None) or (env.metadata or {}).get("render_fps")
    if not rate:
        raise ConfigError(
            f"{env.unwrapped.__class__.__name__} does not say how many steps make a second: it has neither "
            "control_hz nor a render_fps in its metadata. Give it: --control-hz 20"
        )
    return float(rate)


def stream_specs(env: gymnasium.Env, rate_hz: float) -> dict[str, StreamSpec]:
    """The streams that recording the environment gives, by name."""
    inner: Any = env.unwrapped
    declared: dict[str, StreamSpec] = getattr(inner, "stream_specs", dict)()
    seen = observation_parts(env.observation_space)
    parts = {n: part for n, part in seen.items() if part.kind != "none"} | action_texts(env.action_space)
    specs = {name: part.spec(name, rate_hz) for name, part in parts.items()}
    specs["action"] = _action_spec(env, rate_hz)
    if callable(getattr(inner, "state", None)):
        env.reset(seed=0)
        specs["state"] = StreamSpec(
            name="state", kind="privileged", shape=np.shape(inner.state()), rate_hz=rate_hz
        )
    specs[REWARD] = StreamSpec(name=REWARD, kind="privileged", shape=(1,), rate_hz=rate_hz)
    return {name: declared.get(name, spec) for name, spec in specs.items()}


def _action_spec(env: gymnasium.Env, rate_hz: float) -> StreamSpec:
    spec = action_spec(env.action_space, rate_hz)
    if spec is None:
        raise ConfigError(
            f"the actions are of the space {type(env.action_space).__name__}; expected some part of a fixed "
            "size, such as a Box or a Discrete. Wrap the environment so that it takes numbers"
        )
    return spec


def _check_seen(env: gymnasium.Env, specs: dict[str, StreamSpec]) -> None:
    if not any(spec.kind in ("video", "vector", "touch") for spec in specs.values()):
        space = type(env.observation_space).__name__
        raise ConfigError(
            f"'observation' is a {space} without a number or a picture in it; expected one that a model can "
            "learn from. Record what the environment draws with --camera 64, or wrap it so that it shows more"
        )


def _episode(
    env: gymnasium.Env,
    policy: Policy | None,
    specs: dict[str, StreamSpec],
    number: int,
    seed: int,
    rate_hz: float,
    max_steps: int | None,
    past_the_end: bool,
) -> Episode:
    env_seed, space_seed = (int(s) for s in np.random.SeedSequence([seed, number]).generate_state(2))
    observation, info = env.reset(seed=env_seed)
    env.action_space.seed(space_seed)
    begin = getattr(policy, "reset", None)
    if begin is not None:
        begin(env, np.random.default_rng([seed, number]))
    rows: dict[str, list[np.ndarray]] = defaultdict(list)
    done, step = False, 0
    while (past_the_end or not done) and (max_steps is None or step < max_steps):
        action = env.action_space.sample() if policy is None else _action(env, policy(observation))
        _keep(rows, specs, env, observation, action)
        observation, reward, terminated, truncated, info = env.step(action)
        rows[REWARD].append(np.array([reward], dtype=np.float32))
        done, step = terminated or truncated, step + 1
    streams = {name: _stream(spec, rows[name], rate_hz) for name, spec in specs.items()}
    success = info.get("success", info.get("is_success"))
    return Episode(
        name=f"episode_{number:06d}",
        streams=streams,
        success=None if success is None else bool(success),
        metadata={"environment": env.spec.id if env.spec else type(env.unwrapped).__name__, "seed": env_seed},
    )


def _action(env: gymnasium.Env, answer: Any) -> Any:
    """What the environment takes: a policy's own action, or the action that its vector stands for."""
    space = env.action_space
    own = isinstance(space, spaces.Box) or not isinstance(answer, np.ndarray) or space.contains(answer)
    if own or not has_fixed_size(space) or answer.shape != (spaces.flatdim(space),):
        return answer
    return to_action(space, answer)


def _keep(
    rows: dict[str, list[np.ndarray]],
    specs: dict[str, StreamSpec],
    env: gymnasium.Env,
    observation: Any,
    action: Any,
) -> None:
    seen, said = observation_parts(env.observation_space), action_texts(env.action_space)
    values = {name: part.read(observation) for name, part in seen.items() if name in specs}
    values |= {name: part.read(action) for name, part in said.items()}
    values["action"] = action_vector(env.action_space, action)
    if "state" in specs and "state" not in values:
        inner: Any = env.unwrapped
        values["state"] = np.asarray(inner.state(), dtype=np.float64)
    if CAMERA in specs and CAMERA not in values:
        values[CAMERA] = _drawn(env, specs[CAMERA].shape[0])
    for name, value in values.items():
        rows[name].append(np.array(value))  # a copy: environments may reuse their buffers


def _stream(spec: StreamSpec, rows: list[np.ndarray], rate_hz: float) -> Stream:
    """One sample per step, or, from a sensor faster than control, the burst since the step before."""
    times_s = np.arange(len(rows)) / rate_hz
    if rows[0].ndim == len(spec.shape):
        values = np.stack(rows)
        return Stream(spec, times_s, values.astype(object) if spec.kind == "text" else values)
    burst = np.concatenate(
        [
            t - np.arange(len(r) - 1, -1, -1) / (spec.rate_hz or rate_hz)
            for t, r in zip(times_s, rows, strict=True)
        ]
    )
    since_start = burst > -1e-9
    return Stream(spec, burst[since_start], np.concatenate(rows)[since_start])
