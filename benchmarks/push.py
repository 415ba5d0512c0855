"""Push a block to a goal pose: at most 30 minutes of training, and goals up to 100 steps away.

    python benchmarks/push.py --seed 0

See reaching.py for the protocol. Writes one JSON under benchmarks/results/.
"""

from __future__ import annotations

from reaching import Benchmark, main

from forerun.evaluation.demo import DemoPlan
from forerun.teach import Recipe

BENCHMARK = Benchmark(
    name="push", plan=DemoPlan(env="forerun/Push-v0", recipe=Recipe().scaled(2.5)), offsets=(50, 75, 100)
)

if __name__ == "__main__":
    main(BENCHMARK)
