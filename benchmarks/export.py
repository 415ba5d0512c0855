"""Is an exported world faster than PyTorch at 1 to 64 rows, and how exact is it?

    python benchmarks/export.py

Makes a world with a camera, a touch stream and an arm, disturbs every weight so that nothing stands still,
and exports it in every format. Parity: rows of every age are stepped by `WorldModel.step`, and by each engine
on its own outputs. Speed: microseconds a call, arrays in and arrays out (eager PyTorch: tensors), all engines
in turn on one thread, by the wall and in processor time, which other processes hardly stretch. Untrained
weights cost what trained ones cost; how much an error of eight bits matters to a trained world, they do not
tell. Writes one JSON.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from forerun.config import Size, model_config
from forerun.data.touch import STATISTICS
from forerun.evaluation.results import write_result
from forerun.serving.export import FORMATS, ExportedDecoder, ExportedStep, export_model, load_exported, plain
from forerun.serving.exported import Exported
from forerun.types import StreamSpec
from forerun.world_model import State, WorldModel, join

ROWS = (1, 8, 32, 64)
LENGTHS = (1, 30)
"""Ticks after which parity is looked at."""
PADS = tuple(
    f"{pad}.{axis} {s}" for s in STATISTICS for pad in ("left", "right") for axis in ("fx", "fy", "fz")
)
STREAMS = (
    StreamSpec(name="camera", kind="video", shape=(64, 64, 3), unit="rgb"),
    StreamSpec(name="pads", kind="touch", shape=(len(PADS),), unit="N", names=PADS),
    StreamSpec(name="arm", kind="vector", shape=(7,), unit="rad"),
)
ACTION = StreamSpec(name="action", kind="action", shape=(7,), unit="rad/s")
Call = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Export:
    """See the top of this file."""

    size: Size = "xs"
    rounds: int = 40
    """All engines take turns this often."""
    calls: int = 50
    """Of a step per engine and turn; decoders get a tenth."""
    seed: int = 0

    @torch.inference_mode()
    def __call__(self) -> None:
        torch.set_num_threads(1)
        model = disturbed_world(self.size, self.seed)
        with tempfile.TemporaryDirectory() as scratch:
            export_model(model, folder := Path(scratch) / "export")
            engines = {f: load_exported(folder, f) for f in FORMATS}
            kilobytes = {f: sum(p.stat().st_size for p in folder.glob(f"{f}.*")) / 1e3 for f in FORMATS}
        metrics = {
            "parity": {f: parity(model, engine, self.seed) for f, engine in engines.items()},
            "moved": moved(model, self.seed),
            "step_us": self._times(lambda rows: step_calls(model, engines, rows, self.seed), self.calls),
            **{
                f"{name}_us": self._times(_decoding(model, engines, name), max(1, self.calls // 10))
                for name in ("vectors", "pictures")
            },
            "kilobytes": kilobytes,
            "versions": engines["onnx"].about["versions"],
        }
        metrics["step_ratio"] = ratios(metrics["step_us"])
        show(metrics)
        settings = {"size": self.size, "threads": 1, "rounds": self.rounds, "calls": self.calls}
        n = self.rounds * self.calls
        name = "export" if self.size == "xs" else f"export-{self.size}"
        print(write_result(name, metrics, settings=settings, seed=self.seed, n=n))

    def _times(self, calls: Callable[[int], Mapping[str, Call]], count: int) -> dict[str, Any]:
        """Microseconds by engine and rows: median and p99."""
        found: dict[str, dict[str, Any]] = {}
        for rows in ROWS:
            engines = calls(rows)
            spent: dict[str, list[tuple[float, float]]] = {name: [] for name in engines}
            for turn in range(self.rounds + 1):
                for name, call in engines.items():
                    laps = _laps(call, count)
                    spent[name] += laps if turn else []  # the first turn warms up
            for name, laps in spent.items():
                (median, cpu), (p99, cpu_p99) = np.percentile(laps, (50, 99), axis=0).tolist()
                figures = {"median": median, "p99": p99, "cpu_median": cpu, "cpu_p99": cpu_p99}
                found.setdefault(name, {})[str(rows)] = figures
        return found


def _laps(call: Call, count: int) -> list[tuple[float, float]]:
    """Microseconds of each call, by the wall and of the processor."""
    laps = []
    for _ in range(count):
        worked, began = time.process_time(), time.perf_counter()
        call()
        ended = time.perf_counter()
        laps.append((1e6 * (ended - began), 1e6 * (time.process_time() - worked)))
    return laps


def disturbed_world(size: str, seed: int) -> WorldModel:
    """Untrained, but for noise on every weight: layers that start at zero would hide every error."""
    torch.manual_seed(seed)
    model = WorldModel(model_config(size, STREAMS, ACTION, 0.1)).eval()
    for weight in model.parameters():
        weight.add_(0.05 * torch.randn_like(weight))
    return model


def rows_of_every_age(model: WorldModel, rows: int, seed: int) -> tuple[State, Tensor]:
    """Rows that have seen 1, 2, ... ticks, up to more than the window; and what they do in 30 ticks."""
    random, ages = torch.Generator().manual_seed(seed), model.config.size.window + 1
    states = []
    for row in range(rows):
        ticks = 1 + row % ages
        seen = torch.randn(1, ticks, *model.layout.shape, generator=random) * model.used
        done = torch.randn(1, ticks - 1, ACTION.size, generator=random)
        states.append(model.start(seen, done))
    return join(states), torch.randn(rows, max(LENGTHS), ACTION.size, generator=random)


def parity(model: WorldModel, engine: Exported, seed: int) -> dict[str, Any]:
    """Absolute differences of whitened latents from PyTorch's; of decoded streams in their own units."""
    state, actions = rows_of_every_age(model, max(ROWS), seed)
    now, memory, empty, tick, pace = (t.numpy() for t in plain(model, state))
    found: dict[str, Any] = {}
    for t in range(actions.shape[1]):
        state = model.step(state, actions[:, t])
        now, memory, _ = engine(now, memory, empty, tick, pace, actions[:, t].numpy())
        empty, tick = np.maximum(empty - 1, 0), tick + 1
        if t + 1 in LENGTHS:
            gap = np.abs(now - state.latents.numpy())
            found[f"after_{t + 1}"] = {"max": float(gap.max()), "mean": float(gap.mean())}
    seen, truth = state.latents.numpy(), model.decode(state)
    for name, values in {**engine.vectors(seen), **engine.pictures(seen)}.items():
        found[name] = float(np.abs(values.astype(float) - truth[name].numpy()).max())
    return found


def moved(model: WorldModel, seed: int) -> dict[str, float]:
    """How far whitened latents went meanwhile, mean of absolute numbers: what differences stand beside."""
    state, actions = rows_of_every_age(model, max(ROWS), seed)
    began, found = state.latents, {}
    for t in range(actions.shape[1]):
        state = model.step(state, actions[:, t])
        if t + 1 in LENGTHS:
            found[f"after_{t + 1}"] = float((state.latents - began).abs().mean())
    return found


def step_calls(model: WorldModel, engines: Mapping[str, Exported], rows: int, seed: int) -> dict[str, Call]:
    """One step by the waist, by the exported function in eager PyTorch, and by every engine."""
    state, actions = rows_of_every_age(model, rows, seed)
    tensors = (*plain(model, state), actions[:, 0])
    arrays = [t.numpy() for t in tensors]
    function = ExportedStep(model).eval()
    exported = {f: (lambda engine=engine: engine(*arrays)) for f, engine in engines.items()}
    return {
        "eager": lambda: model.step(state, actions[:, 0]),
        "eager on tensors": lambda: function(*tensors),
        **exported,
    }


def _decoding(
    model: WorldModel, engines: Mapping[str, Exported], name: str
) -> Callable[[int], dict[str, Call]]:
    specs = [s for s in STREAMS if (s.kind == "video") == (name == "pictures")]
    function = ExportedDecoder(model, specs).eval()

    def calls(rows: int) -> dict[str, Call]:
        latents = torch.randn(rows, *model.layout.shape)
        seen = latents.numpy()
        exported = {f: (lambda e=engine: getattr(e, name)(seen)) for f, engine in engines.items()}
        return {"eager": lambda: function(latents), **exported}

    return calls


def ratios(times: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """How many times as fast as eager PyTorch each engine is, by medians of processor time."""
    eager = times["eager"]
    return {
        name: {rows: eager[rows]["cpu_median"] / lap["cpu_median"] for rows, lap in laps.items()}
        for name, laps in times.items()
        if name != "eager"
    }


def show(metrics: Mapping[str, Any]) -> None:
    errors = Table("format", *(f"{k} {t}" for t in LENGTHS for k in ("max after", "mean after")), "kB")
    for name, found in metrics["parity"].items():
        gaps = [found[f"after_{t}"][k] for t in LENGTHS for k in ("max", "mean")]
        errors.add_row(name, *(f"{gap:.1e}" for gap in gaps), f"{metrics['kilobytes'][name]:.0f}")
    Console().print(errors, f"latents moved by {metrics['moved']}")
    for kind in ("step", "vectors", "pictures"):
        for title, prefix in (("wall", ""), ("processor", "cpu_")):
            table = Table(f"{kind}, {title} us: median (p99)", *(f"{rows} rows" for rows in ROWS))
            for name, laps in metrics[f"{kind}_us"].items():
                shown = ((lap[f"{prefix}median"], lap[f"{prefix}p99"]) for lap in laps.values())
                table.add_row(name, *(f"{median:.0f} ({p99:.0f})" for median, p99 in shown))
            Console().print(table)


if __name__ == "__main__":
    tyro.cli(Export)()
