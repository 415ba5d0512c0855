"""Learn a real humanoid's world from its recordings and measure what it foresees on held-out episodes.

    python benchmarks/real_robot.py --data ../shared/data/unitree_g1_small_lerobot_v21

Trains at size xs with the standard recipe (at most 30 minutes on two cores; a killed run resumes), then
writes the error on changed pixels one second ahead over copy-last, and the loss with shuffled actions over
the loss, both with intervals over held-out episodes, as one JSON under benchmarks/results/.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from forerun.cli.runs import open_run
from forerun.cli.train import Train
from forerun.evaluation.errors import CHANGED_PIXELS, COPY, MEAN, MODEL, NEAREST, RANDOM, Prediction
from forerun.evaluation.results import write_result

BEGUN = "run.json"
"""What training writes first."""


@dataclass(frozen=True, kw_only=True)
class RealRobot:
    """See the top of this file."""

    data: Path = Path("../shared/data/unitree_g1_small_lerobot_v21")
    out: Path = Path("runs/real-robot")
    seed: int = 0
    threads: int = 1
    budget: float = 2.5
    """Times the steps of the default recipe; this takes some 25 minutes on one core."""

    def __call__(self) -> None:
        fresh = not (self.out / BEGUN).exists()
        Train(data=self.data, out=self.out, seed=self.seed, threads=self.threads, budget=self.budget)()
        run = open_run(self.out)
        found = Prediction.from_json(json.loads((self.out / "prediction.json").read_text()))
        errors = {
            name: found.error(CHANGED_PIXELS, name, 1.0) for name in (MODEL, COPY, MEAN, NEAREST, RANDOM)
        }
        metrics: dict[str, Any] = {
            "ratio": found.ratio(CHANGED_PIXELS, 1.0),
            "ratio_to_mean": found.ratio(CHANGED_PIXELS, 1.0, MEAN),
            "shuffled_ratio": found.shuffled_ratio(1.0),
            "changed_pixel_error": errors,
            "clips": found.num_clips,
        }
        if fresh:
            metrics["training_minutes"] = training_minutes(self.out)
        path = write_result(
            "real-robot",
            metrics,
            settings={
                "data": self.data.resolve().name,
                "tick_s": found.tick_s,
                "context": found.context,
                "recipe": run.recipe,
                "model": run.kind,
            },
            seed=self.seed,
            n=len(found.episodes),
            data_hash=run.data_hash,
        )
        print(path.read_text())


def training_minutes(run: Path) -> float:
    """From the first file of a run that was not interrupted to its model."""
    ended, began = ((run / name).stat().st_mtime for name in ("model/config.json", BEGUN))
    return (ended - began) / 60


if __name__ == "__main__":
    tyro.cli(RealRobot)()
