"""Gymnasium spaces as streams, and action vectors as the actions an environment takes.

Parts of a Dict are called after their keys, those of a Tuple after their places: "arm.q", "observation.0".
Uint8 values become video where they are pictures: (height, width), (height, width, 1 or 3) or (1 or 3,
height, width), and of stacked frames, along the first or last axis, the newest, which is the last. Text is
kept as text; all other parts become numbers, one-hot where the space is discrete. A part without a fixed size
(a Sequence, a Graph) cannot be recorded.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from forerun.data.naming import kind_of
from forerun.types import StreamSpec

SMALLEST_PICTURE = 16  # pixels; a smaller table of numbers is rather a board or a map
DEEPEST_STACK = 16  # frames


@dataclass(frozen=True)
class Part:
    """One leaf of a nested space, and the keys that lead to it."""

    space: spaces.Space
    path: tuple[Hashable, ...] = ()

    @property
    def kind(self) -> Literal["text", "video", "numbers", "none"]:
        if self.space.dtype is not None and np.dtype(self.space.dtype).kind == "U":
            return "text"
        if is_picture(self.space):
            return "video"
        return "numbers" if has_fixed_size(self.space) else "none"

    def spec(self, name: str, rate_hz: float) -> StreamSpec:
        """Of the stream that it becomes; not for parts of kind "none"."""
        if self.kind == "text":
            return StreamSpec(name=name, kind="text", shape=(), rate_hz=rate_hz)
        if self.kind == "video":
            shape = (*_frame(self._blank()).shape[:2], 3)
            return StreamSpec(name=name, kind="video", shape=shape, unit="rgb", rate_hz=rate_hz)
        low, high = _bounds([self.space])
        shape = _shape(self.space)
        return StreamSpec(name=name, kind=kind_of(name), shape=shape, rate_hz=rate_hz, low=low, high=high)

    def read(self, whole: Any) -> Any:
        """Its sample, out of a value of the whole space."""
        value = self.value(whole)
        if self.kind == "text":
            return str(value)
        if self.kind == "video":
            frame = _frame(np.asarray(value))
            return frame if frame.shape[-1] == 3 else np.repeat(frame, 3, axis=-1)
        return numbers(self.space, value)

    def value(self, whole: Any) -> Any:
        for key in self.path:
            whole = whole[key]
        return whole

    def note(self, name: str) -> str | None:
        """What a person should know before recording it."""
        if self.kind == "none":
            return f"'{name}' is a {type(self.space).__name__}, which has no fixed size: it is left out"
        if self.kind == "text":
            return f"'{name}' is text: it is kept, and no model learns from it"
        if self.kind == "video" and _frame(self._blank()).size != self._blank().size:
            return f"'{name}' holds stacked pictures, {self.space.shape}: the newest becomes video"
        return None

    def _blank(self) -> np.ndarray:
        return np.broadcast_to(np.uint8(0), self.space.shape or ())


def parts_of(space: spaces.Space, name: str = "", path: tuple[Hashable, ...] = ()) -> dict[str, Part]:
    """Every leaf of nested Dicts and Tuples by its dotted name."""
    if isinstance(space, spaces.Dict):
        inner: list[tuple[Hashable, spaces.Space]] = list(space.spaces.items())
    elif isinstance(space, spaces.Tuple):
        inner = list(enumerate(space.spaces))
    else:
        return {name: Part(space, path)}
    found = [parts_of(s, f"{name}.{key}" if name else str(key), (*path, key)) for key, s in inner]
    return {n: part for parts in found for n, part in parts.items()}


def observation_parts(space: spaces.Space) -> dict[str, Part]:
    """By stream; a key that would pass for an action or an outcome gets "observation." in front."""
    parts = parts_of(space, "" if isinstance(space, spaces.Dict) else "observation")
    taken = {n for n in parts if kind_of(n) == "action" or n == "next.reward"}
    return {f"observation.{n}" if n in taken else n: part for n, part in parts.items()}


def action_parts(space: spaces.Space) -> dict[str, Part]:
    """Parts of the action by dotted name; those that are numbers lie side by side in the stream "action"."""
    return parts_of(space, "action")


def space_notes(env: gymnasium.Env) -> list[str]:
    """What recording this environment leaves out or chooses, in words."""
    parts = observation_parts(env.observation_space) | _beside(action_parts(env.action_space))
    return [note for name, part in parts.items() if (note := part.note(name))]


def _beside(parts: dict[str, Part]) -> dict[str, Part]:
    """Parts of an action that are no numbers."""
    return {n: p for n, p in parts.items() if p.kind in ("text", "none")}


def action_texts(space: spaces.Space) -> dict[str, Part]:
    return {n: p for n, p in action_parts(space).items() if p.kind == "text"}


def action_spec(space: spaces.Space, rate_hz: float) -> StreamSpec | None:
    """Of the stream "action"; None if no part of the action is a number. Channels of a compound action are
    named after its parts."""
    parts = {n: p for n, p in action_parts(space).items() if p.kind in ("video", "numbers")}
    if not parts:
        return None
    low, high = _bounds([p.space for p in parts.values()])
    if list(parts) == ["action"]:
        return StreamSpec(
            name="action", kind="action", shape=_shape(space), rate_hz=rate_hz, low=low, high=high
        )
    names = []
    for name, part in parts.items():
        size, short = spaces.flatdim(part.space), name.removeprefix("action.")
        names += [short] if size == 1 else [f"{short}.{i}" for i in range(size)]
    return StreamSpec(
        name="action",
        kind="action",
        shape=(len(names),),
        names=tuple(names),
        rate_hz=rate_hz,
        low=low,
        high=high,
    )


def action_vector(space: spaces.Space, action: Any) -> np.ndarray:
    """A sample of the stream "action": what was done, as numbers."""
    parts = [p for p in action_parts(space).values() if p.kind in ("video", "numbers")]
    found = [numbers(p.space, p.value(action)) for p in parts]
    return found[0] if parts[0].path == () else np.concatenate([f.ravel() for f in found])


def to_action(space: spaces.Space, vector: np.ndarray) -> Any:
    """The action an environment takes for a vector as it is recorded, or as a planner gives it.

    Of one-hot channels the largest decides, of MultiBinary those above 0.5; Box values are kept in bounds.
    """
    vector = np.asarray(vector).ravel()
    if isinstance(space, spaces.Dict):
        sizes = [spaces.flatdim(s) for s in space.spaces.values()]
        blocks = np.split(vector, np.cumsum(sizes)[:-1])
        return {k: to_action(s, b) for (k, s), b in zip(space.spaces.items(), blocks, strict=True)}
    if isinstance(space, spaces.Tuple):
        blocks = np.split(vector, np.cumsum([spaces.flatdim(s) for s in space.spaces])[:-1])
        return tuple(to_action(s, b) for s, b in zip(space.spaces, blocks, strict=True))
    if isinstance(space, spaces.Discrete):
        return space.start + np.int64(vector.argmax())
    if isinstance(space, spaces.MultiDiscrete):
        blocks = np.split(vector, np.cumsum(space.nvec.ravel())[:-1])
        chosen = np.array([block.argmax() for block in blocks]).reshape(space.shape)
        return (space.start + chosen).astype(space.dtype)
    if isinstance(space, spaces.MultiBinary):
        return (vector > 0.5).astype(space.dtype).reshape(space.shape)
    if isinstance(space, spaces.Box):
        whole = np.rint(vector) if np.issubdtype(space.dtype, np.integer) else vector
        return np.clip(whole.reshape(space.shape), space.low, space.high).astype(space.dtype)
    return spaces.unflatten(space, vector)


def numbers(space: spaces.Space, value: Any) -> np.ndarray:
    """float32; a Box keeps its shape, all else is flattened, one-hot where it is discrete."""
    if isinstance(space, spaces.Box) and space.shape:
        return np.asarray(value, dtype=np.float32)
    return np.asarray(spaces.flatten(space, value), dtype=np.float32)


def has_fixed_size(space: spaces.Space) -> bool:
    """Whether its values can be written as so many numbers."""
    try:
        return space.is_np_flattenable
    except NotImplementedError:  # a space of somebody's own
        return False


def is_picture(space: spaces.Space) -> bool:
    """Whether its values are pictures, or stacks of them."""
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8:
        return False
    if len(space.shape) == 3 and space.shape[-1] in (1, 3):
        return True
    if not 2 <= len(space.shape) <= 4 or space.high.max() < 255:
        return False
    frame = _frame(np.broadcast_to(np.uint8(0), space.shape))
    height, width, _ = frame.shape
    deep = int(np.prod(space.shape)) > DEEPEST_STACK * frame.size
    return min(height, width) >= SMALLEST_PICTURE and not deep


def _frame(values: np.ndarray) -> np.ndarray:
    """(height, width, 1 or 3) of a picture in any layout; of stacked ones, the newest."""
    if values.ndim == 2:
        return values[..., None]
    if values.ndim == 4:
        return _frame(values[-1])
    if values.shape[-1] in (1, 3):
        return values
    if values.shape[0] in (1, 3):
        return np.moveaxis(values, 0, -1)
    return values[-1][..., None] if values.shape[0] < values.shape[-1] else values[..., -1:]


def _shape(space: spaces.Space) -> tuple[int, ...]:
    return space.shape if isinstance(space, spaces.Box) and space.shape else (spaces.flatdim(space),)


def _bounds(of: list[spaces.Space]) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Lowest and highest value of each channel, if every channel has both."""
    flat: list[Any] = [spaces.flatten_space(space) for space in of]
    low, high = (np.concatenate([np.ravel(getattr(box, end)) for box in flat]) for end in ("low", "high"))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return None, None
    return tuple(float(v) for v in low), tuple(float(v) for v in high)
