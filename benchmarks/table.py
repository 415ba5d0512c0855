"""Make the tables of README.md and docs/*.md from benchmarks/results/*.json, between markers of the form

    <!-- table:success -->  ...  <!-- /table -->

    python benchmarks/table.py            rewrites them
    python benchmarks/table.py --check    exit code 1 if one of them is not what the results say

A table holds a row for each of its entries in rows.py that has a result. Seeds make one row if their
settings are equal, the kind of model among them; of several such groups the newest counts, and in it the
newest result of each seed. Goals at several distances come from the same runs, if any run tried them all.
Shares of trials are pooled over the seeds into one Wilson interval. Without any result the space between the
markers is empty.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from columns import COUNTS, FARTHER, Column, Row, Table
from rows import TABLES
from sentence import sentence

from forerun.evaluation.results import Result, read_results
from forerun.evaluation.stats import wilson
from forerun.types import DataError

ROOT = Path(__file__).parents[1]
MARKED = re.compile(r"(<!-- table:(?P<name>[a-z-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)
PROMISE = re.compile(r"(make demo +# about )\d+(?= minutes, installation included)")
"""Where the README says how long the demo takes."""


def fill(text: str, results: Sequence[Result]) -> str:
    """A page with every marked table made anew, and the minutes it promises.

    Raises:
        DataError: a marker names a table that is not defined here.
    """

    def made(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in TABLES:
            known = ", ".join(TABLES)
            raise DataError(f"a page marks a table '{name}'; benchmarks/table.py defines {known}")
        return found[1] + render(TABLES[name], results) + found[3]

    return MARKED.sub(made, promised(text, results))


def promised(text: str, results: Sequence[Result]) -> str:
    """The text with the minutes that `make demo` took when it was last timed, if it was."""
    minutes = [look_up(result, "total_minutes") for result in latest(results, "demo")]
    return PROMISE.sub(rf"\g<1>{minutes[0]:.0f}", text) if minutes and minutes[0] is not None else text


def render(table: Table, results: Sequence[Result]) -> str:
    """Markdown, how it was judged above and where it was measured below; empty if no row has a result."""
    rows = [(row, latest(of_one_run(results, table, row), row.result)) for row in table.rows]
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
    about, where = sentence(table, measured), origin([r for _, found in measured for r in found])
    return "\n".join([*([about, ""] if about else []), *lines, "", where]) + "\n"


def of_one_run(results: Sequence[Result], table: Table, row: Row) -> Sequence[Result]:
    """Those of runs that tried every goal distance the table has of this benchmark; all if no run did."""
    family = {r.result for r in table.rows if benchmark(r) == benchmark(row)}
    runs = [found for name in family if (found := {run_of(r) for r in results if r.name == name})]
    if len(runs) < min(2, len(family)):
        return []  # no other distance to compare with
    whole = set.intersection(*runs)
    return [r for r in results if run_of(r) in whole] if whole else results


def benchmark(row: Row) -> str:
    return row.result.split(FARTHER)[0]


def run_of(result: Result) -> str:
    """Which training a result is of: the kind of model, the recipe with its seed."""
    plan, model = result.settings.get("plan", {}), result.settings.get("model")
    return json.dumps([model, plan.get("recipe"), result.seed], sort_keys=True)


def latest(results: Sequence[Result], name: str) -> list[Result]:
    """The newest result of every seed, of those with the settings that most seeds were tried with.

    Of settings that were tried with equally many seeds, the newest: one new run does not replace three seeds.
    """
    kinds: dict[str, dict[int | None, Result]] = {}
    for result in results:  # in order of time
        if result.name == name:
            seeds = kinds.pop(circumstances(result), {})  # put last again: the newest of its kind
            kinds[circumstances(result)] = {**seeds, result.seed: result}
    newest = max(reversed(kinds.values()), key=len, default={})
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
    if len(values) == 1 and isinstance(values[0], dict) and "seeds" in values[0]:  # of one result
        notes.append("seeds " + span(column.form, min(values[0]["seeds"]), max(values[0]["seeds"])))
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
    results, stale = read_results(ROOT / "benchmarks" / "results"), []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        before = page.read_text()
        after = fill(before, results)
        if before != after:
            stale.append(page.name)
            if "--check" not in words:
                page.write_text(after)
    if stale and "--check" in words:
        print(f"tables are stale in {', '.join(stale)}; run: python benchmarks/table.py", file=sys.stderr)
    return int(bool(stale) and "--check" in words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
