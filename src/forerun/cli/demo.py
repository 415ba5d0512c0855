"""``forerun demo``: record, train, imagine and plan in one go, with a report at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from forerun.checkpoint import read_json, write_text
from forerun.cli.imagine import error_curve
from forerun.cli.protocol import asked_for, attempt_goals, clone_floor, play_table, settle, trials_sentence
from forerun.cli.runs import open_run
from forerun.cli.tables import prediction_table, success_table
from forerun.cli.train import measured, set_threads, train_model
from forerun.data import open_recordings
from forerun.data.cache import TickCache
from forerun.data.contact_sheet import contact_sheet
from forerun.evaluation.clips import imagined_clips
from forerun.evaluation.contest import read_films
from forerun.evaluation.demo import DemoPlan, write_report
from forerun.evaluation.errors import Prediction
from forerun.evaluation.results import write_result
from forerun.evaluation.tally import Tally
from forerun.types import ConfigError

PLAN = "demo.json"


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Record a simulated robot at play, train a world model, imagine, plan, and report.

    About ten minutes on two cores. Stopped anywhere, the same command continues.

    Example: forerun demo --out demo
    """

    out: Path = Path("demo")
    """Folder for everything; open report.html in it at the end."""
    quick: bool = False
    """Everything tiny, a minute or two: to see that it works, not how well."""
    seed: int = 0
    """Of everything that is drawn."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"--seed is {self.seed}; it must be 0 or above")

    def __call__(self) -> int:
        console = Console()
        plan = DemoPlan().seeded(self.seed)
        plan = plan.quick() if self.quick else plan
        report = self.out / "report.html"
        settle(self.out, PLAN, {"quick": self.quick, "seed": self.seed, "plan": asdict(plan)})
        set_threads(None)
        with self._part("record", f"recording {plan.episodes} episodes of a robot at play", console):
            cache = self._record(plan)
        with self._part("train", "training the world model", console):
            self._train(plan, cache)
        with self._part("floor", "training a cloned policy, to compare with", console):
            clone_floor(plan, cache, self.out / "run")
        with self._part("imagine", "imagining held-out episodes", console):
            found = self._imagine(plan, cache)
        console.print(prediction_table(found, width=console.width))
        with self._part("plan", f"reaching {plan.trials} goals, with floors beside the planner", console):
            tallies = attempt_goals(plan, cache, self.out / "run", self.out / "trials")
        console.print(success_table(tallies, 1 / plan.tick_s, trials_sentence(plan)))
        self._keep(plan, cache, tallies)
        if not report.is_file():
            self._report(plan, cache, found, tallies, report)
        seconds = self._seconds()
        took = ", ".join(f"{part} {s:.0f} s" for part, s in seconds.items())
        console.print(f"{sum(seconds.values()) / 60:.1f} minutes: {took}\n", highlight=False)
        console.print(f"Open {report}", highlight=False)
        return 0

    @contextmanager
    def _part(self, name: str, about: str, console: Console) -> Iterator[None]:
        """Say what begins, and add the time it took to what earlier calls spent on it."""
        console.print(f"[bold]{name}[/]  {about}")
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = self._seconds()
            if not (self.out / "report.html").is_file():
                seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began
                write_text(self.out / "seconds.json", json.dumps(seconds))
        console.print(f"[dim]{name} took {seconds[name]:.0f} s[/]", highlight=False)

    def _seconds(self) -> dict[str, float]:
        path = self.out / "seconds.json"
        return read_json(path) if path.is_file() else {}

    def _record(self, plan: DemoPlan) -> TickCache:
        """The table of ticks, and a contact sheet of the recordings."""
        cache = play_table(plan, self.out, seed=self.seed)
        if not (self.out / "recordings.png").is_file():
            contact_sheet(open_recordings(self.out / "recordings"), self.out / "recordings.png")
        return cache

    def _train(self, plan: DemoPlan, cache: TickCache) -> None:
        if not (self.out / "run" / "model").is_dir():
            train_model(cache, self.out / "run", plan.recipe)

    def _imagine(self, plan: DemoPlan, cache: TickCache) -> Prediction:
        found = measured(self.out / "run", cache, plan.imagine_s)
        assert found is not None, "the demo always holds episodes out"
        return found

    def _report(
        self, plan: DemoPlan, cache: TickCache, found: Prediction, tallies: list[Tally], path: Path
    ) -> None:
        run = open_run(self.out / "run")
        clips = imagined_clips(
            run.model, cache, run.held_out, horizon=found.horizon, context=found.context, count=3
        )
        for left in self.out.glob(f"{path.stem}-*.mp4"):
            left.unlink()  # of a report that was interrupted before its page was there
        write_report(
            path,
            plan=plan,
            run=self.out / "run",
            sheet=self.out / "recordings.png",
            seconds=self._seconds(),
            clips=clips,
            curve=error_curve(found),
            tallies=tallies,
            films=read_films(self.out / "trials"),
            seed=self.seed,
        )

    def _keep(self, plan: DemoPlan, cache: TickCache, tallies: list[Tally]) -> None:
        """The figures as JSON, once, and before the page: what a kill then costs can be made again."""
        folder = self.out / "results"
        if any(folder.glob("*.json")):
            return
        write_result(
            "demo-quick" if self.quick else "demo",
            {
                **{t.name: t.to_json() for t in tallies},
                "training_minutes": self._seconds()["train"] / 60,
                "minutes": {part: seconds / 60 for part, seconds in self._seconds().items()},
            },
            settings=asked_for(plan, self.out / "run"),
            seed=self.seed,
            n=plan.trials,
            data_hash=cache.hash,
            folder=folder,
        )
