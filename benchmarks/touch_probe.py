"""What of a hidden mass and friction can be read from latents: a small network on the ticks of an episode."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from forerun.layers import mlp

WIDTH, STEPS, BATCH, CHECK_EVERY = 96, 1500, 64, 100
JUDGED = 0.2
"""Share of the training episodes on which the moment to stop is chosen."""


class Probe(nn.Module):
    """Every tick (B, T, Z) through one network; means and maxima over time to K numbers (B, K)."""

    def __init__(self, size: int, answers: int) -> None:
        super().__init__()
        self.tick = nn.Sequential(mlp(size, WIDTH, WIDTH, norm=True), nn.GELU())
        self.out = mlp(2 * WIDTH, WIDTH, answers, norm=True)

    def forward(self, ticks: Tensor) -> Tensor:
        read = self.tick(ticks)
        return self.out(torch.cat([read.mean(1), read.amax(1)], dim=-1))


def probe_r2(x: Tensor, y: Tensor, x_new: Tensor, y_new: Tensor, seed: int = 0) -> np.ndarray:
    """R2 (K,) in new episodes of a probe taught on others.

    Args:
        x: (n, T, Z) latents of training episodes.
        y: (n, K) what was hidden.
        x_new: (m, T, Z), y_new: (m, K).
    """
    torch.manual_seed(seed)
    mean, std = x.mean((0, 1)), x.std((0, 1)).clamp_min(1e-3)
    x, x_new = (x - mean) / std, (x_new - mean) / std
    middle, spread = y.mean(0), y.std(0).clamp_min(1e-8)
    judged = int(len(x) * JUDGED)
    probe = Probe(x.shape[-1], y.shape[-1])
    optimizer = torch.optim.AdamW(probe.parameters(), 2e-3, weight_decay=1e-2)
    best, said = torch.full(y.shape[-1:], float("inf")), torch.zeros_like(y_new)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / STEPS)
        rows = torch.randint(judged, len(x), (BATCH,))
        error = (probe(x[rows]) - (y[rows] - middle) / spread).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        if (step + 1) % CHECK_EVERY == 0:
            with torch.no_grad():
                off = (probe(x[:judged]) * spread + middle - y[:judged]).square().mean(0)
                better = off < best
                best = torch.where(better, off, best)
                said = torch.where(better, probe(x_new) * spread + middle, said)
    return (1 - (said - y_new).square().mean(0) / y_new.var(0)).numpy()
