"""Simulated stand-ins for a real robot, as Gymnasium environments.

Importing this package registers the ids and nothing else; MuJoCo and pymunk are imported when an
environment is made.

    >>> import gymnasium, forerun.tasks
    >>> env = gymnasium.make("forerun/Push-v0")
"""

from __future__ import annotations

import gymnasium

from forerun.tasks.base import Task
from forerun.tasks.policies import Quality, expert_towards, scripted_policy

TASKS: dict[str, str] = {
    "forerun/Reach-v0": "forerun.tasks.reach:Reach",
    "forerun/Push-v0": "forerun.tasks.push:Push",
    "forerun/PickPlace-v0": "forerun.tasks.pickplace:PickPlace",
    "forerun/TwoRoom-v0": "forerun.tasks.tworoom:TwoRoom",
    "forerun/PushT-v0": "forerun.tasks.pusht:PushT",
}
"""Every task by its Gymnasium id, and where its class lives."""

for _id, _entry_point in TASKS.items():
    if _id not in gymnasium.registry:
        gymnasium.register(_id, entry_point=_entry_point, order_enforce=False, disable_env_checker=True)

__all__ = ["TASKS", "Quality", "Task", "expert_towards", "scripted_policy"]
