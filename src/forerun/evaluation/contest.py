"""Agents side by side on the same trials, spread over processes; what is finished is kept.

Trials go in groups, and a group's search noise and random actions are seeded by the group, so the figures do
not depend on how many processes there are. What is kept says which contest it belongs to: with other
settings, trials or weights it is done again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from forerun.checkpoint import write_text
from forerun.control.agents import RandomAgent, WorldModelAgent
from forerun.control.trials import Agent, Outcome, Trial, decision_times, make_task, run_trials
from forerun.data.fingerprint import digest
from forerun.evaluation.floors import ClonedPolicy, CloningAgent
from forerun.evaluation.report import Attempt
from forerun.evaluation.tally import Tally, attempts
from forerun.evaluation.workers import cores, helpers
from forerun.imagination.planner import PlannerConfig
from forerun.types import DataError
from forerun.world_model import WorldModel

Contestant = Literal["planner", "policy alone", "cloned policy", "random moves"]
GROUP = 25
"""Trials that run side by side in one batch."""
FILMED = 18
"""First trials of the planner whose pictures are kept."""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """What is tried by whom: everything a process needs to know."""

    env: str
    model: Path
    """Folder of the world model."""
    cloned: Path | None
    """Folder of the cloned policy; without one it does not take part."""
    budget: int
    """Control steps per trial."""
    planner: PlannerConfig
    seed: int = 0

    def contestants(self) -> list[Contestant]:
        everybody: tuple[Contestant, ...] = get_args(Contestant)
        return [name for name in everybody if self.cloned is not None or name != "cloned policy"]

    def key(self, trials: Sequence[Trial]) -> str:
        """A short hash of all that shapes the outcomes: settings, trials, weights of the contestants."""
        settings = asdict(self) | {"model": "", "cloned": "", "group": GROUP}  # wherever the models lie
        parts = [json.dumps(settings, sort_keys=True).encode()]
        parts += [np.ascontiguousarray(state).tobytes() for t in trials for state in (t.start, t.goal)]
        for folder in (self.model, self.cloned):
            files = sorted(folder.iterdir()) if folder is not None else []
            parts.append(digest(*(file.read_bytes() for file in files)).encode())
        return digest(*parts)

    def agent(self, name: Contestant, seed: int) -> Agent:
        """A contestant, fresh, in this process."""
        if name == "random moves":
            return RandomAgent(make_task(self.env).action_spec, seed)
        if name == "cloned policy":
            assert self.cloned is not None
            return CloningAgent(_cloned(self.cloned))
        config = self.planner if name == "planner" else PlannerConfig(method="policy")
        return WorldModelAgent(_model(self.model), config, seed)


@lru_cache(maxsize=1)
def _model(path: Path) -> WorldModel:
    return WorldModel.from_pretrained(path)


@lru_cache(maxsize=1)
def _cloned(path: Path) -> ClonedPolicy:
    return ClonedPolicy.load(path)


def hold(
    contest: Contest,
    trials: Sequence[Trial],
    folder: Path,
    *,
    processes: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Tally]:
    """Let everybody attempt all trials, then time single decisions in this process alone.

    Args:
        folder: gets one JSON per contestant and group as they finish, and ``films.npz``; what lies there
            from an earlier, interrupted call of the same contest is not run again.
        processes: one per core, at most two, by default.
        progress: called with (contestant, trials done, trials in all).
    """
    groups = [list(trials[i : i + GROUP]) for i in range(0, len(trials), GROUP)]
    key = contest.key(trials)
    done = dict.fromkeys(contest.contestants(), 0)
    missing = []
    for name in contest.contestants():
        for number, group in enumerate(groups):
            if _read(_kept(folder, name, f"{number:02d}"), key):
                done[name] += len(group)
            else:
                missing.append((name, number))
    if missing:
        with helpers(processes or min(2, cores())) as pool:
            jobs = {
                pool.submit(_attempt, contest, name, n, groups[n], folder, key): (name, n)
                for name, n in missing
            }
            for job in as_completed(jobs):
                job.result()
                name, number = jobs[job]
                done[name] += len(groups[number])
                if progress is not None:
                    progress(name, done[name], len(trials))
    return [_count(contest, name, groups, folder, key) for name in contest.contestants()]


def _kept(folder: Path, name: str, what: str) -> Path:
    return folder / f"{name.replace(' ', '-')}-{what}.json"


def _read(path: Path, key: str) -> dict[str, Any]:
    """What is kept there of the contest with this key; empty if it is of another, or nothing is."""
    found = json.loads(path.read_text()) if path.is_file() else {}
    return found if found.get("contest") == key else {}


def _attempt(
    contest: Contest, name: Contestant, number: int, group: list[Trial], folder: Path, key: str
) -> None:
    """One group of one contestant, in a process of its own; writes what came of it."""
    torch.set_num_threads(1)
    films = FILMED if name == "planner" and number == 0 else 0
    agent = contest.agent(name, contest.seed + number)
    outcomes = run_trials(contest.env, group, agent, budget=contest.budget, keep_pictures=films)
    if films:
        _keep_films(folder, outcomes, 1 / make_task(contest.env).control_hz)
    found = {
        "contest": key,
        "moderate": [o.moderate for o in outcomes],
        "strict": [o.strict for o in outcomes],
        "steps": [o.steps for o in outcomes],
    }
    write_text(_kept(folder, name, f"{number:02d}"), json.dumps(found))


def _keep_films(folder: Path, outcomes: Sequence[Outcome], tick_s: float) -> None:
    """A few attempts to look at, as arrays: films.npz."""
    chosen = attempts(outcomes, tick_s)
    arrays: dict[str, Any] = {"count": np.array(len(chosen)), "tick_s": np.array(tick_s)}
    for i, attempt in enumerate(chosen):
        arrays |= {f"frames{i}": attempt.frames, f"goal{i}": attempt.goal}
        arrays |= {f"name{i}": np.array(attempt.name), f"reached{i}": np.array(attempt.reached)}
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".films-{os.getpid()}.npz"
    np.savez_compressed(draft, **arrays)
    draft.rename(folder / "films.npz")


def read_films(folder: Path) -> list[Attempt]:
    """The attempts that `hold` kept."""
    try:
        with np.load(folder / "films.npz", allow_pickle=False) as kept:
            return [
                Attempt(
                    name=str(kept[f"name{i}"]),
                    frames=kept[f"frames{i}"],
                    goal=kept[f"goal{i}"],
                    reached=bool(kept[f"reached{i}"]),
                    tick_s=float(kept["tick_s"]),
                )
                for i in range(int(kept["count"]))
            ]
    except (OSError, ValueError, KeyError) as cause:
        raise DataError(
            f"the films of the trials cannot be read ({cause}); delete this folder and run the same command "
            f"again: {folder}"
        ) from cause


def _count(contest: Contest, name: Contestant, groups: list[list[Trial]], folder: Path, key: str) -> Tally:
    found = [_read(_kept(folder, name, f"{n:02d}"), key) for n in range(len(groups))]
    ms = None if name == "random moves" else _milliseconds(contest, name, groups[0], folder, key)
    return Tally(
        name=name,
        moderate=np.concatenate([np.asarray(f["moderate"]) for f in found]),
        strict=np.concatenate([np.asarray(f["strict"]) for f in found]),
        steps=np.concatenate([np.asarray(f["steps"]) for f in found]),
        ms_per_decision=ms,
    )


def _milliseconds(contest: Contest, name: Contestant, trials: list[Trial], folder: Path, key: str) -> float:
    """Median wall-clock of a decision with nothing else running; measured once and kept."""
    path = _kept(folder, name, "ms")
    if not _read(path, key):
        times = decision_times(contest.env, trials, contest.agent(name, contest.seed))
        write_text(path, json.dumps({"contest": key, "seconds": times.tolist()}))
    return 1000 * float(np.median(_read(path, key)["seconds"]))
