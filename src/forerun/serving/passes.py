"""One pass of the model over any rows of the arena, and what is to be seen of them afterwards.

The same few lines run on a CPU and, recorded once per bucket as a CUDA graph, on a GPU: slots, actions and
what is known of them are inputs, so no cohort of sessions needs a graph of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from forerun.dynamics.state import State
from forerun.serving.arena import Arena
from forerun.serving.costs import bucket_of
from forerun.serving.onnx_step import OnnxStep, available
from forerun.types import ConfigError
from forerun.world_model import WorldModel

Engine = Literal["torch", "onnx"]
Shape = Literal["free", "bucket", "fixed"]
"""Rows of a pass: as many as wait (CPU), rounded up to a bucket (GPU), or always the same (bit for bit)."""


@dataclass(frozen=True)
class Seen:
    """What B rows look like after a pass."""

    finite: np.ndarray
    """(B,) bool; rows that are not have kept their state of before."""
    streams: dict[str, np.ndarray]
    """Numbers of every stream that is no video, (B, *shape) float32."""
    heads: dict[str, np.ndarray]
    """(B, ...) of `WorldModel.predict`."""
    latents: Tensor
    """(B, N, D), to draw from."""
    tick: np.ndarray
    """(B,) ages in ticks."""


Outcome = tuple[Tensor, dict[str, Tensor], dict[str, Tensor], Tensor, Tensor]
"""Finite, numbers, heads, latents, tick."""


class Passes:
    """The model, its arena and the ways to run them together.

    Args:
        slots: live sessions at most.
        max_rows: of a pass.
        shape: see `Shape`; by default "free" on a CPU, "bucket" on a GPU.
        graphs: CUDA graphs, one per bucket; only on a GPU.
        engine: what steps, "torch" or "onnx"; by default ONNX Runtime where it is installed and faster, which
            is on a CPU with passes of free shape.
    """

    def __init__(
        self,
        model: WorldModel,
        slots: int = 256,
        max_rows: int = 64,
        shape: Shape | None = None,
        graphs: bool | None = None,
        rollback: int = 16,
        engine: Engine | None = None,
    ) -> None:
        self.model, self.slots, self.max_rows = model.eval(), slots, max_rows
        self.device = model.used.device
        self.shape: Shape = shape or ("free" if self.device.type == "cpu" else "bucket")
        self.graphs = self.device.type == "cuda" if graphs is None else graphs
        if self.graphs and (self.device.type != "cuda" or self.shape == "free"):
            raise ConfigError(
                f"CUDA graphs were asked for on '{self.device}' with passes of {self.shape} shape; they need "
                "a GPU and buckets of rows"
            )
        self.engine = engine or self._fastest()
        self.onnx = OnnxStep(model, torch.get_num_threads()) if self.engine == "onnx" else None
        self.arena = Arena(model, slots + 1, rollback)  # the last slot is what padding plays with
        self.actions = max(model.config.action_size, 1)
        self.bounds = tuple(bound.to(self.device) for bound in model.action_bounds())
        self.numeric = tuple(s.name for s in model.config.streams if s.kind != "video")
        self.cameras = tuple(s.name for s in model.config.video)
        self._recorded: dict[int, _Recorded] = {}

    @torch.inference_mode()
    def advance(self, slots: list[int], actions: np.ndarray, present: np.ndarray) -> Seen:
        """One tick of these slots (B,), each with its action (B, A); ``present`` (B,) says which have one."""
        rows, padded = len(slots), self._padded(len(slots))
        spare = padded - rows
        slot = torch.tensor([*slots, *[self.slots] * spare])
        action = torch.zeros(padded, self.actions)
        action[:rows] = torch.from_numpy(actions)
        known = torch.zeros(padded, dtype=torch.bool)
        known[:rows] = torch.from_numpy(present)
        run = self._graph(padded) if self.graphs else self._compute
        finite, numbers, heads, latents, tick = run(*(t.to(self.device) for t in (slot, action, known)))
        return Seen(
            finite=_host(finite, rows),
            streams={name: _host(part, rows) for name, part in numbers.items()},
            heads={name: _host(part, rows) for name, part in heads.items()},
            latents=latents[:rows],
            tick=_host(tick, rows),
        )

    def look(self, state: State) -> Seen:
        """What any state looks like, without a step."""
        with torch.inference_mode():
            numbers, heads = self.model.decode(state, self.numeric), self.model.predict(state)
            finite = torch.isfinite(state.latents).flatten(1).all(1)
            rows = len(state)
            return Seen(
                finite=_host(finite, rows),
                streams={name: _host(part, rows) for name, part in numbers.items()},
                heads={name: _host(part, rows) for name, part in heads.items()},
                latents=state.latents,
                tick=_host(state.tick, rows),
            )

    @torch.inference_mode()
    def draw(self, latents: Tensor) -> dict[str, np.ndarray]:
        """Pictures (B, S, S, 3) uint8 of latents (B, N, D), by camera."""
        if self.onnx is not None:
            found = self.onnx.pictures(latents)
        else:
            found = self.model.decode_latents(latents, self.cameras)
        return {name: part.cpu().numpy() for name, part in found.items()}

    @torch.inference_mode()
    def gather(self, slot: int) -> State:
        """The state in one slot."""
        return self.arena.gather(torch.tensor([slot], device=self.device))

    def _fastest(self) -> Engine:
        """ONNX Runtime, unless it is missing, or this is a GPU, or every bit is to be the same."""
        config = self.model.config
        fits = config.action is not None and config.size.window > 1 and self.shape == "free"
        return "onnx" if fits and self.device.type == "cpu" and available() else "torch"

    def _padded(self, rows: int) -> int:
        if self.shape == "free":
            return rows
        return self.max_rows if self.shape == "fixed" else bucket_of(rows)

    def _compute(self, slots: Tensor, actions: Tensor, present: Tensor) -> Outcome:
        """Gather, step, put back, look; with torch nothing depends on a value, so that it can be recorded."""
        model, before = self.model, self.arena.gather(slots)
        if self.onnx is not None and bool(present.all()):
            after = self.onnx(before, actions)
        else:
            after = model.step_standardised(before, model.action_scale(actions), present)
        finite = torch.isfinite(after.latents).flatten(1).all(1)
        self.arena.advance(slots, _healthy(finite, after, before))
        numbers = self.onnx.vectors(after.latents) if self.onnx else model.decode(after, self.numeric)
        return finite, numbers, model.predict(after), after.latents, after.tick

    def _graph(self, rows: int) -> _Recorded:
        if rows not in self._recorded:
            self._recorded[rows] = _Recorded(self, rows)
        return self._recorded[rows]


class _Recorded:
    """`Passes._compute` for one bucket as a CUDA graph: one launch instead of hundreds."""

    def __init__(self, passes: Passes, rows: int) -> None:
        device = passes.device
        self.inputs = (
            torch.full((rows,), passes.slots, device=device),
            torch.zeros(rows, passes.actions, device=device),
            torch.zeros(rows, dtype=torch.bool, device=device),
        )
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):  # the first runs allocate, which a graph must not
            for _ in range(3):
                passes._compute(*self.inputs)
        torch.cuda.current_stream(device).wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.outputs = passes._compute(*self.inputs)

    def __call__(self, *inputs: Tensor) -> Outcome:
        for place, value in zip(self.inputs, inputs, strict=True):
            place.copy_(value)
        self.graph.replay()
        return self.outputs


def _healthy(finite: Tensor, after: State, before: State) -> State:
    """``after`` where it is finite; elsewhere a state of ``before``'s latents, which somebody will reset."""
    keep = finite.view(-1, *[1] * (after.latents.ndim - 1))
    latents = torch.where(keep, after.latents, before.latents)
    return State(latents, after.memory, after.tick, after.pace, after.log_error)


def _host(values: Tensor, rows: int) -> np.ndarray:
    return values[:rows].float().cpu().numpy() if values.is_floating_point() else values[:rows].cpu().numpy()
