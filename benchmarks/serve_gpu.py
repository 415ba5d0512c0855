"""How long a pass takes against its rows, for models of 30M, 100M and 400M: what an accelerator can serve.

    python benchmarks/serve_gpu.py                  # on a GPU: sizes s, m, l, with CUDA graphs and without
    python benchmarks/serve_gpu.py --sizes xs s m   # what a CPU does of it, and the arithmetic for an H200

A pass is the engine's own: gather from the arena, step, write back, decode touch and proprioception, copy to
the host. Weights are drawn at random, which costs what trained ones cost. From the measured passes follow the
sessions at 20 Hz whose p99 stays below 50 ms at 70 % load, and what a session-hour costs at a price. Where
there is no GPU, a row "projected" says what an H200 would take by its arithmetic and memory bandwidth alone;
it was not measured. Writes one JSON.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from forerun.config import Size, model_config
from forerun.data.touch import STATISTICS
from forerun.evaluation.results import write_result
from forerun.serving.passes import Passes
from forerun.types import StreamSpec
from forerun.world_model import WorldModel

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
RATE_HZ, P99_S, LOAD = 20.0, 0.05, 0.7
FLOPS, BYTES_PER_S, LAUNCH_S = 400e12, 4.8e12, 60e-6
"""Of an H200: what dense bf16 products reach, its memory, one launch of a graph; assumed, not measured."""
PADS = tuple(f"{side}.{axis}" for side in ("left", "right") for axis in ("fx", "fy", "fz"))


@dataclass(kw_only=True)
class ServeGpu:
    """See the top of this file."""

    sizes: tuple[Size, ...] = ("s", "m", "l")
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    repeats: int = 50
    price: float = 3.50
    """Dollars an hour of the device."""
    seconds: float = 60.0
    """Most to spend on one size."""
    seed: int = 0

    def __call__(self) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(self.seed)
        found: dict[str, Any] = {}
        for size in self.sizes:
            model = WorldModel(configured(size)).eval().to(self.device)
            about = {
                "parameters": sum(p.numel() for p in model.trunk.parameters()),
                "tokens": model.layout.shape[0],
            }
            ways = {"graph": True, "eager": False} if self.device.startswith("cuda") else {"eager": False}
            for way, graphs in ways.items():
                about[way] = self.measured(model, graphs)
            about["projected_h200"] = projected(about, self.price)
            found[size] = about
            Console().print(shown(size, about))
        settings = {"device": self.device, "rate_hz": RATE_HZ, "p99_ms": 1e3 * P99_S, "price": self.price}
        print(write_result("serve-gpu", found, settings=settings, seed=self.seed, n=self.repeats))

    def measured(self, model: WorldModel, graphs: bool) -> dict[str, Any]:
        """Milliseconds by rows, and the sessions that follow."""
        passes = Passes(model, 256, 256, "bucket", graphs=graphs, engine="torch")
        began, table = time.monotonic(), {}
        for rows in ROWS:
            if time.monotonic() - began > self.seconds / 2:
                break  # the next bucket would take too long on this device
            table[str(rows)] = timed(passes, rows, self.repeats)
        return {
            "pass_ms": table,
            "bytes_per_slot": passes.arena.bytes_per_slot,
            **served({int(rows): 1e-3 * t["p99"] for rows, t in table.items()}, self.price),
        }


def configured(size: Size) -> Any:
    """A camera, two pads with bursts of touch, an arm, and its action."""
    names = tuple(f"{channel} {s}" for s in STATISTICS for channel in PADS)
    camera = StreamSpec(name="camera", kind="video", shape=(64, 64, 3), unit="rgb")
    pads = StreamSpec(name="pads", kind="touch", shape=(len(names),), unit="N", names=names)
    arm = StreamSpec(name="proprio", kind="vector", shape=(7,), unit="rad")
    action = StreamSpec(name="action", kind="action", shape=(7,), unit="rad/s")
    return model_config(size, (camera, pads, arm), action, 1 / RATE_HZ)


def timed(passes: Passes, rows: int, repeats: int) -> dict[str, float]:
    """Milliseconds of a pass, median and p99, after three to warm up."""
    slots = list(range(rows))
    actions, present = np.zeros((rows, passes.actions), np.float32), np.ones(rows, bool)
    seconds: list[float] = []
    while len(seconds) < repeats + 3 and sum(seconds) < 10:
        began = time.perf_counter()
        passes.advance(slots, actions, present)  # ends with a copy to the host, which waits for the device
        seconds.append(time.perf_counter() - began)
    middle, high = np.percentile(seconds[min(3, len(seconds) - 1) :], (50, 99))
    return {"p50": float(1e3 * middle), "p99": float(1e3 * high), "n": len(seconds)}


def served(pass_s: dict[int, float], price: float) -> dict[str, Any]:
    """The most sessions at the rate, if passes follow each other and a row waits for at most one."""
    fits = [LOAD * rows / (t * RATE_HZ) for rows, t in pass_s.items() if 2 * t < P99_S]
    sessions = int(max(fits, default=0))
    return {"sessions": sessions, **({"dollars_per_session_hour": price / sessions} if sessions else {})}


def projected(about: dict[str, Any], price: float) -> dict[str, Any]:
    """By arithmetic: products of all tokens, weights and states read once a pass, in bf16."""
    state = next(v["bytes_per_slot"] for v in about.values() if isinstance(v, dict)) / 2
    weights = 2 * about["parameters"]
    pass_s = {
        rows: max(
            2 * about["parameters"] * about["tokens"] * rows / FLOPS, (weights + rows * state) / BYTES_PER_S
        )
        + LAUNCH_S
        for rows in ROWS
    }
    return {"pass_ms": {str(rows): 1e3 * t for rows, t in pass_s.items()}, **served(pass_s, price)}


def shown(size: str, about: dict[str, Any]) -> Table:
    table = Table(
        title=f"{size}: {about['parameters'] / 1e6:.0f}M parameters, {about['tokens']} tokens a tick"
    )
    table.add_column("ms a pass")
    for rows in ROWS:
        table.add_column(str(rows), justify="right")
    table.add_column("sessions", justify="right")
    for way, told in about.items():
        if isinstance(told, dict):
            cells = [told["pass_ms"].get(str(rows)) for rows in ROWS]
            values = [c["p50"] if isinstance(c, dict) else c for c in cells]
            table.add_row(way, *("" if v is None else f"{v:.2f}" for v in values), str(told["sessions"]))
    return table


if __name__ == "__main__":
    tyro.cli(ServeGpu)()
