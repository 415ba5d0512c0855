"""What the demo and the goal-reaching benchmarks have in common: play, a floor, trials. All of it resumes.

The seed of training, floor, trials and search is that of the plan's recipe.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from forerun.checkpoint import differences, read_json, write_text
from forerun.cli.control import trial_bars
from forerun.cli.data import DataPolicy, progress_bar
from forerun.cli.play import record_play
from forerun.cli.runs import claim, open_run
from forerun.config import model_config
from forerun.control.trials import make_task, recorded_trials
from forerun.data import open_recordings
from forerun.data.cache import TickCache, build_cache
from forerun.data.window import split_episodes
from forerun.evaluation.contest import Contest, hold
from forerun.evaluation.demo import DemoPlan
from forerun.evaluation.floors import clone, equal_pictures
from forerun.evaluation.tally import Tally
from forerun.teach import observed
from forerun.types import ConfigError


def settle(folder: Path, marker: str, plan: Mapping[str, Any], *, free: Collection[str] = ()) -> None:
    """Remember in ``folder/marker`` what the folder is for, so that no other plan passes off what it holds.

    Args:
        plan: as JSON; those of its entries that are named in ``free`` may differ from call to call.

    Raises:
        ConfigError: an earlier call had another plan.
        StorageError: the folder holds other things and no ``marker``, or cannot be written.
    """
    claim(folder, marker)
    wanted, path = json.loads(json.dumps(plan)), folder / marker
    before = read_json(path) if path.is_file() else wanted
    fixed, was = ({k: v for k, v in values.items() if k not in free} for values in (wanted, before))
    if was != fixed:
        raise ConfigError(
            f"this folder holds work of another plan: {differences(was, fixed)}. Go back to its "
            "settings to continue it, choose another folder with --out, or delete this one. Path: "
            f"{folder}"
        )
    if not path.is_file() or before != wanted:
        write_text(path, json.dumps(wanted, indent=1))


def play_table(plan: DemoPlan, home: Path, *, seed: int = 0, processes: int | None = None) -> TickCache:
    """Play recorded as a LeRobot v3.0 folder, ``home/recordings``, and read as a table of ticks."""
    if not (home / "recordings").is_dir():
        with progress_bar("recording") as update:
            record_play(
                plan.env,
                home / "recordings",
                episodes=plan.episodes,
                steps=plan.steps,
                policies=cast(tuple[DataPolicy, ...], plan.policies),
                seed=seed,
                processes=processes,
                done=update,
            )
    recordings = open_recordings(home / "recordings")
    with progress_bar("decoding") as update:
        return build_cache(recordings, home / "cache", tick_s=plan.tick_s, progress=update)


def clone_floor(plan: DemoPlan, cache: TickCache, run: Path) -> None:
    """The behaviour-cloning floor of a run, in ``run/cloning``."""
    recipe = plan.recipe
    config = model_config(recipe.size, observed(cache), cache.specs["action"], plan.tick_s)
    steps = plan.cloning_steps or equal_pictures(recipe.representation)
    episodes, _ = split_episodes(cache, recipe.holdout, recipe.seed)
    clone(cache, episodes, config, run / "cloning", steps=steps, seed=recipe.seed)


def attempt_goals(
    plan: DemoPlan, cache: TickCache, run: Path, folder: Path, *, processes: int | None = None
) -> list[Tally]:
    """Everybody's trials on the held-out episodes of a run; what is done is kept in ``folder``."""
    done, task, seed = open_run(run), make_task(plan.env), plan.recipe.seed
    trials = recorded_trials(task, cache, done.held_out, offset=plan.offset, count=plan.trials, seed=seed)
    task.close()
    contest = Contest(
        env=plan.env,
        model=done.model_path,
        cloned=run / "cloning" / "policy",
        budget=plan.budget,
        planner=plan.planner,
        seed=seed,
    )
    with trial_bars() as update:
        return hold(contest, trials, folder, processes=processes, progress=update)


def asked_for(plan: DemoPlan, run: Path) -> dict[str, Any]:
    """The settings of a result of such trials: what was asked for, and of which kind of model."""
    task = make_task(plan.env)
    task.close()
    return {
        "plan": asdict(plan),
        "thresholds": task.thresholds,
        "replan_steps": 1,
        "model": open_run(run).kind,
    }


def trials_sentence(plan: DemoPlan) -> str:
    """How the trials of a plan are drawn and judged, for a table's foot."""
    task = make_task(plan.env)
    task.close()
    drawn = f"goals {plan.offset} steps after unsolved held-out starts, budget {plan.budget} steps"
    return f"{drawn}; {task.tests()}"
