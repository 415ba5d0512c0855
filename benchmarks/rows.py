"""Which tables the README has: their rows, each made from results of one name, and what the columns read."""

from __future__ import annotations

from columns import FARTHER, Column, Row, Table
from rows_control import CONTROL_TABLES
from rows_serve import SERVE_TABLES
from rows_touch import TOUCH_TABLES

from forerun.teach import Recipe

SUCCESS = (  # agents as `forerun.evaluation.contest` names them
    Column(head="planner", metric="planner/{part}", form="percent"),
    Column(head="policy alone", metric="policy alone/{part}", form="percent"),
    Column(head="cloning", metric="cloned policy/{part}", form="percent"),
    Column(head="random", metric="random moves/{part}", form="percent"),
    Column(head="trials", metric="n"),
    Column(head="training", metric="training_minutes", form="{:.0f} min"),
    Column(head="in all, with installation", metric="total_minutes", form="{:.0f} min"),
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
        lead="goals so many steps away",
        columns=SUCCESS,
        rows=[
            Row(label=f"{task}, {steps}", result=name if steps == 25 else f"{name}{FARTHER}{steps}")
            for task, name in (("Push", "push"), ("Push-T", "pusht"))
            for steps in (25, 50, 75, 100)
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
            Row(label="one decision of the goal policy, from a new picture", result="speed", part="decision"),
        ],
    ),
    "representation": Table(
        lead="what shapes the latent",
        about=f"After {{steps}} of the recipe's {Recipe().representation.steps} steps of stage one.",
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
    **TOUCH_TABLES,
    **CONTROL_TABLES,
    **SERVE_TABLES,
}
