"""forerun: world models for robots. Learn from recordings, imagine, plan.

Importing the package costs nothing: a public name is fetched from its module when it is first used.

    >>> import forerun
    >>> recordings = forerun.open_recordings("recordings/")  # doctest: +SKIP
    >>> model = forerun.WorldModel.from_pretrained("runs/push/model")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from forerun.config import ModelConfig, model_config
    from forerun.data.cache import TickCache, build_cache
    from forerun.data.episode import Episode, Recordings, Stream, align
    from forerun.data.formats import open_recordings
    from forerun.data.lerobot_writer import write_lerobot
    from forerun.data.record import record
    from forerun.data.video_writer import write_video
    from forerun.imagination.planner import Planner, PlannerConfig
    from forerun.imagination.rollout import imagine
    from forerun.training.trainer import TrainConfig, train
    from forerun.types import Error, StreamSpec
    from forerun.world_model import State, WorldModel

_HOMES = {
    "forerun.config": ("ModelConfig", "model_config"),
    "forerun.data.cache": ("TickCache", "build_cache"),
    "forerun.data.episode": ("Episode", "Recordings", "Stream", "align"),
    "forerun.data.formats": ("open_recordings",),
    "forerun.data.lerobot_writer": ("write_lerobot",),
    "forerun.data.record": ("record",),
    "forerun.data.video_writer": ("write_video",),
    "forerun.imagination.planner": ("Planner", "PlannerConfig"),
    "forerun.imagination.rollout": ("imagine",),
    "forerun.training.trainer": ("TrainConfig", "train"),
    "forerun.types": ("Error", "StreamSpec"),
    "forerun.world_model": ("State", "WorldModel"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Episode",
    "Error",
    "ModelConfig",
    "Planner",
    "PlannerConfig",
    "Recordings",
    "State",
    "Stream",
    "StreamSpec",
    "TickCache",
    "TrainConfig",
    "WorldModel",
    "__version__",
    "align",
    "build_cache",
    "imagine",
    "model_config",
    "open_recordings",
    "record",
    "train",
    "write_lerobot",
    "write_video",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"forerun has no public name '{name}'; it has {', '.join(__all__)}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
