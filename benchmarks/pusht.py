"""The field's Push-T yardstick under the audited protocol: at most 60 minutes of training, and farther goals.

    python benchmarks/pusht.py --seed 0

See reaching.py for the protocol. Writes one JSON under benchmarks/results/.
"""

from __future__ import annotations

from dataclasses import replace

from reaching import Benchmark, main

from forerun.dynamics.heads import GoalConfig
from forerun.evaluation.demo import DemoPlan
from forerun.imagination.planner import PlannerConfig
from forerun.teach import Recipe

RECIPE = replace(
    Recipe().scaled(5.0),
    dynamics=Recipe().scaled(6.0).dynamics,
    goals=Recipe().scaled(17.0).goals,  # near a goal the distance is learned last (LOG.md)
    goal=GoalConfig(near=0.5),
)
BENCHMARK = Benchmark(
    name="pusht",
    plan=DemoPlan(
        env="forerun/PushT-v0",
        episodes=2000,
        recipe=RECIPE,
        planner=PlannerConfig(candidates=128, elites=12, horizon=8, cost="both", latent_weight=10.0),
    ),
    offsets=(50, 75, 100),
)

if __name__ == "__main__":
    main(BENCHMARK)
