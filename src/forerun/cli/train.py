"""``forerun train``: learn a world model from recordings, in stages that can be stopped anywhere."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from forerun.checkpoint import write_text
from forerun.cli.budget import steps_for
from forerun.cli.data import progress_bar
from forerun.cli.runs import SETTINGS, chosen_streams, claim, make_folder, open_run
from forerun.cli.tables import prediction_table
from forerun.data import open_recordings
from forerun.data.cache import GIB, TickCache, build_cache
from forerun.data.episode import Recordings
from forerun.data.window import split_episodes
from forerun.evaluation.clips import imagined_clips, stacked
from forerun.evaluation.errors import Prediction
from forerun.evaluation.prediction import longest_horizon, predict
from forerun.evaluation.strips import write_clip_film
from forerun.teach import STAGES, Recipe, teach
from forerun.types import ConfigError, DataError
from forerun.world_model import WorldModel

CONTEXT = 3
"""Ticks shown to the model before it imagines."""
_FREE = ("data", "out", "cache", "cache_gb", "threads")
"""May differ when a run is resumed: they change where things lie and how fast they go, not what is "
"learned."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Learn a world model from recordings; the same command again resumes.

    Example: forerun train --data recordings/ --out runs/first
    """

    data: Path
    """Recordings in any format that forerun data inspect opens."""
    out: Path
    """Folder of this run; it is made."""
    size: Literal["xs", "s", "m", "l", "xl"] = "xs"
    """The one dial of the architecture; xs is for a laptop CPU."""
    tick: float = 0.1
    """Seconds between two ticks of the world model."""
    image_size: int = 64
    """Pictures become so many pixels wide and high."""
    budget: float = 1.0
    """How long to train: multiplies the steps of the recipe."""
    minutes: float | None = None
    """How long to train, in minutes on this machine: a short timing picks the steps, which the run "
    "remembers."""
    streams: tuple[str, ...] = ()
    """Streams to learn from, actions included; all by default."""
    holdout: float = 0.1
    """Share of episodes that is never trained on, to measure honestly."""
    seed: int = 0
    """Of everything that is drawn."""
    cache: Path | None = None
    """Where the decoded recordings go; RUN/cache by default."""
    cache_gb: float = 8.0
    """Refuse to decode into more than this, in GiB."""
    threads: int | None = None
    """Of torch; by default both of two cores, or fewer if OMP_NUM_THREADS says so."""

    def __post_init__(self) -> None:
        if self.budget <= 0 or (self.minutes is not None and self.minutes <= 0) or self.cache_gb <= 0:
            raise ConfigError(
                f"--budget {self.budget:g}, --minutes {self.minutes}, --cache-gb {self.cache_gb:g}: each "
                "must be above 0"
            )
        if self.minutes is not None and self.budget != 1.0:
            raise ConfigError("--budget and --minutes both say how long to train; give one of them")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"--threads is {self.threads}; it must be at least 1")

    def __call__(self) -> int:
        console = Console()
        recordings = open_recordings(self.data)
        claim(self.out, SETTINGS)
        settings = self.settled()
        set_threads(self.threads)
        cache = self.table(recordings)
        if (self.out / "model").is_dir():
            console.print(f"This run is finished; for a new one choose another --out than {self.out}")
        else:
            train_model(cache, self.out, self.recipe(cache, settings))
        self.report(console, measured(self.out, cache))
        return 0

    def settled(self) -> dict[str, Any]:
        """The settings of this run, written at its start and unchanged once a stage has begun.

        Raises:
            ConfigError: an earlier call had others.
        """
        wanted = {f.name: getattr(self, f.name) for f in fields(self)}
        wanted |= {
            "data": str(self.data.resolve()),
            "out": self.out.name,
            "cache": str(self.cache.resolve()) if self.cache else None,
            "streams": list(self.streams),
        }
        path = self.out / SETTINGS
        begun = any((self.out / stage).is_dir() for stage in STAGES)
        if not path.is_file() or not begun:
            write_text(path, json.dumps(wanted, indent=1))
            return wanted
        before = json.loads(path.read_text())
        changed = [
            f"--{name.replace('_', '-')} was {before.get(name)}, is {value}"
            for name, value in wanted.items()
            if name not in _FREE and before.get(name) != value
        ]
        if changed:
            raise ConfigError(
                f"--out holds a run with other settings: {'; '.join(changed)}. Give the same settings to "
                f"resume it, or another --out for a new run. Path: {self.out}"
            )
        return {**wanted, "steps": before.get("steps")}

    def table(self, recordings: Recordings) -> TickCache:
        """The recordings as a table of ticks, decoded once."""
        with progress_bar("decoding") as update:
            return build_cache(
                recordings,
                self.cache or self.out / "cache",
                tick_s=self.tick,
                image_size=self.image_size,
                streams=chosen_streams(recordings, self.streams),
                byte_budget=round(self.cache_gb * GIB),
                progress=update,
            )

    def recipe(self, cache: TickCache, settings: dict[str, Any]) -> Recipe:
        """What to do, in steps; with --minutes the steps are timed once and kept with the settings."""
        recipe = Recipe(size=self.size, holdout=self.holdout, seed=self.seed)
        if self.minutes is None:
            return recipe.scaled(self.budget)
        steps = settings.get("steps")
        if steps is None:
            steps = steps_for(cache, recipe, self.minutes)
            write_text(self.out / SETTINGS, json.dumps({**settings, "steps": steps}, indent=1))
        return replace(recipe, **{s: replace(getattr(recipe, s), steps=steps[s]) for s in STAGES})

    def report(self, console: Console, prediction: Prediction | None) -> None:
        """What the run learned, where it lies, what to do next."""
        if prediction is None:
            console.print("No episode was held out (--holdout 0), so nothing can be measured honestly.")
        else:
            console.print(prediction_table(prediction, width=console.width))
        console.print(f"\nmodel   {self.out / 'model'}", highlight=False)
        if (self.out / "videos").is_dir():
            console.print(f"videos  {self.out / 'videos'}", highlight=False)
        unseen = "" if prediction is not None else " --data OTHER_RECORDINGS"
        console.print(f"next    forerun imagine {self.out}{unseen}", highlight=False)


def set_threads(threads: int | None) -> None:
    """Use so many cores: by default two, which pays for small models, or what OMP_NUM_THREADS says."""
    torch.set_num_threads(threads or min(2, torch.get_num_threads()))


def train_model(cache: TickCache, run: Path, recipe: Recipe, console: Console | None = None) -> WorldModel:
    """Teach a model, and film what it imagines at every checkpoint of its dynamics."""
    _, held_out = split_episodes(cache, recipe.holdout, recipe.seed)

    def film(model: WorldModel, stage: str, step: int) -> None:
        path = run / "videos" / f"dynamics-{step:06d}.mp4"
        if stage != "dynamics" or path.exists() or not len(held_out) or not model.config.video:
            return
        horizon = min(longest_horizon(cache, held_out, CONTEXT), round(2.0 / cache.tick_s))
        if horizon < 1:
            return
        make_folder(path.parent)
        clips = imagined_clips(model, cache, held_out, horizon=horizon, context=CONTEXT, count=3)
        write_clip_film(path, stacked(clips))

    return teach(cache, run, recipe, on_save=film, console=console)


def measured(run: Path, cache: TickCache, seconds: float = 1.0) -> Prediction | None:
    """Held-out errors up to ``seconds`` ahead, kept as prediction.json; None if no episode was held out."""
    path = run / "prediction.json"
    if path.is_file():
        return Prediction.from_json(json.loads(path.read_text()))
    done = open_run(run)
    if not len(done.held_out):
        return None
    horizon = min(longest_horizon(cache, done.held_out, CONTEXT), max(1, round(seconds / cache.tick_s)))
    if horizon < 1:
        raise DataError(
            f"the held-out episodes are shorter than {CONTEXT + 1} ticks of {cache.tick_s:g} s, so nothing "
            f"can be measured; the model is there. Record longer episodes. Path: {run / 'model'}"
        )
    with progress_bar("measuring") as update:
        found = predict(
            done.model,
            cache,
            done.held_out,
            train_episodes=done.train_episodes,
            horizon=horizon,
            context=CONTEXT,
            progress=update,
        )
    write_text(path, json.dumps(found.to_json()))
    return found
