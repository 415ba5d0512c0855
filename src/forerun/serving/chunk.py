"""A step as it waits: one action for a live world, or a chunk of actions for a fan of candidates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from forerun.dynamics.state import State
from forerun.serving.passes import Passes
from forerun.serving.protocol import Refusal, Step
from forerun.serving.replies import observed
from forerun.serving.scheduler import Job
from forerun.serving.session import Session


@dataclass
class Chunk:
    """What is left to do of one step message.

    Args:
        action: (A,) of a live world, or None; of a fan (n, H, A), or None.
        follow: ``action`` is added to what the goal policy does, in the units of `WorldModel.action_bounds`.
        judge: ticks after which the distance to the goal is told; by default the last.
    """

    session: Session
    seq: int
    action: np.ndarray | None
    follow: bool = False
    judge: frozenset[int] = frozenset()
    brief: bool = False
    done: int = 0
    """Ticks so far."""
    distances: list[np.ndarray] = field(default_factory=list)
    taken: list[np.ndarray] = field(default_factory=list)
    """Actions of the goal policy, as they were carried out."""

    @classmethod
    def of(cls, session: Session, request: Step, actions: int) -> Chunk:
        """Checked against the session; else Refusal."""
        action = request.action
        if session.fan is None:
            if request.follow or (action is not None and action.shape != (actions,)):
                found = "a goal policy" if action is None else action.shape
                raise Refusal(
                    "bad_action", f"an action of {found} arrived for one world; expected ({actions},)"
                )
            return cls(session, request.seq, action)
        count = len(session.fan)
        if action is None:
            if request.follow:
                raise Refusal("bad_action", "'follow' needs an action to add, (n, H, A); it may be zeros")
            return cls(session, request.seq, None)
        if action.ndim == 2:
            action = action[:, None]
        if action.ndim != 3 or len(action) != count:
            raise Refusal(
                "bad_action",
                f"an action of {request.action.shape} arrived for {count} candidates; expected "  # type: ignore[union-attr]
                f"({count}, {actions}), or ({count}, ticks, {actions}) for a chunk",
            )
        if request.follow and session.goal is None:
            raise Refusal("bad_action", "'follow' was asked for without a goal; fork with a 'goal'")
        judge = frozenset(request.judge or (action.shape[1] - 1,))
        if max(judge) >= action.shape[1]:
            raise Refusal("bad_message", f"'judge' names tick {max(judge)} of {action.shape[1]}")
        return cls(session, request.seq, action, request.follow, judge, request.brief)

    @torch.inference_mode()
    def advance(self, passes: Passes) -> bool:
        """One tick of a fan; whether it was the last."""
        state, model = self.session.fan, passes.model
        assert state is not None
        if self.action is None:
            self.session.fan = model.step(state, None)
            self.done = 1
            return True
        action = torch.from_numpy(self.action[:, self.done]).to(passes.device)
        if self.follow:
            action = self._followed(passes, state, action)
        else:
            action = model.action_scale(action)
        after = model.step_standardised(state, action)
        self.session.fan = after
        if self.session.goal is not None and self.done in self.judge:
            goals = self.session.goal.expand(len(after), -1)
            self.distances.append(model.distance(after, goals).cpu().numpy())
        self.done += 1
        return self.done == self.action.shape[1]

    def _followed(self, passes: Passes, state: State, noise: torch.Tensor) -> torch.Tensor:
        """What the goal policy does, plus noise, within bounds: standardised (n, A)."""
        model, goal = passes.model, self.session.goal
        assert goal is not None
        low, high = passes.bounds
        wanted = model.goals.act(state.latents.flatten(1), goal.expand(len(state), -1)) + noise
        action = wanted.clamp(low, high)
        self.taken.append(action.cpu().numpy())
        return action

    def reply(self, passes: Passes, job: Job, now_s: float) -> dict[str, Any]:
        """What all candidates look like, and how far each is from the goal."""
        assert self.session.fan is not None
        reply: dict[str, Any] = {"type": "obs", "id": self.session.id}
        if not self.brief:
            seen = passes.look(self.session.fan)
            reply = observed(self.session, seen, slice(None)) | {"finite": seen.finite}
        reply |= {"seq": self.seq, "level": "full"}
        if self.distances:
            reply["distance"] = np.stack(self.distances, axis=1)
        if self.taken:
            reply["actions"] = np.stack(self.taken, axis=1)
        reply["timing"] = {
            "queue_ms": 1e3 * (now_s - job.arrived_s),
            "pass_ms": 0.0,
            "rows": job.rows,
            "late": now_s > job.deadline_s,
        }
        return reply
