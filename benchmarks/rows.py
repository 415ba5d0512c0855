"""Which tables the README has: their rows, each made from results of one name, and what the columns read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forerun.teach import Recipe

COUNTS = ("n", "seeds")
"""What a column may read of the results themselves, beside their metrics."""
FARTHER = "-offset-"
"""Between a benchmark's name and the distance of its goals, where that is not its own."""


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
    about: str = ""
    """A sentence above it, {name} standing for a setting of the results."""


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
WRENCH = (
    Column(head="error of force (N)", metric="official/{part}/force", form="{:.2f}"),
    Column(head="error of torque (N m)", metric="official/{part}/torque", form="{:.3f}"),
    Column(head="force, held-out rows of the training file", metric="within/{part}/force", form="{:.2f}"),
    Column(head="test rows", metric="n"),
)
SLIP = (
    Column(head="right", metric="{part}/accuracy", form="percent"),
    Column(head="interval over objects", metric="{part}/by_object", form="{:.2f}"),
    Column(
        head="held-out objects of the training file",
        metric="{part}/held_out_objects_of_training_file",
        form="{:.2f}",
    ),
    Column(head="grasps", metric="n"),
)
GRASP = (
    *(
        Column(head=f"after {k} slice{'s' * (k > 1)}", metric=f"object/{{part}}/after {k}", form="percent")
        for k in (1, 2, 4, 8)
    ),
    Column(head="closed", metric="object/{part}/closed", form="percent"),
    Column(head="grasps", metric="n"),
)
NEXT_SLICE = (
    Column(head="squared error, over copy-last", metric="next slice/{part}/over_copy", form="{:.2f}"),
    Column(head="squared error (counts squared)", metric="next slice/{part}/squared_error", form="{:.2f}"),
    Column(head="grasps", metric="n"),
)
SCREW = (
    *(
        Column(head=f"{what}, {ms} ms ahead", metric=f"{{part}}/{ms} ms/{key}", form=form)
        for what, key, form in (("force (N)", "force", "{:.2f}"), ("torque (N m)", "torque", "{:.3f}"))
        for ms in (20, 100, 500)
    ),
    Column(head="blocks of a second", metric="n"),
)
SERIES = ("mean", "copy-last", "linear extrapolation", "ridge")
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
    "touch-wrench": Table(
        lead="soft finger: wrench from its deformation",
        columns=WRENCH,
        rows=[
            Row(label=part, result="touch-real-softfinger", part=part)
            for part in ("mean", "ridge", "network")
        ],
    ),
    "touch-slip": Table(
        lead="BioTac: will it slip, objects not seen before",
        columns=SLIP,
        rows=[
            Row(label=f"palm {palm}: {part}", result=f"touch-real-biotac-{palm}", part=part)
            for palm in ("down", "side")
            for part in ("majority", "logistic", "network", "logistic, levelled", "network, levelled")
        ],
    ),
    "touch-grasp": Table(
        lead="iCub: which object, of ten",
        columns=GRASP,
        rows=[
            Row(label=part, result="touch-real-icub", part=part)
            for part in (  # as touch_time.py names them
                "majority",
                "logistic, taxels and joints",
                "network, taxels and joints",
                "logistic, joints",
                "logistic, taxels",
                "logistic, taxels nothing presses",
                "logistic, tared taxels",
                "network, tared taxels",
                "logistic, tared taxels and joints",
            )
        ],
    ),
    "touch-next": Table(
        lead="iCub: what the taxels read next",
        columns=NEXT_SLICE,
        rows=[Row(label=part, result="touch-real-icub", part=part) for part in (*SERIES, "network")],
    ),
    "touch-screw": Table(
        lead="screwdriving: the wrench to come",
        columns=SCREW,
        rows=[
            Row(label=part, result="touch-real-screwdriving", part=part)
            for part in (*SERIES, "ridge without camera", "network")
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
