"""One loop for everything that learns. Kill it at any moment; the same command continues bit for bit.

Exact resume is by construction: a batch is a pure function of its step, all randomness of a step is
seeded by (seed, step), and weights and optimiser moments are saved together, atomically.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from forerun import checkpoint
from forerun.training.learner import Batch, Learner
from forerun.training.log import RunLog
from forerun.types import CheckpointError, ConfigError


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One stage of training."""

    steps: int
    learning_rate: float = 1e-3
    """Peak, reached after the warm-up; decays by a cosine to a twentieth."""
    weight_decay: float = 1e-3
    warmup: int = 50
    clip: float = 1.0
    """Largest gradient norm."""
    seed: int = 0
    log_every: int = 20
    save_every: int = 500
    """Steps between checkpoints; a kill costs at most this many."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.save_every < 1 or self.log_every < 1:
            raise ConfigError(
                f"steps={self.steps}, save_every={self.save_every}, log_every={self.log_every}: each must be >= 1"
            )


def train(
    learner: Learner,
    config: TrainConfig,
    directory: Path,
    *,
    on_save: Callable[[int], None] | None = None,
    console: Console | None = None,
) -> dict[str, float]:
    """Train until ``config.steps``, resuming from ``directory`` if an earlier run left a checkpoint there.

    Args:
        learner: what to train; its module is changed in place.
        directory: holds ``checkpoint/`` (weights, moments, step) and ``metrics.jsonl``.
        on_save: called with the step after each checkpoint (a video of what is imagined, say).

    Returns:
        The last logged metrics; ``data_wait`` is the share of time spent waiting for batches.

    Raises:
        CheckpointError: the checkpoint belongs to other settings.
    """
    optimizer = _optimizer(learner.module, config)
    identity = {"train": asdict(config), "learner": learner.describe()}
    step = _resume(learner, optimizer, directory / "checkpoint", identity)
    learner.module.train()
    metrics: dict[str, float] = {}
    clock = _Clock()
    log = RunLog(directory, learner.name, config.steps, resumed_at=step, console=console)
    with log, ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        coming = pool.submit(learner.batch, step)
        while step < config.steps:
            batch = clock.wait_for(coming)
            if step + 1 < config.steps:
                coming = pool.submit(learner.batch, step + 1)
            losses = _update(learner, optimizer, batch, config, step)
            step += 1
            if step % config.log_every == 0 or step == config.steps:
                metrics = {k: float(v.detach()) for k, v in losses.items()}
                _check_finite(metrics, step, learner.name)
                metrics |= clock.lap(config.log_every)
                log.write(step, metrics)
            if step % config.save_every == 0 or step == config.steps:
                _save(learner, optimizer, directory / "checkpoint", identity, step)
                if on_save is not None:
                    learner.module.eval()
                    on_save(step)
                    learner.module.train()
                clock.restart()
    learner.module.eval()
    return metrics


def _optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    trainable = [p for p in module.parameters() if p.requires_grad]
    matrices = [p for p in trainable if p.ndim >= 2]
    others = [p for p in trainable if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99))


def _update(
    learner: Learner, optimizer: torch.optim.AdamW, batch: Batch, config: TrainConfig, step: int
) -> dict[str, Tensor]:
    torch.manual_seed(config.seed * 1_000_003 + step)
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * schedule(step, config)
    losses = learner.loss(batch)
    optimizer.zero_grad(set_to_none=True)
    losses["total"].backward()
    nn.utils.clip_grad_norm_(learner.module.parameters(), config.clip)
    optimizer.step()
    learner.after_step()
    return losses


def schedule(step: int, config: TrainConfig) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine to a twentieth."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / config.steps)))


class _Clock:
    """Where the time goes: computing, or waiting for data."""

    def __init__(self) -> None:
        self.waited = 0.0
        self.restart()

    def restart(self) -> None:
        self.began, self.waited, self.steps = time.perf_counter(), 0.0, 0

    def wait_for(self, coming: Future[Batch]) -> Batch:
        before = time.perf_counter()
        batch = coming.result()
        self.waited += time.perf_counter() - before
        self.steps += 1
        return batch

    def lap(self, _: int) -> dict[str, float]:
        elapsed = max(time.perf_counter() - self.began, 1e-9)
        out = {"steps_per_s": self.steps / elapsed, "data_wait": self.waited / elapsed}
        self.restart()
        return out


def _check_finite(metrics: dict[str, float], step: int, name: str) -> None:
    bad = [k for k, v in metrics.items() if not math.isfinite(v)]
    if bad:
        raise ConfigError(
            f"the loss of '{name}' is not a number at step {step} ({', '.join(bad)}). The last checkpoint is intact: "
            "lower the learning rate, or look for odd values with forerun data doctor, and run the command again."
        )


def _save(
    learner: Learner, optimizer: torch.optim.AdamW, directory: Path, identity: dict[str, Any], step: int
) -> None:
    tensors = {f"module.{k}": v for k, v in learner.module.state_dict().items()}
    for i, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": torch.as_tensor(v) for k, v in values.items()}
    checkpoint.save(directory, tensors, {"step": step, "identity": identity})


def _resume(learner: Learner, optimizer: torch.optim.AdamW, directory: Path, identity: dict[str, Any]) -> int:
    if not directory.exists():
        return 0
    tensors, config = checkpoint.load(directory)
    if config.get("identity") != identity:
        raise CheckpointError(
            f"this run directory holds '{learner.name}' trained with other settings: {_difference(config, identity)}. "
            f"Use the same settings to continue, or another --out to start anew. Path: {directory}"
        )
    module = {k.removeprefix("module."): v for k, v in tensors.items() if k.startswith("module.")}
    checkpoint.load_into(learner.module, module, directory)
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            moments.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return int(config["step"])


def _difference(config: dict[str, Any], identity: dict[str, Any]) -> str:
    old = config.get("identity") or {}
    flat = [(f"{part}.{k}", old.get(part, {}).get(k), v) for part in identity for k, v in identity[part].items()]
    changed = [f"{k} was {was}, is {now}" for k, was, now in flat if was != now]
    return "; ".join(changed[:4]) or "unknown settings"
