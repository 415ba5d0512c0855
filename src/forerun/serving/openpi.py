"""Policies served in openpi's message form, rolled out inside a served world. Needs no torch.

with connect("ws://robot-world:8600") as server, OpenpiPolicy("ws://policy:8000") as policy:
    names = {"camera": "observation/image", "arm.position": "observation/state"}
    done = rollout(server.open(0, picture="raw"), policy, 100, rename=names, extra={"prompt": "lift the cup"})

In this form the server speaks first, with a map about itself. Then each observation, a map of arrays and
texts, is answered with ``{"actions": (H, A), ...}``, packed as `forerun.serving.messages` does; a text frame
is the traceback of a failure.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from forerun.serving.client import Observation, ServerGoneError, World
from forerun.serving.messages import pack, unpack
from forerun.types import ConfigError, Error, ShapeError, require

INTERNAL_ERROR = 1011


class PolicyError(Error, RuntimeError):
    """A policy server failed at an observation, or answered without actions."""


class Policy(Protocol):
    """Whatever answers an observation with a chunk of actions."""

    def infer(self, observation: Mapping[str, Any]) -> Mapping[str, Any]:
        """``{"actions": (H, A), ...}``"""
        ...


class OpenpiPolicy:
    """A client of a policy server.

    Args:
        url: such as ``ws://127.0.0.1:8000``.
        key: sent as ``Authorization: Api-Key KEY``.
        timeout_s: for an answer; the first one of a large policy may take long.

    Raises:
        ServerGoneError: nobody answers there.
    """

    def __init__(self, url: str, key: str | None = None, timeout_s: float = 60.0) -> None:
        sync: Any = require("websockets.sync.client", "serve", "the client of a policy")
        headers = {"Authorization": f"Api-Key {key}"} if key else None
        self.timeout_s, self._open = timeout_s, ExitStack()
        try:
            meeting = sync.connect(url, additional_headers=headers, max_size=None, compression=None)
            self._socket = self._open.enter_context(meeting)
        except Exception as cause:
            raise ServerGoneError(f"no policy server answers at {url}: {cause}. Start it first") from cause
        self.metadata: dict[str, Any] = self._receive()
        """What the server said about itself."""

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to an observation.

        Raises:
            PolicyError: the policy failed; the message is what its server says.
            ServerGoneError: the connection is lost, or no answer came in time.
        """
        try:
            self._socket.send(pack(dict(observation)))
        except ShapeError:
            raise
        except Exception as cause:
            raise ServerGoneError(f"the policy server is gone: {cause}") from cause
        return self._receive()

    def reset(self) -> None:
        """A new episode; these servers keep nothing of the last one."""

    def close(self) -> None:
        """End the connection."""
        self._open.close()

    def __enter__(self) -> OpenpiPolicy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self) -> dict[str, Any]:
        try:
            data = self._socket.recv(timeout=self.timeout_s)
        except TimeoutError as cause:
            raise ServerGoneError(f"the policy server did not answer in {self.timeout_s:g} s") from cause
        except Exception as cause:
            raise ServerGoneError(f"the policy server is gone: {cause}") from cause
        if isinstance(data, str):
            raise PolicyError(f"the policy failed at this observation; its server says:\n{data}")
        answer = unpack(data)
        if not isinstance(answer, dict):
            raise PolicyError(f"the policy server answered with a {type(answer).__name__}; expected a map")
        return answer


@dataclass(frozen=True)
class Rollout:
    """What a policy did in a world, T ticks of it."""

    observations: list[Observation]
    """T + 1; the first is what the policy began from."""
    actions: np.ndarray
    """(T, A) in the robot's own units."""
    infer_s: np.ndarray
    """(chunks,) seconds from an observation to its answer, the way there and back included."""


def rollout(
    world: World,
    policy: Policy,
    steps: int,
    *,
    rename: Mapping[str, str],
    extra: Mapping[str, Any] | None = None,
    execute: int | None = None,
) -> Rollout:
    """Let a policy act in a served world.

    Args:
        world: open, and with ``picture="raw"`` if the policy looks at a camera.
        steps: T.
        rename: from the world's streams to the policy's names; the policy is sent these and no others.
        extra: sent along unchanged, such as ``{"prompt": "lift the cup"}``.
        execute: actions of each chunk that are carried out before the policy is asked again; None for all.

    Raises:
        ConfigError: ``rename`` names a stream that is not there, or ``execute`` is more than a chunk has.
        ShapeError: the policy's actions are not as wide as the world's.
        PolicyError, ServerGoneError: as in `OpenpiPolicy.infer`.
    """
    if steps < 1 or (execute is not None and execute < 1):
        raise ConfigError(f"steps is {steps} and execute is {execute}; expected 1 or more of each")
    look, observations = _Look(rename, extra), [world.observation]
    actions: list[np.ndarray] = []
    infer_s: list[float] = []
    while len(actions) < steps:
        message, began = look(world.observation), time.perf_counter()
        answer = policy.infer(message)
        infer_s.append(time.perf_counter() - began)
        for action in _chunk(world, answer, execute)[: steps - len(actions)]:
            observations.append(world.step(action))
            actions.append(action)
    return Rollout(observations, np.stack(actions), np.array(infer_s))


class _Look:
    """Observations of a world as a policy names them."""

    def __init__(self, rename: Mapping[str, str], extra: Mapping[str, Any] | None) -> None:
        self.rename, self.extra = rename, dict(extra or {})
        self._pictures: dict[str, Any] = {}

    def __call__(self, seen: Observation) -> dict[str, Any]:
        self._pictures |= seen.picture or {}  # a busy server leaves pictures out; then the last one stands
        known = seen.streams | self._pictures
        if unknown := [name for name in self.rename if name not in known]:
            raise ConfigError(
                f"'rename' names {unknown[0]!r}; this world was opened with {', '.join(sorted(known))}. "
                "A camera is there only if it was opened with picture='raw'"
            )
        if packed := [name for name in self.rename if isinstance(known[name], bytes)]:
            raise ConfigError(
                f"the pictures of {packed[0]!r} come as JPEG; open the world with picture='raw'"
            )
        return {there: known[here] for here, there in self.rename.items()} | self.extra


def _chunk(world: World, answer: Mapping[str, Any], execute: int | None) -> np.ndarray:
    """(k, A) that are to be carried out."""
    spec = world.server.action
    if spec is None:
        raise ConfigError("this world was learned from video without actions; no policy can act in it")
    if "actions" not in answer:
        raise PolicyError(f"the policy answered with {sorted(answer)}; expected 'actions', (H, {spec.size})")
    found = np.asarray(answer["actions"], np.float32)
    if found.ndim != 2 or found.shape[1] != spec.size or not len(found):
        raise ShapeError(
            f"the policy's actions have shape {found.shape}; this world takes (H, {spec.size}): "
            f"{', '.join(spec.names)} in {spec.unit}"
        )
    if execute is not None and execute > len(found):
        raise ConfigError(f"{execute} actions of each chunk were to be carried out; it has {len(found)}")
    return found[:execute]


@contextmanager
def policy_server(
    infer: Callable[[dict[str, Any]], Mapping[str, Any]],
    metadata: Mapping[str, Any] | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[str]:
    """Serve a policy in this form, in threads, until the block ends; its ``ws://`` address.

    For tests and small policies: connections are answered at once, each in a thread of its own.

    Args:
        infer: from an observation to ``{"actions": (H, A), ...}``.
        metadata: what the server says about itself.
        port: 0 for any that is free.
    """
    sync: Any = require("websockets.sync.server", "serve", "a policy server")

    def attend(socket: Any) -> None:
        _attend(socket, infer, dict(metadata or {}))

    with sync.serve(attend, host, port, compression=None, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever, name="forerun-policy", daemon=True)
        thread.start()
        yield f"ws://{host}:{server.socket.getsockname()[1]}"
    thread.join()


def _attend(socket: Any, infer: Callable[[dict[str, Any]], Mapping[str, Any]], about: dict[str, Any]) -> None:
    socket.send(pack(about))
    for data in socket:
        began = time.perf_counter()
        try:
            answer = dict(infer(unpack(data)))
            answer["server_timing"] = {"infer_ms": 1e3 * (time.perf_counter() - began)}
            reply = pack(answer)
        except Exception:  # openpi tells its client all about it, then hangs up
            socket.send(traceback.format_exc())
            socket.close(INTERNAL_ERROR, "the policy failed; see the frame before")
            return
        socket.send(reply)
