"""A world of one dot that moves by what the action says: small enough to learn, and to check by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from forerun.config import ModelConfig, model_config
from forerun.data import Episode, Recordings, Stream
from forerun.data.cache import TickCache, build_cache
from forerun.types import StreamSpec

SIDE, TICK_S, BOUND = 32, 0.1, 0.3
TINY = {"latent_dim": 16, "encoder_width": 4, "width": 32, "layers": 1, "heads": 2, "head_width": 32}


def dots(places: np.ndarray) -> np.ndarray:
    """(T, 2) in -1..1 -> (T, SIDE, SIDE, 3): a bright square of 6 pixels on grey."""
    pictures = np.full((len(places), SIDE, SIDE, 3), 90, np.uint8)
    corners = np.rint((places + 1) / 2 * (SIDE - 6)).astype(int)
    for picture, (x, y) in zip(pictures, corners, strict=True):
        picture[y : y + 6, x : x + 6] = (250, 200, 40)
    return pictures


def episode(
    seed: int, ticks: int = 24, *, video: bool = True, action: bool = True, still: bool = False
) -> Episode:
    """Row k shows the dot where it is when action k begins; place k + 1 is place k plus action k."""
    random = np.random.default_rng(seed)
    moves = np.zeros((ticks, 2)) if still else random.uniform(-BOUND, BOUND, (ticks, 2))
    places = np.zeros((ticks, 2))
    places[0] = random.uniform(-0.6, 0.6, 2)
    for k in range(1, ticks):
        places[k] = np.clip(places[k - 1] + moves[k - 1], -1, 1)
    times_s = TICK_S * np.arange(ticks)
    specs = {
        "place": (StreamSpec(name="place", kind="vector", shape=(2,), unit="m"), places.astype(np.float32)),
        "state": (StreamSpec(name="state", kind="privileged", shape=(2,)), places),
    }
    if video:
        camera = StreamSpec(
            name="camera", kind="video", shape=(SIDE, SIDE, 3), unit="rgb", rate_hz=1 / TICK_S
        )
        specs["camera"] = (camera, dots(places))
    if action:
        low, high = (-BOUND, -BOUND), (BOUND, BOUND)
        spec = StreamSpec(name="action", kind="action", shape=(2,), unit="m", low=low, high=high)
        specs["action"] = (spec, moves.astype(np.float32))
    streams = {name: Stream(spec, times_s, values) for name, (spec, values) in specs.items()}
    return Episode(f"dot_{seed}", streams)


def table(folder: Path, *episodes: Episode) -> TickCache:
    """The episodes as a table of ticks."""
    specs = {name: s.spec for name, s in episodes[0].streams.items()}
    recordings = Recordings(Path("nowhere"), "memory", specs, len(episodes), lambda i: episodes[i])
    return build_cache(recordings, folder, tick_s=TICK_S, image_size=SIDE)


def tiny_config(cache: TickCache) -> ModelConfig:
    streams = tuple(s for s in cache.specs.values() if s.kind in ("video", "vector"))
    return model_config("xs", streams, cache.specs.get("action"), cache.tick_s, **TINY)
