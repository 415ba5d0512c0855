"""What a served world may rely on: its neighbours, its past and other people's mistakes do not touch it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from forerun.serving.onnx_step import available
from forerun.serving.protocol import Close, Fork, Open, Restore, Rollback, Select, Snapshot, Step, View
from forerun.serving.registry import Limits
from live_worlds import Bench, start, step
from tiny_worlds import ACTIONS, SHAPES, world

CLOSE = 1e-5


def felt(reply: dict) -> np.ndarray:
    assert reply["type"] in ("obs", "opened", "forked"), reply
    return reply["streams"]["arm.position"]


def code(reply: dict) -> str:
    assert reply["type"] == "error", reply
    return reply["code"]


@pytest.mark.parametrize(
    ("shape", "engine"), [("packed", "torch"), ("unpacked", "torch"), ("packed", "onnx")]
)
def test_a_served_world_is_the_world_of_the_model(
    shape: str, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "onnx" and not available():
        pytest.skip("the extra 'export' is not installed")
    monkeypatch.setenv("FORERUN_CACHE", str(tmp_path))
    bench = Bench(model=world(**SHAPES[shape]), engine=engine)
    bench.open()
    served = bench.walk(0, 6)
    begin, model = start(0), bench.model
    with torch.no_grad():
        seen = {name: torch.from_numpy(part)[None] for name, part in begin.context.items()}
        state = model.start(model.encode(seen), torch.ones(1, 1, ACTIONS))
        for t, reply in enumerate(served):
            action = step(0, t).action
            assert action is not None
            state = model.step(state, torch.from_numpy(action)[None])
            expected = model.decode(state)["arm.position"][0].numpy()
            np.testing.assert_allclose(felt(reply), expected, atol=CLOSE)


@pytest.mark.parametrize("shape", ["free", "bucket", "fixed"])
def test_a_session_among_63_others_of_any_age_sees_what_it_would_see_alone(shape: str) -> None:
    alone = Bench(shape=shape)
    alone.open()
    expected = [felt(reply) for reply in alone.walk(0, 8)]

    crowd = Bench(shape=shape)
    for other in range(1, 64):
        crowd.open(other, start=other % 4)
    for t in range(3):  # the others are older, each by another number of ticks
        crowd.answers(*(step(other, t, seed=other) for other in range(1, 64) if other % 3 >= t))
    crowd.open()
    for t in range(8):
        batch = [step(0, t), *(step(other, 3 + t, seed=other) for other in range(1, 64))]
        (mine,) = [r for r in crowd.answers(*batch) if r["id"] == 0]
        assert mine["timing"]["rows"] == 64
        if shape == "fixed":
            assert np.array_equal(felt(mine), expected[t])
        else:
            np.testing.assert_allclose(felt(mine), expected[t], atol=CLOSE)


def test_candidates_share_a_past_and_go_their_own_ways() -> None:
    bench = Bench()
    bench.open()
    bench.walk(0, 3)
    (forked,) = bench.answers(Fork(id=0, seq=3, into=7, count=256))
    assert forked["count"] == 256
    fan = bench.engine.registry.find("me", 7).fan
    assert fan is not None
    assert fan.memory is not None
    assert fan.memory.past is not None
    assert len(fan.memory.past[0]) == 1  # one past for all of them
    chosen = np.random.default_rng(0).standard_normal((256, 2, ACTIONS)).astype(np.float32)
    (seen,) = bench.answers(Step(id=7, seq=0, action=chosen))
    assert felt(seen).shape == (256, 3)
    single = [bench.answers(Step(id=0, seq=4 + t, action=chosen[5, t]))[0] for t in range(2)]
    np.testing.assert_allclose(felt(seen)[5], felt(single[-1]), atol=CLOSE)


def test_a_selected_candidate_is_a_world_like_any_other() -> None:
    bench = Bench()
    bench.open()
    bench.answers(Fork(id=0, seq=0, into=1, count=8))
    chosen = np.random.default_rng(0).standard_normal((8, ACTIONS)).astype(np.float32)
    bench.answers(Step(id=1, seq=0, action=chosen), Select(id=1, seq=1, rows=(3,)))
    bench.answers(Step(id=0, seq=1, action=chosen[3]))
    (one,), (other,) = bench.answers(step(1, 9)), bench.answers(step(0, 9))
    np.testing.assert_allclose(felt(one), felt(other), atol=CLOSE)


def test_a_fork_of_one_is_a_twin_that_can_go_back_as_far() -> None:
    bench = Bench()
    bench.open()
    before = bench.walk(0, 4)
    (twin,) = bench.answers(Fork(id=0, seq=4, into=1, count=1))
    assert np.array_equal(felt(twin), felt(before[-1]))
    (back,) = bench.answers(Rollback(id=1, seq=0, ticks=2))
    assert np.array_equal(felt(back), felt(before[1]))
    assert np.array_equal(felt(bench.walk(0, 1, first=5)[0]), felt(bench.walk(1, 1, first=5)[0])) is False


def test_what_was_taken_back_comes_again_bit_for_bit() -> None:
    bench = Bench()
    bench.open()
    once = bench.walk(0, 7)
    bench.answers(Rollback(id=0, seq=20, ticks=4))
    again = [bench.answers(Step(id=0, seq=21 + t, action=step(0, 3 + t).action))[0] for t in range(4)]
    assert [felt(r).tolist() for r in again] == [felt(r).tolist() for r in once[3:]]


def test_nobody_goes_back_beyond_what_is_kept() -> None:
    bench = Bench(rollback=3)
    bench.open()
    bench.walk(0, 8)
    (refused,) = bench.answers(Rollback(id=0, seq=20, ticks=4))
    assert code(refused) == "too_far_back"
    assert "back 3, and never" in refused["message"]
    assert bench.answers(Rollback(id=0, seq=21, ticks=3))[0]["type"] == "obs"


@pytest.mark.parametrize("ticks", [0, 1, 9])
def test_a_snapshot_goes_on_bit_for_bit_on_another_server(ticks: int) -> None:
    here, there = Bench(), Bench()
    here.open()
    here.walk(0, ticks)
    (kept,) = here.answers(Snapshot(id=0, seq=50))
    (restored,) = there.answers(Restore(id=4, data=kept["data"]))
    assert restored["type"] == "opened"
    ahead = [here.answers(step(0, 51 + t))[0] for t in range(4)]
    there_too = [there.answers(step(4, 51 + t))[0] for t in range(4)]
    assert [felt(r).tolist() for r in ahead] == [felt(r).tolist() for r in there_too]


def test_a_snapshot_is_taken_whole_or_not_at_all() -> None:
    bench, other = Bench(), Bench(model=world(seed=1))
    bench.open()
    (kept,) = bench.answers(Snapshot(id=0, seq=0))
    data = kept["data"]
    assert code(other.answers(Restore(id=1, data=data))[0]) == "snapshot_refused"
    for broken in (b"", data[:40], data[:-1], data[:200] + b"\xff" * 8 + data[208:], b"{}" * 50):
        (refused,) = bench.answers(Restore(id=1, data=broken))
        assert refused["type"] == "error" or broken[:8] == data[:8]
        bench.answers(Close(id=1))
    assert len(bench.engine.registry.sessions) == 1


def test_named_snapshots_survive_and_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    bench = Bench(snapshots=tmp_path)
    bench.open()
    bench.walk(0, 2)
    assert bench.answers(Snapshot(id=0, seq=9, name="tuesday"))[0]["name"] == "tuesday"
    (again,) = bench.answers(Restore(id=1, name="tuesday"))
    assert np.array_equal(felt(again), felt(bench.answers(Rollback(id=0, seq=10, ticks=1))[0])) is False
    full = Bench(snapshots=Path("/dev/full/worlds"))
    full.open()
    assert code(full.answers(Snapshot(id=0, seq=0, name="lost"))[0]) == "storage"
    assert full.walk(0, 1, first=1)[0]["type"] == "obs"
    assert code(bench.answers(Restore(id=2, name="wednesday"))[0]) == "snapshot_refused"


def test_who_is_silent_is_suspended_and_goes_on_as_if_nothing_had_been() -> None:
    bench, control = Bench(slots=2), Bench()
    bench.open(), control.open()
    bench.walk(0, 3), control.walk(0, 3)
    for other in (1, 2):  # both slots are wanted by others, later
        bench.clock.now_s += 10
        bench.open(other)
    assert bench.engine.registry.find("me", 0).slot is None
    bench.clock.now_s += 10
    ahead, expected = bench.walk(0, 3, first=3), control.walk(0, 3, first=3)
    assert [felt(r).tolist() for r in ahead] == [felt(r).tolist() for r in expected]


def test_without_a_free_slot_the_next_one_hears_why() -> None:
    bench = Bench(slots=2)
    bench.open(0), bench.open(1)
    refused = bench.open(2)
    assert code(refused) == "no_room"
    assert refused["retry_after_s"] > 0
    bench.answers(Close(id=0))
    assert bench.open(2)["type"] == "opened"


def test_a_row_that_became_nan_begins_anew_and_nobody_else_notices() -> None:
    bench, control = Bench(shape="fixed"), Bench(shape="fixed")
    for each in (bench, control):
        each.open(0), each.open(1)
        each.walk(0, 2), each.walk(1, 2)
    slot = bench.engine.registry.find("me", 0).slot
    assert slot is not None
    bench.engine.passes.arena.latents[slot] = float("nan")
    sick, well = bench.answers(step(0, 2), step(1, 2))
    assert code(sick) == "not_finite"
    assert np.array_equal(felt(well), felt(control.answers(step(1, 2))[0]))
    begun = bench.walk(0, 2, first=10)
    anew = Bench(shape="fixed")
    anew.open()
    assert np.array_equal(felt(begun[0]), felt(anew.walk(0, 1, first=10)[0]))


def test_a_pass_that_fails_costs_only_the_session_that_made_it_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    for number in range(5):
        bench.open(number)
    poisoned, real = bench.engine.registry.find("me", 3).slot, bench.engine.passes.advance

    def advance(slots: list[int], *rest: np.ndarray):
        if poisoned in slots:
            raise RuntimeError("a kernel gave up")
        return real(slots, *rest)

    monkeypatch.setattr(bench.engine.passes, "advance", advance)
    replies = {r["id"]: r for r in bench.answers(*(step(number, 0) for number in range(5)))}
    assert code(replies[3]) == "internal"
    assert [replies[n]["type"] for n in (0, 1, 2, 4)] == ["obs"] * 4


def test_sequence_numbers_must_increase_and_what_waits_is_bounded() -> None:
    bench = Bench()
    bench.open()
    late, again = bench.answers(step(0, 5), step(0, 5))[::-1]
    assert {late["type"], again["type"]} == {"obs", "error"}
    assert code(bench.answers(step(0, 4))[0]) == "out_of_order"
    flood = bench.answers(*(step(0, 10 + k) for k in range(40)))
    refused = [r for r in flood if r["type"] == "error"]
    assert {r["code"] for r in refused} == {"too_many"}
    assert len(flood) == 40


def test_answers_come_in_the_order_of_the_questions() -> None:
    bench = Bench()
    bench.open()
    replies = bench.answers(step(0, 0), Rollback(id=0, seq=1, ticks=1), step(0, 2), Snapshot(id=0, seq=3))
    assert [r["seq"] for r in replies] == [0, 1, 2, 3]


def test_a_client_that_is_gone_leaves_nothing_behind() -> None:
    bench = Bench()
    bench.open(client="them")
    bench.answers(Fork(id=0, seq=0, into=1, count=16), client="them")
    bench.engine.submit("them", step(0, 1))
    bench.engine.leave("them")
    assert bench.answers() == []
    assert bench.engine.registry.sessions == {}
    assert bench.engine.registry.free_slots == 80
    assert bench.engine.scheduler.loads == {}


def test_a_step_without_an_action_is_imagined_as_unlabelled_video() -> None:
    bench = Bench()
    bench.open(0), bench.open(1)
    (known, unknown) = bench.answers(step(0, 0), Step(id=1, seq=0, action=None))
    assert not np.allclose(felt(known), felt(unknown))


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Open(id=0, start=9), "there are 4"),
        (Open(id=0, start=0, view=View(observe=("elbow",))), "elbow"),
        (Open(id=0, context={"arm.position": np.zeros((2, 3), np.float32)}), "camera"),
        (Open(id=0, context={"arm.position": np.full((2, 9), 1.0)}), "camera"),
        (Step(id=5, seq=0, action=None), "not open"),
    ],
)
def test_a_mistake_is_explained(request_: Open | Step, said: str) -> None:
    (refused,) = Bench().answers(request_)
    assert said in refused["message"]


def test_a_context_that_holds_nan_is_refused() -> None:
    begin = start(0)
    context = {**begin.context, "arm.position": np.full((2, 3), np.nan, np.float32)}
    (refused,) = Bench().answers(Open(id=0, context=context, actions=begin.actions))
    assert code(refused) == "bad_context"


def test_best_effort_is_given_back_when_deadlines_are_missed() -> None:
    bench = Bench(max_rows=1)
    bench.open(0, period_s=0.01)
    bench.open(1, best_effort=True)
    for k in range(3):
        bench.engine.submit("me", step(1, k))
    bench.engine.submit("me", step(0, 0))
    bench.engine._listen(0.0)
    bench.clock.now_s += 0.5  # nothing was served for too long
    bench.engine.turn()
    replies = [reply for _, reply in bench.replies]
    assert [r["timing"]["late"] for r in replies if r["type"] == "obs"] == [True]
    assert {code(r) for r in replies if r["type"] == "error"} == {"overloaded"}
    bench.replies.clear()
    assert bench.answers(step(1, 9))[-1]["type"] == "obs"


def test_a_client_has_a_limit_of_its_own() -> None:
    bench = Bench(limits=Limits(per_client=2, candidates=10))
    bench.open(0), bench.open(1)
    assert code(bench.open(2)) == "too_many"
    assert bench.open(2, client="other")["type"] == "opened"
    assert code(bench.answers(Fork(id=0, seq=0, into=9, count=11))[0]) == "too_many"


def test_a_picture_is_a_jpeg_of_what_the_model_imagines() -> None:
    bench = Bench()
    bench.open(picture="jpeg")
    (reply,) = bench.answers(step(0, 0))
    assert reply["picture"]["state"] == "fresh"
    assert reply["picture"]["cameras"]["camera"][:2] == b"\xff\xd8"
    raw = Bench()
    raw.open(picture="raw")
    picture = raw.answers(step(0, 0))[0]["picture"]["cameras"]["camera"]
    assert picture.shape == (32, 32, 3)
    assert picture.dtype == np.uint8
