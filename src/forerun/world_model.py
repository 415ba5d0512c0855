"""The waist: everything above speaks to a world through these calls and nothing else.

    latents = model.encode(observation)          what is seen and felt, as latents
    state = model.start(latents, actions)        read a context
    state = model.step(state, action)            imagine one tick
    observation = model.decode(state)            look at it
    state.fork(64)                               64 futures that share one past

Letters: B rows, T ticks, N latent tokens per tick, D latent width, A action size. At packed sizes the streams
lie side by side in one token: N is 1, and D all their numbers together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from forerun import checkpoint
from forerun.config import ModelConfig
from forerun.dynamics.checks import check_actions, check_goal, check_latents, described
from forerun.dynamics.feel import Feel
from forerun.dynamics.heads import GoalConfig, GoalHeads, Uncertainty
from forerun.dynamics.state import Pace, State, common, join
from forerun.dynamics.transformer import Drive, Trunk, split
from forerun.encoders.layout import Layout
from forerun.encoders.proprio import Standardise
from forerun.encoders.senses import Senses
from forerun.encoders.whitening import Whitening
from forerun.types import CheckpointError, ConfigError

__all__ = ["State", "WorldModel", "join"]
FORMAT = "forerun-world-model-6"


class WorldModel(nn.Module):
    """A robot's world: encoders, trunk, decoders and heads of one `ModelConfig`."""

    used: Tensor
    goal_numbers: Tensor

    def __init__(self, config: ModelConfig, goal: GoalConfig | None = None) -> None:
        super().__init__()
        self.config = config
        size = config.size
        self.senses = Senses(config)
        tokens, numbers = self.layout.shape
        self.action_scale = Standardise(max(config.action_size, 1))
        self.trunk = Trunk(size, tokens, numbers, config.action_size)
        self.next_latents = nn.Linear(size.width, numbers)
        nn.init.zeros_(self.next_latents.weight)  # untrained, the world stands still
        nn.init.zeros_(self.next_latents.bias)
        self.uncertainty = Uncertainty(size.width)
        towards = self.layout.numbers(s.name for s in config.video or config.streams)
        self.register_buffer("goal_numbers", towards, persistent=False)
        self.feel = Feel(tokens * numbers, config.bursts, size.head_width) if config.bursts else None
        self.goals = GoalHeads(tokens * numbers, len(towards), config.action_size, size.head_width, goal)
        self.whitening = Whitening(tokens, numbers)
        self.register_buffer("used", self.senses.used(), persistent=False)

    @property
    def layout(self) -> Layout:
        """Where in one tick's latents each stream lies."""
        return self.senses.layout

    def loss_weight(self) -> Tensor:
        """(N, D): what a squared error counts, as a share of the variance of its own stream.

        Streams count equally, however many numbers they have; latents all at their mean cost about one.
        """
        variance, weight = self.whitening.variance * self.used, self.used.clone()
        for place in self.layout.places.values():
            weight[place] /= variance[place].sum() * len(self.layout.places)
        return weight

    def goal_weight(self) -> Tensor:
        """(Z,): the same for goals; two unrelated moments are about two apart."""
        weight, variance = self.goal(self.loss_weight()), self.goal(self.whitening.variance)
        return weight / (weight * variance).sum()

    # -- seeing ---------------------------------------------------------------------------------------

    def encode(self, observation: Mapping[str, Tensor]) -> Float[Tensor, "B T N D"]:
        """Streams over T ticks to whitened latents (B, T, N, D). Each tick is encoded alone: causal.

        Args:
            observation: per stream (B, T, *shape) in the stream's own unit; video is uint8 RGB. A burst of
                touch may be left out, or marked (B, T) bool under "NAME.valid": the model does without.

        Raises:
            ShapeError: another stream is missing, or one has another shape than in training.
        """
        return self.whitening(self.senses.encode(observation))

    def goal(self, latents: Float[Tensor, "*B N D"]) -> Float[Tensor, "*B Z"]:
        """What of one tick's latents (..., N, D) makes a goal (..., Z): pictures, nothing the robot feels."""
        return latents.flatten(-2)[..., self.goal_numbers]

    # -- imagining ------------------------------------------------------------------------------------

    def start(
        self, latents: Tensor, actions: Tensor | None = None, tick_s: float | Tensor | None = None
    ) -> State:
        """Read a context of T ticks and the T - 1 actions between them.

        Args:
            latents: (B, T, N, D) from `encode`.
            actions: (B, T - 1, A) in the robot's own units; None only if T is 1 or the robot's actions are
                unknown.
            tick_s: seconds per tick, one number or (B,); the training tick by default.
        """
        rows, ticks = latents.shape[:2]
        check_latents(latents, (rows, ticks, *self.layout.shape))
        pace, scaled = self._pace(tick_s, latents), None
        if actions is not None:
            check_actions(actions, (rows, ticks - 1), self.config.action)
            scaled = self.action_scale(actions)
        if ticks > 1:
            state, _, _ = self._read(latents[:, :-1], self._drive(pace, scaled), pace)
            return self.observe(state, latents[:, -1])
        return State(
            latents=latents[:, 0],
            memory=None,
            tick=torch.zeros(1, dtype=torch.long, device=latents.device).expand(rows),
            pace=pace,
            log_error=latents.new_full((rows,), float("-inf")),
        )

    def step(self, state: State, action: Tensor | None, present: Tensor | None = None) -> State:
        """Imagine one tick: every row takes its action (B, A), in the robot's own units.

        Rows may be of any age and know nothing of each other. ``present`` (B,) marks rows that carry an
        action; the others are imagined as unlabelled video.
        """
        if action is not None:
            check_actions(action, (len(state),), self.config.action)
            action = self.action_scale(action)[:, None]
        return self._step(state, action, None if present is None else present[:, None])

    def step_standardised(
        self, state: State, action: Float[Tensor, "B A"], present: Tensor | None = None
    ) -> State:
        """`step` for planners and servers, which have checked their actions: standardised units (B, A)."""
        return self._step(state, action[:, None], None if present is None else present[:, None])

    def steps_standardised(self, state: State, actions: Float[Tensor, "B H A"]) -> Iterator[State]:
        """The same, one state after another for a whole chunk (B, H, A): faster than asking one by one."""
        for drive in split(self._drive(state.pace, actions), [1] * actions.shape[1]):
            yield (state := self._advance(state, drive))

    def _step(self, state: State, scaled: Tensor | None, present: Tensor | None = None) -> State:
        return self._advance(state, self._drive(state.pace, scaled, present))

    def _drive(self, pace: Pace, scaled: Tensor | None, present: Tensor | None = None) -> Drive:
        """What standardised actions (B, T, A), where ``present`` (B, T), do to the trunk."""
        return self.trunk.drive(scaled, present, common(pace.embedding))

    def _advance(self, state: State, drive: Drive) -> State:
        latents, tick = state.latents[:, None], common(state.tick)
        hidden, memory = self.trunk(latents, drive, tick[:, None], state.memory)
        return State(
            latents=self._moved(latents, hidden)[:, 0],
            memory=memory,
            tick=(tick + 1).expand(len(state)),
            pace=state.pace,
            log_error=self.uncertainty(hidden)[:, 0],
        )

    def _read(
        self, latents: Float[Tensor, "B T N D"], drive: Drive, pace: Pace
    ) -> tuple[State, Float[Tensor, "B T N D"], Float[Tensor, "B T"]]:
        """Read T ticks at once, driven by the actions taken at them.

        Returns:
            The tick after them, imagined; and for every tick the latents foretold for the next one
            (B, T, N, D) and the log error expected of those (B, T).
        """
        rows, ticks = latents.shape[:2]
        hidden, memory = self.trunk(latents, drive, torch.arange(ticks, device=latents.device)[None])
        foretold, log_error = self._moved(latents, hidden), self.uncertainty(hidden)
        age = torch.full((1,), ticks, device=latents.device).expand(rows)
        return State(foretold[:, -1], memory, age, pace, log_error[:, -1]), foretold, log_error

    def _moved(
        self, latents: Float[Tensor, "B T N D"], hidden: Float[Tensor, "B T N E"]
    ) -> Float[Tensor, "B T N D"]:
        """latents (B, T, N, D) moved by what the trunk says (B, T, N, E); zero padding stays zero."""
        return torch.addcmul(latents, self.next_latents(hidden), self.used)

    def _pace(self, tick_s: float | Tensor | None, latents: Tensor) -> Pace:
        """Seconds per tick of every row, given for one or all of them, as the trunk takes them."""
        seconds = torch.as_tensor(self.config.tick_s if tick_s is None else tick_s).to(latents)
        if not bool((seconds > 0).all()):
            raise ConfigError(f"tick_s is {tick_s}; expected seconds between ticks, above zero")
        embedding, rows = self.trunk.pace(seconds.view(-1)), len(latents)
        return Pace(seconds.expand(rows), embedding.expand(rows, -1))

    def observe(self, state: State, latents: Tensor) -> State:
        """Replace the imagined present by what was really seen: latents (B, N, D) from `encode`."""
        check_latents(latents, state.latents.shape)
        return replace(state, latents=latents, log_error=torch.full_like(state.log_error, float("-inf")))

    # -- looking --------------------------------------------------------------------------------------

    def decode(self, state: State, streams: Collection[str] | None = None) -> dict[str, Tensor]:
        """The present tick in its own units: video (B, S, S, 3) uint8, others (B, *shape).

        Args:
            streams: only these, by name; a picture costs more than all numbers together.
        """
        return self.decode_latents(state.latents, streams)

    def decode_latents(self, latents: Tensor, streams: Collection[str] | None = None) -> dict[str, Tensor]:
        """Whitened latents (B, N, D) to every stream, or these, each in its own unit."""
        return self.senses.decode(self.whitening.inverse(latents), streams)

    def predict(self, state: State) -> dict[str, Tensor]:
        """Heads on the present tick, by name.

        Returns:
            ``uncertainty`` (B,), expected squared error, weighted as in `loss`; and with bursts of touch
            ``contact`` and ``slip`` (B,), probabilities 0..1, the latter only if slip was recorded, and
            ``normal_force`` (B, F) in N, one per pad, in the order of `Feel.forces`.
        """
        felt = {} if self.feel is None else self.feel.predict(state.latents.flatten(1))
        return {"uncertainty": state.log_error.exp(), **felt}

    def distance(self, state: State, goal: Tensor) -> Float[Tensor, " B"]:
        """Expected discounted ticks to the goal (B, Z) from `goal`: (B,), about 0 at the goal."""
        check_goal(goal, (len(state), len(self.goal_numbers)))
        return self.goals.distance(state.latents.flatten(1), goal)

    def propose(self, state: State, goal: Tensor) -> Float[Tensor, "B A"]:
        """The goal policy's action (B, A), in the robot's own units."""
        check_goal(goal, (len(state), len(self.goal_numbers)))
        return self.action_scale.inverse(self.goals.act(state.latents.flatten(1), goal))

    def action_bounds(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest standardised action (A,); three deviations if the robot states none."""
        spec, three = self.config.action, torch.full((self.config.action_size,), 3.0)
        low = self.action_scale(torch.tensor(spec.low)) if spec and spec.low else -three
        return low, self.action_scale(torch.tensor(spec.high)) if spec and spec.high else three

    # -- learning -------------------------------------------------------------------------------------

    def loss(self, batch: Mapping[str, Tensor], context: int = 1) -> dict[str, Tensor]:
        """Next-latent prediction: read ``context`` ticks, then imagine the rest open loop.

        Args:
            batch: ``latents`` (B, T, N, D) from `encode`; and where known ``action`` (B, T, A) in the robot's
                own units, ``present`` (B, T) bool, False where a row carries no action, ``tick_s`` (B,);
                ``given`` (B, T, N, D), what is read in place of ``latents``, which stay the target;
                ``contact``, ``slip`` (B, T) 0 or 1 and ``normal_force`` (B, T, F) in N, for `Feel`.
            context: ticks given before imagination begins, 1 .. T - 1.

        Returns:
            ``prediction``: squared error as a share of variance, streams equally, mean over ticks;
            ``uncertainty``: likelihood of that error; ``total``: the first plus a tenth of the second.
        """
        latents, present, ticks = batch["latents"], batch.get("present"), batch["latents"].shape[1]
        if not 1 <= context < ticks:
            raise ConfigError(
                f"context is {context}; a window of {ticks} ticks has room for 1 to {ticks - 1}"
            )
        action = self.action_scale(batch["action"]) if "action" in batch else None
        pace = self._pace(batch.get("tick_s"), latents)
        lengths = [context, *[1] * (ticks - context)]
        given, *later, _ = split(self._drive(pace, action, present), lengths)
        read = batch.get("given", latents)[:, :context]
        state, foretold, log_error = self._read(read, given, pace)
        imagined, expected = [foretold], [log_error]
        for drive in later:
            state = self._advance(state, drive)
            imagined.append(state.latents[:, None])
            expected.append(state.log_error[:, None])
        ahead = torch.cat(imagined, dim=1)
        gap = F.mse_loss(ahead, latents[:, 1:], reduction="none")
        error = gap.flatten(2) @ self.loss_weight().flatten()
        prediction, uncertainty = error.mean(), self.uncertainty.loss(torch.cat(expected, dim=1), error)
        losses = {"prediction": prediction, "uncertainty": uncertainty}
        total = prediction + 0.1 * uncertainty
        if self.feel is not None and "contact" in batch:
            # of what is seen now and of what is imagined next; the world is not bent to please these heads
            at = torch.cat([read, ahead[:, context - 1 :].detach()], dim=1).flatten(2)
            losses["feel"] = self.feel.loss(at, batch)
            total = total + losses["feel"]
        return {**losses, "total": total}

    # -- keeping --------------------------------------------------------------------------------------

    def save_pretrained(self, directory: str | Path) -> None:
        """Write weights (safetensors) and meaning (JSON) as one folder, atomically."""
        config = {"format": FORMAT, "model": self.config.to_json(), "goal": asdict(self.goals.config)}
        checkpoint.save(Path(directory), self.state_dict(), config)

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> WorldModel:
        """Read a folder written by `save_pretrained`; strict, in evaluation mode."""
        tensors, config = checkpoint.load(Path(directory))
        if config.get("format") != FORMAT:
            raise CheckpointError(
                f"the checkpoint says format '{config.get('format')}'; this version of forerun reads "
                f"'{FORMAT}'. Train again, or install the version that wrote it. Path: {directory}"
            )
        model = cls(*described(config, Path(directory)))
        checkpoint.load_into(model, tensors, Path(directory))
        return model.eval()

    def num_parameters(self) -> dict[str, int]:
        """Parameters by part, for people."""
        return {name: sum(p.numel() for p in part.parameters()) for name, part in self.named_children()}
