"""Planning without a simulator: shown a picture of what came later, who does first what was done?

At moments of held-out episodes everybody is given the picture some ticks ahead as a goal, and their first
action stands beside the recorded one. Several actions may lead to a goal, so nobody need agree
always. Beside them stand floors that look at no goal:

    previous action   what was done a tick ago, again: hard to beat where actions change slowly
    mean action       of the training episodes: an error of about 1 by definition
    another's action  of any moment of the training episodes

Letters: B moments, T ticks of context, A action size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from forerun.data.cache import TickCache
from forerun.data.window import gather
from forerun.evaluation.prediction import clip_starts
from forerun.evaluation.stats import Interval, bootstrap_ratio
from forerun.imagination.planner import Planner, PlannerConfig
from forerun.world_model import WorldModel

BATCH, TIMED = 8, 30
"""Moments that are planned for at once, and single decisions behind a median."""
METHODS: Mapping[str, Literal["icem", "policy"]] = {"planner": "icem", "policy alone": "policy"}
ABOUT: Mapping[str, str] = {
    "planner": "imagines futures and takes the first action of the best",
    "policy alone": "the model's own goal policy, without imagining",
    "previous action": "does again what was done a tick ago",
    "mean action": "the average of the training recordings",
    "another's action": "what was done at any moment of the training recordings",
}


@dataclass(frozen=True, kw_only=True)
class FirstActions:
    """How far everybody's first actions are from those recorded."""

    seconds: float
    """How far ahead the goal pictures lie."""
    errors: dict[str, Interval]
    """Root mean square over moments and channels that move, in units of each channel's spread."""
    ms_per_decision: dict[str, float]
    """Median wall-clock from picture to action, one moment alone, of those who decide."""
    moments: int
    episodes: int

    def to_json(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "moments": self.moments,
            "episodes": self.episodes,
            "error_in_spreads": {name: error._asdict() for name, error in self.errors.items()},
            "ms_per_decision": self.ms_per_decision,
        }


@torch.inference_mode()
def first_actions(
    model: WorldModel,
    cache: TickCache,
    episodes: np.ndarray | Sequence[int],
    *,
    train_episodes: np.ndarray,
    ticks: int,
    context: int = 3,
    moments: int = 128,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> FirstActions | None:
    """Plan towards pictures ``ticks`` ahead from moments spread evenly over ``episodes``; carry nothing out.

    Returns:
        None if no channel of the action moves in the training episodes: then there is nothing to tell apart.
        Intervals are over episodes; a single one gives none.

    Raises:
        DataError: no episode has ``context + ticks`` ticks.
        ConfigError: the model was trained without actions.
    """
    model.eval()
    planners = {name: Planner(model, PlannerConfig(method=method), seed) for name, method in METHODS.items()}
    known = cache.streams["action"][cache.rows_of(train_episodes)]
    spread = known.std(0)
    moving = spread > 1e-6
    if not moving.any():
        return None
    asked = _Moments(model, cache, clip_starts(cache, episodes, context + ticks, moments), context, ticks)
    chosen = {name: asked.answer(planner, progress) for name, planner in planners.items()}
    actions, random = np.asarray(cache.streams["action"]), np.random.default_rng(seed)
    chosen["previous action"] = actions[asked.now - 1]
    chosen["mean action"] = np.repeat(known.mean(0)[None], len(asked.now), axis=0)
    chosen["another's action"] = known[random.integers(0, len(known), len(asked.now))]
    owner = np.searchsorted(cache.episode_starts, asked.starts, side="right") - 1
    return FirstActions(
        seconds=ticks * cache.tick_s,
        errors={
            name: _error((did - actions[asked.now])[:, moving] / spread[moving], owner)
            for name, did in chosen.items()
        },
        ms_per_decision={name: asked.milliseconds(planner) for name, planner in planners.items()},
        moments=len(asked.starts),
        episodes=len(np.unique(owner)),
    )


@dataclass(frozen=True)
class _Moments:
    """What everybody is asked: from the newest of a few ticks towards a picture that comes later."""

    model: WorldModel
    cache: TickCache
    starts: np.ndarray
    """(B,) first rows of the contexts."""
    context: int
    ticks: int

    @property
    def now(self) -> np.ndarray:
        """(B,) rows to act at."""
        return self.starts + self.context - 1

    def answer(self, planner: Planner, progress: Callable[[int, int], None] | None) -> np.ndarray:
        """(B, A) first actions, in the robot's own units."""
        parts: list[np.ndarray] = []
        for starts in np.array_split(self.starts, -(-len(self.starts) // BATCH)):
            parts.append(self._plan(planner, starts))
            if progress is not None:
                progress(sum(map(len, parts)), len(self.starts))
        return np.concatenate(parts)

    def _plan(self, planner: Planner, starts: np.ndarray) -> np.ndarray:
        between = range(self.context - 1)
        before = np.stack([self.cache.streams["action"][starts + t] for t in between], 1) if between else None
        latents = self._latents(starts, self.context)
        state = self.model.start(latents, None if before is None else torch.from_numpy(before))
        return planner.plan(state, self._goal(starts + self.context - 1)).action.numpy()

    def _goal(self, now: np.ndarray) -> Tensor:
        return self.model.goal(self._latents(now + self.ticks, 1)[:, 0])

    def _latents(self, rows: np.ndarray, length: int) -> Tensor:
        seen = gather(self.cache, rows, length, [s.name for s in self.model.config.streams])
        return self.model.encode({name: torch.from_numpy(values) for name, values in seen.items()})

    def milliseconds(self, planner: Planner) -> float:
        """Median wall-clock of a decision about one moment: its newest picture encoded, then planned from."""
        goal, seconds = self._goal(self.now[:1]), []
        for row in np.resize(self.now, TIMED):
            began = time.perf_counter()
            planner.plan(self.model.start(self._latents(row[None], 1)), goal)
            seconds.append(time.perf_counter() - began)
        return 1000 * float(np.median(seconds))


def _error(difference: np.ndarray, owner: np.ndarray) -> Interval:
    """Root mean square of (B, A), with its interval over the episodes that the moments belong to."""
    squares, which = np.square(difference).mean(1), np.unique(owner, return_inverse=True)[1]
    mean = bootstrap_ratio(np.bincount(which, squares), np.bincount(which))
    return Interval(*np.sqrt(mean).tolist())
