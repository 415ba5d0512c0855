"""One loop for everything that learns. Kill it at any moment; the same command continues bit for bit.

Exact resume is by construction: a batch is a pure function of its step, all randomness of a step is
seeded by (seed, step), and weights and optimiser moments are saved together, atomically.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
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
from forerun.types import CheckpointError, ConfigError, DataError


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
                f"steps is {self.steps}, save_every {self.save_every} and log_every {self.log_every}; each "
                "must be at least 1"
            )


SAVE_S = 30.0
"""A run that is killed loses at most so many seconds, and ``save_every`` steps."""


def train(
    learner: Learner,
    config: TrainConfig,
    directory: Path,
    *,
    title: str | None = None,
    on_save: Callable[[int], None] | None = None,
    console: Console | None = None,
) -> dict[str, float]:
    """Train until ``config.steps``, resuming from ``directory`` if an earlier run left a checkpoint there.

    Args:
        learner: what to train; its module is changed in place.
        directory: holds ``checkpoint/`` (weights, moments, step) and ``metrics.jsonl``.
        title: what its progress bar is called; the learner's name by default.
        on_save: called with the step every ``save_every`` steps (a video of what is imagined, say).

    Returns:
        The last logged metrics: the losses, ``gradient`` (norm before clipping), ``steps_per_s`` and
        ``data_wait``, the share of time spent waiting for batches, 0..1.

    Raises:
        CheckpointError: the checkpoint belongs to other settings.
        StorageError: the disk is full or not writable; the last checkpoint is intact.
        DataError: the loss is no longer a number; the last checkpoint is intact.
    """
    optimizer = make_optimizer(learner.module, config)
    about = {"train": asdict(config), "learner": learner.describe()}
    identity = json.loads(json.dumps(about))  # as it will be read back: tuples become lists
    done = _resume(learner, optimizer, directory / "checkpoint", identity)
    learner.module.train()
    clock, saved = _Clock(), time.monotonic()
    with RunLog(directory, title or learner.name, config.steps, resumed_at=done, console=console) as log:
        for step, batch in _batches(learner, done, config.steps, clock):
            losses = update(learner, optimizer, batch, config, step - 1)
            report = step % config.save_every == 0 or step == config.steps
            save = report or time.monotonic() - saved > SAVE_S
            show = step % config.log_every == 0 or step == config.steps
            if save or show:
                metrics = _finite(losses, step, learner.name)
                if show:
                    log.write(step, metrics | clock.lap())
            if save:
                _save(learner, optimizer, directory / "checkpoint", identity, step)
                saved = time.monotonic()
                if report:
                    _report(learner, on_save, step)
                clock.restart()
    learner.module.eval()
    return log.last


def _batches(learner: Learner, done: int, steps: int, clock: _Clock) -> Iterator[tuple[int, Batch]]:
    """The batches of the steps after ``done``, with the steps' numbers; made one ahead on a thread."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        coming = pool.submit(learner.batch, done) if done < steps else None
        for step in range(done + 1, steps + 1):
            assert coming is not None
            batch = clock.wait_for(coming)
            if step < steps:
                coming = pool.submit(learner.batch, step)
            yield step, batch


def _report(learner: Learner, on_save: Callable[[int], None] | None, step: int) -> None:
    if on_save is not None:
        learner.module.eval()
        on_save(step)
        learner.module.train()


def make_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW; biases and norms do not decay."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    matrices = [p for p in trainable if p.ndim >= 2]
    others = [p for p in trainable if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    # fused: five times as fast for many small tensors, on a CPU too
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99), fused=True)


def update(
    learner: Learner, optimizer: torch.optim.AdamW, batch: Batch, config: TrainConfig, step: int
) -> dict[str, Tensor]:
    """One training step; returns the losses and the norm of the gradient before clipping."""
    torch.manual_seed(config.seed * 1_000_003 + step)
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * schedule(step, config)
    losses = learner.loss(batch)
    optimizer.zero_grad(set_to_none=True)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    losses["total"].backward(inputs=trained)  # what the module merely uses, a frozen world, gets no gradients
    norm = nn.utils.clip_grad_norm_(learner.module.parameters(), config.clip)
    optimizer.step()
    learner.after_step()
    return {**losses, "gradient": norm}


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

    def lap(self) -> dict[str, float]:
        elapsed = max(time.perf_counter() - self.began, 1e-9)
        out = {"steps_per_s": self.steps / elapsed, "data_wait": self.waited / elapsed}
        self.restart()
        return out


def _finite(losses: dict[str, Tensor], step: int, name: str) -> dict[str, float]:
    """The losses as numbers. Asked before every checkpoint: none may hold weights that are not numbers."""
    metrics = {k: float(v.detach()) for k, v in losses.items()}
    bad = [f"{k} is {v}" for k, v in metrics.items() if not math.isfinite(v)]
    if bad:
        raise DataError(
            f"training '{name}' went astray by step {step}: {', '.join(bad)}; expected finite numbers. The "
            "last checkpoint is intact. Look for odd values with forerun data doctor PATH, or start anew "
            "with a lower learning rate and another --out."
        )
    return metrics


def _save(
    learner: Learner, optimizer: torch.optim.AdamW, directory: Path, identity: dict[str, Any], step: int
) -> None:
    tensors = {f"module.{k}": v for k, v in learner.module.state_dict().items()}
    for i, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": torch.as_tensor(v) for k, v in values.items()}
    checkpoint.save(directory, tensors, {"step": step, "identity": identity})


def _resume(learner: Learner, optimizer: torch.optim.AdamW, directory: Path, identity: dict[str, Any]) -> int:
    """Restore what `_save` wrote; returns the steps already done, 0 if there is nothing to resume."""
    if not checkpoint.present(directory):
        return 0
    tensors, config = checkpoint.load(directory)
    if config.get("identity") != identity or not isinstance(config.get("step"), int):
        raise CheckpointError(
            f"this run directory holds '{learner.name}' trained with other settings: "
            f"{checkpoint.differences(config.get('identity'), identity)}. Use the same settings to continue, "
            f"or another --out to start anew. Path: {directory}"
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
