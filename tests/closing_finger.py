"""A finger closes on a block of hidden mass and friction, lifts it and feels a tug: touch worked out by hand.

Before contact the sensor holds noise alone. After it the normal force follows the grip asked for, the tangent
force carries the block's weight as far as friction lets it, and a tug halfway adds to the load.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from forerun.config import ModelConfig, model_config
from forerun.data import Episode, Recordings, Stream
from forerun.data.cache import TickCache, build_cache
from forerun.teach import observed
from forerun.types import StreamSpec

SECONDS, TOUCH_HZ, ACTION_HZ, NOISE_N, GRAVITY = 2.0, 500, 50, 0.02, 9.81
TINY = {"latent_dim": 8, "width": 32, "layers": 1, "heads": 2, "head_width": 32}


def episode(seed: int, *, touch: bool = True) -> Episode:
    """Two seconds; the streams "pad" (fx, fz in N), "place", "action", and the hidden "state", "slip"."""
    random = np.random.default_rng(seed)
    mass, friction, contact = random.uniform(0.1, 0.5), random.uniform(0.3, 1.0), random.uniform(0.3, 0.6)
    fast, slow = np.arange(0, SECONDS, 1 / TOUCH_HZ), np.arange(0, SECONDS, 1 / ACTION_HZ)
    asked = random.uniform(2.0, 8.0) + random.uniform(0, 2) * np.sin(random.uniform(2, 6) * slow)
    grip = asked[np.minimum((fast * ACTION_HZ).astype(int), len(slow) - 1)] * (fast >= contact)
    grip *= 1 - np.exp(-np.maximum(fast - contact, 0) / 0.02)
    load = mass * GRAVITY * np.clip((fast - 0.8) / 0.1, 0, 1) * (1 + 0.4 * ((fast > 1.3) & (fast < 1.45)))
    slip, held = load > friction * grip, np.minimum(load, friction * grip)
    force = np.stack([grip, held], axis=1) + NOISE_N * random.standard_normal((len(fast), 2))
    place = np.clip(0.05 * (1 - slow / contact), 0, None)
    streams = {
        "place": _stream("place", "vector", slow, place[:, None], "m", ("opening",)),
        "action": _stream("action", "action", slow, asked[:, None], "N", ("grip",)),
        "state": _stream(
            "state", "privileged", slow, np.tile([mass, friction], (len(slow), 1)), "", ("mass", "friction")
        ),
        "slip": _stream("slip", "privileged", slow, slip[::10, None] * 1.0, "", ("slip",)),
    }
    if touch:
        streams["pad"] = _stream("pad", "touch", fast, force, "N", ("pad.fx", "pad.fz"))
    return Episode(f"finger_{seed}", streams)


def _stream(name: str, kind, times_s: np.ndarray, values: np.ndarray, unit: str, names) -> Stream:
    spec = StreamSpec(name=name, kind=kind, shape=values.shape[1:], unit=unit, names=names)
    return Stream(spec, times_s, values.astype(np.float32))


def table(folder: Path, count: int = 12, tick_s: float = 0.1, *, touch: bool = True) -> TickCache:
    """Episodes as a table of ticks."""
    specs = {name: s.spec for name, s in episode(0, touch=touch).streams.items()}
    recordings = Recordings(Path("nowhere"), "memory", specs, count, lambda i: episode(i, touch=touch))
    return build_cache(recordings, folder, tick_s=tick_s, burst_samples=100)  # a place stays a place


def tiny_config(cache: TickCache) -> ModelConfig:
    return model_config("xs", observed(cache), cache.specs["action"], cache.tick_s, **TINY)
