"""An engine without a thread or a network: what is submitted is served by `Bench.answers`."""

from __future__ import annotations

from typing import Any

import numpy as np

from forerun.serving.engine import Engine
from forerun.serving.passes import Passes
from forerun.serving.protocol import Open, Request, Step, View
from forerun.serving.registry import Limits
from forerun.serving.scheduler import Scheduler
from forerun.serving.starts import Start
from forerun.world_model import WorldModel
from tiny_worlds import ACTIONS, clip, world


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Bench:
    """A tiny world, its engine, and the replies of every client."""

    def __init__(self, slots: int = 80, max_rows: int = 64, shape: Any = None, **options: Any) -> None:
        self.model: WorldModel = options.pop("model", None) or world()
        self.replies: list[tuple[Any, dict[str, Any]]] = []
        self.clock = Clock()
        engine = options.pop("engine", "torch")
        passes = Passes(
            self.model, slots, max_rows, shape, rollback=options.pop("rollback", 16), engine=engine
        )
        self.engine = Engine(
            passes,
            lambda replies: self.replies.extend(replies),
            starts=[start(k) for k in range(4)],
            limits=options.pop("limits", Limits()),
            scheduler=options.pop("scheduler", Scheduler(max_rows=max_rows)),
            clock=self.clock,
            **options,
        )

    def answers(self, *requests: Request, client: str = "me") -> list[dict[str, Any]]:
        """Submit, serve all that waits, and take the replies."""
        for request in requests:
            self.engine.submit(client, request)
        self.engine.turn()
        while len(self.engine.scheduler) or self.engine.busy:
            self.clock.now_s += 0.05  # patience is over
            self.engine.turn()
        found, self.replies[:] = [reply for _, reply in self.replies], []
        return found

    def open(self, number: int = 0, client: str = "me", start: int = 0, **view: Any) -> dict[str, Any]:
        """A session; its first reply."""
        (reply,) = self.answers(Open(id=number, start=start, view=View(**view)), client=client)
        return reply

    def walk(self, number: int, ticks: int, first: int = 0, seed: int = 0) -> list[dict[str, Any]]:
        """Steps with actions that depend on the seed and the tick alone."""
        return [self.answers(step(number, first + t, seed))[0] for t in range(ticks)]


def start(seed: int) -> Start:
    """A recorded moment of two ticks."""
    seen = {name: part[0].numpy() for name, part in clip(1, 2, seed).items()}
    return Start(f"moment {seed}", seen, np.ones((1, ACTIONS), np.float32))


def step(number: int, seq: int, seed: int = 0) -> Step:
    """The action of a seed at a tick."""
    action = np.random.default_rng([seed, seq]).standard_normal(ACTIONS).astype(np.float32)
    return Step(id=number, seq=seq, action=action)
