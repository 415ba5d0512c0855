"""How a world model is taught: a representation first, then everything else on cached latents.

Learning in stages is cheaper: latents are encoded once, then read at tens of thousands of transitions a
second. And what the first stage asks for keeps objects in the latent, where prediction alone lets them fade
(LOG.md, "What shapes the latent").

    RepresentationLearner  pictures            -> encoders, and the decoders that go with them
    LatentTable            pictures, encoders  -> whitened latents of every tick
    DynamicsLearner        latents, actions    -> trunk: what happens next
    GoalLearner            latents, actions    -> distance to a goal, and a policy towards it
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forerun.config import is_burst
from forerun.data.cache import TickCache
from forerun.data.hindsight import Hindsight
from forerun.data.window import WindowSampler
from forerun.encoders.representation import Representation, RepresentationConfig
from forerun.training.learner import Batch
from forerun.types import DataError, StreamSpec
from forerun.world_model import WorldModel

DROPOUT = 0.1
"""Share of dynamics windows that are read without a touch stream, each stream on its own."""


def fit_scales(model: WorldModel, cache: TickCache, episodes: np.ndarray, pictures: int = 2000) -> None:
    """Take the mean and spread of every stream and of the action from the training episodes.

    Pictures are centred on the mean picture (of ``pictures`` samples): with a fixed camera only what moves is
    left, and inverse dynamics is learned several times faster (LOG.md).
    """
    rows = cache.rows_of(episodes)
    few = rows[:: max(1, len(rows) // pictures)]
    for spec in model.config.streams:
        values = cache.streams[spec.name]
        if spec.kind == "video":
            seen = values[few]
            if (seen == seen[0]).all():
                others = " ".join(name for name in cache.specs if name != spec.name)
                raise DataError(
                    f"stream '{spec.name}' never changes: all its pictures are alike, as of a camera that "
                    f"was off, and there is nothing to learn from it. Leave it out: --streams {others}"
                )
            model.senses.centre(spec).fit(torch.from_numpy(seen))
        elif is_burst(spec):
            model.senses.touch(spec).fit(torch.from_numpy(values[rows[cache.valid[spec.name][rows]]]))
        else:
            model.senses.vector(spec).scale.fit(torch.from_numpy(values[rows]).flatten(1))
    if model.config.action is not None:
        model.action_scale.fit(torch.from_numpy(cache.streams["action"][rows]))


class RepresentationLearner:
    """Stage one, on windows of pictures; see `forerun.encoders.representation`.

    Each window holds two neighbouring ticks and one further ahead, up to ``config.reach`` ticks.
    """

    name = "representation"

    def __init__(
        self,
        model: WorldModel,
        cache: TickCache,
        episodes: np.ndarray,
        *,
        batch_size: int = 64,
        config: RepresentationConfig | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self.cache, self.config, self.seed = model, cache, config or RepresentationConfig(), seed
        self.sampler = WindowSampler(cache, episodes, 2, batch_size, seed)
        self.hindsight = Hindsight(cache, episodes)
        self.streams, self.bursts = model.config.learned, model.config.bursts
        latent_size = sum(tokens * width for tokens, width in map(self._shape, self.streams))
        self.heads = Representation(latent_size, model.config.action_size, self.config)
        self.module = nn.ModuleDict(
            {
                "encoders": nn.ModuleList(model.senses.encoder(s) for s in self.streams),
                "decoders": nn.ModuleList(model.senses.decoder(s) for s in model.config.video),
                "heads": self.heads,
            }
        )

    def _shape(self, spec: StreamSpec) -> tuple[int, int]:
        return self.model.layout.shapes[spec.name]

    def batch(self, step: int) -> Batch:
        """Per stream (B, 3, *shape): now, one tick and ``gap`` ticks later; ``action`` (B, A) now."""
        rows = self.sampler.batch(step)
        ahead = np.random.default_rng([self.seed, step]).integers(1, self.config.reach + 1, len(rows))
        later = self.hindsight.ahead(rows, ahead)
        index = np.stack([rows, rows + 1, later], axis=1)
        batch = {
            s.name: torch.from_numpy(np.take(self.cache.streams[s.name], index, axis=0)) for s in self.streams
        }
        batch["gap"] = torch.from_numpy((later - rows).astype(np.float32))
        if self.cache.has_action:
            batch["action"] = torch.from_numpy(self.cache.streams["action"][rows])
        return batch

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        tokens = {s.name: self.model.senses.encode_stream(s, batch) for s in self.streams}
        z = torch.cat([t.flatten(2) for t in tokens.values()], dim=-1)
        action = self.model.action_scale(batch["action"]) if "action" in batch else None
        redrawn = self._reconstruction(batch, tokens) if self.config.reconstruction else None
        return self.heads(z, action, batch["gap"], redrawn)

    def _reconstruction(self, batch: Batch, tokens: dict[str, Tensor]) -> Tensor:
        """Redraw the first tick of each window; what stands out from the mean picture counts more."""
        errors = []
        for spec in self.streams:
            redrawing = feeling_error if is_burst(spec) else redrawing_error
            errors.append(redrawing(self.model, spec.name, tokens[spec.name][:, 0], batch[spec.name][:, 0]))
        return torch.stack(errors).mean()

    def after_step(self) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        return {
            "config": asdict(self.config),
            **self.sampler.describe(),
            "model": self.model.config.to_json(),
        }


def redrawing_error(model: WorldModel, stream: str, latents: Tensor, picture: Tensor) -> Tensor:
    """Squared error of a redrawn picture, weighted towards what stands out from the camera's mean picture.

    Args:
        latents: (B, n, D) of this camera, not whitened.
        picture: (B, S, S, 3) uint8.

    Returns:
        A scalar; about 1 for the mean picture itself.
    """
    spec = next(s for s in model.config.video if s.name == stream)
    target = model.senses.centre(spec)(picture)
    drawn = model.senses.decoder(spec)(latents)
    weight = target.abs().mean(-1, keepdim=True)
    weight = 0.3 + weight / weight.mean().clamp_min(1e-6)
    return (weight / weight.mean() * (drawn - target).square()).mean()


def feeling_error(model: WorldModel, stream: str, latents: Tensor, burst: Tensor) -> Tensor:
    """Squared error of a burst (B, S) redrawn from its latents (B, 1, D), and from none at all.

    Without the sensor the best guess is the mean, and a decoder that never saw its absence would invent.

    Returns:
        A scalar, as a share of variance.
    """
    code = model.senses.touch(next(s for s in model.config.bursts if s.name == stream))
    target = code.scale(burst)
    blind = code.redrawn(code.missing(len(burst)))
    return F.mse_loss(code.redrawn(latents), target) + 0.1 * F.mse_loss(blind, target)


def touch_labels(model: WorldModel, cache: TickCache) -> dict[str, Tensor]:
    """What `Feel` is taught, for every row of the cache; empty without bursts of touch.

    The simulator's truth counts where it was recorded, as privileged streams "contact_truth" and "slip"
    (above one half is yes); else contact is a force above the sensor's floor, and slip stays untaught.
    """
    if model.feel is None:
        return {}
    bursts = {s.name: torch.from_numpy(np.array(cache.streams[s.name])) for s in model.config.bursts}
    touched = [model.senses.touch(s).touched(bursts[s.name]) for s in model.config.bursts]
    labels = {"contact": torch.stack(touched).any(0)}
    for label, stream in (("contact", "contact_truth"), ("slip", "slip")):
        if stream in cache.specs:
            values = np.array(cache.streams[stream]).reshape(cache.num_rows, -1)
            labels[label] = torch.from_numpy((values > 0.5).any(axis=1))
    forces = [bursts[stream][:, channel].abs() for stream, channel in model.feel.forces]
    return {**{k: v.float() for k, v in labels.items()}, "normal_force": torch.stack(forces, dim=-1)}


@dataclass(frozen=True)
class LatentTable:
    """Whitened latents of every tick, end to end as in the cache they came from."""

    latents: Tensor
    """(rows, N, D) float32."""
    action: Tensor | None
    """(rows, A), in the robot's own units."""
    cache: TickCache

    @classmethod
    def encode(
        cls, model: WorldModel, cache: TickCache, episodes: np.ndarray, chunk: int = 512, refit: bool = True
    ) -> LatentTable:
        """Fix the whitening on the training ``episodes`` (unless not to ``refit``), and encode every tick."""
        if refit:
            model.whitening.reset()
        raw = encode_rows(model, cache, chunk)
        if refit and model.config.learned:  # vectors are standardised already
            _whiten(model, raw, cache.rows_of(episodes), chunk)
        action = torch.from_numpy(np.array(cache.streams["action"])) if cache.has_action else None
        return cls(raw, action, cache)


def _whiten(model: WorldModel, raw: Tensor, rows: np.ndarray, chunk: int) -> None:
    """Fit the whitening of every learned stream on ``rows`` of the latents, and apply it in place."""
    for spec in model.config.learned:
        place = model.senses.learned_place(spec)
        if place is None:
            continue
        seen = raw[:, *place][torch.from_numpy(rows)]
        if float(seen.std(0).max()) < 1e-4:
            if is_burst(spec):
                continue  # nothing was ever touched, which is no mistake
            raise DataError(
                "the video latents do not vary: the pictures of this set are all alike, or the "
                "representation collapsed. Look at the contact sheet: "
                "forerun data inspect PATH --sheet sheet.png"
            )
        model.whitening.fit(place, seen)
    for part in raw.split(chunk):
        part.copy_(model.whitening(part))


@torch.no_grad()
def encode_rows(model: WorldModel, cache: TickCache, chunk: int = 512) -> Tensor:
    """Every tick of the cache through `WorldModel.encode`: (rows, N, D)."""
    model.eval()
    out = torch.empty(cache.num_rows, *model.layout.shape)
    for first in range(0, cache.num_rows, chunk):
        part = slice(first, first + chunk)
        # a copy: torch warns about read-only memory maps
        rows = {
            s.name: torch.from_numpy(np.array(cache.streams[s.name][part]))[None]
            for s in model.config.streams
        }
        for s in model.config.bursts:
            rows[f"{s.name}.valid"] = torch.from_numpy(np.array(cache.valid[s.name][part]))[None]
        out[part] = model.encode(rows)[0]
    return out


def without(model: WorldModel, latents: Tensor, name: str) -> Tensor:
    """Whitened latents (..., N, D) as they would be had the touch stream ``name`` been absent."""
    spec, place = next(s for s in model.config.bursts if s.name == name), model.layout.places[name]
    raw, out = torch.zeros(model.layout.shape), latents.clone()
    raw[place] = model.senses.touch(spec).missing().detach().view_as(raw[place])
    out[..., *place] = model.whitening(raw)[place]
    return out


class DynamicsLearner:
    """Stage two, on windows of latents: read a context, imagine the rest open loop, compare."""

    name = "dynamics"

    def __init__(
        self,
        model: WorldModel,
        table: LatentTable,
        episodes: np.ndarray,
        *,
        batch_size: int = 512,
        ticks: int = 6,
        seed: int = 0,
    ) -> None:
        self.model, self.table, self.ticks, self.seed = model, table, ticks, seed
        self.sampler = WindowSampler(table.cache, episodes, ticks, batch_size, seed)
        self.longest = min(ticks - 1, model.config.size.window)
        self.labels = touch_labels(model, table.cache)
        parts = [model.trunk, model.next_latents, model.uncertainty]
        self.module = nn.ModuleList(parts if model.feel is None else [*parts, model.feel])

    def batch(self, step: int) -> Batch:
        index = torch.from_numpy(self.sampler.batch(step))[:, None] + torch.arange(self.ticks)
        random = np.random.default_rng([self.seed, step])
        context = random.integers(1, self.longest + 1)
        batch = {"latents": self.table.latents[index], "context": torch.tensor(context)}
        batch |= {name: values[index] for name, values in self.labels.items()}
        if self.model.config.bursts:
            batch["given"] = self._dropped(batch["latents"], random)
            batch["tick_s"] = torch.full((len(index),), self.table.cache.tick_s)
        if self.table.action is not None:
            batch["action"] = self.table.action[index]
        return batch

    @torch.no_grad()
    def _dropped(self, latents: Tensor, random: np.random.Generator) -> Tensor:
        """Latents (B, T, N, D) as read: some windows lack a sensor, which must cost accuracy, not sense."""
        for spec in self.model.config.bursts:
            lost = torch.from_numpy(random.random(len(latents)) < DROPOUT)[:, None, None, None]
            latents = torch.where(lost, without(self.model, latents, spec.name), latents)
        return latents

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.model.loss(batch, context=int(batch["context"]))

    def after_step(self) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        return {
            "ticks": self.ticks,
            **self.sampler.describe(),
            "model": self.model.config.to_json(),
        }


class GoalLearner:
    """Stage two: how many ticks from here to a goal, and which action to take towards it."""

    name = "goals"

    def __init__(
        self,
        model: WorldModel,
        table: LatentTable,
        episodes: np.ndarray,
        *,
        batch_size: int = 512,
        seed: int = 0,
    ) -> None:
        self.model, self.table, self.seed = model, table, seed
        self.config = model.goals.config
        self.sampler = WindowSampler(table.cache, episodes, 2, batch_size, seed)
        self.hindsight = Hindsight(table.cache, episodes)
        self.flat = table.latents.flatten(1)
        self.goal = model.goal(table.latents)
        assert table.action is not None
        self.action = model.action_scale(table.action)
        self.module = model.goals

    def batch(self, step: int) -> Batch:
        """Transitions with hindsight goals: from the same place, from later in the episode, from anywhere."""
        c, random = self.config, np.random.default_rng([self.seed, step])
        rows = self.sampler.batch(step)
        future = self.hindsight.later(rows, c.horizon, random, c.near)
        kind = random.random(len(rows))
        anywhere = self.hindsight.anywhere(len(rows), random)
        goal = np.where(kind < c.same, rows, np.where(kind < c.same + c.random, anywhere, future))
        return {
            "z": self.flat[rows],
            "next_z": self.flat[rows + 1],
            "action": self.action[rows],
            "goal": self.goal[goal],
            "reached": torch.from_numpy(goal == rows),
            "ahead": torch.from_numpy(kind >= c.same + c.random),
        }

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.model.goals.loss(batch)

    def after_step(self) -> None:
        self.model.goals.update_target()

    def describe(self) -> dict[str, Any]:
        return {
            "config": asdict(self.config),
            **self.sampler.describe(),
            "model": self.model.config.to_json(),
        }
