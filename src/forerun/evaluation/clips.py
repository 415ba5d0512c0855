"""Recorded stretches beside the model's imagination of them, ready to be shown.

Letters: B clips, T ticks of context, H imagined ticks, S side of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from forerun.data.cache import TickCache
from forerun.data.window import gather
from forerun.evaluation.prediction import clip_starts, imagine_clips
from forerun.evaluation.strips import Clip
from forerun.types import DataError
from forerun.world_model import WorldModel


@torch.inference_mode()
def imagined_clips(
    model: WorldModel,
    cache: TickCache,
    episodes: np.ndarray | Sequence[int],
    *,
    horizon: int,
    context: int = 3,
    count: int = 4,
    camera: str | None = None,
) -> list[Clip]:
    """Up to ``count`` clips, spread over the episodes; the recorded actions are carried out in imagination.

    Args:
        camera: which video stream; the first by default.

    Raises:
        DataError: the model has no camera, or no episode is as long as a clip.
    """
    if not model.config.video:
        raise DataError(
            f"this model sees no video, only {', '.join(s.name for s in model.config.streams)}; there is "
            "nothing to film, its errors are in prediction.json"
        )
    model.eval()
    name = camera or model.config.video[0].name
    starts = _liveliest(cache, episodes, context + horizon, count, name)
    seen = gather(cache, starts, context + horizon, [s.name for s in model.config.streams])
    latents = model.encode({n: torch.from_numpy(v[:, :context]) for n, v in seen.items()})
    drawn = _drawn(model, imagine_clips(model, cache, latents, starts, starts, horizon), name)
    return _clips(
        cache, starts, seen[name], np.concatenate([seen[name][:, :context], drawn], axis=1), context
    )


@torch.inference_mode()
def redrawn_clips(
    model: WorldModel, cache: TickCache, episodes: np.ndarray | Sequence[int], *, ticks: int, count: int = 4
) -> list[Clip]:
    """Clips whose every picture is encoded and drawn again: what a representation keeps, nothing foretold."""
    model.eval()
    name = model.config.video[0].name
    starts = _liveliest(cache, episodes, ticks, count, name)
    seen = gather(cache, starts, ticks, [s.name for s in model.config.streams])
    latents = model.encode({n: torch.from_numpy(v) for n, v in seen.items()})
    return _clips(cache, starts, seen[name], _drawn(model, latents, name), ticks)


def _drawn(model: WorldModel, latents: Tensor, camera: str) -> np.ndarray:
    """(B, T, N, D) latents as pictures (B, T, S, S, 3)."""
    return model.decode_latents(latents.flatten(0, 1))[camera].unflatten(0, latents.shape[:2]).numpy()


def _clips(
    cache: TickCache, starts: np.ndarray, real: np.ndarray, drawn: np.ndarray, context: int
) -> list[Clip]:
    return [
        Clip(real=one, imagined=other, name=where(cache, row), context_ticks=context, tick_s=cache.tick_s)
        for one, other, row in zip(real, drawn, starts.tolist(), strict=True)
    ]


def _liveliest(
    cache: TickCache, episodes: np.ndarray | Sequence[int], ticks: int, count: int, camera: str
) -> np.ndarray:
    """(B,) of candidates spread over the episodes, that one of each neighbourhood where most moves.

    A film of a robot that waits shows nothing. The figures beside it come from all clips, lively or not.
    """
    candidates = clip_starts(cache, episodes, ticks, 8 * count)
    ends = [
        np.take(cache.streams[camera], candidates + shift, axis=0) for shift in (0, ticks // 2, ticks - 1)
    ]
    motion = sum(np.abs(a.astype(np.int16) - b).mean((1, 2, 3)) for a, b in pairwise(ends))
    groups = np.array_split(np.arange(len(candidates)), min(count, len(candidates)))
    return candidates[[group[np.argmax(np.asarray(motion)[group])] for group in groups]]


def where(cache: TickCache, row: int) -> str:
    """Episode and second of a row, for people."""
    episode = int(np.searchsorted(cache.episode_starts, row, side="right")) - 1
    seconds = (row - int(cache.episode_starts[episode])) * cache.tick_s
    return f"episode {episode}, from {seconds:.1f} s"


def stacked(clips: Sequence[Clip]) -> Clip:
    """Several clips of equal length below each other, as one."""
    first = clips[0]
    zoom = -(-192 // first.real.shape[2])
    real, imagined = (
        np.concatenate(films, axis=1).repeat(zoom, axis=1).repeat(zoom, axis=2)
        for films in ([c.real for c in clips], [c.imagined for c in clips])
    )
    name = "; ".join(c.name for c in clips)
    return Clip(
        real=real, imagined=imagined, name=name, context_ticks=first.context_ticks, tick_s=first.tick_s
    )
