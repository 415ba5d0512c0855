"""Students learn from an expert who knows what is hidden, in situations they get into themselves (DAgger).

The expert's answers depend on what nobody can see; regression makes of them what can be known from what has
been sensed so far. Ross, Gordon and Bagnell, 2011 (arXiv:1011.0686).

RUN/
  round0/ round1/ ...   episodes.npz (what was shown, what was wanted), checkpoint/ of the net after it
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from forerun.control.student import Student, Tiers, run
from forerun.tasks.touch import TouchWorlds
from forerun.training.learner import Batch
from forerun.training.trainer import TrainConfig, train


@dataclass(frozen=True, kw_only=True)
class ImitationConfig:
    """How long a student is taught."""

    rounds: int = 8
    """In the first the expert leads; then the student, and the expert says what it would have done."""
    steps: int = 60
    """Optimiser steps after each round,"""
    last_steps: int = 300
    """and after the last."""
    batch: int = 48
    window: int = 800
    """Steps of an episode that are learned from, counted from its beginning."""
    keep: int = 8
    """Newest rounds that are learned from."""
    learning_rate: float = 3e-3
    width: int = 48
    seed: int = 0


class ImitationLearner:
    """Squared error of turns on whole episodes; `forerun.training` runs it."""

    name = "imitation"

    def __init__(
        self, student: Student, features: Tensor, wanted: Tensor, weight: Tensor, config: ImitationConfig
    ) -> None:
        self.module, self.features, self.wanted, self.weight = student, features, wanted, weight
        self.config = config

    def batch(self, step: int) -> Batch:
        """Features (b, T, F), wanted turns (b, T, K) and weights (b, T) of a few episodes."""
        rng = np.random.default_rng([self.config.seed, len(self.features), step])
        rows = torch.from_numpy(rng.integers(len(self.features), size=self.config.batch))
        return {
            "features": self.features[rows],
            "wanted": self.wanted[rows],
            "weight": self.weight[rows],
        }

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        out, _ = self.module(batch["features"])
        error = (out - batch["wanted"]).square().mean(-1)
        return {"total": (error * batch["weight"]).mean()}

    def after_step(self) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        return {"config": vars(self.config), "episodes": len(self.features)}


Make = Callable[[Student | None, np.ndarray], Tiers]
"""The controller around a student; worlds where the mask (B,) is true follow the expert."""


def imitate(
    worlds: TouchWorlds,
    make: Make,
    tier: str,
    config: ImitationConfig,
    directory: Path,
    report: Callable[[int, dict[str, np.ndarray]], None] | None = None,
    critical: tuple[int, int] = (0, 0),
) -> Student:
    """Teach the student of one ``tier`` ("policy" or "fast") in rounds; resumes where it was stopped.

    Args:
        worlds: where it practises; round r uses seeds 10^6 + r B and on, which no trial ever uses.
        make: builds the controller for a student.
        report: told the round and its score.
        critical: from which step to which errors count four times, because most is decided there.
    """
    student: Student | None = None
    rounds: list[dict[str, np.ndarray]] = []
    for r in range(config.rounds):
        folder = directory / f"round{r}"
        episodes = _practise(worlds, make, tier, student, r, folder, report)
        rounds = [*rounds, episodes][-config.keep :]
        student = _study(student, rounds, config, r, folder, critical)
    assert student is not None
    return student.eval()


def _practise(
    worlds: TouchWorlds,
    make: Make,
    tier: str,
    student: Student | None,
    r: int,
    folder: Path,
    report: Callable[[int, dict[str, np.ndarray]], None] | None,
) -> dict[str, np.ndarray]:
    """Features (B, T, F) and wanted turns (B, T, K) of one round."""
    kept = folder / "episodes.npz"
    if kept.exists():
        with np.load(kept) as saved:
            return {k: saved[k] for k in ("features", "wanted")}
    led = np.full(worlds.count, student is None)
    controller = make(student, led)
    score = run(worlds, controller, range(10**6 + r * worlds.count, 10**6 + (r + 1) * worlds.count))
    if report is not None:
        report(r, score)
    trace = controller.traces[tier]
    episodes = {"features": np.stack(trace.features, 1), "wanted": np.stack(trace.wanted, 1)}
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "episodes.part.npz"
    np.savez(part, allow_pickle=False, **episodes)
    part.replace(kept)
    return episodes


def _study(
    student: Student | None,
    rounds: list[dict[str, np.ndarray]],
    config: ImitationConfig,
    r: int,
    folder: Path,
    critical: tuple[int, int],
) -> Student:
    features, weight = _stacked([e["features"] for e in rounds], config.window)
    wanted, _ = _stacked([e["wanted"] for e in rounds], config.window)
    weight[:, slice(*critical)] *= 4
    if student is None:
        torch.manual_seed(config.seed)
        student = Student(features.shape[-1], wanted.shape[-1], config.width)
        student.fit_scale(features[weight > 0])
    learner = ImitationLearner(student, features, wanted, weight, config)
    last = r == config.rounds - 1
    rate = config.learning_rate * (0.5 if last else 1 - r / config.rounds)
    schedule = TrainConfig(
        steps=config.last_steps if last else config.steps,
        learning_rate=rate,
        weight_decay=0.0,
        warmup=5,
        seed=config.seed + r,
    )
    train(learner, schedule, folder, title=f"round {r + 1} of {config.rounds}")
    return student


def _stacked(parts: list[np.ndarray], window: int) -> tuple[Tensor, Tensor]:
    """Episodes of different length (B, T, ...) as one tensor, padded at the end, and weights (N, T)."""
    longest = min(window, max(p.shape[1] for p in parts))
    out, weight = [], []
    for part in parts:
        used = part[:, :longest]
        gap = longest - used.shape[1]
        out.append(np.pad(used, ((0, 0), (0, gap), (0, 0))))
        weight.append(np.pad(np.ones(used.shape[:2], np.float32), ((0, 0), (0, gap))))
    return torch.from_numpy(np.concatenate(out)), torch.from_numpy(np.concatenate(weight))
