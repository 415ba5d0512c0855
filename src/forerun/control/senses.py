"""What a controller is allowed to sense, as numbers for a network.

The rows of every comparison differ in their senses alone: the nets, the data and the teaching are the same.
Everything is causal: only samples that have arrived are read, and blocks are averaged when they are complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from forerun.tasks.touch import TouchWorlds
from forerun.types import StreamSpec

Touch = Literal["none", "slow", "fast"]
SEES = 32
"""Principal components of a picture that a policy is shown."""


@dataclass(frozen=True)
class Senses:
    """Which senses a policy has."""

    vision: bool = True
    proprio: bool = True
    touch: Touch = "none"
    """``slow``: the mean of the last whole 33 ms; ``fast``: that of the last 20 ms, and the newest."""


@dataclass
class Sight:
    """Pictures as their principal components: all that is visible in such plain scenes, at no cost."""

    mean: np.ndarray
    """(P,) of pictures halved to 32 x 32 x 3."""
    parts: np.ndarray
    """(P, SEES), scaled so that components vary by about one."""

    @classmethod
    def fit(cls, pictures: np.ndarray) -> Sight:
        """Of pictures (N, 64, 64, 3) uint8."""
        flat = halved(pictures)
        mean = flat.mean(0)
        _, spread, parts = np.linalg.svd(flat - mean, full_matrices=False)
        scale = spread[:SEES] / np.sqrt(len(flat)) + 1e-3
        wide = np.zeros((flat.shape[1], SEES), np.float32)
        wide[:, : len(scale)] = (parts[:SEES] / scale[:, None]).T
        return cls(mean, wide)

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """(B, 64, 64, 3) uint8 to (B, SEES)."""
        return (halved(pictures) - self.mean) @ self.parts


def halved(pictures: np.ndarray) -> np.ndarray:
    """Pictures (N, 64, 64, 3) uint8 averaged to (N, 32 * 32 * 3) float32, 0..1."""
    n = len(pictures)
    blocks = pictures.reshape(n, 32, 2, 32, 2, 3).mean((2, 4), dtype=np.float32)
    return blocks.reshape(n, -1) / 255


class Felt:
    """Touch features of B worlds, smoothed and averaged in blocks; told every 2 ms.

    Args:
        blocks: whether a policy asks for the averages; the fast tier does not.
    """

    def __init__(self, worlds: TouchWorlds, blocks: bool = True) -> None:
        self.newest = worlds.features(worlds.read(worlds.touch).values)
        self.smooth = self.newest.copy()
        self.recent = _Block(self.newest, 10)
        self.slow = _Block(self.newest, 17)
        self._blocks = (self.recent, self.slow) if blocks else ()

    def update(self, worlds: TouchWorlds) -> None:
        self.newest = worlds.features(worlds.read(worlds.touch).values)
        self.smooth = self.smooth + 0.33 * (self.newest - self.smooth)  # 5 ms
        for block in self._blocks:
            block.add(self.newest)


class _Block:
    """The mean of the last whole block of samples."""

    def __init__(self, first: np.ndarray, samples: int) -> None:
        self.mean, self.samples = first.copy(), samples
        self._sum, self._count = np.zeros_like(first), 0

    def add(self, sample: np.ndarray) -> None:
        self._sum += sample
        self._count += 1
        if self._count == self.samples:
            self.mean, self._sum, self._count = self._sum / self.samples, np.zeros_like(sample), 0


def policy_features(
    worlds: TouchWorlds,
    senses: Senses,
    felt: Felt,
    sight: Sight | None,
    planned: np.ndarray,
    last: np.ndarray,
) -> np.ndarray:
    """What a policy is shown at 50 Hz: (B, F) float32.

    Always the clock, the ``planned`` action (B, A) and how it turned it ``last`` (B, K).
    """
    parts = [_clock(worlds), _scaled(worlds, planned), last]
    if senses.proprio:
        proprio = worlds.read("proprio").values
        parts += [proprio / worlds.proprio_scale]
    if senses.vision:
        assert sight is not None
        parts += [sight(worlds.read("camera").values)]
    if senses.touch == "slow":
        parts += [felt.slow.mean]
    if senses.touch == "fast":
        parts += [felt.recent.mean, felt.smooth]
    return np.concatenate(parts, axis=1).astype(np.float32)


@lru_cache
def _span(spec: StreamSpec) -> tuple[np.ndarray, np.ndarray]:
    """Middle and half width (A,) of an action's bounds."""
    low, high = np.asarray(spec.low), np.asarray(spec.high)
    return (low + high) / 2, (high - low) / 2


def fast_features(
    worlds: TouchWorlds, felt: Felt, action: np.ndarray, stance: np.ndarray, last: np.ndarray
) -> np.ndarray:
    """The fast tier's input at 500 Hz, (B, F) float32: touch, action, the law's stance, the last residual."""
    parts = [_clock(worlds), _scaled(worlds, action), stance, last, felt.newest, felt.smooth]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _clock(worlds: TouchWorlds) -> np.ndarray:
    """How far the episode is, -1 to 1, (B, 1)."""
    return np.full((worlds.count, 1), 2 * worlds.time_s / worlds.seconds - 1)


def _scaled(worlds: TouchWorlds, action: np.ndarray) -> np.ndarray:
    """An action (B, A) within its bounds as -1 to 1."""
    middle, half = _span(worlds.action_spec)
    return (action - middle) / half
