"""Bring a cube to a place on the table or in the air: at most 30 minutes of training.

    python benchmarks/pickplace.py --seed 0

See reaching.py for the protocol. Writes one JSON under benchmarks/results/.
"""

from __future__ import annotations

from reaching import MIX, Benchmark, main

from forerun.evaluation.demo import DemoPlan
from forerun.teach import Recipe

BENCHMARK = Benchmark(
    name="pickplace", plan=DemoPlan(env="forerun/PickPlace-v0", policies=MIX, recipe=Recipe().scaled(2.0))
)

if __name__ == "__main__":
    main(BENCHMARK)
