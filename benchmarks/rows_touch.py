"""The tables about touch: in simulated contact tasks, in imagination, and in public recordings."""

from __future__ import annotations

from columns import Column, Row, Table

TASKS = ("LiftFragile", "PegFeel", "WipeForce", "WeighSort", "PushBehind")
SENSES = (  # rows of benchmarks/touch.py, and their heads
    ("vision and proprioception", "vision, proprioception"),
    ("and touch at 30 Hz", "+ touch at 30 Hz"),
    ("and touch with fast tier", "+ fast tier"),
    ("touch only", "touch only"),
    ("touch silenced in the trials", "touch silenced"),
    ("scripted", "scripted"),
    ("oracle", "oracle"),
    ("planned, nothing felt", "plan alone"),
    ("random", "random"),
)
WORTH = (
    *(Column(head=head, metric=f"{row}/success", form="percent") for row, head in SENSES),
    Column(head="trials", metric="n"),
)
GRIP = (
    Column(head="success", metric="{part}/success", form="percent"),
    Column(head="slip (m), median", metric="{part}/slip_m/median", form="{:.4f}"),
    Column(head="slip (m), p95", metric="{part}/slip_m/p95", form="{:.4f}"),
    Column(head="grip over the least, median", metric="{part}/grip_over_least/median", form="{:.2f}"),
    Column(head="p95", metric="{part}/grip_over_least/p95", form="{:.2f}"),
    Column(head="trials", metric="n"),
)
PEG = (
    Column(head="success", metric="{part}/success", form="percent"),
    Column(head="seconds, median", metric="{part}/seconds/median", form="{:.2f}"),
    Column(head="peak force (N), p95", metric="{part}/force_n/p95", form="{:.1f}"),
    Column(head="trials", metric="n"),
)
WIPE = (
    Column(head="success", metric="{part}/success", form="percent"),
    Column(head="RMS of the force error (N), median", metric="{part}/rms_n/median", form="{:.2f}"),
    Column(head="p95", metric="{part}/rms_n/p95", form="{:.2f}"),
    Column(head="peak over wanted force, p95", metric="{part}/overshoot/p95", form="{:.3f}"),
    Column(head="contact lost, p95", metric="{part}/lost/p95", form="{:.3f}"),
    Column(head="trials", metric="n"),
)
AHEAD = (
    Column(head="world model", metric="error_n/{part}/model", form="{:.3f}"),
    Column(head="copy-last", metric="error_n/{part}/copy-last", form="{:.3f}"),
    Column(head="linear", metric="error_n/{part}/linear", form="{:.3f}"),
    Column(head="training mean", metric="error_n/{part}/mean", form="{:.3f}"),
    Column(head="episodes", metric="n"),
)
ONSET = (
    Column(head="off by, median (ms)", metric="onset/{part}/model/median_ms", form="{:.0f}"),
    Column(head="p95 (ms)", metric="onset/{part}/model/p95_ms", form="{:.0f}"),
    Column(head="within 20 ms", metric="onset/{part}/model/within_20ms", form="{:.2f}"),
    Column(head="copy-last, median (ms)", metric="onset/{part}/copy-last/median_ms", form="{:.0f}"),
    Column(head="copy-last, within 20 ms", metric="onset/{part}/copy-last/within_20ms", form="{:.2f}"),
    Column(head="onsets", metric="onset/{part}/model/n"),
)
HIDDEN = (
    Column(head="log mass", metric="probe/{part}/log_mass", form="{:.2f}"),
    Column(head="friction", metric="probe/{part}/friction", form="{:.2f}"),
    Column(head="episodes", metric="n"),
)
SPACES = (
    *(Column(head=f"{ms} ms ahead", metric=f"error_n/{ms} ms/model", form="{:.3f}") for ms in (10, 100, 500)),
    Column(head="mass, R2", metric="probe/felt/log_mass", form="{:.2f}"),
    Column(head="friction, R2", metric="probe/felt/friction", form="{:.2f}"),
    Column(head="episodes", metric="n"),
)
AGE = (
    *(
        Column(head=f"{task}, {who}", metric=f"{task}/{{part}}/{who}/success", form="percent")
        for task in ("LiftFragile", "WipeForce")
        for who in ("law", "law and learned tier")
    ),
    Column(head="trials", metric="n"),
)
STEPS = (
    Column(head="physics steps a second and core", metric="{part}/steps_per_s", form="{:,.0f}"),
    Column(head="slowest of the repeats", metric="{part}/slowest", form="{:,.0f}"),
    Column(head="MuJoCo's step alone", metric="{part}/bare_steps_per_s", form="{:,.0f}"),
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
TOUCH_TABLES = {
    "touch-tasks": Table(
        lead="successes",
        columns=WORTH,
        rows=[Row(label=task, result=f"touch-{task.lower()}") for task in TASKS],
    ),
    **{
        f"touch-{name}": Table(
            lead=task,
            columns=columns,
            rows=[
                Row(label=part, result=f"touch-{task.lower()}", part=part)
                for part in ("scripted", "and touch with fast tier", "oracle")
            ],
        )
        for name, task, columns in (
            ("grip", "LiftFragile", GRIP),
            ("peg", "PegFeel", PEG),
            ("wipe", "WipeForce", WIPE),
        )
    },
    "touch-ahead": Table(
        lead="mean error (N)",
        columns=AHEAD,
        rows=[
            Row(label=f"{ms} ms ahead", result="touch-prediction", part=f"{ms} ms") for ms in (10, 100, 500)
        ],
    ),
    "touch-ticks": Table(
        lead="mean error (N), 200 ms ahead",
        columns=AHEAD,
        rows=[
            Row(
                label=f"ticks of {ms} ms ({1000 // ms} Hz)",
                result="touch-prediction",
                part=f"200 ms in ticks of {ms} ms",
            )
            for ms in (200, 100, 20, 10)
        ],
    ),
    "touch-onset": Table(
        lead="moment of contact, foretold",
        columns=ONSET,
        rows=[
            Row(label=f"{ms} ms before", result="touch-prediction", part=f"{ms} ms") for ms in (10, 20, 50)
        ],
    ),
    "touch-hidden": Table(
        lead="share of variance a probe reads (R2)",
        columns=HIDDEN,
        rows=[
            Row(label=label, result="touch-prediction", part=part)
            for label, part in (
                ("with touch: latents and trunk, whole episode", "felt"),
                ("latents alone", "felt, latents alone"),
                ("the trunk's last 0.2 s alone", "felt, trunk's last 0.2 s"),
                ("the same model, sensor taken away", "unfelt"),
            )
        ],
    ),
    "touch-spaces": Table(
        lead="touch foretold as",
        columns=SPACES,
        rows=[
            Row(label=label, result=f"touch-prediction{name}")
            for label, name in (
                ("statistics and learned numbers", ""),
                ("statistics alone (raw)", "-statistics"),
                ("learned numbers alone (latent)", "-latent"),
            )
        ],
    ),
    "touch-age": Table(
        lead="sensor's delay",
        columns=AGE,
        rows=[
            Row(label=f"{ms} ms", result="touch-age", part=f"age_ms/{ms}") for ms in (2, 5, 10, 20, 40, 60)
        ],
    ),
    "touch-rate": Table(
        lead="sensor's rate",
        columns=AGE,
        rows=[
            Row(label=f"{hz} Hz", result="touch-age", part=f"rate_hz/{hz}")
            for hz in (1000, 500, 200, 100, 50, 30)
        ],
    ),
    "touch-speed": Table(
        lead="with wrench, contact and encoder readings",
        columns=STEPS,
        rows=[Row(label=task, result="touch-speed", part=f"{task}-v0") for task in TASKS],
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
}
