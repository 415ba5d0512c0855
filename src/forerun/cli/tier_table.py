"""Three tiers on the terminal: a line for each, and below it what came of them."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

HEADS = (
    *("rate\nHz", "\nof"),
    *("late ms\np50", "\np99", "\np99.9"),
    *("missed\nticks", "\nshare"),
    *("touch age\np50 ms", "\np99"),
    "takes\np99 ms",
)


def tier_table(task: str, found: dict[str, Any]) -> RenderableType:
    """What `run_virtual` or `summary` found: punctuality per tier, then success, forces, surprise."""
    words = [found[key] for key in ("executor", "fast_tier", "mission", "scheduling") if found.get(key)]
    title = Text.assemble((task, "bold"), f"  {', '.join(words)}")
    notes = [Text(line, style="dim") for line in _notes(found)]
    return Group(title, _punctuality(found["tiers"]), _outcome(found), Text(), *notes)


def _punctuality(tiers: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0, header_style="bold")
    table.add_column("\ntier", no_wrap=True)
    for head in HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    for name, tier in tiers.items():
        late, age, computes = tier["late_ms"], tier["touch_age_ms"], tier.get("compute_ms", {})
        table.add_row(
            name,
            *(f"{tier['achieved_hz']:.4g}", f"{tier['wanted_hz']:g}"),
            *(_ms(late, point) for point in ("p50", "p99", "p99.9")),
            *(str(tier["missed"]), _share(tier["missed_share"])),
            *(_ms(age, "p50"), _ms(age, "p99"), _ms(computes, "p99")),
        )
    return table


def _outcome(found: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    if "success" in found:
        share = found["success"]
        low, high = (f"{100 * share[end]:.0f}" for end in ("low", "high"))
        table.add_row("success", f"{100 * share['estimate']:.0f} % ({low} to {high} %)")
    table.add_row("force", _force(found["force"]))
    if "overshoot" in found["force"]:
        table.add_row("overshoot", _overshoot(found["force"]))
    whole = max(1, sum(found["modes"].values()))
    shares = (f"{name.lower().replace('_', ' ')} {_share(n / whole)}" for name, n in found["modes"].items())
    table.add_row("chunk", ", ".join(shares))
    table.add_row("surprise", _surprise(found["surprise"]))
    return table


def _force(force: dict[str, Any]) -> str:
    if "peak_n" not in force:
        allowed = f"; {force['violations']} ticks above {force['limit_n']:g} N" if "limit_n" in force else ""
        return f"at most {force['felt_n_max']:.1f} N felt{allowed}"
    peak = force["peak_n"]
    allowed = f"{force['violations']} above the limit of {force['limit_n']:g} N"
    return f"peak {peak['p50']:.1f} N, p95 {peak['p95']:.1f} N, at most {peak['max']:.1f} N; {allowed}"


def _overshoot(force: dict[str, Any]) -> str:
    """Peaks beside the force that was wanted, or else beside the limit."""
    points = ", ".join(f"{name} {value:.2f}" for name, value in force["overshoot"].items())
    of = "the wanted force" if force["over"] == "wanted" else "the limit"
    return f"peak over {of}: {points}"


def _surprise(surprise: dict[str, Any]) -> str:
    if not surprise["watched"]:
        return "not watched (--surprise)"
    return f"{surprise['raised']} raised, {surprise['early_plans']} early plans"


def _share(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 or share == 0 else f"{100 * share:.2g} %"


def _ms(figures: dict[str, float], point: str) -> str:
    if point not in figures:
        return "-"
    value = figures[point]
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 or value == 0 else f"{value:.2f}"


def _notes(found: dict[str, Any]) -> list[str]:
    late = "injected latency" if found["executor"] == "virtual time" else "when it woke after it was due"
    return [
        f"late: {late}. missed: a whole period late, or never there.",
        "touch age: from capture until a tier's output takes effect.",
    ]
