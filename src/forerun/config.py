"""What a model is, said once: frozen dataclasses, one size dial, JSON in and out.

``--size xs|s|m|l|xl`` is the only architecture dial a newcomer meets. Every field is saved beside the
weights; unknown keys are refused, so an old checkpoint never loads with a silently ignored setting.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from forerun.types import ConfigError, StreamSpec

Size = Literal["xs", "s", "m", "l", "xl"]
Feeling = Literal["both", "latent", "statistics"]
"""In which space touch is foretold: learned numbers, statistics of its bursts, or both side by side."""


@dataclass(frozen=True, kw_only=True)
class SizeConfig:
    """Widths and depths. The presets follow reference recipes."""

    latent_dim: int
    """D: numbers per latent token."""
    video_tokens: int
    """Latent tokens per camera and tick. One at ``xs``: a vector latent plans 20 times faster on a CPU."""
    encoder: Literal["conv", "patch"]
    encoder_width: int
    encoder_layers: int
    width: int
    """E: width of the trunk."""
    layers: int
    heads: int
    mlp_ratio: int
    packed: bool
    """All streams lie side by side in one token per tick (few rows: fast on a CPU)."""
    time_every: int
    """Every how many layers a tick attends to the past."""
    window: int
    """Ticks a token can look back, itself included."""
    head_width: int
    """Width of the small networks on latents: goal policy and goal distance."""
    touch: Feeling = "both"
    touch_latent: int = 16
    """Learned numbers of a touch stream at packed sizes; else it has one learned token."""


PRESETS: dict[str, SizeConfig] = {
    "xs": SizeConfig(
        latent_dim=64, video_tokens=1, encoder="conv", encoder_width=16, encoder_layers=3,
        width=96, layers=1, heads=4, mlp_ratio=2, packed=True, time_every=1, window=4, head_width=256,
    ),
    "s": SizeConfig(
        latent_dim=192, video_tokens=4, encoder="patch", encoder_width=192, encoder_layers=6,
        width=384, layers=8, heads=6, mlp_ratio=4, packed=False, time_every=2, window=16, head_width=512,
    ),
    "m": SizeConfig(
        latent_dim=64, video_tokens=16, encoder="patch", encoder_width=384, encoder_layers=12,
        width=768, layers=16, heads=12, mlp_ratio=4, packed=False, time_every=4, window=32, head_width=1024,
    ),
    "l": SizeConfig(
        latent_dim=32, video_tokens=64, encoder="patch", encoder_width=768, encoder_layers=12,
        width=1024, layers=24, heads=16, mlp_ratio=4, packed=False, time_every=4, window=64, head_width=2048,
    ),
    "xl": SizeConfig(
        latent_dim=32, video_tokens=256, encoder="patch", encoder_width=1024, encoder_layers=24,
        width=4096, layers=48, heads=32, mlp_ratio=4, packed=False, time_every=4, window=128, head_width=4096,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A world model of one robot: its streams, its action, its clock and its size."""

    streams: tuple[StreamSpec, ...]
    """What is observed at every tick, in order. Video must be square."""
    action: StreamSpec | None
    """The robot's own action, with names and bounds; None for action-free video."""
    tick_s: float
    """Seconds between two ticks in training. The tick length is also an input of the model."""
    size: SizeConfig
    size_name: str = "xs"

    def __post_init__(self) -> None:
        if not self.streams:
            raise ConfigError("a world model needs at least one observed stream; got none")
        if not 0 < self.tick_s <= 10:
            raise ConfigError(f"tick_s is {self.tick_s}; expected seconds between ticks in (0, 10]")
        for spec in self.streams:
            if spec.kind == "video" and (len(spec.shape) != 3 or spec.shape[0] != spec.shape[1]):
                raise ConfigError(
                    f"stream '{spec.name}' has shape {spec.shape}; the model takes square pictures "
                    "(height, width, 3). Build the cache with an image size: it resizes."
                )

    @property
    def video(self) -> tuple[StreamSpec, ...]:
        return tuple(s for s in self.streams if s.kind == "video")

    @property
    def bursts(self) -> tuple[StreamSpec, ...]:
        """Touch streams of which a tick holds statistics of many samples; see `forerun.data.ticks`."""
        return tuple(s for s in self.streams if is_burst(s))

    @property
    def learned(self) -> tuple[StreamSpec, ...]:
        """Streams of which latents are learned and whitened; vectors have a fixed code."""
        return self.video if self.size.touch == "statistics" else (*self.video, *self.bursts)

    @property
    def action_size(self) -> int:
        return self.action.size if self.action else 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ModelConfig:
        """Rebuild from JSON; a missing or unknown key raises ConfigError."""
        _check_keys(cls, values)
        _check_keys(SizeConfig, values["size"])
        return cls(
            streams=tuple(StreamSpec.from_json(s) for s in values["streams"]),
            action=StreamSpec.from_json(values["action"]) if values["action"] else None,
            tick_s=values["tick_s"],
            size=SizeConfig(**values["size"]),
            size_name=values["size_name"],
        )


def model_config(
    size: str, streams: tuple[StreamSpec, ...], action: StreamSpec | None, tick_s: float, **overrides: Any
) -> ModelConfig:
    """The preset ``size`` for these streams; ``overrides`` replace single fields of the size."""
    if size not in PRESETS:
        raise ConfigError(f"size '{size}' is unknown; choose one of {', '.join(PRESETS)}")
    return ModelConfig(
        streams=streams,
        action=action,
        tick_s=tick_s,
        size=replace(PRESETS[size], **overrides),
        size_name=size,
    )


def is_burst(spec: StreamSpec) -> bool:
    """Whether a cached touch stream holds mean, minimum, maximum and RMS of every channel."""
    return spec.kind == "touch" and bool(spec.names) and spec.names[-1].endswith(" rms")


def _check_keys(cls: type, values: dict[str, Any]) -> None:
    known = {f.name for f in fields(cls)}
    unknown, missing = sorted(set(values) - known), sorted(known - set(values))
    if unknown or missing:
        raise ConfigError(
            f"{cls.__name__} has unknown keys {unknown} and lacks {missing}; it was written by another "
            "version of forerun. Train again, or install the version named in the checkpoint's config.json."
        )
