"""An exported world steps as the model does, for rows of any age, and refuses what is not its own."""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from forerun.config import model_config
from forerun.serving import export
from forerun.serving.export import export_model, fingerprint, load_exported, plain
from forerun.types import (
    CheckpointError,
    ConfigError,
    MissingExtraError,
    ShapeError,
    StorageError,
    StreamSpec,
)
from forerun.world_model import State, WorldModel, join
from tiny_worlds import ACTIONS, CAMERA, SHAPES, TICK_S, actions, imagine, latents, world

PACKAGES = {"torch": (), **dict.fromkeys(("onnx", "int8"), ("onnx", "onnxscript", "onnxruntime"))}
PACKAGES["openvino"] = ("onnx", "onnxscript", "openvino")
EXACT = ("torch", "onnx", "openvino")
PADS = StreamSpec(name="pads", kind="touch", shape=(4,), unit="N", names=("mean", "min", "max", "f rms"))


def skip_without(format: str) -> None:
    absent = [name for name in PACKAGES[format] if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"{absent[0]} is not installed: pip install 'forerun[export]'")


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The model of a shape in all formats for which the packages are here; made once, it takes seconds."""

    @functools.cache
    def made(shape: str) -> Path:
        here = [f for f, needed in PACKAGES.items() if all(importlib.util.find_spec(name) for name in needed)]
        export_model(world(**SHAPES[shape]), folder := tmp_path_factory.mktemp("export") / shape, here)
        return folder

    return made


@pytest.fixture
def folder(exports: Callable[[str], Path]) -> Path:
    """The packed model, exported."""
    return exports("packed")


SHAPE = pytest.mark.parametrize("shape", ["packed", pytest.param("unpacked", marks=pytest.mark.slow)])


def rows_of_any_age(model: WorldModel) -> State:
    """Five rows that have seen one, two and six ticks, one of them imagined further."""
    young = model.start(latents(model, 1, 1))
    middle = model.start(latents(model, 2, 2, seed=1), actions(2, 1))
    old = model.start(latents(model, 2, 6, seed=2), actions(2, 5))
    return join([young, middle, imagine(model, old, actions(2, 1))])


def arrays(model: WorldModel, state: State) -> list[np.ndarray]:
    return [tensor.detach().numpy() for tensor in plain(model, state)]


def close(one: np.ndarray, other: torch.Tensor, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(one, other.detach().numpy(), atol=atol, rtol=0)


@pytest.mark.parametrize("format", EXACT)
@SHAPE
def test_rows_of_any_age_step_as_in_the_model(
    exports: Callable[[str], Path], shape: str, format: str
) -> None:
    skip_without(format)
    model, chosen = world(**SHAPES[shape]), actions(5, 4)
    state, engine = rows_of_any_age(model), load_exported(exports(shape), format)
    now, memory, empty, tick, pace = arrays(model, state)
    for t in range(chosen.shape[1]):
        state = imagine(model, state, chosen[:, t : t + 1])
        now, memory, log_error = engine(now, memory, empty, tick, pace, chosen[:, t].numpy())
        empty, tick = np.maximum(empty - 1, 0), tick + 1
        close(now, state.latents)
        close(log_error, state.log_error)
        close(memory, plain(model, state)[1])


@pytest.mark.parametrize("format", [*EXACT, "int8"])
def test_a_row_alone_steps_as_among_others(folder: Path, format: str) -> None:
    skip_without(format)
    model, engine, action = world(), load_exported(folder, format), actions(5, 1)[:, 0].numpy()
    inputs = [*arrays(model, rows_of_any_age(model)), action]
    together = engine(*inputs)
    for row in range(5):
        alone = engine(*(value[row : row + 1] for value in inputs))
        # activations are quantised over the whole batch
        atol = 0.2 if format == "int8" else 1e-5
        for one, all_rows in zip(alone, together, strict=True):
            np.testing.assert_allclose(one, all_rows[row : row + 1], atol=atol, rtol=0)


def test_eight_bits_err_less_than_a_step_moves(folder: Path) -> None:
    skip_without("int8")
    model, action = world(), actions(5, 1)
    state = rows_of_any_age(model)
    inputs = [*arrays(model, state), action[:, 0].numpy()]
    following, _, _ = load_exported(folder, "int8")(*inputs)
    truth = imagine(model, state, action).latents.numpy()
    error = np.square(following - truth).mean() / np.square(truth - state.latents.numpy()).mean()
    assert 0 < error < 0.01


@pytest.mark.parametrize("format", [*EXACT, "int8"])
@SHAPE
def test_pictures_and_vectors_are_decoded_as_in_the_model(
    exports: Callable[[str], Path], shape: str, format: str
) -> None:
    skip_without(format)
    model, engine = world(**SHAPES[shape]), load_exported(exports(shape), format)
    state = rows_of_any_age(model)
    truth, seen = model.decode(state), state.latents.numpy()
    close(engine.vectors(seen)["arm.position"], truth["arm.position"])
    drawn = engine.pictures(seen)["camera"]
    assert drawn.dtype == np.uint8
    assert np.abs(drawn.astype(int) - truth["camera"].numpy()).max() <= 1  # a half may round either way


def test_the_folder_says_what_goes_in_and_out(folder: Path) -> None:
    engine, model = load_exported(folder, "torch"), world()
    action = engine.signatures["step"].inputs[-1]
    assert (action.name, action.shape, action.unit) == ("action", (ACTIONS,), "rad/s")
    assert engine.about["model"] == json.loads(json.dumps(model.config.to_json()))
    assert engine.fingerprint == fingerprint(model) != fingerprint(world(seed=1))
    close(engine.pace, model.start(latents(model, 1, 1)).pace.embedding[0])


def test_wrong_arrays_are_refused_in_words(folder: Path) -> None:
    model, engine = world(), load_exported(folder, "torch")
    now, memory, empty, tick, pace = arrays(model, rows_of_any_age(model))
    action = actions(5, 1)[:, 0].numpy()
    with pytest.raises(ShapeError, match=r"'action' arrives as float32 \(5, 3\); expected float32 \(5, 2\)"):
        engine(now, memory, empty, tick, pace, np.zeros((5, 3), np.float32))
    with pytest.raises(ShapeError, match=r"'tick' .*\(4,\); expected int64 \(5,\): the age of each row"):
        engine(now, memory, empty, tick[:4], pace, action)
    with pytest.raises(ShapeError, match=r"'empty' arrives as float64"):
        engine(now, memory, empty + 0.5, tick, pace, action)
    with pytest.raises(ShapeError, match="'latents' arrives as"):
        engine(now[:0], memory[:0], empty[:0], tick[:0], pace[:0], action[:0])
    with pytest.raises(ShapeError, match="'latents' arrives as"):
        engine.vectors(now[:, :, 1:])


def test_a_foreign_or_old_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"export\.json is missing \(no such folder\)"):
        load_exported(tmp_path / "nowhere", "torch")
    model = world()
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(CheckpointError, match="a checkpoint must be exported first"):
        load_exported(tmp_path / "model", "torch")
    for text, says in (
        ("{", "cannot be read"),
        ("[]", "says format 'list'"),
        ('{"format": "forerun-export-0"}', "Export the model again"),
        ('{"format": "forerun-export-1"}', "does not describe an export"),
    ):
        (tmp_path / "export.json").write_text(text)
        with pytest.raises(CheckpointError, match=says):
            load_exported(tmp_path, "torch")


def test_a_changed_lost_or_absent_file_is_refused(tmp_path: Path) -> None:
    export_model(world(), tmp_path / "out", ("torch",))
    with pytest.raises(ConfigError, match="choose some of torch, onnx"):
        load_exported(tmp_path / "out", "tensorrt")
    step = tmp_path / "out" / "torch.step.pt2"
    step.write_bytes(step.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"torch\.step\.pt2 is not the one that was exported"):
        load_exported(tmp_path / "out", "torch")
    step.unlink()
    with pytest.raises(CheckpointError, match=r"torch\.step\.pt2 is missing"):
        load_exported(tmp_path / "out", "torch")


def test_a_format_that_was_not_exported_is_refused(tmp_path: Path) -> None:
    skip_without("onnx")
    export_model(world(), tmp_path / "out", ("torch",))
    with pytest.raises(CheckpointError, match="this export holds torch and not 'onnx'"):
        load_exported(tmp_path / "out", "onnx")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    model = world()
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(StorageError, match="something stands there already"):
        export_model(model, tmp_path / "model", ("torch",))
    assert fingerprint(WorldModel.from_pretrained(tmp_path / "model")) == fingerprint(model)


def test_a_missing_package_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)  # whoever imports it fails
    with pytest.raises(MissingExtraError, match=r"'onnx', which is not installed: pip install 'forerun\[exp"):
        export_model(world(), tmp_path / "out", ("torch", "onnx"))
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_action_or_format_is_refused(tmp_path: Path) -> None:
    film = WorldModel(model_config("xs", (CAMERA,), None, TICK_S))
    with pytest.raises(ConfigError, match="takes no action"):
        export_model(film, tmp_path / "out")
    with pytest.raises(ConfigError, match="formats are"):
        export_model(world(), tmp_path / "out", ())


def test_touch_is_decoded_and_a_world_without_pictures_has_none(tmp_path: Path) -> None:
    model = world(streams=(PADS,), latent_dim=8, width=16, heads=2, head_width=8)
    export_model(model, tmp_path / "out", ("torch",))
    engine, felt = load_exported(tmp_path / "out", "torch"), torch.randn(3, *model.layout.shape)
    close(engine.vectors(felt.numpy())["pads"], model.decode_latents(felt)["pads"])
    assert engine.pictures(felt.numpy()) == {}


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # whoever imports it fails
import numpy as np
from forerun.serving.exported import load_exported
engine = load_exported(sys.argv[1], "onnx")
inputs = [np.zeros((2, *port.shape), port.dtype) for port in engine.signatures["step"].inputs]
print(*engine(*inputs)[0].shape)
"""


def test_onnx_needs_no_torch(folder: Path) -> None:
    skip_without("onnx")
    words = [sys.executable, "-c", WITHOUT_TORCH, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", *map(str, world().layout.shape)]


@pytest.mark.slow
def test_weights_too_large_for_a_graph_stand_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without("onnx")
    monkeypatch.setattr(export, "LARGE_BYTES", 0)
    model = world()
    export_model(model, tmp_path / "out", ("onnx", "int8"))
    assert (tmp_path / "out" / "onnx.step.onnx.data").is_file()
    state, action = rows_of_any_age(model), actions(5, 1)
    inputs = [*arrays(model, state), action[:, 0].numpy()]
    following, _, _ = load_exported(tmp_path / "out", "onnx")(*inputs)
    close(following, imagine(model, state, action).latents)
    load_exported(tmp_path / "out", "int8")
    (tmp_path / "out" / "onnx.step.onnx.data").unlink()
    with pytest.raises(CheckpointError, match=r"onnx\.step\.onnx\.data is missing"):
        load_exported(tmp_path / "out", "onnx")
