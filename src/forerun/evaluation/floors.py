"""The floor any planner must beat: goal-conditioned behaviour cloning from pictures, with its own network.

It sees what the world model sees (pictures, what the robot feels, the goal's picture), is trained on the same
episodes with hindsight goals up to the same number of ticks ahead, and imagines nothing.

Letters: B rows, S picture side, C channels of all vectors, Z numbers per picture set, A action size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from forerun import checkpoint
from forerun.config import ModelConfig
from forerun.control.trials import Observations
from forerun.data.cache import TickCache
from forerun.data.hindsight import Hindsight
from forerun.data.window import WindowSampler
from forerun.encoders.proprio import Standardise
from forerun.encoders.video import Centre, video_encoder
from forerun.layers import mlp
from forerun.training.learner import Batch
from forerun.training.trainer import TrainConfig, train
from forerun.types import CheckpointError, ConfigError

FORMAT = "forerun-cloned-policy-1"


@dataclass(frozen=True, kw_only=True)
class CloningConfig:
    """How the floor is trained. `TrainConfig` says for how long."""

    horizon: int = 60
    """Hindsight goals lie 1 to so many ticks ahead, uniformly, as in `GoalConfig.horizon`."""
    batch_size: int = 64
    """Rows per step; each is two pictures of every camera: now, and the goal."""
    width: int = 512


class ClonedPolicy(nn.Module):
    """Pictures now and at the goal, and what the robot feels, to the action a demonstrator took."""

    def __init__(self, config: ModelConfig, width: int = 512) -> None:
        super().__init__()
        if config.action is None:
            raise ConfigError("these recordings hold no action, so there is nothing to clone")
        self.config, self.width = config, width
        size = config.size
        self.vectors = [s for s in config.streams if s.kind != "video"]
        self.centres = nn.ModuleList(Centre(s.shape[0]) for s in config.video)
        self.encoders = nn.ModuleList(video_encoder(size, s.shape[0]) for s in config.video)
        self.scales = nn.ModuleList(Standardise(s.size) for s in self.vectors)
        self.action_scale = Standardise(config.action_size)
        pictures = len(config.video) * size.video_tokens * size.latent_dim
        felt = sum(s.size for s in self.vectors)
        goal = pictures or felt
        self.head = mlp(pictures + felt + goal, width, width, config.action_size, norm=True)

    def fit(self, cache: TickCache, episodes: np.ndarray, pictures: int = 2000) -> None:
        """Take the mean picture and the spread of vectors and actions from the training episodes."""
        rows = cache.rows_of(episodes)
        few = rows[:: max(1, len(rows) // pictures)]
        for spec, centre in zip(self.config.video, self.centres, strict=True):
            centre.fit(torch.from_numpy(cache.streams[spec.name][few]))  # type: ignore[operator]
        for spec, scale in zip(self.vectors, self.scales, strict=True):
            scale.fit(torch.from_numpy(cache.streams[spec.name][rows]).flatten(1))  # type: ignore[operator]
        self.action_scale.fit(torch.from_numpy(cache.streams["action"][rows]))

    def forward(self, now: Mapping[str, Tensor], goal: Mapping[str, Tensor]) -> Tensor:
        """Standardised action (B, A) from streams (B, *shape) in their own units."""
        felt = [
            scale(now[spec.name].float().flatten(1))
            for spec, scale in zip(self.vectors, self.scales, strict=True)
        ]
        if not self.config.video:
            wanted = [
                scale(goal[s.name].float().flatten(1))
                for s, scale in zip(self.vectors, self.scales, strict=True)
            ]
            return self.head(torch.cat([*felt, *wanted], dim=-1))
        seen = []
        for spec, centre, encoder in zip(self.config.video, self.centres, self.encoders, strict=True):
            both = torch.cat([now[spec.name], goal[spec.name]])
            seen += encoder(centre(both)).flatten(1).chunk(2)
        return self.head(torch.cat([*seen, *felt], dim=-1))

    def save(self, directory: Path) -> None:
        """Write the policy as one folder, atomically."""
        about = {"format": FORMAT, "model": self.config.to_json(), "width": self.width}
        checkpoint.save(directory, self.state_dict(), about)

    @classmethod
    def load(cls, directory: Path) -> ClonedPolicy:
        """Read a folder written by `save`; CheckpointError if it is another."""
        tensors, about = checkpoint.load(directory)
        if about.get("format") != FORMAT:
            raise CheckpointError(
                f"this checkpoint says format '{about.get('format')}'; a cloned policy says '{FORMAT}'. Name "
                f"the folder of one, RUN/cloning/policy for instance. Path: {directory}"
            )
        policy = cls(ModelConfig.from_json(about["model"]), about["width"])
        checkpoint.load_into(policy, tensors, directory)
        return policy.eval()


class CloningLearner:
    """Behaviour cloning with hindsight goals, for the one trainer."""

    name = "cloning"

    def __init__(
        self,
        policy: ClonedPolicy,
        cache: TickCache,
        episodes: np.ndarray,
        *,
        config: CloningConfig | None = None,
        seed: int = 0,
    ) -> None:
        self.policy, self.cache, self.config, self.seed = policy, cache, config or CloningConfig(), seed
        self.sampler = WindowSampler(cache, episodes, 2, self.config.batch_size, seed)
        self.hindsight = Hindsight(cache, episodes)

    @property
    def module(self) -> nn.Module:
        return self.policy

    def batch(self, step: int) -> Batch:
        """Every stream now (B, *shape) and as "goal.NAME" later in the episode; ``action`` (B, A) now."""
        rows = self.sampler.batch(step)
        random = np.random.default_rng([self.seed, step])
        goals = self.hindsight.later(rows, self.config.horizon, random)
        batch = {"action": torch.from_numpy(np.take(self.cache.streams["action"], rows, axis=0))}
        for spec in self.policy.config.streams:
            table = self.cache.streams[spec.name]
            batch[spec.name] = torch.from_numpy(np.take(table, rows, axis=0))
            batch[f"goal.{spec.name}"] = torch.from_numpy(np.take(table, goals, axis=0))
        return batch

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        goal = {s.name: batch[f"goal.{s.name}"] for s in self.policy.config.streams}
        wanted = self.policy.action_scale(batch["action"])
        return {"total": (self.policy(batch, goal) - wanted).square().mean()}

    def after_step(self) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        model = self.policy.config.to_json()
        return {
            "config": asdict(self.config),
            **self.sampler.describe(),
            "model": model,
            "width": self.policy.width,
        }


def clone(
    cache: TickCache,
    episodes: np.ndarray,
    model: ModelConfig,
    directory: Path,
    *,
    steps: int,
    config: CloningConfig | None = None,
    seed: int = 0,
    console: Console | None = None,
) -> ClonedPolicy:
    """Train the floor on the training ``episodes``; the same call again resumes, or loads what is finished.

    Args:
        model: of the world model beside it: same streams, same action, same encoder size.
        directory: gets ``checkpoint/``, ``metrics.jsonl`` and, at the end, ``policy/``.
        steps: each sees ``config.batch_size`` rows, two ticks of pictures a row.
    """
    if (directory / "policy").is_dir():
        return ClonedPolicy.load(directory / "policy")
    config = config or CloningConfig()
    torch.manual_seed(seed)
    policy = ClonedPolicy(model, config.width)
    policy.fit(cache, episodes)
    learner = CloningLearner(policy, cache, episodes, config=config, seed=seed)
    train(learner, TrainConfig(steps=steps, learning_rate=1e-3, seed=seed), directory, console=console)
    policy.eval().save(directory / "policy")
    return policy


def equal_pictures(
    representation: TrainConfig, batch_size: int = 64, config: CloningConfig | None = None
) -> int:
    """Steps in which the floor sees as many pictures as the world model's first stage.

    A step of that stage sees three ticks of pictures for each of ``batch_size`` rows, a step here sees two.
    """
    return max(1, round(representation.steps * 3 * batch_size / (2 * (config or CloningConfig()).batch_size)))


class CloningAgent:
    """The cloned policy as an agent; it decides anew at every step and remembers nothing."""

    def __init__(self, policy: ClonedPolicy) -> None:
        self.policy = policy.eval()
        spec = policy.config.action
        assert spec is not None
        self.low = -np.inf if spec.low is None else np.asarray(spec.low)
        self.high = np.inf if spec.high is None else np.asarray(spec.high)

    def begin(self, observations: Observations, goals: Observations) -> None:
        self.goal = self._streams(goals)

    @torch.inference_mode()
    def act(self, observations: Observations) -> np.ndarray:
        action = self.policy.action_scale.inverse(self.policy(self._streams(observations), self.goal))
        return np.clip(action.numpy(), self.low, self.high)

    def _streams(self, observations: Observations) -> dict[str, Tensor]:
        return {
            s.name: torch.from_numpy(np.asarray(observations[s.name])) for s in self.policy.config.streams
        }
