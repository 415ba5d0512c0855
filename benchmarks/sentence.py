"""What to know of the results behind a table, in a sentence made from their settings: trials above all."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Sequence
from string import Formatter
from typing import Any

from columns import Row, Table

from forerun.evaluation.results import Result
from forerun.tasks import TASKS, Task
from forerun.tasks.base import limits

Measured = Sequence[tuple[Row, Sequence[Result]]]
"""The rows of a table with the results they are made from."""


def sentence(table: Table, measured: Measured) -> str:
    """The table's own, its settings filled in; for trials how they were drawn and judged."""
    settings = [result.settings for _, results in measured for result in results]
    names = [name for _, name, *_ in Formatter().parse(table.about) if name]
    filled = {name: one_of(values[name] for values in settings) for name in names}
    return table.about.format_map(filled) or trials_sentence(measured)


def trials_sentence(measured: Measured) -> str:
    """Goal distance, budget, replan rate and tests of success; empty if these are no trials."""
    judged = [
        (row.part, result.settings)
        for row, results in measured
        for result in results
        if "thresholds" in result.settings
    ]
    if not judged:
        return ""
    plans = [settings.get("plan", settings) for _, settings in judged]
    offsets, budgets = (one_of(plan[name] for plan in plans) for name in ("offset", "budget"))
    every = one_of(settings["replan_steps"] for _, settings in judged)
    decision = "every step" if every == "1" else f"every {every} steps"
    tests = dict.fromkeys(test for part, settings in judged for test in tests_of(part, settings))
    return (
        f"Goals lie {offsets} steps after their starts; {budgets} steps to reach them, a decision at "
        f"{decision}. Reached: {'; '.join(tests)}."
    )


def tests_of(part: str, settings: dict[str, Any]) -> list[str]:
    """The tests of a task in words: the one that the row shows, or all where its columns show them."""
    env = settings.get("plan", settings)["env"]
    task: type[Task] = pkgutil.resolve_name(TASKS[env])
    thresholds = settings["thresholds"]
    levels = [part] if part in thresholds else list(thresholds)
    return [f"in `{env}` ({level}) {limits(thresholds[level], task.hold_steps[level])}" for level in levels]


def one_of(values: Iterable[Any]) -> str:
    """The different values in words: "25", or "25, 50 or 100"."""
    *most, last = (f"{value:g}" for value in sorted(set(values)))
    return f"{', '.join(most)} or {last}" if most else last
