"""The field's Push-T yardstick under the audited protocol: at most 60 minutes of training.

    python benchmarks/pusht.py --seed 0

See reaching.py for the protocol. Writes one JSON under benchmarks/results/.
"""

from __future__ import annotations

from reaching import MIX, Benchmark, main

from forerun.evaluation.demo import DemoPlan
from forerun.teach import Recipe

BENCHMARK = Benchmark(
    name="pusht",
    plan=DemoPlan(env="forerun/PushT-v0", episodes=600, policies=MIX, recipe=Recipe().scaled(1.5)),
)

if __name__ == "__main__":
    main(BENCHMARK)
