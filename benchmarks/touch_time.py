"""The two recordings of touch over time: a hand that closes on an object, and a screw that is driven."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from touch_scores import SEEDS, Scored, best_linear, mean, select, share

from forerun.data.episode import Recordings
from forerun.evaluation.forecasts import LAGS_S, Forecasts, forecasts
from forerun.evaluation.linear import Linear, logistic, ridge, scales
from forerun.evaluation.stats import bootstrap_ratio
from forerun.evaluation.touch_data import Grasp, idle_taxels, trial_fold
from forerun.evaluation.touch_data import icub as read_icub
from forerun.evaluation.touch_data import screwdriving as read_screwdriving
from forerun.evaluation.touch_nets import Recurrent, answers, taught
from forerun.training.learner import Batch
from forerun.training.trainer import TrainConfig

FOLDS = 4
SLICES = (1, 2, 4, 8, 99)
"""After how many slices the object is named; a hand that has closed by then keeps its last answer."""
GRASP_NETS = ((32, 0.3), (64, 0.5))
SCREW_NETS = ((16, 0.0), (48, 0.3))
"""Width, dropout."""
HORIZONS_S = (0.02, 0.1, 0.5)
CUTS = (0.4, 0.6, 0.8, 1.0)
"""Shares of the run: everything up to one cut teaches, what follows until the next one tests."""
BLOCK_S = 1.0
"""Errors closer together than this are not taken as independent: some three turns of the screw's wobble."""


class Padded(NamedTuple):
    """Grasps of different lengths in one array."""

    inputs: np.ndarray
    """(B, T, F) float32, zero behind the end."""
    real: np.ndarray
    """(B, T) bool."""
    labels: np.ndarray
    """(B,)."""
    taxels: np.ndarray
    """(B, T, 60)."""

    def take(self, rows: np.ndarray) -> Padded:
        return Padded(*(part[rows] for part in self))


def padded(grasps: Sequence[Grasp], sense: Callable[[Grasp], np.ndarray]) -> Padded:
    things = sorted({g.thing for g in grasps})
    longest = max(len(g) for g in grasps)

    def stack(parts: list[np.ndarray]) -> np.ndarray:
        return np.stack([np.pad(p, ((0, longest - len(p)), (0, 0))) for p in parts])

    real = np.arange(longest) < np.array([len(g) for g in grasps])[:, None]
    labels = np.array([things.index(g.thing) for g in grasps])
    return Padded(stack([sense(g) for g in grasps]), real, labels, stack([g.taxels for g in grasps]))


SENSES: dict[str, Callable[[Grasp], np.ndarray]] = {
    "taxels and joints": lambda g: np.concatenate([g.taxels, g.encoders], axis=1),
    "joints": lambda g: g.encoders,
    "taxels": lambda g: g.taxels,
    "tared taxels": lambda g: g.tared(),
    "tared taxels and joints": lambda g: np.concatenate([g.tared(), g.encoders], axis=1),
}

LEAK = "taxels nothing presses"
"""If these name the object, something else than pressing does: most likely the session of each object."""


def icub(recordings: Recordings) -> list[tuple[str, dict[str, Any], dict[str, Any], int]]:
    """Names of objects and the taxels to come; each trial is tested once, by what learned from others."""
    grasps = read_icub(recordings)
    fold = trial_fold(grasps, FOLDS)
    idle = idle_taxels(grasps)
    senses = {**SENSES, LEAK: lambda g: g.taxels[:, idle]}
    sets = {name: padded(grasps, sense) for name, sense in senses.items()}
    labels = sets["joints"].labels
    named: dict[str, Scored] = {"majority": _named([_majority(sets["joints"], fold)], labels)}
    for name, data in sets.items():
        named[f"logistic, {name}"] = _named([_lines(data, fold)], labels)
    for name in ("taxels and joints", "tared taxels"):
        nets = _nets(sets[name], fold)
        named[f"network, {name}"] = _named(
            [_at_slices(logits, sets[name].real) for logits, _ in nets], labels
        )
        if name == "taxels and joints":
            next_slice = _next_slice(sets[name], fold, [after for _, after in nets])
    doubtful = read_icub(recordings, unreliable=True)
    whole = padded(doubtful, SENSES["taxels and joints"])
    eleven = _named([_lines(whole, trial_fold(doubtful, FOLDS))], whole.labels)
    metrics = {"object": named, "with full_coke": {"logistic": eleven}, "next slice": next_slice}
    settings: dict[str, Any] = {"folds": FOLDS, "slices": SLICES, "nets": GRASP_NETS, "left_out": "full_coke"}
    settings["idle_taxels"] = int(idle.sum())
    return [("icub", metrics, settings, len(grasps))]


def _named(guesses: list[np.ndarray], labels: np.ndarray) -> Scored:
    """Accuracy after so many slices; guesses (B, len(SLICES)) per seed."""
    right = np.stack(guesses) == labels[:, None]
    return {_after(k): share(right[:, :, i]) for i, k in enumerate(SLICES)}


def _after(slices: int) -> str:
    return "closed" if slices > 90 else f"after {slices}"


def _at_slices(logits: np.ndarray, real: np.ndarray) -> np.ndarray:
    """(B, T, K) to the answers (B, len(SLICES))."""
    last = np.minimum(np.array(SLICES)[None], real.sum(1)[:, None]) - 1
    return logits[np.arange(len(logits))[:, None], last].argmax(-1)


def _majority(data: Padded, fold: np.ndarray) -> np.ndarray:
    out = np.zeros((len(fold), len(SLICES)), int)
    for k in range(FOLDS):
        out[fold == k] = np.bincount(data.labels[fold != k]).argmax()
    return out


def _history(data: Padded) -> np.ndarray:
    """(B, T, 2 F): a slice and the mean of all up to it."""
    count = np.arange(1, data.inputs.shape[1] + 1)[:, None]
    return np.concatenate([data.inputs, np.cumsum(data.inputs, axis=1) / count], axis=-1)


def _lines(data: Padded, fold: np.ndarray) -> np.ndarray:
    """Logistic regression on the slices so far: answers (B, len(SLICES)) of every grasp, when tested."""
    x, classes = _history(data), int(data.labels.max()) + 1
    y = np.broadcast_to(data.labels[:, None], data.real.shape)
    out = np.zeros((len(fold), len(SLICES)), int)

    def fit(rows: np.ndarray, penalty: float) -> Linear:
        return logistic(x[rows][data.real[rows]], y[rows][data.real[rows]], classes, penalty)

    def error(model: Linear, rows: np.ndarray) -> float:
        logits = torch.from_numpy(model(x[rows][data.real[rows]]))
        return float(cross_entropy(logits, torch.from_numpy(y[rows][data.real[rows]])))

    for k in range(FOLDS):
        model = best_linear(fit, error, fold == (k + 1) % FOLDS, fold != k).model
        out[fold == k] = _at_slices(model(x[fold == k]), data.real[fold == k])
    return out


def _nets(data: Padded, fold: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per seed: logits (B, T, K) and the change to the next slice (B, T, 60), in counts, of test folds."""
    classes = int(data.labels.max()) + 1
    out = [np.zeros((*data.real.shape, classes + 60), np.float32) for _ in SEEDS]
    for k in range(FOLDS):
        train, test, held = fold != k, fold == k, fold == (k + 1) % FOLDS
        inside = data.take(train & ~held)

        def off(option: tuple[int, float], inside: Padded = inside, held: np.ndarray = held) -> float:
            net = _grasp_net(inside, classes, option, 0)
            part, said = data.take(held), answers(net, data.inputs[held])[..., :classes]
            truth = np.broadcast_to(part.labels[:, None], part.real.shape)[part.real]
            return float(cross_entropy(torch.from_numpy(said[part.real]), torch.from_numpy(truth)))

        option = select(GRASP_NETS, off)
        for seed, into in zip(SEEDS, out, strict=True):
            net = _grasp_net(data.take(train), classes, option, seed)
            into[test] = answers(net, data.inputs[test])
    return [(each[..., :classes], each[..., classes:] * CHANGE) for each in out]


CHANGE = 2.0
"""Counts: about how much a taxel that changes does, from slice to slice; brings the loss to order one."""


def _grasp_net(data: Padded, classes: int, option: tuple[int, float], seed: int) -> Any:
    def score(output: Tensor, batch: Batch) -> Tensor:
        logits, change = output[..., :classes], output[..., classes:]
        real, followed = batch["real"], batch["real"][:, 1:]
        labels = batch["labels"][:, None].expand(real.shape)
        naming = cross_entropy(logits[real], labels[real])
        wanted = (batch["taxels"][:, 1:] - batch["taxels"][:, :-1]) / CHANGE
        return naming + (change[:, :-1] - wanted)[followed].square().mean()

    width, dropout = option
    config = TrainConfig(steps=300, learning_rate=3e-3, weight_decay=0.1, seed=seed)
    rows = dict(zip(("inputs", "real", "labels", "taxels"), data, strict=True))
    scaled_by = data.inputs[data.real]
    return taught(
        lambda: Recurrent(scaled_by, classes + 60, width=width, dropout=dropout),
        rows,
        score,
        config,
        batch_size=64,
    )


def _next_slice(data: Padded, fold: np.ndarray, changes: list[np.ndarray]) -> Scored:
    """Squared error of taxels per grasp, from the third slice on, since extrapolating needs two."""
    now, before, true = data.taxels[:, 1:-1], data.taxels[:, :-2], data.taxels[:, 2:]
    asked = data.real[:, 2:]
    x = np.concatenate([data.inputs[:, 1:-1], data.inputs[:, :-2]], axis=-1)
    line, middle = np.zeros_like(true), np.zeros_like(true)

    def fit(rows: np.ndarray, penalty: float) -> Linear:
        return ridge(x[rows][asked[rows]], (true - now)[rows][asked[rows]], penalty)

    def error(model: Linear, rows: np.ndarray) -> float:
        return float(np.square(model(x[rows]) - (true - now)[rows])[asked[rows]].mean())

    for k in range(FOLDS):
        train, test = fold != k, fold == k
        line[test] = best_linear(fit, error, fold == (k + 1) % FOLDS, train).model(x[test])
        middle[test] = data.taxels[train][data.real[train]].mean(0)
    guesses = {
        "mean": [middle],
        "copy-last": [now],
        "linear extrapolation": [2 * now - before],
        "ridge": [now + line],
        "network": [now + change[:, 1:-1] for change in changes],
    }
    errors = {name: np.stack([_per_grasp(g, true, asked) for g in each]) for name, each in guesses.items()}
    copy = errors["copy-last"][0]
    return {
        name: {
            "squared_error": mean(each),
            "over_copy": bootstrap_ratio(each.mean(0), copy)._asdict() | _seed_ratios(each, copy),
        }
        for name, each in errors.items()
    }


def _seed_ratios(each: np.ndarray, copy: np.ndarray) -> Scored:
    return {"seeds": (each.mean(1) / copy.mean()).tolist()} if len(each) > 1 else {}


def _per_grasp(guess: np.ndarray, true: np.ndarray, asked: np.ndarray) -> np.ndarray:
    square = np.square(guess - true).mean(-1)
    return (square * asked).sum(1) / asked.sum(1)


def screwdriving(recordings: Recordings) -> list[tuple[str, dict[str, Any], dict[str, Any], int]]:
    """The wrench ahead; three times the run up to a cut teaches and the part behind it tests."""
    run = read_screwdriving(recordings)
    wrench, tip = run.streams["wrench"], run.streams["tip"]
    asked = [forecasts(wrench, tip, horizon) for horizon in HORIZONS_S]
    begin, end = float(wrench.times_s[0]), float(wrench.times_s[-1])
    cuts = [begin + share * (end - begin) for share in CUTS]
    cuts[-1] += 1.0  # the last sample is a target too
    guesses: list[list[dict[str, np.ndarray]]] = [[] for _ in asked]
    for begin_s, end_s in pairwise(cuts):
        for kept, found in zip(guesses, _foretold(asked, begin, begin_s, end_s), strict=True):
            kept.append(found)
    metrics, blocks = {}, 0
    for question, parts in zip(asked, guesses, strict=True):
        tested = question.take(question.target_s >= cuts[0])
        block = ((tested.target_s - cuts[0]) // BLOCK_S).astype(int)
        blocks = len(np.unique(block))
        joined = {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}
        metrics[f"{1000 * question.horizon_s:.0f} ms"] = {
            name: _wrench_ahead(guess - tested.target, block) for name, guess in joined.items()
        } | {"test_samples": len(tested.target)}
    settings = {"cuts": CUTS, "block_s": BLOCK_S, "nets": SCREW_NETS, "horizons_s": HORIZONS_S}
    return [("screwdriving", _by_method(metrics), settings, blocks)]


def _by_method(metrics: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Method, then horizon: as the rows and columns of a table."""
    names = [name for name in next(iter(metrics.values())) if name != "test_samples"]
    samples = {ahead: found["test_samples"] for ahead, found in metrics.items()}
    return {name: {ahead: found[name] for ahead, found in metrics.items()} for name in names} | {
        "test_samples": samples
    }


def _wrench_ahead(off: np.ndarray, block: np.ndarray) -> Scored:
    """off (seeds, M, 6): length of the error of force (N) and torque (N m), and torque about the screw."""
    return {
        "force": mean(np.linalg.norm(off[..., :3], axis=-1), block),
        "torque": mean(np.linalg.norm(off[..., 3:], axis=-1), block),
        "Tz": mean(np.abs(off[..., 5]), block),
    }


def _foretold(
    asked: list[Forecasts], begin: float, cut_s: float, end_s: float
) -> list[dict[str, np.ndarray]]:
    """Per horizon the guesses (seeds, M, 6) of every method for targets from ``cut_s`` on until ``end_s``."""
    held_from = cut_s - 0.25 * (cut_s - begin)
    train = [q.take(q.target_s < cut_s) for q in asked]
    test = [q.take((q.target_s >= cut_s) & (q.target_s < end_s)) for q in asked]
    nets = _screw_nets(train, held_from, test)
    return [
        {
            "mean": np.broadcast_to(known.target.mean(0), (1, *new.target.shape)),
            "copy-last": new.newest[None],
            "linear extrapolation": new.linear[None],
            "ridge": _screw_line(known, new, held_from, slice(None)),
            "ridge without camera": _screw_line(known, new, held_from, slice(0, 6)),
            "network": net,
        }
        for known, new, net in zip(train, test, nets, strict=True)
    ]


def _screw_line(known: Forecasts, new: Forecasts, held_from: float, channels: slice) -> np.ndarray:
    """Ridge on both streams at even lags and on the extrapolation; shrinks to the mean or to copy-last."""
    held = known.target_s >= held_from
    scale = known.target.std(0)

    def features(question: Forecasts) -> np.ndarray:
        past = question.lagged.reshape(len(question.target), len(LAGS_S), -1)[..., channels]
        parts = (past.reshape(len(past), -1), question.newest, question.linear - question.newest)
        return np.concatenate(parts, axis=1)

    def fit(anchor: float) -> tuple[float, Linear]:
        x, y = features(known), known.target - anchor * known.newest

        def error(model: Linear, rows: np.ndarray) -> float:
            return float(np.square((model(x[rows]) - y[rows]) / scale).mean())

        found = best_linear(lambda rows, penalty: ridge(x[rows], y[rows], penalty), error, held)
        return error(found.inside, held), found.model

    fits = {anchor: fit(anchor) for anchor in (0.0, 1.0)}
    anchor = min(fits, key=lambda a: fits[a][0])
    return (fits[anchor][1](features(new)) + anchor * new.newest)[None]


def _screw_nets(train: list[Forecasts], held_from: float, test: list[Forecasts]) -> list[np.ndarray]:
    """One network for all horizons, since it is told the time to the target; (seeds, M, 6) for each."""
    centre, spread = scales(np.concatenate([q.target for q in train]))

    def net(parts: list[Forecasts], option: tuple[int, float], seed: int) -> Any:
        width, dropout = option
        x = np.concatenate([q.sequence for q in parts])
        y = (np.concatenate([q.target for q in parts]) - centre) / spread
        config = TrainConfig(steps=500, learning_rate=3e-3, weight_decay=0.1, seed=seed)
        rows = {"inputs": x, "targets": y.astype(np.float32)}
        return taught(lambda: Recurrent(x, 6, width=width, dropout=dropout), rows, _last_square, config)

    inside = [q.take(q.target_s < held_from) for q in train]
    held = [q.take(q.target_s >= held_from) for q in train]

    def off(option: tuple[int, float]) -> float:
        module = net(inside, option, 0)
        said = np.concatenate([answers(module, q.sequence)[:, -1] for q in held])
        true = (np.concatenate([q.target for q in held]) - centre) / spread
        return float(np.square(said - true).mean())

    option = select(SCREW_NETS, off)
    modules = [net(train, option, seed) for seed in SEEDS]
    return [np.stack([answers(m, q.sequence)[:, -1] * spread + centre for m in modules]) for q in test]


def _last_square(output: Tensor, batch: Batch) -> Tensor:
    return (output[:, -1] - batch["targets"]).square().mean()
