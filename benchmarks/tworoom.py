"""The field's TwoRoom yardstick under the audited protocol: at most 60 minutes of training.

    python benchmarks/tworoom.py --seed 0

See reaching.py for the protocol. Writes one JSON under benchmarks/results/.
"""

from __future__ import annotations

from reaching import MIX, Benchmark, main

from forerun.evaluation.demo import DemoPlan
from forerun.teach import Recipe

BENCHMARK = Benchmark(name="tworoom", plan=DemoPlan(env="forerun/TwoRoom-v0", policies=MIX, recipe=Recipe()))

if __name__ == "__main__":
    main(BENCHMARK)
