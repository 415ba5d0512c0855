"""Which pressures make a latent that says where things are? Train stage one, then probe what it holds.

    python benchmarks/representation.py
    python benchmarks/representation.py --steps 1000 --regularisers none sigreg varcov --seeds 0

Records Push play first where ``--data`` holds none. A ridge regression and a small network read the simulator
state (never shown to the model) from the latents of held-out episodes. Beside them stands an untrained
encoder, the floor. Writes one JSON per run.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from forerun.cli.data import DataPolicy, progress_bar
from forerun.cli.play import record_play
from forerun.cli.runs import kind_of
from forerun.config import ModelConfig, model_config
from forerun.data import open_recordings
from forerun.data.cache import TickCache, build_cache
from forerun.data.window import split_episodes
from forerun.encoders.representation import RepresentationConfig
from forerun.evaluation.results import write_result
from forerun.layers import mlp
from forerun.stages import RepresentationLearner, encode_rows, fit_scales
from forerun.teach import observed
from forerun.training.trainer import TrainConfig, train
from forerun.world_model import WorldModel

Regulariser = Literal["untrained", "none", "sigreg", "varcov", "inverse", "redraw", "sigreg+inverse", "all"]
HOLDOUT = 0.15
"""Share of episodes that only the probes' test sees."""
BASE = RepresentationConfig(prediction=0.2, inverse=0.0, sigreg=0.0, varcov=0.0, reconstruction=0.0)
OBJECTIVES: dict[str, RepresentationConfig] = {
    "none": BASE,
    "sigreg": replace(BASE, sigreg=0.3),
    "varcov": replace(BASE, varcov=5.0),
    "inverse": replace(BASE, inverse=1.0),
    "redraw": replace(BASE, reconstruction=2.0),
    "sigreg+inverse": replace(BASE, sigreg=0.3, inverse=1.0),
    "all": RepresentationConfig(),
}


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """See the top of this file."""

    data: Path = Path("runs/representation/recordings")
    episodes: int = 100
    """Recorded where there are none."""
    steps: int = 400
    seeds: tuple[int, ...] = (0, 1, 2)
    regularisers: tuple[Regulariser, ...] = (
        "untrained",
        "none",
        "sigreg",
        "inverse",
        "redraw",
        "sigreg+inverse",
        "all",
    )
    targets: tuple[int, ...] = (0, 1, 2, 3)
    """Columns of the stream "state" to read; for Push tip x, y and block x, y, in metres."""

    def __call__(self) -> None:
        torch.set_num_threads(1)
        if not self.data.is_dir():
            policies: tuple[DataPolicy, ...] = ("expert", "noisy", "weak", "random")
            with progress_bar("recording") as update:
                record_play(
                    "forerun/Push-v0",
                    self.data,
                    episodes=self.episodes,
                    steps=150,
                    policies=policies,
                    done=update,
                )
        cache = build_cache(
            open_recordings(self.data), self.data.with_name(self.data.name + "-cache"), tick_s=0.1
        )
        table = Table("pressures", "seed", "R2 linear", "R2 network")
        for seed in self.seeds:
            for name in self.regularisers:
                linear, network = self._probe(cache, name, seed)
                table.add_row(name, str(seed), _text(linear), _text(network))
                self._write(cache, name, seed, linear, network)
        Console().print(table)

    def _write(self, cache: TickCache, name: str, seed: int, linear: np.ndarray, network: np.ndarray) -> None:
        """One arm's R2: of each target, and the mean over them that `table.py` shows."""
        asked = {
            "steps": self.steps,
            "targets": self.targets,
            "objective": asdict(OBJECTIVES[name]) if name in OBJECTIVES else None,
            "episodes": cache.num_episodes,
            "model": kind_of(config_of(cache)),
        }
        write_result(
            "representation-" + name.replace("+", "-"),
            {
                "linear": {"mean": linear.mean(), "targets": linear},
                "network": {"mean": network.mean(), "targets": network},
            },
            settings=asked,
            seed=seed,
            n=len(split_episodes(cache, HOLDOUT)[1]),
            data_hash=cache.hash,
        )

    def _probe(self, cache: TickCache, name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """R2 per target of both probes, on held-out episodes."""
        train_episodes, held_out = split_episodes(cache, HOLDOUT)
        torch.manual_seed(seed)
        model = WorldModel(config_of(cache))
        fit_scales(model, cache, train_episodes)
        if name != "untrained":
            learner = RepresentationLearner(model, cache, train_episodes, config=OBJECTIVES[name], seed=seed)
            with tempfile.TemporaryDirectory() as scratch:
                settings = TrainConfig(steps=self.steps, learning_rate=2e-3, seed=seed, save_every=self.steps)
                train(learner, settings, Path(scratch))
        latents = model.goal(encode_rows(model, cache))
        truth = torch.from_numpy(np.array(cache.streams["state"][:, list(self.targets)]))
        seen, new = (torch.from_numpy(cache.rows_of(e)) for e in (train_episodes, held_out))
        latents = (latents - latents[seen].mean(0)) / latents[seen].std(0).clamp_min(1e-6)
        parts = latents[seen], truth[seen], latents[new], truth[new]
        return ridge_r2(*parts), network_r2(*parts)


def config_of(cache: TickCache) -> ModelConfig:
    return model_config("xs", observed(cache), cache.specs["action"], cache.tick_s)


def ridge_r2(x: torch.Tensor, y: torch.Tensor, x_new: torch.Tensor, y_new: torch.Tensor) -> np.ndarray:
    """Share of variance of ``y_new`` (n, K) that a linear reading of ``x_new`` explains: (K,)."""
    a = torch.cat([x, torch.ones(len(x), 1)], dim=1).double()
    weights = torch.linalg.solve(a.T @ a + 1e-3 * len(a) * torch.eye(a.shape[1]).double(), a.T @ y.double())
    guess = torch.cat([x_new, torch.ones(len(x_new), 1)], dim=1).double() @ weights
    return _r2(guess, y_new.double())


def network_r2(x: torch.Tensor, y: torch.Tensor, x_new: torch.Tensor, y_new: torch.Tensor) -> np.ndarray:
    """The same, read by a network of one hidden layer."""
    torch.manual_seed(0)
    mean, std = y.mean(0), y.std(0).clamp_min(1e-8)
    network, steps = mlp(x.shape[1], 256, y.shape[1]), 1200
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / steps)
        rows = torch.randint(len(x), (512,))
        error = (network(x[rows]) - (y[rows] - mean) / std).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    with torch.no_grad():
        return _r2(network(x_new) * std + mean, y_new)


def _r2(guess: torch.Tensor, truth: torch.Tensor) -> np.ndarray:
    return (1 - (guess - truth).square().mean(0) / truth.var(0)).numpy()


def _text(values: np.ndarray) -> str:
    return "  ".join(f"{v:.3f}" for v in values)


if __name__ == "__main__":
    tyro.cli(Ablation)()
