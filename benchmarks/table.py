"""Make the tables of the README from benchmarks/results/*.json, between markers of the form

    <!-- table:success -->  ...  <!-- /table -->

    python benchmarks/table.py            rewrites README.md
    python benchmarks/table.py --check    exit code 1 if README.md is not what the results say

A table holds a row for each entry below that has a result. Seeds make one row if their settings are equal,
the kind of model among them; of several such groups the newest counts, and in it the newest result of each
seed. Shares of trials are pooled over the seeds into one Wilson interval. Without any result the space
between the markers is empty.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forerun.evaluation.results import Result, read_results
from forerun.evaluation.stats import wilson
from forerun.types import DataError

ROOT = Path(__file__).parents[1]
MARKED = re.compile(r"(<!-- table:(?P<name>[a-z-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)
COUNTS = ("n", "seeds")
"""What a column may read of the results themselves, beside their metrics."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One figure per result."""

    head: str
    metric: str
    """Where in ``metrics`` it is, keys joined by "/", {part} standing for the row's; or one of `COUNTS`."""
    form: str = "{:g}"
    """How a number is written; "percent" writes shares of the trials, "short" two digits or whole numbers."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table."""

    label: str
    result: str
    """Name of the results it is made from."""
    part: str = "moderate"
    """Which part of the result the columns read: a test of success, or what was timed."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows that share their columns."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    lead: str
    """Head of the first column."""


SUCCESS = (  # agents as `forerun.evaluation.contest` names them
    Column(head="planner", metric="planner/{part}", form="percent"),
    Column(head="policy alone", metric="policy alone/{part}", form="percent"),
    Column(head="cloning", metric="cloned policy/{part}", form="percent"),
    Column(head="random", metric="random moves/{part}", form="percent"),
    Column(head="trials", metric="n"),
    Column(head="training", metric="training_minutes", form="{:.0f} min"),
    Column(head="a decision", metric="planner/ms_per_decision", form="{:.0f} ms"),
)
REAL = (
    Column(head="error on changed pixels 1 s ahead, over copy-last", metric="ratio", form="{:.2f}"),
    Column(head="loss with shuffled actions, over loss", metric="shuffled_ratio", form="{:.2f}"),
    Column(head="episodes", metric="n"),
    Column(head="training", metric="training_minutes", form="{:.0f} min"),
)
SPEED = (
    Column(head="forerun", metric="{part}/figure", form="short"),
    Column(head="naive version, same run", metric="{part}/naive", form="short"),
    Column(head="ratio", metric="{part}/ratio", form="{:.1f}"),
    Column(head="unit", metric="{part}/unit"),
)
PROBES = (
    Column(head="linear probe R2", metric="linear/mean", form="{:.2f}"),
    Column(head="network probe R2", metric="network/mean", form="{:.2f}"),
    Column(head="seeds", metric="seeds"),
)
PLANNERS = (
    Column(head="moderate", metric="{part}/moderate", form="percent"),
    Column(head="strict", metric="{part}/strict", form="percent"),
    Column(head="trials", metric="n"),
    Column(head="a decision", metric="{part}/ms_per_decision", form="{:.0f} ms"),
)
TABLES = {
    "success": Table(
        lead="goals reached",
        columns=SUCCESS,
        rows=[
            Row(label="Push, `make demo`", result="demo"),
            Row(label="Push", result="push"),
            Row(label="PickPlace", result="pickplace"),
        ],
    ),
    "yardsticks": Table(
        lead="published yardsticks",
        columns=SUCCESS,
        rows=[
            Row(label=f"{task}, {level}", result=task.lower().replace("-", ""), part=level)
            for task in ("TwoRoom", "Push-T")
            for level in ("moderate", "strict")
        ],
    ),
    "distance": Table(
        lead="Push, goals so many steps away",
        columns=SUCCESS,
        rows=[
            Row(label="25", result="push"),
            *(Row(label=str(steps), result=f"push-offset-{steps}") for steps in (50, 75, 100)),
        ],
    ),
    "real": Table(
        lead="real robot, held-out episodes",
        columns=REAL,
        rows=[Row(label="Unitree G1 picks a can", result="real-robot")],
    ),
    "speed": Table(
        lead="speed",
        columns=SPEED,
        rows=[
            Row(label="frames trained on, end to end", result="speed", part="end_to_end"),
            Row(label="transitions trained on, cached latents", result="speed", part="cached_latents"),
            Row(label="waiting for data, in the stage that waits most", result="speed", part="data_wait"),
            Row(label="one plan: 64 futures, 4 rounds, 5 ticks", result="speed", part="plan"),
            Row(label="one decision of the goal policy, no search", result="speed", part="policy"),
        ],
    ),
    "representation": Table(
        lead="what shapes the latent",
        columns=PROBES,
        rows=[
            Row(label=label, result=f"representation-{name}")
            for label, name in (
                ("untrained: the floor", "untrained"),
                ("prediction alone", "none"),
                ("and SIGReg", "sigreg"),
                ("and variance-covariance", "varcov"),
                ("and inverse dynamics", "inverse"),
                ("and redrawing", "redraw"),
                ("and SIGReg, inverse dynamics", "sigreg-inverse"),
                ("and all three, as in training", "all"),
            )
        ],
    ),
    "planners": Table(
        lead="Push, same models and trials",
        columns=PLANNERS,
        rows=[
            Row(label=label, result="planners", part=part)
            for label, part in (  # arms as `planners.py` names them
                ("iCEM from the policy, learned distance", "icem"),
                ("iCEM from noise", "icem from noise"),
                ("MPPI from the policy", "mppi"),
                ("iCEM, distance of latents", "latent cost"),
                ("policy alone", "policy alone"),
                ("random moves", "random moves"),
            )
        ],
    ),
}


def fill(text: str, results: Sequence[Result]) -> str:
    """The README with every marked table made anew.

    Raises:
        DataError: a marker names a table that is not defined here.
    """

    def made(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in TABLES:
            known = ", ".join(TABLES)
            raise DataError(f"README.md marks a table '{name}'; benchmarks/table.py defines {known}")
        return found[1] + render(TABLES[name], results) + found[3]

    return MARKED.sub(made, text)


def render(table: Table, results: Sequence[Result]) -> str:
    """Markdown, with where it was measured below; empty if no row has a result."""
    rows = [(row, latest(results, row.result)) for row in table.rows]
    figures = [c for c in table.columns if c.metric not in COUNTS]
    measured = [(row, found) for row, found in rows if any(cell(c, row, found) for c in figures)]
    if not measured:
        return ""
    columns = [c for c in table.columns if any(cell(c, row, found) for row, found in measured)]
    lines = [
        "| " + " | ".join([table.lead, *(c.head for c in columns)]) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for row, found in measured:
        lines.append("| " + " | ".join([row.label, *(cell(c, row, found) for c in columns)]) + " |")
    return "\n".join([*lines, "", origin([r for _, found in measured for r in found])]) + "\n"


def latest(results: Sequence[Result], name: str) -> list[Result]:
    """The newest result of every seed, of those that share settings with the newest of all."""
    found = [result for result in results if result.name == name]  # in order of time
    newest = {result.seed: result for result in found if circumstances(result) == circumstances(found[-1])}
    return [newest[seed] for seed in sorted(newest)]


def circumstances(result: Result) -> str:
    """What must agree for results of several seeds to make one row.

    Not the hash of the data: the same play recorded on two machines differs in the last bits of its pictures.
    """
    return json.dumps(seedless(result.settings), sort_keys=True)


def seedless(settings: Any) -> Any:
    """The settings without any seed in them, however deep."""
    if isinstance(settings, dict):
        return {key: seedless(value) for key, value in settings.items() if key != "seed"}
    return [seedless(value) for value in settings] if isinstance(settings, list) else settings


def cell(column: Column, row: Row, results: Sequence[Result]) -> str:
    """One figure: its interval where it has one, and the range over seeds where there are several."""
    metric = column.metric.format(part=row.part)
    pairs = [(value, r.n) for r in results if (value := look_up(r, metric)) is not None]
    values = [value for value, _ in pairs]
    if not values:
        return ""
    if isinstance(values[0], str):
        return values[0]
    if column.metric in COUNTS:
        return f"{sum(values)}" + (f", {len(values)} seeds" if column.metric == "n" and values[1:] else "")
    means = [v["estimate"] if isinstance(v, dict) else v for v in values]
    interval = pooled(pairs) if column.form == "percent" else values[0] if len(values) == 1 else None
    estimate = interval["estimate"] if isinstance(interval, dict) else sum(means) / len(means)
    notes = [span(column.form, interval["low"], interval["high"])] if isinstance(interval, dict) else []
    if len(values) > 1:
        alike = written(column.form, min(means)) == written(column.form, max(means))
        notes.append(("each seed " if alike else "seeds ") + span(column.form, min(means), max(means)))
    return written(column.form, estimate) + (f" ({'; '.join(notes)})" if notes else "")


def pooled(pairs: Sequence[tuple[Any, int]]) -> dict[str, float]:
    """One Wilson interval of the shares of several results, each of so many trials."""
    reached = sum(round(share["estimate"] * n) for share, n in pairs)
    return wilson(reached, sum(n for _, n in pairs))._asdict()


def look_up(result: Result, metric: str) -> Any:
    """The value under keys joined by "/"; None if it is not there."""
    if metric in COUNTS:
        return result.n if metric == "n" else 1
    value: Any = result.metrics
    for key in metric.split("/"):
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return value


def span(form: str, low: float, high: float) -> str:
    """From ``low`` to ``high``, their unit said once; one number where they are written alike."""
    first, last = written(form, low), written(form, high)
    return last if first == last else f"{first.split()[0]} to {last}"


def written(form: str, value: float) -> str:
    if form == "percent":
        return f"{100 * value:.0f} %"
    return (f"{value:,.0f}" if value >= 10 else f"{value:.2g}") if form == "short" else form.format(value)


def origin(results: Sequence[Result]) -> str:
    """On which machine, from which commits, by which commands."""
    machines = dict.fromkeys(f"{r.hardware['cpu']}, {r.hardware['cores']} cores" for r in results)
    commits = dict.fromkeys((r.commit or "unknown")[:9] + ("+" if r.dirty else "") for r in results)
    commands = dict.fromkeys(f"`{r.command}`" for r in results)
    return f"Measured on {'; '.join(machines)}; commit {', '.join(commits)}; {', '.join(commands)}."


def main(words: Sequence[str]) -> int:
    readme = ROOT / "README.md"
    before = readme.read_text()
    after = fill(before, read_results(ROOT / "benchmarks" / "results"))
    if "--check" in words:
        if before != after:
            print("the tables of README.md are stale; run: python benchmarks/table.py", file=sys.stderr)
        return int(before != after)
    readme.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
