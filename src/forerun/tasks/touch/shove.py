"""A push that no plan foresaw: for claims about what a controller notices."""

from __future__ import annotations

import numpy as np

from forerun.tasks.touch.worlds import TouchWorlds


def shove(worlds: TouchWorlds, at_s: float, newtons: np.ndarray | tuple[float, float, float]) -> None:
    """From ``at_s`` on a constant force (3,) pushes what is handled, in the world's axes; until ``unshove``.

    What is handled is the last body of a scene: the box, the peg, the tool or the block.
    """
    usual = type(worlds).disturb

    def disturb() -> None:
        for data in worlds.data:
            data.xfrc_applied[-1, :3] = 0
        usual(worlds)
        if worlds.time_s >= at_s:
            for data in worlds.data:
                data.xfrc_applied[-1, :3] += newtons

    worlds.disturb = disturb  # type: ignore[method-assign]


def unshove(worlds: TouchWorlds) -> None:
    """Back to what the world does by itself."""
    if "disturb" in vars(worlds):
        del worlds.disturb
