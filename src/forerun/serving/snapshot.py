"""One world as bytes: all that goes on from it, bit for bit, on any server with the same model.

The bytes are safetensors with a JSON header; nothing in them is code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from forerun.dynamics.cache import Memory
from forerun.dynamics.state import Pace, State
from forerun.serving.protocol import Refusal
from forerun.world_model import WorldModel

FORMAT = "forerun-world-1"


def fingerprint(model: WorldModel) -> str:
    """Equal exactly where configuration and weights are: 24 hexadecimal characters."""
    found = hashlib.blake2b(json.dumps(model.config.to_json()).encode(), digest_size=12)
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


@dataclass(frozen=True)
class Shapes:
    """What the state of a model looks like, one row of it."""

    latents: tuple[int, ...]
    embedding: int
    memory: tuple[int, ...]
    """(t, L, M, 2, H, C) at most; t may be less in a young world."""


def freeze(state: State, model: str) -> bytes:
    """A state of one row as bytes, for a model of this `fingerprint`."""
    tensors = {
        "latents": state.latents[0],
        "log_error": state.log_error,
        "tick": state.tick,
        "tick_s": state.tick_s,
        "embedding": state.pace.embedding[0],
    }
    if state.memory is not None:
        own = torch.stack(state.memory.settled().own, dim=2)[0]
        known = min(int(state.tick[0]), len(own))
        tensors["memory"] = own[len(own) - known :]
    plain = {name: part.detach().cpu().contiguous().clone() for name, part in tensors.items()}
    return save(plain, metadata={"format": FORMAT, "model": model})


def thaw(data: bytes, model: str, shapes: Shapes) -> State:
    """The state that `freeze` wrote, on the CPU; whole or not at all.

    Raises:
        Refusal: other bytes, another model, or shapes that are not this model's.
    """
    about = _metadata(data)
    if about.get("format") != FORMAT:
        raise Refusal(
            "snapshot_refused", f"the snapshot is of format {about.get('format')!r}, not {FORMAT!r}"
        )
    if about.get("model") != model:
        raise Refusal(
            "snapshot_refused", "the snapshot is of a world with other weights than this server has"
        )
    try:
        found = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as cause:
        raise Refusal("snapshot_refused", f"the snapshot cannot be read: {str(cause)[:120]}") from cause
    _check(found, shapes)
    own = found.get("memory")
    memory = None if own is None else Memory(own=own[None].unbind(2))
    pace = Pace(found["tick_s"], found["embedding"][None])
    return State(found["latents"][None], memory, found["tick"], pace, found["log_error"])


def _metadata(data: bytes) -> dict[str, str]:
    try:
        size = int.from_bytes(data[:8], "little")
        return json.loads(data[8 : 8 + size])["__metadata__"]
    except (ValueError, KeyError, TypeError, RecursionError) as cause:
        raise Refusal("snapshot_refused", f"{len(data)} bytes arrived that are no snapshot") from cause


def _check(found: dict[str, Tensor], shapes: Shapes) -> None:
    wanted = {
        "latents": shapes.latents,
        "log_error": (1,),
        "tick": (1,),
        "tick_s": (1,),
        "embedding": (shapes.embedding,),
    }
    said = {name: tuple(part.shape) for name, part in found.items() if name != "memory"}
    whole = said == wanted and found["tick"].dtype == torch.long
    if whole and "memory" in found:
        own = found["memory"]
        whole = tuple(own.shape[1:]) == shapes.memory[1:] and len(own) <= shapes.memory[0]
        whole = whole and len(own) <= int(found["tick"])
    floats = [part for name, part in found.items() if name not in ("tick", "log_error")]
    if not whole or not all(bool(torch.isfinite(part).all()) for part in floats):
        raise Refusal(
            "snapshot_refused", f"the snapshot's tensors {said} are not those of this world, {wanted}"
        )
