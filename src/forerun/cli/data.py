"""``forerun data``: look at recordings, examine and mend them, convert them, record new ones."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium
import numpy as np
import tyro
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text
from tyro.conf import Positional

from forerun.cli.options import MaybeFloat, MaybeInt, MaybePath, Names
from forerun.data import convert as converting
from forerun.data import open_recordings
from forerun.data.doctor import examine
from forerun.data.episode import Episode
from forerun.data.findings import SEVERITIES, Finding, Report
from forerun.data.inspect import summary
from forerun.data.lerobot_writer import write_lerobot
from forerun.data.record import Policy, record
from forerun.data.repair import fix
from forerun.data.spaces import space_notes
from forerun.data.tables import first_line
from forerun.types import ConfigError

DataPolicy = Literal["expert", "noisy", "weak", "random", "uniform"]
DATA, OUT = tyro.conf.arg(metavar="DATA"), tyro.conf.arg(metavar="OUT")
COLOURS = {"fault": "bold red", "warning": "yellow", "note": "dim"}


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """Say what a data set holds: streams, units, rates, gaps, lengths.

    Example: forerun data inspect recordings/ --sheet recordings.png
    """

    path: Positional[Annotated[Path, DATA]]
    """Folder or file: LeRobot v3.0 or v2.1, RLDS, HDF5, video, or a folder with a forerun.json."""
    sheet: MaybePath = None
    """Also write a contact sheet, a PNG with a few episodes over time (curves where there is no video)."""
    episodes: int = 4
    """Episodes on the contact sheet."""
    manifest: MaybePath = None
    """A forerun.json that describes the folder and lies elsewhere."""

    def __call__(self) -> int:
        if self.episodes < 1:
            raise ConfigError(
                f"--episodes {self.episodes} leaves nothing to draw; expected at least 1 episode on the "
                "contact sheet. Give a larger --episodes, or leave it out"
            )
        recordings = open_recordings(self.path, manifest=self.manifest)
        console = Console()
        console.print(summary(recordings))
        if self.sheet is not None:
            from forerun.data.contact_sheet import (
                contact_sheet,
            )  # half a second of matplotlib, only if wanted

            contact_sheet(recordings, self.sheet, episodes=self.episodes)
            console.print(f"contact sheet: {self.sheet}", highlight=False)
        return 0


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Look for faults before a model learns them; the exit code is 1 if there are any.

    Example: forerun data doctor recordings/ --fix recordings-mended/
    """

    path: Positional[Annotated[Path, DATA]]
    """The data set; it is only read."""
    fix: MaybePath = None
    """Write a repaired copy to this new folder; the exit code then speaks of the copy."""
    full: bool = False
    """Read every episode and decode every frame, not a sample."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print the findings as JSON."""

    def __call__(self) -> int:
        console = Console()
        with progress_bar("examining") as update:
            report = examine(self.path, full=self.full, progress=update)
        if self.as_json:
            print(json.dumps(report.to_json(), indent=1))
        else:
            print_report(report, console)
        if self.fix is None:
            return 0 if report.sound else 1
        with progress_bar("mending") as update:
            said = fix(self.path, self.fix, report=report, progress=update)
        mended = examine(self.fix, full=self.full)
        for line in [] if self.as_json else said:
            console.print(f"  {line}", highlight=False)
        if not self.as_json:
            console.print(f"\nThe copy has {_counts(mended)}: {self.fix}", highlight=False)
        return 0 if mended.sound else 1


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Rewrite a data set of any format as a LeRobot v3.0 folder; faster streams keep their own clocks.

    With --to mcap every episode becomes an MCAP file instead, for Foxglove and ROS tools; nothing is lost.

    Example: forerun data convert recordings/ lerobot/ --unit observation.state=rad action=rad
    """

    path: Positional[Annotated[Path, DATA]]
    """The data set; it is only read."""
    out: Positional[Annotated[Path, OUT]]
    """The folder to make; it must not exist."""
    to: Literal["lerobot", "mcap"] = "lerobot"
    """What to write."""
    fps: MaybeFloat = None
    """Rate of the common clock in Hz; by default that of the first action, else video, stream."""
    streams: Names = ()
    """Streams to keep; all by default."""
    unit: Names = ()
    """Units the source does not state, as STREAM=UNIT."""
    codec: str = "libx264"
    """Video encoder: libx264 plays everywhere, libsvtav1 is smaller and slower."""
    crf: MaybeInt = None
    """Video quality, lower is better; 23 by default, 12 for pictures of at most 128 pixels."""
    manifest: MaybePath = None
    """A forerun.json that describes the folder and lies elsewhere."""

    def __call__(self) -> int:
        recordings = open_recordings(self.path, manifest=self.manifest)
        chosen: dict[str, Any] = {"streams": self.streams or None, "units": parse_units(self.unit)}
        with progress_bar("converting") as update:
            if self.to == "mcap":
                converting.convert_to_mcap(recordings, self.out, **chosen, progress=update)
            else:
                coding: dict[str, Any] = {"fps": self.fps, "codec": self.codec, "crf": self.crf}
                converting.convert(recordings, self.out, **chosen, **coding, progress=update)
        _written(len(recordings), self.out)
        return 0


@dataclass(frozen=True, kw_only=True)
class Record:
    """Record episodes from a Gymnasium environment into a LeRobot v3.0 folder.

    Example: forerun data record forerun/Push-v0 push/ --episodes 200 --policy noisy random
    """

    env: Positional[Annotated[str, tyro.conf.arg(metavar="ENV")]]
    """Id of any registered environment; "module:Id" imports the module first."""
    out: Positional[Annotated[Path, OUT]]
    """The folder to make; it must not exist."""
    episodes: int = 20
    """How many."""
    policy: tuple[DataPolicy, ...] = ("uniform",)
    """Who acts, drawn anew for each episode if several are named. "uniform" samples the action space and
    works everywhere; the others are scripted and exist for forerun's own tasks."""
    seed: int = 0
    """Of the environment and the policies: the same seed gives the same episodes."""
    max_steps: MaybeInt = None
    """Steps per episode at most; the environment's own limit by default."""
    past_the_end: bool = False
    """Go on to max_steps though the environment says the episode is over (continuous play)."""
    control_hz: MaybeFloat = None
    """Steps per second, where the environment does not say."""
    camera: MaybeInt = None
    """Also record what the environment draws of itself, as square pictures of this many pixels a side: a
    model of video needs them where the observation has no picture, as of CartPole-v1."""

    def __call__(self) -> int:
        env = make_env(self.env, drawn=self.camera is not None)
        for note in space_notes(env):
            Console().print(f"{'note':<9}{note}", highlight=False, soft_wrap=True)
        recorded = record(
            env,
            MixedPolicy(self.policy),
            episodes=self.episodes,
            seed=self.seed,
            max_steps=self.max_steps,
            control_hz=self.control_hz,
            past_the_end=self.past_the_end,
            camera=self.camera,
        )
        with progress_bar("recording") as update:
            count = save_episodes(self.out, recorded, lambda done: update(done, self.episodes))
        env.close()
        _written(count, self.out)
        return 0


DataCommand = (
    Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
    | Annotated[Convert, tyro.conf.subcommand("convert")]
    | Annotated[Record, tyro.conf.subcommand("record")]
)
"""What ``forerun data`` understands; calling the parsed dataclass runs it and returns the exit code."""


def run(args: Sequence[str] | None = None) -> int:
    """Parse the words after ``forerun data`` and do what they say; the exit code."""
    command: Any = tyro.cli(DataCommand, prog="forerun data", description=__doc__, args=args)
    return command()


class MixedPolicy:
    """One of several data policies, drawn anew at every reset; "uniform" needs nothing of the environment."""

    def __init__(self, names: Sequence[DataPolicy]) -> None:
        if not names:
            raise ConfigError("no policy is named; choose from expert, noisy, weak, random, uniform")
        self.names = names
        self.act: Policy | None = None

    def reset(self, env: gymnasium.Env, rng: np.random.Generator) -> None:
        from forerun.tasks import scripted_policy

        name = self.names[int(rng.integers(len(self.names)))]
        if name == "uniform":
            self.act = lambda _: env.action_space.sample()
            return
        if not hasattr(env.unwrapped, "make_policy"):
            raise ConfigError(
                f"the policy '{name}' is scripted for forerun's own tasks, and "
                f"{type(env.unwrapped).__name__} is none of them; use --policy uniform, or call "
                "forerun.data.record with a policy of your own"
            )
        scripted = scripted_policy(env, name, rng)
        self.act = lambda _: scripted()

    def __call__(self, observation: Any) -> Any:
        assert self.act is not None, "reset comes first"
        return self.act(observation)


def make_env(name: str, *, drawn: bool = False) -> gymnasium.Env:
    """An environment by its id; forerun's own need no import.

    Args:
        name: "Id" or "module:Id".
        drawn: make it so that ``render()`` gives pictures.

    Raises:
        ConfigError: there is none of that name, it needs a package that is not installed, or it cannot draw.
    """
    import forerun.tasks  # noqa: F401  (registers them)

    try:
        env = gymnasium.make(name)
        if not drawn:
            return env
        modes = (env.metadata or {}).get("render_modes") or ()
        env.close()
        if "rgb_array" in modes:
            return gymnasium.make(name, render_mode="rgb_array")
    except (gymnasium.error.Error, ImportError, ValueError) as cause:
        raise ConfigError(_refused(name, cause)) from cause
    raise ConfigError(
        f"the environment '{name}' draws no pictures: its render modes are {', '.join(modes) or 'none'}, and "
        "rgb_array is expected among them. Record without --camera, or choose another environment"
    )


def _refused(name: str, cause: Exception) -> str:
    """Why an environment cannot be made: no such id, or a module that it or its registration needs."""
    from forerun.tasks import alternatives

    own = alternatives(name)
    if isinstance(cause, gymnasium.error.UnregisteredEnv):
        return (
            f"there is no environment '{name}'; {own}. Another needs the module that registers it in front: "
            "mymodule:MyEnv-v0"
        )
    inner = cause if isinstance(cause, ImportError) and cause.name else cause.__cause__
    module = inner.name if isinstance(inner, ModuleNotFoundError) else None
    if module is None:
        return f"the environment '{name}' cannot be made: {first_line(cause)}; {own}"
    front = name.partition(":")[0] if ":" in name else ""
    if f"{front}.".startswith(f"{module}."):
        return (
            f"there is no module '{module}' to register the environment '{name}'; check its spelling, "
            "install it, or add its folder to PYTHONPATH"
        )
    how = f" ({first_line(cause)})" if isinstance(cause, gymnasium.error.DependencyNotInstalled) else ""
    return (
        f"the environment '{name}' needs the package '{module}', which is not installed{how}. Install it, or "
        "choose another environment"
    )


def save_episodes(path: Path, episodes: Iterator[Episode], done: Callable[[int], None]) -> int:
    """Write recorded episodes as they come; how many there were."""
    first = next(episodes)
    specs = [stream.spec for stream in first.streams.values()]
    rate_hz = next(spec.rate_hz for spec in specs if spec.kind == "action")
    numbered = enumerate(itertools.chain([first], episodes), start=1)
    count = 0

    def counted() -> Iterator[Episode]:
        nonlocal count
        for count, episode in numbered:
            yield episode
            done(count)

    write_lerobot(path, counted(), fps=rate_hz or 10.0, **converting.encoding_for(specs))
    return count


def parse_units(pairs: Sequence[str]) -> dict[str, str]:
    """{"observation.state": "rad"} from ["observation.state=rad"]."""
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise ConfigError(f"'{wrong[0]}' names no unit; write it as STREAM=UNIT, e.g. observation.state=rad")
    return dict(pair.split("=", 1) for pair in pairs)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on the error channel while work is done; call the yielded function with (done, all)."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _written(episodes: int, path: Path) -> None:
    """What was made, and what to do with it."""
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    lines = {
        "written": f"{episodes} episode{'s' * (episodes != 1)}, {size / 1e6:.3g} MB: {path}",
        "look": f"forerun data inspect {path} --sheet sheet.png",
        "learn": f"forerun train {path}",
    }
    for what, line in lines.items():
        Console().print(f"{what:<9}{line}", highlight=False, soft_wrap=True)


def print_report(report: Report, console: Console) -> None:
    """Findings, worst first, alike ones together."""
    looked = f"{report.num_examined} of {report.num_episodes} episodes read"
    looked += f", {report.num_frames_decoded} frames decoded" if report.num_frames_decoded else ""
    console.print(Text.assemble((report.path.name, "bold"), f"  {report.format}; {looked}"))
    for finding, episodes in report.groups():
        console.print(_line(finding, episodes))
        detail = f"expected: {finding.expected}\nadvice: {finding.advice}"
        console.print(Padding(Text(detail, style="dim"), (0, 0, 0, 10)))
    console.print(f"\n{_counts(report)}", highlight=False)


def _line(finding: Finding, episodes: list[str]) -> Text:
    where = [finding.stream] if finding.stream else []
    if episodes:
        where.append(episodes[0] + (f" and {len(episodes) - 1} more episodes" if len(episodes) > 1 else ""))
    text = Text.assemble((f"{finding.severity:<8}", COLOURS[finding.severity]), f"  {finding.check}: ")
    return text.append(f"{', '.join(where)}: " if where else "").append(finding.found)


def _counts(report: Report) -> str:
    """Alike findings of several episodes count once, as they are printed."""
    printed = Counter(finding.severity for finding, _ in report.groups())
    return ", ".join(f"{printed[name]} {name}{'s' * (printed[name] != 1)}" for name in SEVERITIES)
