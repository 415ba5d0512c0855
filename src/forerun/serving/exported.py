"""Exported worlds run without PyTorch: arrays in, arrays out, on ONNX Runtime or OpenVINO.

Nothing here needs torch unless its own format is asked for. `forerun.serving.export` writes what this reads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forerun.types import CheckpointError, ConfigError, ShapeError, require

FORMATS = ("torch", "onnx", "openvino", "int8")
"""int8 is ONNX with the step's matrix products in 8 bits: ONNX Runtime's dynamic quantisation, weights per
channel, activations as they come. The decoders, which people look at, stay in single precision."""
FORMAT, ABOUT = "forerun-export-1", "export.json"
ENGINES = {"torch": ("torch",), "onnx": ("onnxruntime",), "openvino": ("openvino",), "int8": ("onnxruntime",)}
SUFFIXES = {"torch": "pt2", "onnx": "onnx", "openvino": "xml", "int8": "onnx"}
FUNCTIONS = ("step", "vectors", "pictures")
Run = Callable[[list[np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class Port:
    """One tensor that goes into or comes out of an exported function; the first axis is rows."""

    name: str
    shape: tuple[int, ...]
    """Of one row."""
    dtype: str
    unit: str
    meaning: str

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Port:
        return cls(**{**values, "shape": tuple(values["shape"])})

    def check(self, value: np.ndarray, rows: int) -> np.ndarray:
        """The value as the engine takes it; ShapeError if it is not (rows, *shape) or of another kind."""
        value, wanted = np.asarray(value), (rows, *self.shape)
        if value.shape != wanted or not np.can_cast(value.dtype, self.dtype, "same_kind"):
            raise ShapeError(
                f"'{self.name}' arrives as {value.dtype} {value.shape}; expected {self.dtype} {wanted}: "
                f"{self.meaning}, one for each row of the first input"
            )
        return np.ascontiguousarray(value, self.dtype)


@dataclass(frozen=True)
class Signature:
    """What one exported function takes and gives."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Signature:
        """Of `asdict`; KeyError or TypeError if it is not."""
        inputs, outputs = ([Port.from_json(p) for p in values[side]] for side in ("inputs", "outputs"))
        return cls(tuple(inputs), tuple(outputs))

    def check(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        rows = max(1, len(np.atleast_1d(values[0])))
        return [port.check(value, rows) for port, value in zip(self.inputs, values, strict=True)]


def check_formats(formats: Sequence[str], packages: dict[str, tuple[str, ...]]) -> None:
    """ConfigError for an unknown format, MissingExtraError for one whose packages are not installed."""
    unknown = [f for f in formats if f not in FORMATS]
    if unknown or not formats:
        raise ConfigError(f"formats are {list(formats)}; choose some of {', '.join(FORMATS)}")
    for name in formats:
        for module in packages[name]:
            require(module, "export", f"the export format '{name}'")


def file_hash(file: Path) -> str:
    """SHA-256 of its bytes."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


class Exported:
    """The functions of one exported model in one format; arrays in, arrays out."""

    def __init__(self, about: dict[str, Any], signatures: dict[str, Signature], runs: dict[str, Run]) -> None:
        self.about = about
        """What `export.json` holds: shapes, units, the streams and action of the model."""
        self.signatures, self._runs = signatures, runs

    @property
    def fingerprint(self) -> str:
        """`fingerprint` of the model this came from."""
        return self.about["fingerprint"]

    @property
    def pace(self) -> np.ndarray:
        """(condition,): what a tick as long as in training means to the step; repeat it for each row."""
        return np.array(self.about["pace"]["embedding"], np.float32)

    def __call__(
        self,
        latents: np.ndarray,
        memory: np.ndarray,
        empty: np.ndarray,
        tick: np.ndarray,
        pace: np.ndarray,
        action: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One tick for B rows of any age; see `ExportedStep.forward`.

        Raises:
            ShapeError: an array has another shape or kind than this model's.
        """
        following, kept, log_error = self._run("step", latents, memory, empty, tick, pace, action)
        return following, kept, log_error

    def vectors(self, latents: np.ndarray) -> dict[str, np.ndarray]:
        """Latents (B, N, D) to touch and proprioception (B, *shape), each in its own unit."""
        return self._decode("vectors", latents)

    def pictures(self, latents: np.ndarray) -> dict[str, np.ndarray]:
        """Latents (B, N, D) to the pictures (B, S, S, 3) uint8 of all cameras."""
        return self._decode("pictures", latents)

    def _decode(self, name: str, latents: np.ndarray) -> dict[str, np.ndarray]:
        if name not in self._runs:
            return {}
        values = self._run(name, latents)
        return {port.name: v for port, v in zip(self.signatures[name].outputs, values, strict=True)}

    def _run(self, name: str, *values: np.ndarray) -> list[np.ndarray]:
        return self._runs[name](self.signatures[name].check(values))


def load_exported(directory: str | Path, format: str, threads: int = 1) -> Exported:
    """Open one format of a folder written by `export_model`, to run on a CPU.

    Files are compared with the hashes in `export.json`: what was torn or exchanged is not run. PyTorch's own
    format may hold pickles, so load "torch" only from people you trust.

    Args:
        threads: of ONNX Runtime and OpenVINO; PyTorch's are set by `torch.set_num_threads`.

    Raises:
        ConfigError: no such format.
        CheckpointError: no export, one of another version, without this format, or with a changed file.
        MissingExtraError: the engine of this format is not installed.
    """
    directory = Path(directory)
    check_formats([format], ENGINES)
    about, described = _read_about(directory, format)
    try:
        runs = {n: _OPEN[format](str(directory / file_name(format, n)), threads) for n in described}
    except Exception as cause:  # engines raise what they like
        raise CheckpointError(
            f"the files are whole, but the engine of '{format}' cannot read them "
            f"({str(cause).splitlines()[0]}); they were written with {about['versions']}. Install those "
            f"versions, or export again. Path: {directory}"
        ) from cause
    return Exported(about, described, runs)


def file_name(format: str, function: str) -> str:
    """Of one exported function in one format."""
    return f"{format}.{function}.{SUFFIXES[format]}"


def _read_about(directory: Path, format: str) -> tuple[dict[str, Any], dict[str, Signature]]:
    if not (directory / ABOUT).is_file():
        found = sorted(p.name for p in directory.iterdir())[:8] if directory.is_dir() else "no such folder"
        raise CheckpointError(
            f"no forerun export here: {ABOUT} is missing ({found}); expected a folder that export_model "
            f"wrote, and a checkpoint must be exported first. Path: {directory}"
        )
    about = _read_json(directory / ABOUT)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        says = about.get("format") if isinstance(about, dict) else type(about).__name__
        raise CheckpointError(
            f"{ABOUT} says format '{says}'; this version of forerun reads '{FORMAT}'. Export the model "
            f"again, or install the version that wrote it. Path: {directory}"
        )
    try:
        described = {n: Signature.from_json(v) for n, v in about["functions"].items() if n in FUNCTIONS}
        hashes = {f: h for f, h in about["sha256"].items() if f.startswith(f"{format}.")}
        missing = {"versions", "fingerprint", "pace", "formats"} - about.keys()
    except (KeyError, TypeError, AttributeError) as cause:
        described, hashes, missing = {}, {}, {str(cause)}
    if missing or "step" not in described:
        raise CheckpointError(
            f"{ABOUT} does not describe an export (it lacks {sorted(missing) or ['step']}); expected what "
            f"export_model wrote. Copy the folder again, or export again. Path: {directory}"
        )
    _check_files(directory, format, about["formats"], described, hashes)
    return about, described


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as cause:  # a decoding error is a ValueError
        raise CheckpointError(
            f"{ABOUT} cannot be read ({cause}); expected the JSON that export_model wrote. Copy the folder "
            f"again, or export again. Path: {path.parent}"
        ) from cause


def _check_files(
    directory: Path, format: str, formats: list[str], described: dict[str, Signature], hashes: dict[str, str]
) -> None:
    if format not in formats:
        raise CheckpointError(
            f"this export holds {', '.join(formats)} and not '{format}'; load one of those, or export again "
            f"with this format. Path: {directory}"
        )
    for name in {*hashes, *(file_name(format, n) for n in described)}:
        file = directory / name
        if name not in hashes or not file.is_file() or file_hash(file) != hashes[name]:
            found = "is not the one that was exported" if file.is_file() else "is missing"
            raise CheckpointError(
                f"{name} {found}; expected the file whose hash {ABOUT} holds. Copy the folder again, or "
                f"export again. Path: {directory}"
            )


def _open_torch(path: str, threads: int) -> Run:
    import torch

    module = torch.export.load(path).module()

    def run(values: list[np.ndarray]) -> list[np.ndarray]:
        # torch warns of arrays that may not be written
        own = [torch.from_numpy(v if v.flags.writeable else v.copy()) for v in values]
        with torch.inference_mode():
            return [out.numpy() for out in module(*own)]

    return run


def _open_onnx(path: str, threads: int) -> Run:
    onnxruntime = require("onnxruntime", "export", "an exported ONNX graph")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    return lambda values: session.run(None, dict(zip(names, values, strict=True)))


def _open_openvino(path: str, threads: int) -> Run:
    """In single precision: on some processors OpenVINO takes bfloat16 unless told not to."""
    openvino = require("openvino", "export", "an exported OpenVINO graph")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    return lambda values: list(request.infer(values, share_inputs=True).values())


_OPEN = {"torch": _open_torch, "onnx": _open_onnx, "int8": _open_onnx, "openvino": _open_openvino}
