"""Contact tasks whose outcome hangs on what only touch tells.

>>> from forerun.tasks.touch import make_worlds
>>> worlds = make_worlds("forerun/LiftFragile-v0", 64)
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from forerun.tasks.touch.sensors import Reading, Sensor
from forerun.tasks.touch.worlds import TouchWorlds
from forerun.types import ConfigError

TOUCH_TASKS: dict[str, str] = {
    "forerun/LiftFragile-v0": "forerun.tasks.touch.lift:LiftFragile",
    "forerun/PegFeel-v0": "forerun.tasks.touch.peg:PegFeel",
    "forerun/WipeForce-v0": "forerun.tasks.touch.wipe:WipeForce",
    "forerun/WeighSort-v0": "forerun.tasks.touch.weigh:WeighSort",
    "forerun/PushBehind-v0": "forerun.tasks.touch.push:PushBehind",
}
"""Every contact task by its id, and where its class lives."""


def worlds_class(task: str) -> type[TouchWorlds]:
    """The class of a contact task.

    Raises:
        ConfigError: there is none of this id.
    """
    if task not in TOUCH_TASKS:
        raise ConfigError(f"'{task}' is no contact task; choose one of {', '.join(TOUCH_TASKS)}")
    module, _, name = TOUCH_TASKS[task].partition(":")
    return getattr(import_module(module), name)


def laws(task: str) -> ModuleType:
    """How a contact task is mastered: a module with ``expert``, ``oracle`` and ``scripted``."""
    return import_module(worlds_class(task).__module__ + "_law")


def make_worlds(task: str, count: int = 1, camera: bool = False, **settings: float) -> TouchWorlds:
    """``count`` worlds of the contact task, in lockstep, with the task's own ``settings``; see its class."""
    return worlds_class(task)(count, camera, **settings)


__all__ = ["TOUCH_TASKS", "Reading", "Sensor", "TouchWorlds", "laws", "make_worlds", "worlds_class"]
