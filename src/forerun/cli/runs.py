"""A run folder as the verbs see it: what was asked for, on which recordings, and the model it gave.

RUN/
  settings.json       what was asked for; the same again resumes
  run.json            which episodes were trained on, which held out (forerun.teach)
  cache/              the recordings as a table of ticks
  model/              the world model, when all stages are done
  prediction.json     its errors on held-out episodes
  recordings.png      a few of the recordings
  planning.json       its first actions towards held-out pictures, beside the recorded ones
  report.html         all of that, to look at
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from forerun.checkpoint import read_json
from forerun.cli.data import progress_bar
from forerun.config import ModelConfig
from forerun.data import open_recordings
from forerun.data.cache import GIB, TickCache, build_cache
from forerun.data.episode import Recordings
from forerun.types import CheckpointError, DataError, ShapeError, StorageError, StreamSpec
from forerun.world_model import FORMAT, WorldModel

SETTINGS = "settings.json"
CONTEXT = 3
"""Ticks shown to the model before it imagines."""


@dataclass(frozen=True)
class Run:
    """A finished run, or a bare model without its run."""

    model: WorldModel
    model_path: Path
    path: Path | None
    """The run's folder; None for a bare model."""
    settings: dict[str, Any]
    data_hash: str | None
    """Of the table it was trained on."""
    recipe: dict[str, Any]
    """The steps of every stage and what else `forerun.teach.Recipe` holds."""
    train_episodes: np.ndarray
    train_hashes: frozenset[str]
    """Content of the training episodes, as in `TickCache.episodes`; empty for a bare model."""
    held_out: np.ndarray

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @property
    def kind(self) -> dict[str, Any]:
        return kind_of(self.config)

    @property
    def name(self) -> str:
        return (self.path or self.model_path).resolve().name


def kind_of(config: ModelConfig) -> dict[str, Any]:
    """What a result says of its model: figures of another format or of other widths are no seed of it."""
    return {"format": FORMAT, "size": asdict(config.size)}


def set_threads(threads: int | None) -> None:
    """Use so many cores: by default two, which pays for small models, or what OMP_NUM_THREADS says."""
    torch.set_num_threads(threads or min(2, torch.get_num_threads()))


def open_run(path: Path) -> Run:
    """A run folder, or the folder of a model alone.

    Raises:
        CheckpointError: neither, or training has not finished.
    """
    if (path / SETTINGS).is_file() and not (path / "model").is_dir():
        raise CheckpointError(
            f"the run '{path.name}' has no model yet: its training was stopped before the end. Run the same "
            f"forerun train command again, it resumes. Path: {path}"
        )
    inside = (path / "model").is_dir()
    model_path = path / "model" if inside else path
    model = WorldModel.from_pretrained(model_path)
    run = path if inside else model_path.parent if model_path.name == "model" else None
    about = read_json(run / "run.json") if run is not None and (run / "run.json").is_file() else {}
    settings = read_json(run / SETTINGS) if run is not None and (run / SETTINGS).is_file() else {}
    return Run(
        model=model,
        model_path=model_path,
        path=run if about else None,
        settings=settings,
        data_hash=about.get("data"),
        recipe=about.get("recipe", {}),
        train_episodes=np.asarray(about.get("train_episodes", []), dtype=np.int64),
        train_hashes=frozenset(about.get("train_hashes", [])),
        held_out=np.asarray(about.get("held_out_episodes", []), dtype=np.int64),
    )


def table_of(run: Run, data: Path | None, *, cache_gb: float = 8.0) -> TickCache:
    """The recordings at ``data`` (by default those of the run) on the model's clock and in its shapes.

    Raises:
        DataError: no recordings are named anywhere, or they are not there.
        ShapeError: the model's streams are not in them, or differ in shape, unit or channels.
    """
    if data is None and run.settings.get("data"):
        kept = _kept_table(run)
        if kept is not None:
            return kept
    data = data or (Path(run.settings["data"]) if run.settings.get("data") else None)
    if data is None:
        raise DataError(
            f"the model '{run.name}' does not say which recordings it was trained on; name some with --data "
            "PATH"
        )
    recordings = open_recordings(data)
    config = run.config
    check_streams(recordings.specs, config, data)
    side = next((s.shape[0] for s in config.video), 64)
    where = Path(run.settings["cache"]) if run.settings.get("cache") else (run.path or data.parent) / "cache"
    with progress_bar("decoding") as update:
        cache = build_cache(
            recordings,
            where,
            tick_s=config.tick_s,
            image_size=side,
            streams=chosen_streams(recordings, run.settings.get("streams") or ()),
            byte_budget=round(cache_gb * GIB),
            progress=update,
        )
    check_table(cache, config)
    return cache


def chosen_streams(recordings: Recordings, streams: Sequence[str]) -> list[str] | None:
    """Those streams and the privileged ones, which only evaluation reads; None stands for all there are."""
    if not streams:
        return None
    privileged = [name for name, spec in recordings.specs.items() if spec.kind == "privileged"]
    return [*streams, *(name for name in privileged if name not in streams)]


def _kept_table(run: Run) -> TickCache | None:
    """The very table the run was trained on, if it still lies there."""
    where = Path(run.settings["cache"]) if run.settings.get("cache") else (run.path or Path()) / "cache"
    folder = where / (run.data_hash or "")
    return TickCache.open(folder) if run.data_hash and (folder / "cache.json").is_file() else None


def check_streams(specs: dict[str, StreamSpec], config: ModelConfig, path: Path) -> None:
    """ShapeError unless recordings with ``specs`` have every stream of the model, in its unit."""
    absent = [s.name for s in config.streams if s.name not in specs]
    if absent:
        raise ShapeError(
            f"the recordings have no stream '{absent[0]}'; they have {', '.join(sorted(specs))}. This model "
            f"was trained on {', '.join(s.name for s in config.streams)}: use recordings of the same robot, "
            f"or train a new model on these. Path: {path}"
        )
    for spec in config.streams:
        if specs[spec.name].unit != spec.unit:
            raise ShapeError(
                f"stream '{spec.name}' is in [{specs[spec.name].unit}] in the recordings; this model was "
                f"trained in [{spec.unit}]. Convert the recordings (forerun data convert --unit), or train a "
                f"new model on them. Path: {path}"
            )


def check_table(cache: TickCache, config: ModelConfig) -> None:
    """ShapeError unless the table has the model's streams and action in the same shapes, units and names."""
    wanted = [*config.streams, *([config.action] if config.action else [])]
    for spec in wanted:
        found = cache.specs.get(spec.name)
        if found is None:
            raise ShapeError(
                f"the recordings have no '{spec.name}'; they have {', '.join(sorted(cache.specs))}. This "
                "model was trained with it: use recordings of the same robot, or train a new model. Path: "
                f"{cache.directory}"
            )
        differs = difference(found, spec)
        if differs:
            raise ShapeError(
                f"'{spec.name}' {differs}. Use recordings of the same robot, or train a new model. "
                f"Path: {cache.directory}"
            )
    if abs(cache.tick_s - config.tick_s) > 1e-9:
        raise ShapeError(
            f"the table has a tick of {cache.tick_s:g} s; this model was trained with {config.tick_s:g} s"
        )


def difference(found: StreamSpec, trained: StreamSpec) -> str:
    """How a stream differs from what a model was trained on, in words; empty if it does not."""
    if found.shape != trained.shape:
        return f"arrives with shape {found.shape}; this model was trained on {trained.shape}"
    if found.unit != trained.unit:
        return f"is in [{found.unit}]; this model was trained in [{trained.unit}]"
    if found.names != trained.names:
        return f"has the channels {list(found.names)}; this model was trained on {list(trained.names)}"
    return ""


def claim(out: Path, marker: str) -> None:
    """Make ``out`` for this command, or accept it if an earlier call of the same verb made it.

    Raises:
        StorageError: it holds something else, is a file, or cannot be made.
    """
    if out.exists() and not out.is_dir():
        raise StorageError(
            f"--out names a file; expected a folder to make, or one of an earlier run. Path: {out}"
        )
    if out.is_dir() and any(out.iterdir()) and not (out / marker).exists():
        held = ", ".join(sorted(p.name for p in out.iterdir())[:5])
        raise StorageError(
            f"--out holds other things ({held}) and no {marker}; nothing is overwritten. Choose a folder "
            f"that does not exist. Path: {out}"
        )
    make_folder(out)


def make_folder(path: Path) -> None:
    """Make a folder and those above it; StorageError if that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise StorageError(
            f"the folder '{path.name}' cannot be made: {cause.strerror or cause}. Free some space, or choose "
            f"a place that may be written with --out. Path: {path}"
        ) from cause


@contextmanager
def making(path: Path) -> Iterator[None]:
    """Make a folder for what is to come, and remove it again if nothing came.

    Raises:
        StorageError: it cannot be made.
    """
    new = not path.exists()
    make_folder(path)
    try:
        yield
    finally:
        if new:
            with suppress(OSError):  # something came
                path.rmdir()


def trained_on(run: Run, cache: TickCache) -> np.ndarray:
    """Episodes of ``cache`` whose content the model was trained on, whatever set they now belong to."""
    if run.data_hash == cache.hash:
        return run.train_episodes
    known = [i for i, episode in enumerate(cache.episodes) if episode["hash"] in run.train_hashes]
    return np.asarray(known, dtype=np.int64)


def known_episodes(run: Run, cache: TickCache, chosen: Sequence[int] = ()) -> tuple[np.ndarray, str]:
    """Episodes to test on, and what to call them: never one the model was trained on, unless ``chosen``.

    Raises:
        DataError: an episode does not exist, or the model was trained on all there are.
    """
    trained = trained_on(run, cache)
    if chosen:
        wrong = [i for i in chosen if not 0 <= i < cache.num_episodes]
        if wrong:
            raise DataError(
                f"there is no episode {wrong[0]}; the recordings have 0 to {cache.num_episodes - 1}"
            )
        seen = set(chosen) & set(trained.tolist())
        note = f" ({len(seen)} of them trained on)" if seen else ""
        return np.asarray(chosen, dtype=np.int64), f"chosen episodes{note}"
    unseen = np.setdiff1d(np.arange(cache.num_episodes), trained)
    if not len(unseen):
        raise DataError(
            f"the model was trained on all {cache.num_episodes} episodes of these recordings, so there is "
            "none it has not seen; name some with --episode, or other recordings with --data"
        )
    if run.data_hash == cache.hash:
        return unseen, "held-out episodes"
    if len(trained):
        return unseen, f"episodes the model was not trained on; {len(trained)} others left out"
    if not run.train_hashes:
        return unseen, "episodes of another set; this model does not say what it was trained on"
    return unseen, "episodes of a set the model was not trained on"
