"""Pictures for people: decoded from latents, compressed, repeated where there is no time for new ones."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from forerun.serving.passes import Passes, Seen
from forerun.serving.scheduler import Level
from forerun.serving.session import Session

MOST = 32
"""Pictures drawn at once: on a CPU more of them no longer fit into its caches."""


def draw_for(
    passes: Passes,
    seen: Seen,
    sessions: Sequence[Session],
    rows: Sequence[int] | None = None,
    level: Level = Level.FULL,
) -> tuple[list[dict[str, Any]], int]:
    """A picture message for each session, and how many were drawn anew.

    Args:
        rows: of ``seen``, one per session; by default the first ones.
        level: `Level.HALF` repeats every second picture, `Level.NUMBERS` gives none.
    """
    rows = list(range(len(sessions))) if rows is None else rows
    fresh = [k for k, session in enumerate(sessions) if _is_due(session, level)]
    for first in range(0, len(fresh), MOST):
        some = fresh[first : first + MOST]
        drawn = passes.draw(seen.latents[[rows[k] for k in some]])
        for place, k in enumerate(some):
            session = sessions[k]
            session.last_picture = {
                name: encode(pictures[place], session.view.picture, session.view.quality)
                for name, pictures in drawn.items()
            }
    new = set(fresh)
    messages = []
    for k, session in enumerate(sessions):
        shown = level is not Level.NUMBERS
        how = "fresh" if k in new else "repeated" if shown else "skipped"
        messages.append({"state": how, "cameras": session.last_picture if shown else {}})
    return messages, len(fresh)


def encode(picture: np.ndarray, form: str, quality: int = 80) -> bytes | np.ndarray:
    """A picture (H, W, 3) uint8 as JPEG bytes, or as it is."""
    if form != "jpeg":
        return picture
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=quality)
    return out.getvalue()


def _is_due(session: Session, level: Level) -> bool:
    session.pictures += 1
    if level is Level.NUMBERS:
        return False
    return level is Level.FULL or session.pictures % 2 == 0 or not session.last_picture
