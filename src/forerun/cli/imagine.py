"""``forerun imagine``: show what the model expects beside what happened, as films and one page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from tyro.conf import Positional

from forerun.checkpoint import write_text
from forerun.cli.data import progress_bar
from forerun.cli.options import MaybeInt, MaybeName, MaybePath, Numbers
from forerun.cli.runs import CONTEXT, Run, known_episodes, open_run, set_threads, table_of, trained_on
from forerun.cli.tables import prediction_table
from forerun.data.cache import TickCache
from forerun.evaluation.clips import imagined_clips
from forerun.evaluation.errors import CHANGED_PIXELS, COPY, LATENTS, MEAN, MODEL, NEAREST, Prediction
from forerun.evaluation.prediction import longest_horizon, predict
from forerun.evaluation.report import ErrorCurve, imagination_page
from forerun.types import ConfigError, DataError, StorageError


@dataclass(frozen=True, kw_only=True)
class Imagine:
    """Show what a model imagines beside what happened, with the error over time.

    The model sees a few ticks of an episode it was not trained on, then imagines what the recorded actions
    lead to. Its error stands beside those of copying the last picture, of the nearest recording, and of any
    picture.

    Example: forerun imagine runs/first --seconds 2
    """

    model: Positional[Path]
    """A run of forerun train, or the model inside it."""
    data: MaybePath = None
    """Recordings to compare with; by default those of the run, held-out episodes only."""
    episode: Numbers = ()
    """Which episodes, by number; by default all held-out ones."""
    seconds: float = 2.0
    """How far to imagine."""
    context: int = CONTEXT
    """Ticks shown to the model before it imagines."""
    clips: int = 4
    """How many stretches to film; the errors come from up to 256 others as well."""
    camera: MaybeName = None
    """Which video stream to film, if there are several; the first by default."""
    out: MaybePath = None
    """Folder of the page; it must not exist. RUN/imagined by default, or the next free number."""
    threads: MaybeInt = None
    """Of torch; by default both of two cores, or fewer if OMP_NUM_THREADS says so."""

    def __post_init__(self) -> None:
        if not self.seconds > 0 or self.context < 1 or self.clips < 1:
            raise ConfigError(
                f"--seconds {self.seconds:g}, --context {self.context}, --clips {self.clips}: seconds must "
                "be above 0, the others at least 1"
            )

    def __call__(self) -> int:
        console = Console()
        set_threads(self.threads)
        run = open_run(self.model)
        self._check_camera(run)
        out = self.out or free_name((run.path or run.model_path.parent) / "imagined")
        if out.exists():
            raise StorageError(
                f"--out exists already and is not overwritten; choose another name. Path: {out}"
            )
        cache = table_of(run, self.data)
        episodes, what = known_episodes(run, cache, self.episode)
        horizon, note = self._horizon(cache, episodes)
        if note:
            console.print(note, highlight=False)
        found = self._measured(run, cache, episodes, horizon)
        console.print(prediction_table(found, what, console.width))
        page = self._show(run, cache, episodes, what, found, out)
        if page is not None:
            console.print(f"\nOpen {page}", highlight=False)
        return 0

    def _check_camera(self, run: Run) -> None:
        cameras = [s.name for s in run.config.video]
        if self.camera is not None and self.camera not in cameras:
            raise ConfigError(
                f"--camera {self.camera} is none of this model's: {', '.join(cameras) or 'it has none'}"
            )

    def _horizon(self, cache: TickCache, episodes: np.ndarray) -> tuple[int, str]:
        """Ticks to imagine: what was asked for, or as far as the longest episode goes."""
        wanted = max(1, round(self.seconds / cache.tick_s))
        longest = longest_horizon(cache, episodes, self.context)
        if longest < 1:
            raise DataError(
                f"the longest of these {len(episodes)} episodes has {longest + self.context} ticks of "
                f"{cache.tick_s:g} s; the context alone takes {self.context}, and one more must follow. Give "
                "a shorter --context, or longer recordings"
            )
        if longest >= wanted:
            return wanted, ""
        return (
            longest,
            f"no episode is long enough for {self.seconds:g} s: {longest * cache.tick_s:.2g} s instead",
        )

    def _measured(self, run: Run, cache: TickCache, episodes: np.ndarray, horizon: int) -> Prediction:
        with progress_bar("imagining") as update:
            return predict(
                run.model,
                cache,
                episodes,
                train_episodes=trained_on(run, cache),
                horizon=horizon,
                context=self.context,
                progress=update,
            )

    def _show(
        self, run: Run, cache: TickCache, episodes: np.ndarray, what: str, found: Prediction, out: Path
    ) -> Path | None:
        """Write the page, its films and the figures; a model without a camera has figures only."""
        write_text(out / "prediction.json", json.dumps(found.to_json()))
        if not run.config.video:
            return None
        page = out / "index.html"
        return write_page(page, run, cache, episodes, what, found, count=self.clips, camera=self.camera)


def write_page(
    path: Path,
    run: Run,
    cache: TickCache,
    episodes: np.ndarray,
    what: str,
    found: Prediction,
    *,
    count: int = 4,
    camera: str | None = None,
    **more: Any,
) -> Path:
    """Real pictures, imagined ones and their difference as films, with the errors ``found``, as one page.

    ``more`` is of training and planning, as `imagination_page` takes it.
    """
    clips = imagined_clips(
        run.model, cache, episodes, horizon=found.horizon, context=found.context, count=count, camera=camera
    )
    title = f"What {run.name} imagines"
    about, curve = facts(run, found, what), error_curve(found)
    return imagination_page(path, title=title, clips=clips, curve=curve, facts=about, **more)[0]


def free_name(path: Path) -> Path:
    """``path``, or the first of ``path``-2, -3, ... that does not exist."""
    number, name = 2, path
    while name.exists():
        name, number = path.with_name(f"{path.name}-{number}"), number + 1
    return name


def error_curve(found: Prediction, quantity: str | None = None) -> ErrorCurve:
    """The error over the horizon for a page: of changed pixels, or of latents where there is no picture."""
    quantity = quantity or (CHANGED_PIXELS if CHANGED_PIXELS in found.quantities else LATENTS)
    has_library = NEAREST in found.methods(quantity)
    return ErrorCurve(
        seconds=found.seconds,
        model=found.curve(quantity, MODEL),
        copy_last=found.curve(quantity, COPY),
        nearest=found.curve(quantity, NEAREST) if has_library else None,
        mean=found.curve(quantity, MEAN) if MEAN in found.methods(quantity) else None,
        n=found.num_clips,
        unit=f"mean squared error, {quantity}" + ("" if quantity == LATENTS else ", 0 to 1"),
    )


def facts(run: Run, found: Prediction, what: str) -> dict[str, str]:
    """What a reader of the page wants to know about model and clips."""
    parts = run.model.num_parameters()
    shuffled = found.shuffled_ratio()
    millions = sum(parts.values()) / 1e6
    rows = {
        "model": f"{run.name}, size {run.config.size_name}, {millions:.1f} million parameters",
        "streams": ", ".join(s.name for s in run.config.streams),
        "tick": f"{run.config.tick_s:g} s",
        "clips": f"{found.num_clips} from {len(found.episodes)} {what}",
        "shown before": f"{found.context} ticks",
    }
    if shuffled is not None:
        rows["error with another clip's actions"] = f"{shuffled.estimate:.2f} times as large"
    return rows
