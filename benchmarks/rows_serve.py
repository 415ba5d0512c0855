"""The tables of docs/serving.md: sessions in time, overload, faults, an hour of load, planning, exports."""

from __future__ import annotations

from columns import Column, Row, Table

SESSIONS = (
    Column(head="sessions in time", metric="{part}/sessions", form="{:.0f}"),
    Column(head="p50", metric="{part}/at_best/latency_ms/p50", form="{:.1f} ms"),
    Column(head="p99", metric="{part}/at_best/latency_ms/p99", form="{:.1f} ms"),
    Column(head="missed", metric="{part}/at_best/missed_share", form="{:.3%}"),
    Column(head="jitter", metric="{part}/at_best/jitter_ms", form="{:.1f} ms"),
    Column(head="first frame, p99", metric="{part}/at_best/first_frame_ms/p99", form="{:.0f} ms"),
    Column(head="rows a pass", metric="{part}/at_best/rows_a_pass", form="{:.1f}"),
    Column(head="steps", metric="{part}/at_best/steps", form="{:,.0f}"),
    Column(head="$ a session-hour", metric="{part}/dollars_per_session_hour", form="{:.5f}"),
)
AGAINST = (
    Column(head="batched", metric="{part}/batched", form="{:,.0f}"),
    Column(head="the other", metric="{part}/other", form="{:,.0f}"),
    Column(head="ratio", metric="{part}/ratio", form="{:.1f}"),
    Column(head="unit", metric="{part}/unit"),
)
OVERLOAD = (
    Column(head="came", metric="overload/came", form="{:.0f}"),
    Column(head="let in", metric="overload/sessions", form="{:.0f}"),
    Column(head="their p99", metric="overload/latency_ms/p99", form="{:.1f} ms"),
    Column(head="missed", metric="overload/missed_share", form="{:.3%}"),
    Column(head="refused", metric="overload/refused", form="{:.0f}"),
    Column(head="heard why within", metric="overload/refused_after_ms/max", form="{:.0f} ms"),
    Column(head="full", metric="overload/level_shares/full", form="{:.0%}"),
    Column(head="half the pictures", metric="overload/level_shares/half", form="{:.0%}"),
    Column(head="numbers only", metric="overload/level_shares/numbers", form="{:.0%}"),
)
STATE = (
    Column(head="bytes in a slot", metric="state/bytes_per_slot", form="{:,.0f}"),
    Column(head="of a snapshot", metric="state/bytes_per_snapshot", form="{:,.0f}"),
    Column(head="fork of 256, p50", metric="state/fork_ms/p50", form="{:.2f} ms"),
    Column(head="p99", metric="state/fork_ms/p99", form="{:.2f} ms"),
    Column(head="suspend and resume, p99", metric="state/suspend_and_resume_ms/p99", form="{:.2f} ms"),
    Column(head="snapshot, p99", metric="state/snapshot_ms/p99", form="{:.2f} ms"),
    Column(head="restore, p99", metric="state/restore_ms/p99", form="{:.2f} ms"),
)
FIDELITY = (
    Column(head="pictures drawn", metric="fidelity/{part}/fresh_share", form="{:.0%}"),
    Column(head="error of the picture", metric="fidelity/{part}/picture_error", form="{:.2f} of 255"),
    Column(head="ms a row", metric="fidelity/{part}/ms_a_row", form="{:.3f}"),
)
FAULTS = (
    Column(head="steps", metric="driver/{part}/steps", form="{:.0f}"),
    Column(head="p50", metric="driver/{part}/latency_ms/p50", form="{:.1f} ms"),
    Column(head="p99", metric="driver/{part}/latency_ms/p99", form="{:.1f} ms"),
    Column(head="missed", metric="driver/{part}/missed_share", form="{:.3%}"),
)
LEFT = (
    Column(head="memory", metric="{part}/memory_mb", form="{:.0f} MB"),
    Column(head="handles", metric="{part}/handles", form="{:.0f}"),
    Column(head="sessions", metric="{part}/sessions", form="{:.0f}"),
)
SOAK = (
    Column(head="an hour, with two standard errors", metric="growth_per_hour/{part}", form="{:.2f}"),
    Column(head="steps", metric="n"),
)
PLANNING = (
    Column(head="in process, p50", metric="in process/p50", form="{:.1f} ms"),
    Column(head="through the server, p50", metric="through the server/p50", form="{:.1f} ms"),
    Column(head="ratio", metric="ratio", form="{:.2f}"),
    Column(head="largest difference of actions", metric="largest_difference_of_actions", form="{:.1g}"),
    Column(head="decisions", metric="n"),
)
PARITY = (
    Column(head="largest difference after 1 step", metric="parity/{part}/after_1/max", form="{:.1e}"),
    Column(head="after 30", metric="parity/{part}/after_30/max", form="{:.1e}"),
    Column(head="1 row", metric="step_us/{part}/1/cpu_median", form="{:.0f} us"),
    Column(head="32 rows", metric="step_us/{part}/32/cpu_median", form="{:.0f} us"),
    Column(head="64 rows", metric="step_us/{part}/64/cpu_median", form="{:.0f} us"),
)


def _gpu(way: str) -> tuple[Column, ...]:
    rows = tuple(
        Column(head=f"{n} rows", metric=f"{{part}}/{way}/pass_ms/{n}/p50", form="{:.1f} ms")
        for n in (1, 8, 64)
    )
    return (
        Column(head="parameters", metric="{part}/parameters", form="{:,.0f}"),
        *rows,
        Column(head="sessions at 20 Hz", metric=f"{{part}}/{way}/sessions", form="{:.0f}"),
        Column(head="projected, H200: sessions", metric="{part}/projected_h200/sessions", form="{:,.0f}"),
        Column(
            head="$ a session-hour",
            metric="{part}/projected_h200/dollars_per_session_hour",
            form="{:.4f}",
        ),
    )


SERVE_TABLES = {
    "serve": Table(
        lead="30 Hz, size xs, server on one core",
        columns=SESSIONS,
        rows=[
            Row(label="batched, state and touch", result="serve", part="numbers"),
            Row(label="batched, a 64 px JPEG in every reply", result="serve", part="pictures"),
            Row(label="one row a pass", result="serve", part="one_at_a_time"),
            Row(label="a process for each user", result="serve", part="processes"),
        ],
    ),
    "serve-against": Table(
        lead="what batching gains",
        columns=AGAINST,
        rows=[
            Row(label="one row a pass, 32 sessions, in the engine", result="serve-gain", part="gain/engine"),
            Row(
                label="one row a pass, 32 sessions, through the network",
                result="serve-gain",
                part="gain/network",
            ),
            Row(label="a process for each user, sessions in time", result="serve", part="against_processes"),
        ],
    ),
    "serve-overload": Table(
        lead="twice the sessions",
        columns=OVERLOAD,
        rows=[Row(label="a JPEG in every reply", result="serve-overload")],
    ),
    "serve-state": Table(lead="one world", columns=STATE, rows=[Row(label="size xs", result="serve")]),
    "serve-fidelity": Table(
        lead="level",
        columns=FIDELITY,
        rows=[Row(label=level, result="serve", part=level) for level in ("full", "half", "numbers")],
    ),
    "serve-faults": Table(
        lead="a driver at 30 Hz, meanwhile",
        columns=FAULTS,
        rows=[
            Row(label=label, result="serve-faults", part=part)
            for label, part in (
                ("nobody else", "alone"),
                ("100,000 garbled messages", "garbled messages"),
                ("10,000 clients that vanish", "vanishing clients"),
            )
        ],
    ),
    "serve-left": Table(
        lead="the server",
        columns=LEFT,
        rows=[Row(label=part, result="serve-faults", part=part) for part in ("before", "after")],
    ),
    "serve-soak": Table(
        lead="growth at half load",
        columns=SOAK,
        rows=[
            Row(label=label, result="serve-soak", part=part)
            for label, part in (
                ("memory, MB", "memory_mb"),
                ("handles", "handles"),
                ("p50, ms", "p50_ms"),
                ("p99, ms", "p99_ms"),
            )
        ],
    ),
    "serve-planning": Table(
        lead="64 futures, 4 rounds, 5 ticks",
        columns=PLANNING,
        rows=[Row(label="one decision", result="serve-planning")],
    ),
    "serve-gpu": Table(
        lead="a pass, by size",
        columns=_gpu("eager"),
        rows=[Row(label=size, result="serve-gpu", part=size) for size in ("xs", "s", "m", "l")],
    ),
    "serve-exports": Table(
        lead="step, size xs",
        columns=PARITY,
        rows=[
            Row(label=label, result="export", part=part)
            for label, part in (
                ("PyTorch", "eager"),
                ("torch.export", "torch"),
                ("ONNX Runtime", "onnx"),
                ("OpenVINO", "openvino"),
                ("ONNX Runtime, int8", "int8"),
            )
        ],
    ),
}
