"""What a session is told after a step: only what it asked for, and how well it was served."""

from __future__ import annotations

from typing import Any

import numpy as np

from forerun.serving.passes import Seen
from forerun.serving.scheduler import Job, Level
from forerun.serving.session import Session

LEVELS = {level: level.name.lower() for level in Level}


def observed(session: Session, seen: Seen, row: int | slice) -> dict[str, Any]:
    """Streams and heads of one row, or of all candidates, as an ``obs`` message."""
    wanted = seen.streams if session.view.observe is None else session.view.observe
    reply: dict[str, Any] = {
        "type": "obs",
        "id": session.id,
        "streams": {name: seen.streams[name][row] for name in wanted},
        "heads": {name: _number(values[row]) for name, values in seen.heads.items()},
    }
    ticks = seen.tick[row]
    reply["tick"] = int(ticks if ticks.ndim == 0 else ticks[0])
    if session.view.latents:
        reply["latents"] = seen.latents[row].float().cpu().numpy()
    return reply


def settled(
    job: Job, seen: Seen, row: int, level: Level, pass_s: float, rows: int, now_s: float
) -> dict[str, Any]:
    """The answer to a step, with the server's own timing."""
    session = job.session
    reply = observed(session, seen, row)
    reply["seq"] = job.request.seq
    reply["level"] = LEVELS[level]
    reply["timing"] = {
        "queue_ms": 1e3 * (now_s - job.arrived_s - pass_s),
        "pass_ms": 1e3 * pass_s,
        "rows": rows,
        "late": now_s > job.deadline_s,
    }
    return reply


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, np.generic) else value
