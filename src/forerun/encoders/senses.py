"""Every stream's encoder and decoder, and where its numbers lie: observations to latents and back.

Letters: B rows, T ticks, N latent tokens per tick, D latent width; n and d the same of one stream.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from forerun.config import ModelConfig, SizeConfig, is_burst
from forerun.encoders.layout import Layout, Place
from forerun.encoders.proprio import VectorCode
from forerun.encoders.touch import TouchCode
from forerun.encoders.video import Centre, video_decoder, video_encoder
from forerun.types import ShapeError, StreamSpec


class Senses(nn.Module):
    """Encoders and decoders of one `ModelConfig`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoders, self.decoders, self.centres = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        self.layout = Layout({s.name: self._add(s) for s in config.streams}, packed=config.size.packed)

    def _add(self, spec: StreamSpec) -> tuple[int, int]:
        """Make the encoder and decoder of a stream; returns the shape (tokens, width) of its latents."""
        size, key = self.config.size, _key(spec)
        if spec.kind == "video":
            self.centres[key] = Centre(spec.shape[0])
            self.encoders[key] = video_encoder(size, spec.shape[0])
            self.decoders[key] = video_decoder(size, spec.shape[0])
            return size.video_tokens, size.latent_dim
        if is_burst(spec):
            self.encoders[key] = touch = _touch_code(size, spec)
            return touch.tokens, touch.token_width
        width = spec.size if size.packed else size.latent_dim
        self.encoders[key] = vector = VectorCode(spec.size, width, spec.name)
        return vector.tokens, width

    def encoder(self, spec: StreamSpec) -> nn.Module:
        return self.encoders[_key(spec)]

    def decoder(self, spec: StreamSpec) -> nn.Module:
        """The decoder of a video stream."""
        return self.decoders[_key(spec)]

    def centre(self, spec: StreamSpec) -> Centre:
        """The mean picture of a video stream, and deviations from it."""
        return self.centres[_key(spec)]  # type: ignore[return-value]

    def vector(self, spec: StreamSpec) -> VectorCode:
        """The code of a vector stream, or of touch sampled once a tick; it holds the stream's scale."""
        return self.encoders[_key(spec)]  # type: ignore[return-value]

    def touch(self, spec: StreamSpec) -> TouchCode:
        """The code of a burst of touch; it holds the sensor's scale and noise floor."""
        return self.encoders[_key(spec)]  # type: ignore[return-value]

    def used(self) -> Float[Tensor, "N D"]:
        """Zero where a vector or a burst was padded, else one."""
        used = torch.ones(self.layout.shape).flatten()
        for spec in self.config.streams:
            if spec.kind != "video":
                means = self.touch(spec).used if is_burst(spec) else spec.size
                used[self.layout.numbers([spec.name])[means:]] = 0
        return used.view(self.layout.shape)

    def learned_place(self, spec: StreamSpec) -> Place | None:
        """Where the learned numbers of a camera or of a burst lie; None if it has none."""
        rows, numbers = self.layout.places[spec.name]
        if spec.kind == "video":
            return rows, numbers
        learned = self.touch(spec).learned
        if not learned:
            return None
        if self.layout.packed:
            return rows, slice(numbers.start, numbers.start + learned)
        return slice(rows.start, rows.start + 1), numbers

    def encode(self, observation: Mapping[str, Tensor]) -> Float[Tensor, "B T N D"]:
        """All streams (B, T, *shape) as the latents of every tick, not yet whitened."""
        return self.layout.join([self.encode_stream(s, observation) for s in self.config.streams])

    def encode_stream(self, spec: StreamSpec, observation: Mapping[str, Tensor]) -> Float[Tensor, "B T n d"]:
        """One stream (B, T, *shape) to its own tokens (B, T, n, d), not yet whitened.

        Raises:
            ShapeError: it is missing and no burst, or has another shape or type than in training.
        """
        values = observation.get(spec.name)
        if values is None and is_burst(spec) and observation:
            batch = next(iter(observation.values())).shape[:2]
            return self.touch(spec).missing(*batch)
        if values is None:
            raise ShapeError(
                f"stream '{spec.name}' is missing; the observation holds {sorted(observation)}. This model "
                f"was trained on {[s.name for s in self.config.streams]}: give every one of them."
            )
        _check(spec, values)
        encoder = self.encoder(spec)
        if is_burst(spec):
            return encoder(values.float(), observation.get(f"{spec.name}.valid"))
        if spec.kind != "video":
            return encoder(values.float().flatten(2))
        flat = encoder(self.centre(spec)(values.flatten(0, 1)))
        return flat.unflatten(0, values.shape[:2])

    def decode(
        self, latents: Float[Tensor, "B N D"], streams: Collection[str] | None = None
    ) -> dict[str, Tensor]:
        """Latents, not whitened, to every stream, or these, each in its own unit."""
        out = {}
        for spec in self.config.streams:
            if streams is not None and spec.name not in streams:
                continue
            part, code = self.layout.part(latents, spec.name), self.encoder(spec)
            if isinstance(code, VectorCode | TouchCode):
                out[spec.name] = code.decode(part).unflatten(-1, spec.shape)
            else:
                out[spec.name] = self.centre(spec).inverse(self.decoder(spec)(part))
        return out


def _touch_code(size: SizeConfig, spec: StreamSpec) -> TouchCode:
    learned = min(size.touch_latent, spec.size) if size.packed else size.latent_dim
    learned = 0 if size.touch == "statistics" else learned
    token_width = None if size.packed else size.latent_dim
    return TouchCode(spec.size, learned, size.touch != "latent", token_width, size.head_width, spec.name)


def _check(spec: StreamSpec, values: Tensor) -> None:
    if tuple(values.shape[2:]) != spec.shape:
        raise ShapeError(
            f"stream '{spec.name}' arrives with shape {tuple(values.shape[2:])} after (rows, ticks); "
            f"this model was trained on {spec.shape} [{spec.unit}]. Record or resize to that shape."
        )
    if spec.kind == "video" and values.dtype != torch.uint8:
        raise ShapeError(
            f"stream '{spec.name}' arrives as {values.dtype}; expected uint8 RGB, 0..255, as recorded. "
            "The model centres pictures itself."
        )


def _key(spec: StreamSpec) -> str:
    """The stream's name as torch allows it: without dots, and not the name of a method."""
    key = spec.name.replace(".", "/")
    return f"{key}/" if hasattr(_METHODS, key) else key


_METHODS = nn.ModuleDict()
