"""What a stream is for, judged by the names that robot data sets give their columns."""

from __future__ import annotations

import re
from typing import Any

from forerun.types import Kind

_TOUCH = re.compile(r"tactile|touch|wrench|force|taxel", re.IGNORECASE)
_OUTCOME = re.compile(r"^(next\.|reward|done|discount|is_terminal|success)")


def kind_of(name: str, dtype: str = "float32") -> Kind:
    """Kind of a stream from its name and type.

    ``action`` and ``action.*`` are actions; names with tactile, touch, wrench, force or taxel are touch;
    rewards and ends (``next.*`` in LeRobot) are privileged, for they tell the outcome; the rest are
    vectors.
    """
    if dtype in ("video", "image"):
        return "video"
    if dtype == "string":
        return "text"
    if name == "action" or name.startswith(("action.", "action/")):
        return "action"
    if _OUTCOME.search(name):
        return "privileged"
    return "touch" if _TOUCH.search(name) else "vector"


def flat_names(names: Any) -> tuple[str, ...]:
    """Channel names however deep they are nested: a list, a list in a list, a dict of lists, a dict to
    indices."""
    if names is None:
        return ()
    if isinstance(names, dict):
        if all(isinstance(v, int) for v in names.values()):
            return tuple(sorted(names, key=names.__getitem__))
        names = list(names.values())
    if isinstance(names, (list, tuple)):
        return tuple(n for part in names for n in flat_names(part))
    return (str(names),)
