"""The tables of docs/control.md: late planners, touch age, surprise, kills and deadlines."""

from __future__ import annotations

from columns import Column, Row, Table
from rows_touch import TASKS

LATE = (
    Column(head="success", metric="{part}/success", form="percent"),
    Column(head="points lost", metric="{part}/points_lost", form="{:.1f}"),
    Column(head="above the force limit", metric="{part}/force/violations", form="{:.0f}"),
    Column(head="limit", metric="{part}/force/limit_n", form="{:g} N"),
    Column(head="peak force, p95", metric="{part}/force/peak_n/p95", form="{:.1f} N"),
    Column(head="largest", metric="{part}/force/peak_n/max", form="{:.1f} N"),
    Column(head="trials", metric="n"),
)
SURPRISE = (
    Column(head="episodes with a false alarm", metric="episodes_with_a_false_alarm", form="percent"),
    Column(head="pushes noticed", metric="noticed", form="percent"),
    Column(head="after, p50", metric="noticed_ms/p50", form="{:.0f} ms"),
    Column(head="p95", metric="noticed_ms/p95", form="{:.0f} ms"),
    Column(head="trials", metric="n"),
)
AGE = (
    Column(head="p50", metric="{part}/p50", form="{:.1f} ms"),
    Column(head="p99", metric="{part}/p99", form="{:.1f} ms"),
)
KILLS = (
    Column(head="kills", metric="kills", form="{:.0f}"),
    Column(head="in contact", metric="in_contact", form="{:.0f}"),
    Column(head="held within 50 ms", metric="within_50_ms", form="{:.0f}"),
    Column(head="hold after, p50", metric="hold_ms/p50", form="{:.0f} ms"),
    Column(head="longest", metric="hold_ms/max", form="{:.0f} ms"),
    Column(head="largest force after", metric="force_n_after_max", form="{:.1f} N"),
)
RATE = (
    Column(head="scheduling", metric="scheduling"),
    Column(head="missed", metric="missed_share", form="{:.3%}"),
    Column(head="late p50", metric="late_us/p50", form="{:.0f} us"),
    Column(head="p99", metric="late_us/p99", form="{:.0f} us"),
    Column(head="p99.9", metric="late_us/p99.9", form="{:.0f} us"),
    Column(head="computes, p99", metric="compute_us/p99", form="{:.0f} us"),
    Column(head="an idle loop missed", metric="bare_loop/missed_share", form="{:.3%}"),
    Column(head="watchdog stopped after", metric="watchdog_stopped_after_s", form="{:.1f} s"),
)


def _late(conditions: dict[str, str]) -> list[Row]:
    return [
        Row(label=f"{task}, {words}", result=f"tiers-delays-{task.lower()}", part=part)
        for task in TASKS
        for part, words in conditions.items()
    ]


CONTROL_TABLES = {
    "control-delays": Table(
        lead="planner late by",
        columns=LATE,
        rows=_late({f"late-{ms}": f"{ms} ms" for ms in (0, 50, 100, 200, 300)}),
    ),
    "control-outages": Table(
        lead="no chunk arrives for",
        columns=LATE,
        rows=_late({f"lost-{ms}": f"{ms / 1000:g} s" for ms in (250, 500, 1000)}),
    ),
    "control-surprise": Table(
        lead="an unforeseen push",
        columns=SURPRISE,
        rows=[Row(label=task, result=f"tiers-surprise-{task.lower()}") for task in TASKS],
    ),
    "control-age": Table(
        lead="touch age at the command, LiftFragile",
        columns=AGE,
        rows=[
            Row(label=label, result="realtime-age", part=part)
            for label, part in (("virtual time", "virtual"), ("wall clock, other core busy", "wall_clock"))
        ],
    ),
    "control-kills": Table(
        lead="killed in contact, other core busy",
        columns=KILLS,
        rows=[Row(label=tier, result=f"realtime-kills-{tier}") for tier in ("planner", "policy")],
    ),
    "control-rate": Table(
        lead="fast tier at 1 kHz for 60 s, other core busy",
        columns=RATE,
        rows=[
            Row(label=label, result=f"realtime-{part}")
            for label, part in (("SCHED_FIFO asked for", "fifo"), ("not asked for", "ordinary"))
        ],
    ),
}
