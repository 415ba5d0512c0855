"""``forerun train``: learn a world model from recordings, in stages that can be stopped anywhere."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from forerun.checkpoint import read_json, write_text
from forerun.cli.budget import steps_for
from forerun.cli.data import progress_bar
from forerun.cli.imagine import write_page
from forerun.cli.options import MaybeFloat, MaybeInt, MaybePath, Names
from forerun.cli.runs import (
    CONTEXT,
    SETTINGS,
    Run,
    chosen_streams,
    claim,
    make_folder,
    open_run,
    set_threads,
)
from forerun.cli.tables import prediction_table
from forerun.data import open_recordings
from forerun.data.cache import GIB, TickCache, build_cache
from forerun.data.contact_sheet import contact_sheet
from forerun.data.episode import Recordings
from forerun.data.window import split_episodes
from forerun.encoders.video import GRID
from forerun.evaluation.clips import imagined_clips, redrawn_clips, stacked
from forerun.evaluation.demo import losses
from forerun.evaluation.errors import Prediction
from forerun.evaluation.first_action import FirstActions, first_actions
from forerun.evaluation.prediction import longest_horizon, predict
from forerun.evaluation.strips import write_clip_film
from forerun.teach import STAGES, Recipe, teach
from forerun.types import ConfigError, DataError, Error
from forerun.world_model import WorldModel

_FREE = ("data", "out", "cache", "cache_gb", "threads")
"""May differ when a run is resumed: they say where things lie and how fast they go, not what is learned."""

DRAWING = ("representation", "dynamics")
"""Stages that change what the model draws, and are filmed."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Learn a world model from recordings, and show what it imagines; the same command again resumes.

    On the way it films held-out episodes, real beside drawn, into RUN/videos: every 500 steps and at the end
    of a stage, pictures redrawn in the first stage and futures imagined in the second. Later stages change
    nothing that is drawn.

    Example: forerun train recordings/ --out runs/first
    """

    data: Path
    """Recordings in any format that forerun data inspect opens."""
    out: MaybePath = None
    """Folder of this run; it is made. By default runs/ and the name of the recordings."""
    size: Literal["xs", "s", "m", "l", "xl"] = "xs"
    """The one dial of the architecture; xs is for a laptop CPU."""
    tick: float = 0.1
    """Seconds between two ticks of the world model."""
    image_size: int = 64
    """Pictures become so many pixels wide and high: 32, 48, 64 and so on."""
    budget: float = 1.0
    """How long to train: multiplies the steps of the recipe."""
    minutes: MaybeFloat = None
    """How long to train, in minutes on this machine: a short timing picks the steps, kept with the run."""
    streams: Names = ()
    """Streams to learn from, actions included; all by default."""
    holdout: float = 0.1
    """Share of episodes that is never trained on, to measure honestly."""
    seed: int = 0
    """Of everything that is drawn."""
    cache: MaybePath = None
    """Where the decoded recordings go; RUN/cache by default."""
    cache_gb: float = 8.0
    """Refuse to decode into more than this, in GiB."""
    threads: MaybeInt = None
    """Of torch; by default both of two cores, or fewer if OMP_NUM_THREADS says so."""

    def __post_init__(self) -> None:
        lengths = {"--budget": self.budget, "--minutes": self.minutes, "--cache-gb": self.cache_gb}
        for name, value in lengths.items():
            if value is not None and not (isfinite(value) and value > 0):
                raise ConfigError(f"{name} is {value:g}; it must be a finite number above 0")
        if self.minutes is not None and self.budget != 1.0:
            raise ConfigError("--budget and --minutes both say how long to train; give one of them")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"--threads is {self.threads}; it must be at least 1")
        self._check_shapes()

    def _check_shapes(self) -> None:
        """Say before hours of decoding what the model or the split would refuse after."""
        if not 0 < self.tick <= 10:
            raise ConfigError(f"--tick is {self.tick:g}; it must be above 0 and at most 10 seconds")
        if not 0 <= self.holdout < 1:
            raise ConfigError(
                f"--holdout is {self.holdout:g}; it must be at least 0 and below 1, for example 0.1"
            )
        if self.image_size % GRID or not 2 * GRID <= self.image_size <= 2048:
            raise ConfigError(
                f"--image-size is {self.image_size}; it must be a multiple of {GRID} from {2 * GRID} up to "
                "2048, for example 64"
            )
        if self.seed < 0:
            raise ConfigError(f"--seed is {self.seed}; it must be 0 or above")

    def __call__(self) -> int:
        console = Console()
        recordings, run = open_recordings(self.data), self.run
        if run.resolve().is_relative_to(self.data.resolve()):
            raise ConfigError(
                "the run would lie inside the recordings and change what they hold; choose another --out. "
                f"Path: {run}"
            )
        fresh = not run.exists()
        claim(run, SETTINGS)
        settings = self.settled()
        set_threads(self.threads)
        try:
            cache = self.table(recordings)
        except Error:
            if fresh:
                shutil.rmtree(run)  # nothing was learned: a mistake leaves no run behind
            raise
        if (run / "model").is_dir():
            self._check_recordings(cache)
            console.print(f"This run is finished; for a new one choose another --out than {run}")
        else:
            train_model(cache, run, self.recipe(cache, settings))
        self.report(console, measured(run, cache), pictured(run, cache, recordings))
        return 0

    def _check_recordings(self, cache: TickCache) -> None:
        """ConfigError if the finished run is of other recordings; teach() refuses to continue such a one."""
        trained = open_run(self.run).data_hash
        if trained not in (None, cache.hash):
            raise ConfigError(
                f"the finished run '{self.run.name}' was trained on other recordings than --data holds; to "
                "train on these, choose another --out. To look at them with the model there is, run: forerun "
                f"imagine {self.run} --data {self.data}"
            )

    @property
    def run(self) -> Path:
        """Folder of this run."""
        if self.out is not None:
            return self.out
        data = self.data.resolve()
        return Path("runs") / ((data.stem if data.is_file() else data.name) or "recordings")

    def settled(self) -> dict[str, Any]:
        """The settings of this run, written at its start and unchanged once a stage has begun.

        Raises:
            ConfigError: an earlier call had others.
        """
        wanted = {f.name: getattr(self, f.name) for f in fields(self)}
        wanted |= {
            "data": str(self.data.resolve()),
            "out": self.run.name,
            "cache": str(self.cache.resolve()) if self.cache else None,
            "streams": list(self.streams),
        }
        path = self.run / SETTINGS
        begun = any((self.run / stage).is_dir() for stage in STAGES)
        if not path.is_file() or not begun:
            write_text(path, json.dumps(wanted, indent=1))
            return wanted
        before = read_json(path)
        changed = [
            f"--{name.replace('_', '-')} was {before.get(name)}, is {value}"
            for name, value in wanted.items()
            if name not in _FREE and before.get(name) != value
        ]
        if changed:
            raise ConfigError(
                f"--out holds a run with other settings: {'; '.join(changed)}. Give the same settings to "
                f"resume it, or another --out for a new run. Path: {self.run}"
            )
        return {**wanted, "steps": before.get("steps")}

    def table(self, recordings: Recordings) -> TickCache:
        """The recordings as a table of ticks, decoded once."""
        with progress_bar("decoding") as update:
            return build_cache(
                recordings,
                self.cache or self.run / "cache",
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
            write_text(self.run / SETTINGS, json.dumps({**settings, "steps": steps}, indent=1))
        return replace(recipe, **{s: replace(getattr(recipe, s), steps=steps[s]) for s in STAGES})

    def report(self, console: Console, prediction: Prediction | None, page: Path | None) -> None:
        """What the run learned, where it lies, what to do next."""
        if prediction is None:
            console.print("No episode was held out (--holdout 0), so nothing can be measured honestly.")
        else:
            console.print(prediction_table(prediction, width=console.width))
        lines = {"model": self.run / "model", "videos": self.run / "videos", "report": page}
        console.print()
        for name, path in lines.items():
            if path is not None and path.exists():
                console.print(f"{name:<8}{path}", highlight=False, soft_wrap=True)
        first = "" if page is None else "open the report in a browser; then look further ahead with\n        "
        further = "--data OTHER_RECORDINGS" if prediction is None else "--seconds 3"
        console.print(f"next    {first}forerun imagine {self.run} {further}", highlight=False, soft_wrap=True)


def train_model(cache: TickCache, run: Path, recipe: Recipe, console: Console | None = None) -> WorldModel:
    """Teach a model, and film at its checkpoints what it redraws, then what it imagines; see `DRAWING`."""
    _, held_out = split_episodes(cache, recipe.holdout, recipe.seed)
    horizon = min(longest_horizon(cache, held_out, CONTEXT), round(2.0 / cache.tick_s))

    def film(model: WorldModel, stage: str, step: int) -> None:
        path = run / "videos" / f"{stage}-{step:06d}.mp4"
        if stage not in DRAWING or path.exists() or horizon < 1 or not model.config.video:
            return
        make_folder(path.parent)
        if stage == "representation":
            clips = redrawn_clips(model, cache, held_out, ticks=CONTEXT + horizon, count=3)
        else:
            clips = imagined_clips(model, cache, held_out, horizon=horizon, context=CONTEXT, count=3)
        write_clip_film(path, stacked(clips))

    return teach(cache, run, recipe, on_save=film, console=console)


def measured(run: Path, cache: TickCache, seconds: float = 1.0) -> Prediction | None:
    """Held-out errors up to ``seconds`` ahead, kept as prediction.json; None if no episode was held out."""
    path = run / "prediction.json"
    if path.is_file():
        return Prediction.from_json(read_json(path))
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


def pictured(run: Path, cache: TickCache, recordings: Recordings) -> Path | None:
    """RUN/report.html: recordings, training, imagination and planning; None without held-out pictures."""
    done, page = open_run(run), run / "report.html"
    if page.is_file():
        return page
    if not len(done.held_out) or not done.config.video:
        return None
    for left in run.glob(f"{page.stem}-clip-*.mp4"):
        left.unlink()  # of a page that was interrupted before it was there
    found = Prediction.from_json(read_json(run / "prediction.json"))
    sheet = run / "recordings.png"
    if not sheet.is_file():
        contact_sheet(recordings, sheet)
    return write_page(
        page,
        done,
        cache,
        done.held_out,
        "held-out episodes",
        found,
        sheet=sheet,
        learned=losses(run),
        planned=planned(done, cache, found.horizon),
    )


def planned(run: Run, cache: TickCache, ticks: int) -> FirstActions | str:
    """Actions towards pictures ``ticks`` ahead beside the recorded ones, or why there are none."""
    if run.config.action is None:
        return "The recordings hold no actions, so the model can imagine but not plan; nothing is compared."
    with progress_bar("planning") as update:
        found = first_actions(
            run.model,
            cache,
            run.held_out,
            train_episodes=run.train_episodes,
            ticks=ticks,
            context=CONTEXT,
            progress=update,
        )
    if found is None:
        return "The recorded actions never change, so nothing can be told apart; nothing is compared."
    assert run.path is not None
    write_text(run.path / "planning.json", json.dumps(found.to_json()))
    return found
