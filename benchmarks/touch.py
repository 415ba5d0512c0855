"""What touch is worth in one contact task: one learner with and without it, between a script and an oracle.

    python benchmarks/touch.py --task LiftFragile --seed 0

Teaches a policy (50 Hz) for every set of senses, and a fast tier (500 Hz) above the task's law, from one
expert who knows what is hidden; then counts successes in worlds nobody has practised in. Writes one JSON,
and the fast tier to runs/touch: `src/forerun/assets` has it from there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console

from forerun.control.imitation import ImitationConfig, imitate
from forerun.control.senses import Senses, Sight
from forerun.control.student import FAST_MS, Student, Tiers, run, save_student
from forerun.control.virtual import Trials, usual_of
from forerun.evaluation.results import write_result
from forerun.evaluation.stats import wilson
from forerun.tasks.touch import TouchWorlds, laws, make_worlds
from forerun.tasks.touch.law import Law, Scripted

TRIALS_FROM, TUNED_ON = 5000, 2000
"""Seeds of the trials; scripts were tuned on others."""
BLIND, SLOW, FAST, NUMB = (
    Senses(),
    Senses(touch="slow"),
    Senses(touch="fast"),
    Senses(vision=False, proprio=False, touch="fast"),
)
ROUNDS = {"policy": ImitationConfig(), "fast": ImitationConfig(window=1700, rounds=12, last_steps=1200)}


@dataclass(kw_only=True)
class TouchBenchmark:
    """See the top of this file."""

    task: str = "LiftFragile"
    seed: int = 0
    trials: int = 200
    worlds: int = 96
    """How many practise at a time."""
    out: Path = Path("runs/touch")

    def __call__(self) -> None:
        torch.set_num_threads(1)
        began = time.monotonic()
        self.law = laws(self._id)
        self.folder = self.out / self.task.lower() / f"seed{self.seed}"
        self.sight = self._see()
        makers = self._makers()
        minutes = (time.monotonic() - began) / 60
        rows = {name: self._trials(make, numb) for name, (make, numb) in makers.items()}
        metrics: dict[str, Any] = {**rows, "training_minutes": round(minutes, 1), "gap": _gap(rows)}
        settings = {
            "task": self._id,
            "practice_worlds": self.worlds,
            "rounds": {k: vars(v) for k, v in ROUNDS.items()},
        }
        path = write_result(
            f"touch-{self.task.lower()}", metrics, settings=settings, seed=self.seed, n=self.trials
        )
        print(
            json.dumps(
                {name: row["success"] for name, row in rows.items()} | {"gap": metrics["gap"]}, indent=1
            )
        )
        print(path)

    @property
    def _id(self) -> str:
        return f"forerun/{self.task}-v0"

    def _see(self) -> Sight:
        """Principal components of pictures of scripted and random episodes."""
        worlds = make_worlds(self._id, 12, camera=True)
        pictures = []
        for k, controller in enumerate((self.law.scripted(), Random(self.seed))):
            worlds.reset(range(3 * 10**6 + 12 * k, 3 * 10**6 + 12 * (k + 1)))
            controller.reset(worlds)
            while not worlds.over:
                if worlds.ms % 99 == 0:
                    pictures.append(worlds.read("camera").values)
                worlds.tick(controller.command(worlds))
        return Sight.fit(np.concatenate(pictures))

    def _makers(self) -> dict[str, tuple[Callable[[], Any], bool]]:
        """Every row of the table: how to make its controller, and whether touch is silenced in the trials."""
        above, alone = self.law.scripted().law.__class__, Law
        fast = self._reflex(above)
        policies = {
            "vision and proprioception": (alone, self.law.ALONE, BLIND),
            "and touch at 30 Hz": (alone, self.law.ALONE, SLOW),
            "and touch with fast tier": (above, self.law.UNDER_LAW, FAST),
            "touch only": (above, self.law.UNDER_LAW, NUMB),
        }
        made: dict[str, tuple[Callable[[], Any], bool]] = {}
        for name, (law, knobs, senses) in policies.items():
            reflex = fast if law is above else None
            policy = self._policy(name, law, knobs, senses) if knobs else None
            made[name] = (
                lambda law=law, knobs=knobs, senses=senses, policy=policy, reflex=reflex: Tiers(
                    law(), knobs, senses, policy, reflex, self.sight
                ),
                False,
            )
        made["touch silenced in the trials"] = (made["and touch with fast tier"][0], True)
        made["scripted"] = (self.law.scripted, False)
        made["oracle"] = (self.law.oracle, False)
        made["planned, nothing felt"] = (lambda: Scripted(lambda w: w.nominal(), Law()), False)
        made["random"] = (lambda: Random(self.seed), False)
        return made

    def _policy(self, name: str, law: type[Law], knobs: Any, senses: Senses) -> Student:
        worlds = make_worlds(self._id, self.worlds, camera=senses.vision)
        config = replace(ROUNDS["policy"], seed=self.seed)

        def make(student: Student | None, led: np.ndarray) -> Tiers:
            return Tiers(law(), knobs, senses, student, None, self.sight, self.law.expert, led)

        return imitate(worlds, make, "policy", config, self.folder / name.replace(" ", "-"), _report(name))

    def _reflex(self, law: type[Law]) -> Student | None:
        if not self.law.LEARNED_REFLEX:
            return None
        worlds = make_worlds(self._id, self.worlds)
        config = replace(ROUNDS["fast"], seed=self.seed)

        def make(student: Student | None, led: np.ndarray) -> Tiers:
            return Tiers(law(), (), FAST, None, student, None, self.law.expert, led)

        critical = tuple(max(0, ms - law.from_ms) // FAST_MS for ms in law.critical_ms)
        student = imitate(worlds, make, "fast", config, self.folder / "fast", _report("fast tier"), critical)
        weights = {name: part.numpy() for name, part in student.state_dict().items()}
        usual = usual_of(Trials(task=self._id, seeds=range(1), weights=weights))
        path = self.folder / f"reflex-{self.task.lower()}.safetensors"
        save_student(student, path, law.knobs, self._id, (usual.low, usual.high))
        return student

    def _trials(self, make: Callable[[], Any], numb: bool) -> dict[str, Any]:
        """Success with its interval, and percentiles of every other figure."""
        parts = []
        for first in range(0, self.trials, 100):
            worlds = make_worlds(self._id, min(100, self.trials - first), camera=_looks(make()))
            worlds.numb = numb
            parts.append(run(worlds, make(), range(TRIALS_FROM + first, TRIALS_FROM + first + worlds.count)))
        score = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
        return _summary(score)


class Random:
    """Actions drawn uniformly, held for 0.2 s."""

    def __init__(self, seed: int) -> None:
        self.rng, self.law = np.random.default_rng(seed), Law()

    def reset(self, worlds: TouchWorlds) -> None:
        pass

    def command(self, worlds: TouchWorlds) -> np.ndarray:
        if worlds.ms % 200 == 0:
            low, high = worlds.action_spec.low, worlds.action_spec.high
            self.action = self.rng.uniform(low, high, (worlds.count, len(low or ())))
        return worlds.follow(self.action)


def _looks(controller: Any) -> bool:
    return isinstance(controller, Tiers) and bool(controller.knobs) and controller.senses.vision


def _report(name: str) -> Callable[[int, dict[str, np.ndarray]], None]:
    def say(r: int, score: dict[str, np.ndarray]) -> None:
        Console(stderr=True).print(f"{name}, round {r + 1}: success {score['success'].mean():.2f}")

    return say


def _summary(score: dict[str, np.ndarray]) -> dict[str, Any]:
    share = wilson(int(score["success"].sum()), len(score["success"]))
    out: dict[str, Any] = {"success": {"estimate": share.estimate, "low": share.low, "high": share.high}}
    for name, values in score.items():
        if name == "success":
            continue
        if values.dtype == bool:
            out[name] = round(float(values.mean()), 4)
        else:
            finite = values[np.isfinite(values)]
            out[name] = {"finite": len(finite)}
            if len(finite):
                middle, high = np.percentile(finite, (50, 95))
                out[name] |= {"median": float(middle), "p95": float(high)}
    return out


def _gap(rows: dict[str, Any]) -> dict[str, float]:
    """How much of the gap between seeing and knowing touch closes."""
    at = {name: row["success"]["estimate"] for name, row in rows.items()}
    blind, oracle = at["vision and proprioception"], at["oracle"]
    whole = max(oracle - blind, 1e-9)
    return {
        "vision_over_oracle": blind / max(oracle, 1e-9),
        "closed_by_touch_at_30_hz": (at["and touch at 30 Hz"] - blind) / whole,
        "closed_with_fast_tier": (at["and touch with fast tier"] - blind) / whole,
    }


if __name__ == "__main__":
    tyro.cli(TouchBenchmark)()
