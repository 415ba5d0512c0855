"""A world's step as one pure function over plain tensors, for engines other than PyTorch.

    export_model(model, "out", ("onnx",))
    engine = load_exported("out", "onnx")
    latents, memory, log_error = engine(latents, memory, empty, tick, pace, action)      all numpy
    tick, empty = tick + 1, np.maximum(empty - 1, 0)
    felt, pictures = engine.vectors(latents), engine.pictures(latents)

Any number of rows of any age share one call. How exact and how fast each format is, `benchmarks/export.py`
measures.

Letters: B rows, t remembered ticks (the window less one), L layers that look back, M trunk tokens per tick,
H heads, C channels per head, N latent tokens, D latent width, A action size.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from forerun.checkpoint import present, replacing
from forerun.config import is_burst
from forerun.dynamics.cache import Memory
from forerun.dynamics.state import State
from forerun.dynamics.transformer import Block
from forerun.serving.exported import (
    ABOUT,
    FORMAT,
    FORMATS,
    Port,
    Signature,
    check_formats,
    file_hash,
    file_name,
    load_exported,
)
from forerun.serving.snapshot import fingerprint
from forerun.types import ConfigError, StorageError, StreamSpec, require
from forerun.world_model import WorldModel

__all__ = [
    "FORMATS", "ExportedDecoder", "ExportedStep", "export_model", "fingerprint", "load_exported", "plain",
    "signatures",
]  # fmt: skip
LARGE_BYTES = 2**30
"""Weights beyond this stand in a file beside the ONNX graph, which may not exceed 2 GiB."""
LIBRARIES = ("torch", "onnx", "onnxruntime", "openvino")
_ONNX = ("onnx", "onnxscript")
WRITERS = {"torch": (), "onnx": _ONNX, "openvino": (*_ONNX, "openvino"), "int8": (*_ONNX, "onnxruntime")}


class _Remembered(Memory):
    """A memory that is true without counting its rows: `len` of a traced tensor fixes their number."""

    def __bool__(self) -> bool:
        return True


class ExportedStep(nn.Module):
    """`WorldModel.step` for B rows of any age, without control flow that depends on values.

    Only what a step needs is inside. It goes through the trunk itself, since `State` counts its rows with
    `len`; the tests hold it to `WorldModel.step`.
    """

    used: Tensor

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.trunk, self.next_latents, self.uncertainty = model.trunk, model.next_latents, model.uncertainty
        self.action_scale = model.action_scale
        self.register_buffer("used", model.used)

    def forward(
        self,
        latents: Float[Tensor, "B N D"],
        memory: Float[Tensor, "B t L M 2 H C"],
        empty: Int[Tensor, " B"],
        tick: Int[Tensor, " B"],
        pace: Float[Tensor, "B condition"],
        action: Float[Tensor, "B A"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One tick for every row.

        Args:
            latents: (B, N, D) whitened latents of the present tick.
            memory: (B, t, L, M, 2, H, C) keys beside values of the ticks before it, oldest first.
            empty: (B,) how many of the t oldest slots hold nothing; finite numbers must stand there.
            tick: (B,) age in ticks.
            pace: (B, condition) what the length of a tick means, `State.pace.embedding`.
            action: (B, A) in the robot's own units.

        Returns:
            The next latents, the next memory (the newest tick last, the oldest gone), and log_error (B,).
            The caller adds one to ``tick`` and takes one off ``empty`` where it is not zero.
        """
        drive = self.trunk.drive(self.action_scale(action)[:, None], None, pace)
        past = _Remembered(own=memory.unbind(2), empty=empty)
        present = latents[:, None]
        hidden, kept = self.trunk(present, drive, tick[:, None], past)
        moved = torch.addcmul(present, self.next_latents(hidden), self.used)
        return moved[:, 0], torch.stack(kept.own, dim=2), self.uncertainty(hidden)[:, 0]


class ExportedDecoder(nn.Module):
    """Latents (B, N, D) to some streams of a tick (B, *shape), in their own units and in the order given."""

    def __init__(self, model: WorldModel, specs: Sequence[StreamSpec]) -> None:
        super().__init__()
        self.whitening, self.layout, self.specs = model.whitening, model.layout, tuple(specs)
        senses = model.senses
        self.parts = nn.ModuleList(
            nn.ModuleList([senses.decoder(s), senses.centre(s)])
            if s.kind == "video"
            else (senses.touch(s) if is_burst(s) else senses.vector(s))
            for s in self.specs
        )

    def forward(self, latents: Float[Tensor, "B N D"]) -> tuple[Tensor, ...]:
        raw = self.whitening.inverse(latents)
        return tuple(self._stream(s, p, raw) for s, p in zip(self.specs, self.parts, strict=True))

    def _stream(self, spec: StreamSpec, part: Any, raw: Tensor) -> Tensor:
        own = self.layout.part(raw, spec.name)
        if spec.kind == "video":
            decoder, centre = part
            return centre.inverse(decoder(own))
        return part.decode(own).unflatten(-1, spec.shape)


def plain(model: WorldModel, state: State) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """A state as the tensors an exported step takes before the action; copies its past."""
    _, memory, *_ = signatures(model)["step"].inputs
    slots, *_ = memory.shape
    own = state.latents.new_zeros((len(state), *memory.shape))
    empty = torch.full_like(state.tick, slots)
    if state.memory is not None:
        settled = state.memory.settled()
        missing = slots - settled.ticks
        own[:, missing:] = torch.stack(settled.own, dim=2)
        empty = torch.full_like(state.tick, missing) + (0 if settled.empty is None else settled.empty)
    return state.latents, own, empty, state.tick, state.pace.embedding


def signatures(model: WorldModel) -> dict[str, Signature]:
    """What the exported functions of a model take and give: `step`, and where it has such streams `vectors`
    and `pictures`."""
    size, action = model.config.size, model.config.action
    layers = sum(cast(Block, block).time is not None for block in model.trunk.blocks)
    if not layers or size.window < 2 or action is None:
        reason = "takes no action" if action is None else "remembers nothing of the past"
        raise ConfigError(
            f"this model {reason}; expected one that does: it would need another step. Train one"
        )
    (tokens, numbers), heads = model.layout.shape, size.heads
    past = (size.window - 1, layers, tokens, 2, heads, size.width // heads)
    latents = Port("latents", (tokens, numbers), "float32", "", "whitened latents of the present tick")
    memory = Port("memory", past, "float32", "", "keys beside values of the ticks before it, oldest first")
    step = Signature(
        inputs=(
            latents,
            memory,
            Port("empty", (), "int64", "", "how many of the oldest slots hold nothing"),
            Port("tick", (), "int64", "ticks", "the age of each row"),
            Port("pace", (model.trunk.no_action.numel(),), "float32", "", "what the length of a tick means"),
            Port("action", (action.size,), "float32", action.unit, "the robot's action at this tick"),
        ),
        outputs=(
            replace(latents, name="next_latents", meaning="whitened latents of the next tick"),
            replace(memory, name="next_memory", meaning="the same with this tick last and the oldest gone"),
            Port("log_error", (), "float32", "", "expected log mean squared error of the next latents"),
        ),
    )
    decoders = {
        name: Signature((latents,), tuple(_decoded(spec) for spec in specs))
        for name, specs in _decoded_streams(model).items()
    }
    return {"step": step, **decoders}


def _decoded(spec: StreamSpec) -> Port:
    dtype = "uint8" if spec.kind == "video" else "float32"
    return Port(spec.name, spec.shape, dtype, spec.unit, f"the {spec.kind} stream of this tick")


def _decoded_streams(model: WorldModel) -> dict[str, list[StreamSpec]]:
    vectors = [s for s in model.config.streams if s.kind != "video"]
    pictures = list(model.config.video)
    return {n: specs for n, specs in (("vectors", vectors), ("pictures", pictures)) if specs}


def export_model(model: WorldModel, directory: str | Path, formats: Sequence[str] = FORMATS) -> None:
    """Write the functions of `signatures` in these formats, and `export.json`, as one new folder.

    Raises:
        ConfigError: a format is unknown, or the model has no step of that form.
        MissingExtraError: the packages of a format are not installed.
        StorageError: something stands at ``directory``, or it cannot be written; nothing is half-written.
    """
    directory, described = Path(directory), signatures(model)
    check_formats(formats, WRITERS)
    if present(directory) and not (directory.is_dir() and not any(directory.iterdir())):
        raise StorageError(
            f"could not write {directory.name}: something stands there already; expected a new or an empty "
            f"folder. Move it away, or choose another place. Path: {directory}"
        )
    modules = {"step": ExportedStep(model)}
    modules |= {n: ExportedDecoder(model, specs) for n, specs in _decoded_streams(model).items()}
    with replacing(directory) as draft, torch.no_grad():
        for name, module in modules.items():
            _write(name, copy.deepcopy(module).cpu().eval(), described[name], formats, draft)
        about = _about(model, described, formats, draft)
        (draft / ABOUT).write_text(json.dumps(about, indent=1))


def _about(
    model: WorldModel, described: dict[str, Signature], formats: Sequence[str], draft: Path
) -> dict[str, Any]:
    device = model.used.device
    pace = model.trunk.pace(torch.tensor([model.config.tick_s], device=device))[0]
    return {
        "format": FORMAT,
        "fingerprint": fingerprint(model),
        "formats": list(formats),
        "functions": {name: asdict(signature) for name, signature in described.items()},
        "pace": {"tick_s": model.config.tick_s, "embedding": pace.tolist()},
        "model": model.config.to_json(),
        "versions": {name: _version(name) for name in LIBRARIES},
        "sha256": {file.name: file_hash(file) for file in sorted(draft.iterdir())},
    }


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _write(name: str, module: nn.Module, signature: Signature, formats: Sequence[str], draft: Path) -> None:
    """One function in every format, each as FORMAT.FUNCTION.SUFFIX."""
    program = _traced(module, signature)
    if "torch" in formats:
        torch.export.save(program, draft / file_name("torch", name))
    if set(formats) == {"torch"}:
        return
    large = sum(t.nbytes for t in program.state_dict.values()) > LARGE_BYTES
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        graph = (draft if "onnx" in formats else Path(scratch)) / file_name("onnx", name)
        made = _as_onnx(program, signature)
        made.save(graph, external_data=large)
        if "openvino" in formats:
            _save_openvino(graph, draft / file_name("openvino", name))
        if "int8" in formats and name == "step":
            _save_int8(graph, draft / file_name("int8", name), large)
        elif "int8" in formats:
            made.save(draft / file_name("int8", name), external_data=large)


def _traced(module: nn.Module, signature: Signature) -> torch.export.ExportedProgram:
    rows = torch.export.Dim("rows")
    example = tuple(torch.zeros((3, *p.shape), dtype=getattr(torch, p.dtype)) for p in signature.inputs)
    return torch.export.export(module, example, dynamic_shapes=tuple({0: rows} for _ in example))


def _as_onnx(program: torch.export.ExportedProgram, signature: Signature) -> torch.onnx.ONNXProgram:
    inputs, outputs = ([p.name for p in ports] for ports in (signature.inputs, signature.outputs))
    made = torch.onnx.export(
        program, (), input_names=inputs, output_names=outputs, dynamo=True, verbose=False
    )
    assert made is not None
    return made


def _save_openvino(graph: Path, path: Path) -> None:
    """As `openvino.convert_model` has it, without the telemetry."""
    openvino = require("openvino", "export", "the export format 'openvino'")
    openvino.save_model(openvino.Core().read_model(graph), path, compress_to_fp16=False)


def _save_int8(graph: Path, path: Path, large: bool) -> None:
    quantization = require("onnxruntime.quantization", "export", "the export format 'int8'")
    quantization.quantize_dynamic(
        graph,
        path,
        op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True,
        weight_type=quantization.QuantType.QInt8,
        use_external_data_format=large,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters tell their own authors: an old name in torch, no torchvision, advice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
