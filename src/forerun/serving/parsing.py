"""Requests out of what arrived: every field is looked at before the engine sees it. Needs no torch."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from forerun.serving.protocol import (
    Close,
    Fork,
    Open,
    Refusal,
    Request,
    Restore,
    Rollback,
    Select,
    Snapshot,
    Step,
    View,
)
from forerun.types import StreamSpec


def parse(message: Any, action: StreamSpec | None) -> Request:
    """A request out of what arrived, for a world that takes ``action``.

    Raises:
        Refusal: something is missing or ill-formed; it names the field.
    """
    if not isinstance(message, Mapping):
        raise Refusal(
            "bad_message", f"a {type(message).__name__} arrived; expected a map with 'type' and 'id'"
        )
    kind = message.get("type")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise Refusal(
            "bad_message", f"type {str(kind)[:40]!r} is unknown; expected one of {', '.join(_READERS)}"
        )
    unknown = [name for name in message if name not in FIELDS[kind]]  # type: ignore[index]
    if unknown:
        close = difflib.get_close_matches(str(unknown[0]), FIELDS[kind], n=1)  # type: ignore[index]
        hint = f"; did you mean '{close[0]}'?" if close else f": {', '.join(sorted(FIELDS[kind]))}"  # type: ignore[index]
        raise Refusal("bad_message", f"{kind} has no field {str(unknown[0])[:40]!r}{hint}")
    return reader(message, action)


def addressed(message: Any) -> tuple[int | None, int | None]:
    """The session and the sequence number that a message names, as far as it does: for error replies."""
    if not isinstance(message, Mapping):
        return None, None
    named = [message.get("id"), message.get("seq")]
    session, seq = (v if type(v) is int and 0 <= v < 2**53 else None for v in named)
    return session, seq


def _open(message: Mapping[str, Any], action: StreamSpec | None) -> Open:
    if message.get("action") is not None:
        check_action_space(message["action"], action)
    context, actions = message.get("context"), message.get("actions")
    if (context is None) == (message.get("start") is None):
        raise Refusal(
            "bad_message", "open needs either 'start', the number of a recorded start, or 'context'"
        )
    if actions is not None and not isinstance(actions, np.ndarray):
        raise Refusal("bad_message", f"'actions' is a {type(actions).__name__}; expected an array (T - 1, A)")
    return Open(
        id=_count(message, "id"),
        view=_view(message),
        start=None if context is not None else _count(message, "start"),
        context=None if context is None else _arrays(context, "context"),
        actions=actions,
    )


def _step(message: Mapping[str, Any], action: StreamSpec | None) -> Step:
    values, follow = message.get("action"), message.get("follow") is True
    if values is not None:
        values = checked_action(values, action)
        if action is not None and action.low and action.high and not follow:
            values = np.clip(values, *(np.asarray(bound, np.float32) for bound in (action.low, action.high)))
    return Step(
        id=_count(message, "id"),
        seq=_count(message, "seq"),
        action=values,
        follow=follow,
        judge=None if message.get("judge") is None else _numbers(message, "judge"),
        brief=message.get("brief") is True,
    )


def _fork(message: Mapping[str, Any], action: StreamSpec | None) -> Fork:
    goal = message.get("goal")
    return Fork(
        id=_count(message, "id"),
        seq=_count(message, "seq"),
        into=_count(message, "into"),
        count=_count(message, "count", low=1),
        goal=None if goal is None else _arrays(goal, "goal"),
        quiet=message.get("quiet") is True,
    )


def _select(message: Mapping[str, Any], action: StreamSpec | None) -> Select:
    return Select(id=_count(message, "id"), seq=_count(message, "seq"), rows=_numbers(message, "rows"))


def _rollback(message: Mapping[str, Any], action: StreamSpec | None) -> Rollback:
    ticks = _count(message, "ticks", low=1)
    return Rollback(id=_count(message, "id"), seq=_count(message, "seq"), ticks=ticks)


def _snapshot(message: Mapping[str, Any], action: StreamSpec | None) -> Snapshot:
    return Snapshot(id=_count(message, "id"), seq=_count(message, "seq"), name=_name(message))


def _restore(message: Mapping[str, Any], action: StreamSpec | None) -> Restore:
    data, name = message.get("data"), _name(message)
    if (data is None) == (name is None) or not isinstance(data, bytes | None):
        raise Refusal("bad_message", "restore needs either 'data', the bytes of a snapshot, or 'name'")
    return Restore(id=_count(message, "id"), view=_view(message), data=data, name=name)


def _close(message: Mapping[str, Any], action: StreamSpec | None) -> Close:
    return Close(id=_count(message, "id"), quiet=message.get("quiet") is True)


_READERS = {
    "open": _open,
    "step": _step,
    "fork": _fork,
    "select": _select,
    "rollback": _rollback,
    "snapshot": _snapshot,
    "restore": _restore,
    "close": _close,
}


VIEW = frozenset(spec.name for spec in fields(View))
FIELDS: dict[str, frozenset[str]] = {
    "open": VIEW | {"start", "context", "actions", "action"},
    "step": frozenset({"seq", "action", "follow", "judge", "brief"}),
    "fork": frozenset({"seq", "into", "count", "goal", "quiet"}),
    "select": frozenset({"seq", "rows"}),
    "rollback": frozenset({"seq", "ticks"}),
    "snapshot": frozenset({"seq", "name"}),
    "restore": VIEW | {"data", "name"},
    "close": frozenset({"quiet"}),
}
FIELDS = {kind: names | {"type", "id"} for kind, names in FIELDS.items()}
"""What each message may hold: a field that nobody reads is a mistake of its sender."""


def _view(message: Mapping[str, Any]) -> View:
    observe, picture = message.get("observe"), message.get("picture", "none")
    if observe is not None and not (isinstance(observe, list) and all(isinstance(n, str) for n in observe)):
        raise Refusal("bad_message", f"'observe' is {str(observe)[:60]}; expected names of streams")
    if picture not in ("jpeg", "raw", "none"):
        raise Refusal("bad_message", f"'picture' is {str(picture)[:40]!r}; expected jpeg, raw or none")
    return View(
        observe=None if observe is None else tuple(observe),
        picture=picture,
        quality=_count(message, "quality", low=1, high=95, default=80),
        latents=message.get("latents") is True,
        period_s=_seconds(message, "period_s"),
        deadline_s=_seconds(message, "deadline_s"),
        best_effort=message.get("best_effort") is True,
        tick_s=_seconds(message, "tick_s"),
    )


def check_action_space(said: Any, spec: StreamSpec | None) -> None:
    """Names, unit and bounds that a client states must be the world's.

    Raises:
        Refusal: they differ.
    """
    if spec is None:
        raise Refusal("bad_action", "this world was learned from video without actions; leave 'action' out")
    if not isinstance(said, Mapping):
        raise Refusal("bad_message", f"'action' is a {type(said).__name__}; expected a map of names and unit")
    wanted = {"names": list(spec.names), "unit": spec.unit, "shape": list(spec.shape)}
    for name, value in wanted.items():
        stated = said.get(name)
        stated = list(stated) if isinstance(stated, tuple) else stated
        if stated is not None and stated != value:
            raise Refusal(
                "bad_action", f"the client's action has {name} {str(stated)[:80]}; this world takes {value}"
            )


def checked_action(values: Any, spec: StreamSpec | None) -> np.ndarray:
    """An action of 1 to 3 dimensions, float32 and finite, its last as wide as the world's.

    Raises:
        Refusal: it is not.
    """
    if spec is None:
        raise Refusal("bad_action", "this world was learned from video without actions; step with None")
    if isinstance(values, list):
        values = _from_list(values)
    if not isinstance(values, np.ndarray) or not 1 <= values.ndim <= 3 or values.shape[-1] != spec.size:
        found = values.shape if isinstance(values, np.ndarray) else type(values).__name__
        raise Refusal(
            "bad_action",
            f"an action of {found} arrived; expected ({spec.size},): {', '.join(spec.names)} in {spec.unit}",
        )
    with np.errstate(over="ignore"):
        action = values.astype(np.float32)
    if not np.isfinite(action).all():
        raise Refusal("bad_action", f"an action that is not finite arrived ({', '.join(spec.names)})")
    return action


def _from_list(values: list[Any]) -> Any:
    try:
        return np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        return values


def _arrays(value: Any, what: str) -> dict[str, np.ndarray]:
    if not isinstance(value, Mapping) or not value:
        raise Refusal("bad_message", f"'{what}' is a {type(value).__name__}; expected arrays by stream")
    for name, array in value.items():
        if not isinstance(name, str) or not isinstance(array, np.ndarray):
            raise Refusal("bad_message", f"'{what}' holds {str(name)[:40]!r}: expected arrays by stream name")
    return dict(value)


def _count(
    message: Mapping[str, Any], name: str, low: int = 0, high: int = 2**53 - 1, default: int | None = None
) -> int:
    value = message.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise Refusal("bad_message", f"'{name}' is {str(value)[:40]!r}; expected a whole number from {low}")
    return value


def _numbers(message: Mapping[str, Any], name: str) -> tuple[int, ...]:
    values = message.get(name)
    values = values.tolist() if isinstance(values, np.ndarray) else values
    if not isinstance(values, list) or not values or any(type(v) is not int or v < 0 for v in values):
        raise Refusal("bad_message", f"'{name}' is {str(values)[:60]}; expected whole numbers, at least one")
    return tuple(values)


def _seconds(message: Mapping[str, Any], name: str) -> float | None:
    value = message.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not math.isfinite(value) or not 1e-4 <= value <= 60:
        raise Refusal("bad_message", f"'{name}' is {str(value)[:40]!r}; expected seconds, 0.0001 to 60")
    return float(value)


def _name(message: Mapping[str, Any]) -> str | None:
    value = message.get("name")
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= 64 or not value.replace("-", "").isalnum():
        raise Refusal(
            "bad_message", f"'name' is {str(value)[:40]!r}; expected up to 64 letters, digits and '-'"
        )
    return value
