"""What can be learned from real touch: four public recordings, each beside baselines that cost nothing.

    python benchmarks/touch_real.py --data ../shared/data
    python benchmarks/touch_real.py --set biotac

softfinger    wrench from the deformation of a soft finger; the authors' test file
biotac        will it slip, from electrodes before lifting; the authors' test file, objects not seen before
icub          which object, as the hand closes, and what the taxels read next; split by trial
screwdriving  wrench and torque 20, 100 and 500 ms ahead, on two jittery clocks; one run, split by time

Penalties and networks are chosen on a part of the training rows, and networks have three seeds. Writes one
JSON for each set (for each orientation of the hand in biotac). Takes a few minutes on one core.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from rich.console import Console
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss
from touch_scores import SEEDS, Scored, best_linear, mean, select, share
from touch_time import icub, screwdriving

from forerun.data.episode import Recordings
from forerun.data.fingerprint import source_hash
from forerun.evaluation.linear import logistic, ridge, scales
from forerun.evaluation.results import write_result
from forerun.evaluation.stats import bootstrap_mean
from forerun.evaluation.touch_data import BIOTAC, ICUB, PALMS, SCREW, SOFTFINGER, Rows, held_out, opened
from forerun.evaluation.touch_data import biotac as read_biotac
from forerun.evaluation.touch_data import softfinger as read_softfinger
from forerun.evaluation.touch_nets import Perceptron, answers, taught
from forerun.training.learner import Batch
from forerun.training.trainer import TrainConfig

Found = tuple[str, dict[str, Any], dict[str, Any], int]
"""Name, metrics, settings and n of one result."""
WIDTHS = (64, 128)
SLIP_NETS = ((32, 0.3, 0.01), (64, 0.5, 0.1), (16, 0.5, 0.3))
"""Width, dropout, weight decay."""


@dataclass(frozen=True, kw_only=True)
class TouchReal:
    """See the top of this file."""

    data: Path = Path("../shared/data")
    set: Literal["all", "softfinger", "biotac", "icub", "screwdriving"] = "all"
    results: Path = Path("benchmarks/results")

    def __call__(self) -> None:
        torch.set_num_threads(1)
        console = Console()
        for name, (folder, measure) in SETS.items():
            if self.set not in ("all", name):
                continue
            if not (self.data / folder).is_dir():
                console.print(f"{name} is left out: there is no folder '{folder}' in {self.data}")
                continue
            recordings = opened(self.data, folder)
            began = time.perf_counter()
            for result, metrics, settings, n in measure(recordings):
                settings = {"data": folder, "seeds": len(SEEDS), **settings}
                path = write_result(
                    f"touch-real-{result}",
                    metrics,
                    settings=settings,
                    seed=0,
                    n=n,
                    data_hash=source_hash(recordings),
                    folder=self.results,
                )
                print(path.read_text())
            console.print(f"{name}: {time.perf_counter() - began:.0f} s")


def softfinger(recordings: Recordings) -> list[Found]:
    """Wrench from a marker's pose, in the authors' test file and in held-out rows of the training file."""
    train, test = read_softfinger(recordings)
    held = held_out(train.groups, 0.1, 0)
    inside = train.take(~held)
    metrics = {
        "official": _wrenches(train, test, held),
        "within": _wrenches(inside, train.take(held), held_out(inside.groups, 0.1, 1)),
    }
    settings = {"held_out": "a tenth of the training rows", "widths": WIDTHS, "steps": 3000}
    return [("softfinger", metrics, settings, len(test))]


def _wrenches(train: Rows, test: Rows, held: np.ndarray) -> Scored:
    centre, spread = scales(train.targets)

    def wanted(rows: Rows) -> np.ndarray:
        return ((rows.targets - centre) / spread).astype(np.float32)

    def net(rows: Rows, width: int, seed: int) -> Any:
        config = TrainConfig(steps=3000, learning_rate=3e-3, weight_decay=1e-4, seed=seed)
        data = {"inputs": rows.inputs, "targets": wanted(rows)}
        return taught(lambda: Perceptron(rows.inputs, 6, width=width), data, _square, config, batch_size=256)

    def off(width: int) -> float:
        guess = answers(net(train.take(~held), width, 0), train.inputs[held])
        return float(np.square(guess - wanted(train.take(held))).mean())

    width = select(WIDTHS, off)
    line = best_linear(
        lambda rows, penalty: ridge(train.inputs[rows], train.targets[rows], penalty),
        lambda model, rows: float(
            np.square((model(train.inputs[rows]) - train.targets[rows]) / spread).mean()
        ),
        held,
    )
    guesses = {
        "mean": [np.tile(centre, (len(test), 1))],
        "ridge": [line.model(test.inputs)],
        "network": [answers(net(train, width, s), test.inputs) * spread + centre for s in SEEDS],
    }
    return {name: _wrench_errors(np.stack(each), test.targets) for name, each in guesses.items()}


def _square(output: Tensor, batch: Batch) -> Tensor:
    return mse_loss(output, batch["targets"])


def _wrench_errors(guesses: np.ndarray, true: np.ndarray) -> Scored:
    """Length of the error of force (N) and torque (N m), and the share of variance explained, by channel."""
    off = guesses - true
    explained = 1 - np.square(off).mean(axis=(0, 1)) / true.var(axis=0)
    return {
        "force": mean(np.linalg.norm(off[..., :3], axis=-1)),
        "torque": mean(np.linalg.norm(off[..., 3:], axis=-1)),
        "explained": explained.tolist(),
    }


def biotac(recordings: Recordings) -> list[Found]:
    """Slip before lifting, as the files are, and with every file brought to its own level and spread."""
    found: list[Found] = []
    for palm in PALMS:
        train, test = read_biotac(recordings, palm)
        held = held_out(train.groups, 0.2, 0)
        metrics: dict[str, Any] = {
            "majority": _slip_share([np.full(len(test), np.bincount(train.targets).argmax())], test),
            **_slips(train, test, held, ""),
            **_slips(_levelled(train), _levelled(test), held, ", levelled"),
        }
        settings = {"palm": palm, "held_out": "a fifth of the training objects", "nets": SLIP_NETS}
        found.append((f"biotac-{palm}", metrics, settings, len(test)))
    return found


def _levelled(rows: Rows) -> Rows:
    """Inputs by the mean and spread of their own file: looks at all its inputs together, and at no label."""
    centre, spread = scales(rows.inputs)
    return Rows(((rows.inputs - centre) / spread).astype(np.float32), rows.targets, rows.groups)


def _slips(train: Rows, test: Rows, held: np.ndarray, how: str) -> Scored:
    line = best_linear(
        lambda rows, penalty: logistic(train.inputs[rows], train.targets[rows], 2, penalty),
        lambda model, rows: _log_loss(model(train.inputs[rows]), train.targets[rows]),
        held,
    )

    def net(rows: Rows, option: tuple[int, float, float], seed: int) -> Any:
        width, dropout, decay = option
        config = TrainConfig(steps=600, learning_rate=2e-3, weight_decay=decay, seed=seed)
        data = {"inputs": rows.inputs, "targets": rows.targets}
        return taught(
            lambda: Perceptron(rows.inputs, 2, width=width, dropout=dropout), data, _cross_entropy, config
        )

    inside = train.take(~held)
    option = select(
        SLIP_NETS, lambda o: _log_loss(answers(net(inside, o, 0), train.inputs[held]), train.targets[held])
    )
    nets = [answers(net(train, option, s), test.inputs).argmax(1) for s in SEEDS]
    easier = share(line.inside(train.inputs[held]).argmax(1) == train.targets[held])
    logistic_share = _slip_share([line.model(test.inputs).argmax(1)], test)
    return {
        f"logistic{how}": logistic_share | {"held_out_objects_of_training_file": easier},
        f"network{how}": _slip_share(nets, test),
    }


def _cross_entropy(output: Tensor, batch: Batch) -> Tensor:
    return cross_entropy(output, batch["targets"])


def _log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)))


def _slip_share(guesses: list[np.ndarray], test: Rows) -> Scored:
    """Accuracy over grasps, and over objects: grasps of one object are alike, and there are only a few."""
    right = np.stack(guesses) == test.targets
    objects = [right[:, test.groups == name].mean() for name in np.unique(test.groups)]
    return {"accuracy": share(right), "by_object": bootstrap_mean(objects)._asdict()}


SETS: dict[str, tuple[str, Callable[[Recordings], list[Found]]]] = {
    "softfinger": (SOFTFINGER, softfinger),
    "biotac": (BIOTAC, biotac),
    "icub": (ICUB, icub),
    "screwdriving": (SCREW, screwdriving),
}

if __name__ == "__main__":
    tyro.cli(TouchReal)()
