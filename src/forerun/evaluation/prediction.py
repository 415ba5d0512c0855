"""How well a world model foretells held-out episodes, beside baselines that cost nothing.

Each clip gives the model a short context and the recorded actions; the rest it imagines open loop.

    copy-last      nothing changes any more
    nearest clip   the recorded future of the training tick whose latents are nearest
    random frame   any tick of the training episodes
    redrawn        the true future, encoded and decoded: what the decoder alone gets wrong

A pixel counts as changed where any of its channels differs by more than 10 of 255 between the last frame of
the context and the real frame: there copy-last is wrong by definition, and a still background earns nothing.

Letters: E episodes, B clips, T ticks of a clip, H imagined ticks, N x D latents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from forerun.data.cache import TickCache
from forerun.data.window import gather, window_starts
from forerun.evaluation.errors import (
    CHANGED_PIXELS,
    COPY,
    LATENTS,
    MEAN,
    MODEL,
    NEAREST,
    PIXELS,
    RANDOM,
    REDRAWN,
    Prediction,
    Quantity,
)
from forerun.imagination.rollout import imagine
from forerun.types import DataError
from forerun.world_model import WorldModel

CHANGED = 10
"""Of 255, in any channel: smaller differences are noise of the camera or the codec."""
Add = Callable[[str, str, Any, Any], None]
"""Takes (quantity, method, squared errors (B, H), how many numbers each holds)."""


@torch.inference_mode()
def predict(
    model: WorldModel,
    cache: TickCache,
    episodes: np.ndarray | Sequence[int],
    *,
    train_episodes: np.ndarray | None = None,
    horizon: int,
    context: int = 3,
    clips: int = 256,
    neighbours: int = 2000,
    batch_size: int = 32,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Imagine clips of ``episodes``, which the model must not have been trained on, and measure.

    Args:
        cache: recordings on the model's own clock; see `clip_starts` for what fits.
        train_episodes: where "nearest clip" and "random frame" come from, ``episodes`` excepted; left
            out if None, or if none of them is longer than the horizon.
        horizon: H ticks.
        context: ticks shown before, at least 1.
        clips: at most so many, spread evenly over the episodes.
        neighbours: training ticks searched for the nearest.

    Raises:
        DataError: no episode is as long as a clip.
    """
    model.eval()
    starts = clip_starts(cache, episodes, context + horizon, clips)
    library, others = None, np.setdiff1d([] if train_episodes is None else train_episodes, episodes)
    if longest_horizon(cache, others.astype(np.int64), 1) >= horizon:
        library = _Library(model, cache, others.astype(np.int64), horizon, neighbours, seed)
    owner = np.searchsorted(cache.episode_starts, starts, side="right") - 1
    sums = _Sums(np.unique(owner), horizon)
    for first in range(0, len(starts), batch_size):
        chosen = np.arange(first, min(first + batch_size, len(starts)))
        other = starts[(chosen + max(1, len(starts) // 2)) % len(starts)] if len(starts) > 1 else None
        _measure(model, cache, starts[chosen], other, library, context, sums.adder(owner[chosen]), horizon)
        if progress is not None:
            progress(int(chosen[-1]) + 1, len(starts))
    return sums.result(model, cache.tick_s, context, len(starts))


def clip_starts(cache: TickCache, episodes: np.ndarray | Sequence[int], ticks: int, clips: int) -> np.ndarray:
    """(B,) first rows of at most ``clips`` stretches of ``ticks``, spread evenly over the episodes.

    Raises:
        DataError: no episode is that long.
    """
    starts = window_starts(cache, episodes, ticks)
    if not starts.size:
        lengths = np.diff(cache.episode_starts)[np.asarray(episodes, dtype=np.int64)]
        raise DataError(
            f"a clip takes {ticks} ticks of {cache.tick_s:g} s, but the longest of these {len(lengths)} "
            f"episodes has {int(lengths.max(initial=0))}; look less far ahead (--seconds), or record longer "
            "episodes"
        )
    return starts[np.linspace(0, len(starts) - 1, min(clips, len(starts))).round().astype(np.int64)]


def longest_horizon(cache: TickCache, episodes: np.ndarray | Sequence[int], context: int) -> int:
    """How many ticks ahead the longest of the episodes can be imagined after ``context``; may be below 1."""
    lengths = np.diff(cache.episode_starts)[np.asarray(episodes, dtype=np.int64)]
    return int(lengths.max(initial=0)) - context


def _measure(
    model: WorldModel,
    cache: TickCache,
    starts: np.ndarray,
    other: np.ndarray | None,
    library: _Library | None,
    context: int,
    add: Add,
    horizon: int,
) -> None:
    """Imagine one batch of clips and add up all its errors."""
    names = [s.name for s in model.config.streams]
    seen = gather(cache, starts, context + horizon, names)
    latents = model.encode({name: torch.from_numpy(values) for name, values in seen.items()})
    truth, last = latents[:, context:], latents[:, context - 1]
    imagined = imagine_clips(model, cache, latents[:, :context], starts, starts, horizon)
    guesses: dict[str, dict[str, np.ndarray]] = {
        MODEL: _decoded(model, imagined),
        COPY: {n: np.repeat(v[:, context - 1 : context], horizon, axis=1) for n, v in seen.items()},
        REDRAWN: _decoded(model, truth),
        MEAN: _means(model),
    }
    foretold = {MODEL: imagined, COPY: last[:, None].expand_as(truth)}
    if library is not None:
        for method, rows in {NEAREST: library.nearest(last), RANDOM: library.random(len(starts))}.items():
            guesses[method] = {n: np.take(cache.streams[n], rows, axis=0) for n in names}
            foretold[method] = model.encode({n: torch.from_numpy(v) for n, v in guesses[method].items()})
    for method, latent in foretold.items():
        add(LATENTS, method, _latent_error(model, latent, truth), 1.0)
    if cache.has_action and model.config.action is not None and other is not None:
        astray = imagine_clips(model, cache, latents[:, :context], starts, other, horizon)
        add(LATENTS, "shuffled", _latent_error(model, astray, truth), 1.0)
    _compare(model, seen, guesses, context, add)


def _compare(
    model: WorldModel,
    seen: dict[str, np.ndarray],
    guesses: dict[str, dict[str, np.ndarray]],
    context: int,
    add: Add,
) -> None:
    """Errors in what is seen and felt: pixels 0..1, vectors in their own unit."""
    for spec in model.config.streams:
        before, truth = seen[spec.name][:, context - 1 : context], seen[spec.name][:, context:]
        changed = _changed(before, truth) if spec.kind == "video" else None
        for method, guess in guesses.items():
            if changed is None:
                if method in (REDRAWN, MEAN):
                    continue  # vectors are coded exactly; a mean picture is no vector
                apart = (guess[spec.name].reshape(truth.shape) - truth).reshape(*truth.shape[:2], -1)
                add(spec.name, method, np.square(apart, dtype=np.float64).sum(-1), float(spec.size))
                continue
            error = ((guess[spec.name].astype(np.float32) - truth) / 255) ** 2
            error = error.mean(-1)
            add(PIXELS, method, error.mean((-1, -2)), 1.0)
            add(CHANGED_PIXELS, method, (error * changed).sum((-1, -2)), changed.sum((-1, -2)))


def _changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(B, H, S, S) bool: see the top of this file."""
    return np.any(np.abs(after.astype(np.int16) - before) > CHANGED, axis=-1)


def imagine_clips(
    model: WorldModel, cache: TickCache, context: Tensor, starts: np.ndarray, acting: np.ndarray, horizon: int
) -> Tensor:
    """(B, H, N, D) latents imagined after ``context`` (B, T, N, D), which begins at rows ``starts``.

    From then on the robot does what was recorded after the clips that begin at rows ``acting``.
    """
    past, chosen = None, None
    if model.config.action is not None:
        length = context.shape[1] - 1
        actions = torch.from_numpy(gather(cache, starts, length + horizon, ["action"])["action"])
        past = actions[:, :length] if length else None
        chosen = torch.from_numpy(gather(cache, acting, length + horizon, ["action"])["action"])[:, length:]
    states = imagine(model, model.start(context, past), chosen, horizon)
    return torch.stack([state.latents for state in states], dim=1)


def _decoded(model: WorldModel, latents: Tensor) -> dict[str, np.ndarray]:
    """(B, H, N, D) latents -> per stream (B, H, *shape), in its own unit."""
    flat = model.decode_latents(latents.flatten(0, 1))
    return {name: values.unflatten(0, latents.shape[:2]).numpy() for name, values in flat.items()}


def _means(model: WorldModel) -> dict[str, np.ndarray]:
    """Per camera the mean picture of the training recordings (1, 1, S, S, 3): the same at every tick."""
    means = {s.name: model.senses.centre(s).inverse(torch.zeros(1, *s.shape)) for s in model.config.video}
    return {name: mean[:, None].numpy() for name, mean in means.items()}


def _latent_error(model: WorldModel, guess: Tensor, truth: Tensor) -> Tensor:
    """(B, H) squared error of whitened latents, streams weighted equally."""
    return ((guess - truth).square() * model.loss_weight()).sum((-1, -2))


class _Library:
    """Training ticks with H more ticks behind them, to be looked up by their latents."""

    def __init__(
        self, model: WorldModel, cache: TickCache, episodes: np.ndarray, horizon: int, size: int, seed: int
    ) -> None:
        self.random_source = np.random.default_rng(seed)
        self.everything, self.horizon = cache.rows_of(episodes), horizon
        self.rows = clip_starts(cache, episodes, horizon + 1, size)
        self.weight = model.loss_weight().sqrt()
        parts = np.array_split(self.rows, -(-len(self.rows) // 256))
        self.keys = torch.cat([self._key(encode_ticks(model, cache, part)) for part in parts])

    def _key(self, latents: Tensor) -> Tensor:
        return (latents * self.weight).flatten(1)

    def nearest(self, latents: Tensor) -> np.ndarray:
        """(B, N, D) -> (B, H) rows of the future after the nearest tick."""
        found = torch.cdist(self._key(latents), self.keys).argmin(1).numpy()
        return self.rows[found][:, None] + np.arange(1, self.horizon + 1)

    def random(self, clips: int) -> np.ndarray:
        return self.random_source.choice(self.everything, (clips, self.horizon))


def encode_ticks(model: WorldModel, cache: TickCache, rows: np.ndarray) -> Tensor:
    """(B, N, D) latents of single ticks."""
    seen = gather(cache, rows, 1, [s.name for s in model.config.streams])
    return model.encode({name: torch.from_numpy(values) for name, values in seen.items()})[:, 0]


class _Sums:
    """Adds up errors by quantity, method, episode and horizon."""

    def __init__(self, episodes: np.ndarray, horizon: int) -> None:
        self.episodes, self.shape = episodes, (len(episodes), horizon)
        self.squared: dict[str, dict[str, np.ndarray]] = {}
        self.count: dict[str, dict[str, np.ndarray]] = {}

    def adder(self, owner: np.ndarray) -> Add:
        """For one batch, whose clips belong to the episodes ``owner`` (B,)."""
        rows = np.searchsorted(self.episodes, owner)

        def add(quantity: str, method: str, error: Any, count: Any) -> None:
            error = np.asarray(error, dtype=np.float64)
            counts = np.broadcast_to(np.asarray(count, dtype=np.float64), error.shape)
            for table, values in ((self.squared, error), (self.count, counts)):
                sums = table.setdefault(quantity, {}).setdefault(method, np.zeros(self.shape))
                np.add.at(sums, rows, values)

        return add

    def result(self, model: WorldModel, tick_s: float, context: int, clips: int) -> Prediction:
        units = {s.name: s.unit for s in model.config.streams if s.kind != "video"}
        shuffled = self.squared[LATENTS].pop("shuffled", None)
        quantities = {
            name: Quantity(methods, self.count[name][MODEL], units.get(name, ""), name in units)
            for name, methods in self.squared.items()
        }
        return Prediction(tick_s, context, self.episodes, clips, quantities, shuffled)
