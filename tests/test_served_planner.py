"""Planning on a server finds what planning in this process finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forerun.control.served import ServedPlanner
from forerun.imagination.planner import Planner, PlannerConfig
from forerun.serving.client import Refusal, connect
from forerun.types import ConfigError
from live_worlds import start
from served import served
from tiny_worlds import ACTIONS, world


@pytest.mark.parametrize("warm", [True, False])
def test_a_served_planner_chooses_what_a_planner_here_chooses(warm: bool) -> None:
    model, begin = world(), start(1)
    config = PlannerConfig(candidates=16, elites=4, iterations=3, warm_start=warm)
    goal = {name: part[-1] for name, part in start(2).context.items()}
    with torch.no_grad():
        seen = {name: torch.from_numpy(part)[None] for name, part in begin.context.items()}
        state = model.start(model.encode(seen), torch.ones(1, 1, ACTIONS))
        aim = model.goal(model.encode({n: torch.from_numpy(p)[None, None] for n, p in goal.items()})[:, 0])
        here = Planner(model, config, seed=3).plan(state, aim).actions[0].numpy()
    with served(model=world()) as live, connect(live.url) as server:
        there = ServedPlanner(server.open(start=1), config, seed=3).plan(goal)
        assert len(live.engine.registry.sessions) == 1  # candidates are gone
    np.testing.assert_allclose(there, here, atol=1e-4)


def test_what_cannot_be_planned_is_explained() -> None:
    with served() as live, connect(live.url) as server:
        with pytest.raises(ConfigError, match="distance alone"):
            ServedPlanner(server.open(), PlannerConfig(cost="latent"))
        with pytest.raises(Refusal, match="camera"):
            ServedPlanner(server.open()).plan({"arm.position": np.zeros(3, np.float32)})
