"""What `forerun bench serve` found, as tables."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

ROWS = {
    "numbers": "batched, state and touch",
    "pictures": "batched, a JPEG in every reply",
    "one_at_a_time": "one row a pass",
    "processes": "a process for each user",
}


def bench_table(found: dict[str, Any], rate_hz: float) -> RenderableType:
    """Sessions in time, what one costs, and what the rest took."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", title_justify="left")
    table.add_column(f"{rate_hz:g} Hz, one core")
    heads = ("sessions\nin time", "p50 ms", "p99 ms", "missed", "jitter ms", "rows\na pass", "$ a\nsession-h")
    for head in heads:
        table.add_column(head, justify="right")
    for part, name in ROWS.items():
        if part in found:
            table.add_row(name, *_cells(found[part]))
    return Group(Text(), table, *(Text(line) for line in _notes(found)))


def _cells(part: dict[str, Any]) -> list[str]:
    run = part["at_best"]
    if not run:
        return ["0"] + [""] * 6
    latency = run["latency_ms"]
    return [
        str(part["sessions"]), f"{latency['p50']:.1f}", f"{latency['p99']:.1f}", f"{run['missed_share']:.2%}",
        f"{run['jitter_ms']:.1f}", f"{run['rows_a_pass']:.1f}", f"{part['dollars_per_session_hour']:.5f}",
    ]  # fmt: skip


def _notes(found: dict[str, Any]) -> list[str]:
    notes = []
    for where, gain in found.get("gain", {}).items():
        how = "in the engine" if where == "engine" else "through the network"
        notes.append(
            f"32 sessions without pause, {how}: {gain['ratio']:.1f} times the steps of one row a pass"
        )
    if "against_processes" in found:
        notes.append(
            f"{found['against_processes']['ratio']:.1f} times the sessions of a process for each user"
        )
    if "overload" in found:
        run = found["overload"]
        notes.append(
            f"twice as many sessions came: {run['sessions']} were let in, p99 "
            f"{run['latency_ms']['p99']:.1f} ms, missed {run['missed_share']:.2%}; {run['refused']} "
            "heard why not" + (f" within {run['refused_after_ms']['max']:.0f} ms" if run["refused"] else "")
        )
        notes.append("fidelity: " + ", ".join(f"{name} {n}" for name, n in run["levels"].items()))
    for level, told in found.get("fidelity", {}).items():
        error = f", off by {told['picture_error']:.2f} of 255" if "picture_error" in told else ""
        notes.append(
            f"{level}: {told['fresh_share']:.0%} of pictures drawn{error}, {told['ms_a_row']:.3f} ms a row"
        )
    if "state" in found:
        state = found["state"]
        notes.append(
            f"{state['bytes_per_slot'] / 1024:.1f} KiB a session; fork of {state['fork_candidates']} "
            f"{state['fork_ms']['p99']:.2f} ms, suspend and resume "
            f"{state['suspend_and_resume_ms']['p99']:.2f} ms, snapshot of "
            f"{state['bytes_per_snapshot'] / 1024:.1f} KiB {state['snapshot_ms']['p99']:.2f} ms (p99)"
        )
    return notes
