"""How a world model is taught: a representation first, then everything else on cached latents.

Learning in stages is cheaper (latents are encoded once and read at some 10^5 transitions per second) and
it worked where joint training let the object be squeezed out of the latent; LOG.md has the comparison.

    RepresentationLearner  pictures            -> encoders (and the decoders that go with them)
    LatentTable            pictures, encoders  -> whitened latents of every tick
    DynamicsLearner        latents, actions    -> trunk: what happens next
    GoalLearner            latents, actions    -> distance to a goal, and a policy towards it
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from forerun.data.cache import TickCache
from forerun.data.window import WindowSampler, gather
from forerun.encoders.representation import Representation, RepresentationConfig
from forerun.encoders.video import to_unit
from forerun.training.learner import Batch
from forerun.world_model import WorldModel


def fit_scales(model: WorldModel, cache: TickCache, episodes: np.ndarray) -> None:
    """Take the mean and spread of every vector stream and of the action from the training episodes."""
    rows = cache.rows_of(episodes)
    for spec in model.config.streams:
        if spec.kind != "video":
            model.encoder(spec).scale.fit(torch.from_numpy(np.asarray(cache.streams[spec.name][rows])).flatten(1))
    if model.config.action is not None:
        model.action_scale.fit(torch.from_numpy(np.asarray(cache.streams["action"][rows])))


class RepresentationLearner:
    """Stage one, on windows of pictures; see `forerun.encoders.representation`."""

    name = "representation"
    ticks = 3

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
        self.model, self.cache, self.config = model, cache, config or RepresentationConfig()
        self.sampler = WindowSampler(cache, episodes, self.ticks, batch_size, seed)
        self.video = model.config.video
        size = model.config.size
        latent_size = len(self.video) * size.video_tokens * size.latent_dim
        self.heads = Representation(latent_size, model.config.action_size, self.config)
        keys = [s for s in self.video]
        rows = cache.rows_of(episodes); rows = rows[:: max(1, len(rows) // 1000)]
        self.mean_picture = {s.name: to_unit(torch.from_numpy(cache.streams[s.name][rows])).mean(0) for s in keys}
        self.mean_var = {s.name: to_unit(torch.from_numpy(cache.streams[s.name][rows])).var(0).mean() for s in keys}
        self.module = nn.ModuleDict(
            {
                "encoders": nn.ModuleList(model.encoder(s) for s in keys),
                "decoders": nn.ModuleList(model.decoder(s) for s in keys),
                "heads": self.heads,
            }
        )

    def batch(self, step: int) -> Batch:
        names = [s.name for s in self.video] + (["action"] if self.cache.has_action else [])
        arrays = gather(self.cache, self.sampler.batch(step), self.ticks, names)
        return {name: torch.from_numpy(values) for name, values in arrays.items()}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        tokens = {s.name: self.model.encode_stream(s, batch) for s in self.video}
        z = torch.cat([t.flatten(2) for t in tokens.values()], dim=-1)
        action = self.model.action_scale(batch["action"]) if "action" in batch else None
        return self.heads(z, action, self._reconstruction(batch, tokens) if self.config.reconstruction else None)

    def _reconstruction(self, batch: Batch, tokens: dict[str, Tensor]) -> Tensor:
        """Redraw one tick of each window: the middle one."""
        errors = []
        for spec in self.video:
            drawn = self.model.decoder(spec)(tokens[spec.name][:, 1])
            picture = to_unit(batch[spec.name][:, 1])
            weight = (picture - self.mean_picture[spec.name]).abs().mean(-1, keepdim=True)
            weight = 0.1 + weight / weight.mean()
            errors.append((weight*(drawn - picture).square()).mean()/self.mean_var[spec.name])
        return torch.stack(errors).mean()

    def after_step(self) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        return {"config": asdict(self.config), "data": self.cache.hash, "model": self.model.config.to_json()}
