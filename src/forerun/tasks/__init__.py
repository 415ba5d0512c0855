"""Simulated stand-ins for a real robot, as Gymnasium environments.

Importing this package registers the ids and nothing else; MuJoCo and pymunk are imported when an
environment is made.

    >>> import gymnasium, forerun.tasks
    >>> env = gymnasium.make("forerun/Push-v0")
"""

from __future__ import annotations

import difflib

import gymnasium

from forerun.tasks.base import Task
from forerun.tasks.policies import Quality, expert_towards, scripted_policy
from forerun.tasks.touch import TOUCH_TASKS

TASKS: dict[str, str] = {
    "forerun/Reach-v0": "forerun.tasks.reach:Reach",
    "forerun/Push-v0": "forerun.tasks.push:Push",
    "forerun/PickPlace-v0": "forerun.tasks.pickplace:PickPlace",
    "forerun/TwoRoom-v0": "forerun.tasks.tworoom:TwoRoom",
    "forerun/PushT-v0": "forerun.tasks.pusht:PushT",
}
"""Every goal-reaching task by its Gymnasium id, and where its class lives."""

for _id, _entry_point in TASKS.items():
    if _id not in gymnasium.registry:
        gymnasium.register(_id, entry_point=_entry_point, order_enforce=False, disable_env_checker=True)
for _id in TOUCH_TASKS:
    if _id not in gymnasium.registry:
        gymnasium.register(
            _id,
            entry_point="forerun.tasks.touch.env:TouchEnv",
            kwargs={"task": _id},
            order_enforce=False,
            disable_env_checker=True,
        )


def alternatives(env: str) -> str:
    """What to say to who asked for an unknown ``env``: the nearest of these, and all of them."""
    own = [*TASKS, *TOUCH_TASKS]
    close = difflib.get_close_matches(env, own, n=1)
    return f"{f'did you mean {close[0]}? ' if close else ''}forerun's own are {', '.join(own)}"


__all__ = ["TASKS", "TOUCH_TASKS", "Quality", "Task", "alternatives", "expert_towards", "scripted_policy"]
