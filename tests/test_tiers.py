"""A late planner, surprise, the numpy net and shared memory: what holds in virtual time, in one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from forerun.control.chunks import HANDOVER_S, HOLD_S, STEPS, Chunks, Mode, handover, mode_at
from forerun.control.gru import NumpyStudent
from forerun.control.lateness import DelayLine, Lateness
from forerun.control.robot import SimulatedRobot
from forerun.control.senses import Felt, Senses
from forerun.control.shared import Block, TornReadError
from forerun.control.student import Student, Tiers, read_student, run, save_student, student_of
from forerun.control.surprise import Envelope, Surprise, Usual
from forerun.control.virtual import Trials, run_virtual, scripted_tiers, usual_of
from forerun.tasks.scene import load_mujoco
from forerun.tasks.touch import TouchWorlds, laws, make_worlds
from forerun.tasks.touch.shove import shove, unshove

load_mujoco()  # not by importorskip: forerun chooses how to draw before mujoco is imported
LIFT = "forerun/LiftFragile-v0"
WIPE, PUSHED_S = "forerun/WipeForce-v0", 1.6
CHUNK_S = STEPS / 50


@pytest.fixture
def lift() -> TouchWorlds:
    worlds = make_worlds(LIFT, 2)
    worlds.reset([0, 1])
    return worlds


def actions_of(worlds: TouchWorlds, chunks: Chunks, seconds: float) -> list[np.ndarray]:
    """What chunks say every 20 ms; no physics is needed for that."""
    chunks.reset(worlds)
    said = []
    for step in range(round(seconds * 50)):
        worlds.ms = 20 * step
        said.append(chunks.action(worlds))
    return said


@pytest.mark.parametrize(
    ("late_s", "mode"),
    [(-0.02, Mode.FOLLOW), (0.0, Mode.HOLD), (HOLD_S - 0.02, Mode.HOLD), (HOLD_S, Mode.BACK_OFF)],
)
def test_a_chunk_is_followed_then_held_then_left(late_s: float, mode: Mode) -> None:
    assert mode_at(1.0 + late_s, np.array([1.0]))[0] == mode


def test_a_planner_in_time_is_always_followed(lift: TouchWorlds) -> None:
    chunks = Chunks(Lateness(delay_s=0.3, jitter_s=0.05))
    actions_of(lift, chunks, 2.0)
    assert chunks.counts.tolist() == [2 * 100, 0, 0]


def test_a_lost_planner_leaves_its_chunk_then_a_hold_then_a_retreat_and_never_nothing(
    lift: TouchWorlds,
) -> None:
    chunks = Chunks(Lateness(outages=((0.0, np.inf),)))
    said = actions_of(lift, chunks, CHUNK_S + HOLD_S + 0.2)
    assert chunks.counts.tolist() == [2 * 32, 2 * 25, 2 * 10]
    grips = np.array(said)[:, :, 1]
    assert np.isfinite(said).all()
    assert (grips == grips[0]).all(), "what is carried is never let go"
    assert (np.array(said)[33:, :, 0] == 0).all(), "and nothing moves once the chunk has ended"


def test_a_planner_that_comes_back_is_followed_again(lift: TouchWorlds) -> None:
    chunks = Chunks(Lateness(outages=((0.1, 1.0),)))
    actions_of(lift, chunks, 2.0)
    assert chunks.counts[Mode.HOLD] > 0
    assert (chunks.mode == Mode.FOLLOW).all()


def test_a_contradicting_chunk_moves_no_action_by_more_than_a_third_of_the_difference(
    lift: TouchWorlds,
) -> None:
    calls = iter(range(100))
    chunks = Chunks(Lateness(delay_s=0.0), lambda w, n: np.full((n, w.count, 2), float(next(calls) % 2)))
    steps = np.abs(np.diff(actions_of(lift, chunks, 2.0), axis=0))
    assert steps.max() == pytest.approx(0.02 / HANDOVER_S)


def test_a_handover_ends_with_what_is_wanted() -> None:
    before, wanted = np.zeros((1, 2)), np.ones((1, 2))
    assert (handover(before, wanted, 0.0) == before).all()
    assert (handover(before, wanted, HANDOVER_S) == wanted).all()


def test_one_spike_is_no_surprise_and_three_samples_are_one() -> None:
    surprise, usual = Surprise(2), Envelope.around(np.zeros((2, 2, 3)), np.ones((2, 2, 3)))
    far, near = np.array([[0, 0, 4.1], [0, 0, 3.9]]), np.zeros((2, 3))
    order = (far, near, far, far, far, far, near, far, far, far)
    told = [surprise(touch, usual.low[0], usual.high[0]) for touch in order]
    assert [i for i, row in enumerate(told) if row[0]] == [4, 9]
    assert not np.any(told, axis=0)[1]


def test_surprise_plans_early_in_the_surprised_world_alone(lift: TouchWorlds) -> None:
    channels = Felt(lift).newest.shape[1]
    expected = Envelope.around(np.zeros((STEPS, 2, channels)), np.ones((STEPS, 2, channels)))
    chunks = Chunks(Lateness(every_s=10.0, delay_s=0.02), envelope=lambda worlds, steps: expected)
    chunks.reset(lift)
    touch = np.zeros((2, channels))
    touch[1] = 5.0
    for _ in range(3):
        chunks.feel(lift, touch)
    for step in range(1, 4):
        lift.ms = 20 * step
        chunks.action(lift)
    assert chunks.from_s.tolist() == [0.0, 0.02]
    assert chunks.surprises.tolist() == [0, 1]
    assert chunks.early.tolist() == [0, 1]


def test_touch_at_the_edge_of_the_envelope_asks_for_ten_plans_a_second_at_most(lift: TouchWorlds) -> None:
    edge = Envelope(np.zeros((STEPS, 2, 1)), np.ones((STEPS, 2, 1)))
    chunks = Chunks(Lateness(every_s=10.0, delay_s=0.0), envelope=lambda worlds, steps: edge)
    chunks.reset(lift)
    for step in range(51):
        lift.ms = 20 * step
        for touch in (0.5, 2.0, 2.0, 2.0):
            chunks.feel(lift, np.full((2, 1), touch))
        chunks.action(lift)
    assert chunks.surprises.tolist() == [51, 51]
    assert chunks.early.tolist() == [11, 11]


def test_touch_reaches_the_surprise_while_tiers_run() -> None:
    worlds, law = make_worlds(LIFT), laws(LIFT).scripted().law
    channels = worlds.features(np.zeros((1, 12))).shape[1]
    narrow = Envelope.around(np.zeros((STEPS, 1, channels)), np.full((STEPS, 1, channels), 0.01))
    chunks = Chunks(Lateness(), envelope=lambda worlds, steps: narrow)
    run(worlds, Tiers(law, (), Senses(), chunks=chunks), [0])
    assert chunks.surprises[0] >= 1


@pytest.fixture(scope="module")
def wipe_usual() -> Usual:
    return usual_of(Trials(task=WIPE, seeds=range(1)))


def watched(usual: Usual, push_n: float = 0.0) -> Chunks:
    """20 episodes with an envelope, and perhaps an unforeseen push."""
    worlds, tiers = make_worlds(WIPE, 20), scripted_tiers(Trials(task=WIPE, seeds=range(20)), usual)
    if push_n:
        shove(worlds, PUSHED_S, (0.0, 0.0, -push_n))
    run(worlds, tiers, range(7000, 7020))
    assert tiers.chunks is not None
    return tiers.chunks


def test_an_unforeseen_push_is_noticed_within_20_ms_and_planned_for_early(wipe_usual: Usual) -> None:
    chunks = watched(wipe_usual, push_n=10.0)
    assert (chunks.first_after(PUSHED_S) - PUSHED_S <= 0.02).all()
    assert (chunks.early >= 1).all(), "counted in the table"


def test_what_is_usual_stays_silent(wipe_usual: Usual) -> None:
    assert (watched(wipe_usual).surprises > 0).sum() <= 2, "of 20 episodes"


def test_a_push_that_is_taken_back_pushes_nothing() -> None:
    worlds = make_worlds(WIPE)
    shove(worlds, 0.0, (0.0, 0.0, -1.0))
    worlds.disturb()
    assert worlds.data[0].xfrc_applied[-1, 2] == -1
    unshove(worlds)
    worlds.reset([0])
    worlds.disturb()
    assert worlds.data[0].xfrc_applied[-1, 2] == 0


def test_what_is_usual_travels_with_the_student(tmp_path: Path) -> None:
    student, usual = Student(4, 1, 8), Usual(np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32))
    save_student(student, tmp_path / "fast.safetensors", (), WIPE, (usual.low, usual.high))
    weights = read_student(tmp_path / "fast.safetensors", (), WIPE)
    kept = usual_of(Trials(task=WIPE, seeds=range(1), weights=weights))
    assert (kept.high == usual.high).all()
    assert student_of(weights)(torch.zeros(1, 2, 4))[0].shape == (1, 2, 1)
    low, high = usual.ahead(0.04, 5)
    assert low.shape == high.shape == (5, 2), "beyond the last row, that"


def test_a_delayed_action_is_in_force_when_it_arrives_and_none_replaces_a_newer_one() -> None:
    line, rows = DelayLine(Lateness(delay_s=0.01, jitter_s=0.03, seed=1)), np.zeros((50, 1))
    assert (line.send(0.0, rows) == 0).all(), "an episode begins with an action in hand"
    late = np.array([line.send(0.002 * k, rows + k) for k in range(1, 20)])
    in_force = np.array([line.receive(ms / 1000)[:, 0] for ms in range(80)])
    assert (np.diff(in_force, axis=0) >= 0).all()
    assert (in_force[11] == 0).all(), "nothing is there before its delay is over"
    assert (in_force[-1] == 19).all()
    assert ((late >= 0.01) & (late <= 0.04)).all()


@pytest.mark.parametrize("tier", ["policy", "fast"])
def test_every_tier_can_be_late_and_the_seed_decides_its_jitter(tier: str) -> None:
    late = {tier: Lateness(delay_s=0.002, jitter_s=0.004, seed=3)}
    found = [run_virtual(Trials(task=WIPE, seeds=range(1), **late)) for _ in range(2)]
    punctual = run_virtual(Trials(task=WIPE, seeds=range(1)))["tiers"]
    assert found[0] == found[1]
    tiers, other = found[0]["tiers"], "fast" if tier == "policy" else "policy"
    assert 2 <= tiers[tier]["late_ms"]["p50"] <= tiers[tier]["late_ms"]["max"] <= 6
    assert tiers[tier]["touch_age_ms"]["p50"] > punctual[tier]["touch_age_ms"]["p50"]
    assert tiers[other] == punctual[other]


def test_a_policy_that_is_late_by_a_period_misses_its_deadlines() -> None:
    found = run_virtual(Trials(task=WIPE, seeds=range(1), policy=Lateness(delay_s=0.02)))["tiers"]
    assert found["policy"]["missed_share"] > 0.9
    assert found["fast"]["missed"] == 0


def test_a_hold_keeps_what_the_policy_made_of_the_plan() -> None:
    trials = Trials(task="forerun/WeighSort-v0", seeds=range(2), planner=Lateness(outages=((0.0, 9.0),)))
    worlds, tiers = make_worlds(trials.task, 2), scripted_tiers(trials)
    tiers.script = lambda _: np.tile([-1.0, 7.0], (2, 1))
    worlds.reset([0, 1])
    tiers.reset(worlds)
    for worlds.ms in range(0, 1000, 20):
        action = tiers._act(worlds)
    assert tiers.chunks is not None
    assert (tiers.chunks.mode == Mode.HOLD).all()
    assert (action[:, 0] == -1).all(), "the bin that was felt, not the one that was planned"


@pytest.mark.parametrize("width", [32, 64])
def test_the_net_without_torch_says_what_the_net_with_torch_says(width: int) -> None:
    torch.manual_seed(0)
    student = Student(7, 3, width)
    torch.nn.init.normal_(student.out.weight)
    student.fit_scale(torch.randn(50, 7))
    seen = 3 * torch.randn(1, 40, 7)
    net = NumpyStudent({k: v.numpy() for k, v in student.state_dict().items()})
    ours = np.array([net(step) for step in seen[0].numpy()])
    assert ours == pytest.approx(student(seen)[0][0].detach().numpy(), abs=1e-5)


def test_a_block_gives_back_what_was_written_last_and_when() -> None:
    block = Block(3)
    other = Block(3, block.name)
    try:
        assert other.read().stamp_ns == 0
        assert other.age_s() == float("inf")
        for k in range(5):
            block.write(np.array([k, k + 1, k + 2]))
        assert other.read().values.tolist() == [4, 5, 6]
        assert other.age_s() < 1
    finally:
        other.close()
        block.close()


def test_a_reader_is_not_held_up_by_a_writer_that_was_stopped_halfway() -> None:
    block = Block(2)
    try:
        block.write(np.array([1.0, 1.0]))
        block._slots[0, 0] = 9.0  # half of the next message, never counted
        assert block.read().values.tolist() == [1, 1]
    finally:
        block.close()


def test_a_block_that_changes_under_every_read_says_so() -> None:
    block = Block(1)

    class Racing:
        count = 0

        def __getitem__(self, key: int) -> int:  # a whole lap between any two looks at the count
            self.count += 2
            return self.count

    block._count = Racing()  # type: ignore[assignment]
    try:
        with pytest.raises(TornReadError, match="one writer"):
            block.read()
    finally:
        block.close()


def test_a_stopped_robot_keeps_what_it_was_told_last() -> None:
    robot = SimulatedRobot(LIFT)
    robot.write(np.array([0.01, 2.0]))
    robot.stop()
    robot.stop()
    robot.write(np.array([0.2, 40.0]))
    assert robot._last is not None
    assert robot._last.tolist() == [[0.01, 2.0]]
    assert robot.now() == 0.002


def test_a_robot_never_reads_the_future() -> None:
    robot = SimulatedRobot(LIFT)
    for _ in range(20):
        robot.write(np.array([0.0, 2.0]))
        assert all(sample.time_s <= robot.now() for sample in robot.read().values())
    assert set(robot.read()) == set(robot.streams)
