"""Play a world forward: from a recorded start with recorded or chosen actions.

Letters: B rows, T context ticks, H imagined ticks, A action size, N x D latents.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from forerun.world_model import State, WorldModel

Policy = Callable[[State], Tensor]
"""From imagined states to actions (B, A), in the robot's own units."""


@torch.inference_mode()
def imagine(model: WorldModel, state: State, actions: Tensor | Policy | None, horizon: int) -> list[State]:
    """H states that follow ``state``, one per tick.

    Args:
        actions: (B, H, A) recorded or planned, in the robot's own units; or a policy that looks at each
            imagined state; or None for a world without actions.
        horizon: H ticks.
    """
    states = []
    for t in range(horizon):
        if actions is None:
            action = None
        else:
            action = actions[:, t] if isinstance(actions, Tensor) else actions(state)
        state = model.step(state, action)
        states.append(state)
    return states
