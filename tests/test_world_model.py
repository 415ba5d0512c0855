"""What everything above the waist may rely on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from jaxtyping import TypeCheckError

from forerun.types import ConfigError, ShapeError, StreamSpec
from forerun.world_model import State, WorldModel, join
from tiny_worlds import (
    ACTIONS,
    ARM,
    CAMERA,
    JOINTS,
    SHAPES,
    TICK_S,
    actions,
    assert_same,
    clip,
    imagine,
    latents,
    world,
)

B, T = 3, 6  # rows, ticks; more ticks than the window of three
CLOSE = 1e-5


@pytest.fixture(params=list(SHAPES))
def model(request: pytest.FixtureRequest) -> WorldModel:
    return world(**SHAPES[request.param])


def test_later_observations_cannot_move_an_earlier_latent(model: WorldModel) -> None:
    seen = clip(B, T)
    before = model.encode(seen)
    seen["camera"][:, 3:] = 255 - seen["camera"][:, 3:]
    seen["arm.position"][:, 3:] += 1.0  # rad, after tick 2
    after = model.encode(seen)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.equal(before[:, 3:], after[:, 3:])


def test_later_latents_and_actions_cannot_move_an_earlier_prediction(model: WorldModel) -> None:
    seen, done = latents(model, B, T).requires_grad_(), actions(B, T).requires_grad_()
    ages = torch.arange(T)[None]
    drive = model.trunk.drive(done, None, model.trunk.pace(torch.full((B,), TICK_S)))
    hidden, _ = model.trunk(seen, drive, ages)
    for t in range(T):
        to_seen, to_done = torch.autograd.grad(hidden[:, t].square().sum(), (seen, done), retain_graph=True)
        assert to_seen[:, t].abs().sum() > 0
        assert to_done[:, t].abs().sum() > 0
        assert to_seen[:, t + 1 :].abs().sum() == 0
        assert to_done[:, t + 1 :].abs().sum() == 0


def test_reading_tick_by_tick_equals_reading_all_at_once(model: WorldModel) -> None:
    seen, done = latents(model, B, T), actions(B, T)
    at_once = model.start(seen, done[:, :-1])
    state = model.start(seen[:, :1])
    for t in range(1, T):
        state = model.observe(model.step(state, done[:, t - 1]), seen[:, t])
    assert_same(state, at_once)
    assert_same(imagine(model, state, done[:, :3]), imagine(model, at_once, done[:, :3]), CLOSE)


def test_what_lies_outside_the_window_is_forgotten(model: WorldModel) -> None:
    seen, done = latents(model, B, T), actions(B, T)
    depth = sum(block.time is not None for block in model.trunk.blocks)
    reach = depth * (model.config.size.window - 1)  # each layer hands on what the layer before it saw
    altered = seen.clone()
    altered[:, : T - 1 - reach] += 1.0
    one, other = model.start(seen, done[:, :-1]), model.start(altered, done[:, :-1])
    assert_same(model.step(one, done[:, -1]), model.step(other, done[:, -1]), CLOSE)
    assert one.memory is not None
    assert one.memory.ticks == model.config.size.window - 1
    assert imagine(model, one, done).memory.ticks == one.memory.ticks  # type: ignore[union-attr]


def test_a_row_alone_equals_the_same_row_in_a_batch(model: WorldModel) -> None:
    seen, done = latents(model, B, T), actions(B, T)
    together = imagine(model, model.start(seen[:, :3], done[:, :2]), done[:, 2:])
    for row in range(B):
        mine = slice(row, row + 1)
        alone = imagine(model, model.start(seen[mine, :3], done[mine, :2]), done[mine, 2:])
        assert_same(alone, together.select(torch.tensor([row])), CLOSE)


def test_rows_of_different_age_step_together_as_they_would_alone(model: WorldModel) -> None:
    seen, done = latents(model, B, T), actions(B, T)
    ages = (1, 2, T)
    alone = [model.start(seen[i : i + 1, :n], done[i : i + 1, : n - 1]) for i, n in enumerate(ages)]
    joined = join(alone)
    assert joined.tick.tolist() == [n - 1 for n in ages]
    for t in range(4):
        joined = model.step(joined, done[:, t])
        alone = [model.step(s, done[i : i + 1, t]) for i, s in enumerate(alone)]
    assert_same(joined, join(alone), CLOSE)
    forked = imagine(model, joined.fork(2), done[:, :2].repeat_interleave(2, dim=0))
    assert_same(
        forked.select(torch.arange(0, 2 * B, 2)),
        join([imagine(model, s, done[i : i + 1, :2]) for i, s in enumerate(alone)]),
        CLOSE,
    )


def test_worlds_that_have_just_begun_join_each_other_and_older_ones(model: WorldModel) -> None:
    seen, done = latents(model, 2, 4), actions(2, 4)
    fresh, old = model.start(seen[:1, :1]), model.start(seen[1:], done[1:, :3])
    assert join([fresh, fresh]).memory is None
    both = imagine(model, join([fresh, old]), done[:, :2])
    expected = [imagine(model, fresh, done[:1, :2]), imagine(model, old, done[1:, :2])]
    assert_same(both, join(expected), CLOSE)


def test_a_fork_copies_nothing_of_the_past(model: WorldModel) -> None:
    state = model.start(latents(model, B, T), actions(B, T - 1))
    forked = state.fork(4)
    assert state.memory is not None
    assert forked.memory is not None
    assert forked.memory.past is not None
    for past, own in zip(forked.memory.past, state.memory.own, strict=True):
        assert past.data_ptr() == own.data_ptr()
        assert len(past) == B
    assert len(forked) == len(forked.memory) == 4 * B
    stepped = model.step(forked, actions(4 * B, 1)[:, 0])
    for past, own in zip(stepped.memory.past, state.memory.own, strict=True):  # type: ignore[union-attr, arg-type]
        assert past.untyped_storage().data_ptr() == own.untyped_storage().data_ptr()


def test_a_forked_step_equals_the_step_it_stands_for(model: WorldModel) -> None:
    state = model.start(latents(model, B, T), actions(B, T - 1))
    forks, done = 4, actions(4 * B, 3)
    forked = imagine(model, state.fork(forks), done)
    for fork in range(forks):
        rows = torch.arange(B) * forks + fork
        assert_same(forked.select(rows), imagine(model, state, done[rows]), CLOSE)


def test_stepping_one_candidate_changes_neither_siblings_nor_parent(model: WorldModel) -> None:
    parent = model.start(latents(model, B, T), actions(B, T - 1))
    forked = parent.fork(2)
    kept = [z.clone() for z in (*parent.memory.own, forked.latents)]  # type: ignore[union-attr]
    done = actions(2 * B, 4)
    before = imagine(model, forked, done)
    altered = done.clone()
    altered[0] += 1.0
    after = imagine(model, forked, altered)
    rest = torch.arange(1, 2 * B)
    assert_same(before.select(rest), after.select(rest))
    assert not torch.equal(before.latents[0], after.latents[0])
    for old, new in zip(kept, (*parent.memory.own, forked.latents), strict=True):  # type: ignore[union-attr]
        assert torch.equal(old, new)


def test_a_fork_of_a_fork_equals_walking_the_same_branch(model: WorldModel) -> None:
    root = model.start(latents(model, 1, T), actions(1, T - 1))
    first, second = actions(2, 1, seed=2), actions(6, 2, seed=3)
    leaves = imagine(model, imagine(model, root.fork(2), first).fork(3), second)
    for leaf in range(6):
        branch = imagine(model, root, torch.cat([first[[leaf // 3]], second[[leaf]]], dim=1))
        assert_same(leaves.select(torch.tensor([leaf])), branch, CLOSE)


def test_selected_rows_go_on_as_if_they_had_never_been_forked(model: WorldModel) -> None:
    state = model.start(latents(model, B, T), actions(B, T - 1)).fork(2)
    state = imagine(model, state, actions(2 * B, 1))
    rows = torch.tensor([5, 0, 0])
    chosen, done = state.select(rows), actions(3, 2, seed=4)
    everyone = torch.zeros(2 * B, 2, ACTIONS)
    for place, row in enumerate(rows.tolist()):
        everyone[row] = done[place]
        expected = imagine(model, state, everyone).select(torch.tensor([row]))
        assert_same(imagine(model, chosen, done).select(torch.tensor([place])), expected, CLOSE)
    mask = torch.zeros(2 * B, dtype=torch.bool)
    mask[rows] = True
    assert_same(state.select(mask), state.select(torch.tensor([0, 5])))


@pytest.mark.parametrize("kept", [0, 1, 2, 9])
def test_a_trimmed_world_remembers_only_its_newest_ticks(model: WorldModel, kept: int) -> None:
    seen, done = latents(model, 2, T), actions(2, T)
    state = model.start(seen, done[:, :-1])
    forked = imagine(model, state.fork(2), actions(4, 1)).trim(kept)
    for trimmed in (state.trim(kept), forked):
        assert trimmed.memory is not None
        assert trimmed.memory.ticks == min(kept, model.config.size.window - 1)
    if kept >= model.config.size.window - 1:  # it could not see further
        assert_same(model.step(state.trim(kept), done[:, -1]), model.step(state, done[:, -1]), CLOSE)
    apart = imagine(model, state, actions(4, 1)[::2]).trim(kept)
    together = imagine(model, forked, done[[0, 0, 1, 1], :2])
    assert_same(together.select(torch.tensor([0, 2])), imagine(model, apart, done[:, :2]), CLOSE)


def test_the_same_seed_gives_the_same_world(model: WorldModel) -> None:
    twin = world(**SHAPES["packed" if model.config.size.packed else "unpacked"])
    seen, done = clip(B, T), actions(B, T)
    one, other = (imagine(m, m.start(m.encode(seen), done[:, :-1]), done) for m in (model, twin))
    assert_same(one, other)


def test_rows_without_an_action_are_imagined_as_unlabelled_video(model: WorldModel) -> None:
    state, done = model.start(latents(model, B, 1)), actions(B, 1)[:, 0]
    present = torch.tensor([True, False, True])
    mixed = model.step(state, done, present)
    rows = torch.tensor([0, 2])
    assert_same(mixed.select(rows), model.step(state, done).select(rows), CLOSE)
    assert_same(mixed.select(torch.tensor([1])), model.step(state, None).select(torch.tensor([1])), CLOSE)
    assert not torch.equal(mixed.latents[1], model.step(state, done).latents[1])


def test_the_length_of_a_tick_changes_what_is_imagined(model: WorldModel) -> None:
    seen, done = latents(model, B, 2), actions(B, 1)
    usual, slow = model.start(seen, done), model.start(seen, done, tick_s=5 * TICK_S)
    assert_same(usual, model.start(seen, done, tick_s=torch.full((B,), TICK_S)))
    assert not torch.allclose(model.step(usual, done[:, 0]).latents, model.step(slow, done[:, 0]).latents)
    with pytest.raises(ConfigError, match="seconds between ticks"):
        model.start(seen, done, tick_s=0.0)


def test_rows_may_tick_at_different_lengths(model: WorldModel) -> None:
    seen, done, lengths = latents(model, B, 3), actions(B, 5), torch.tensor([0.05, 0.1, 0.4])
    together = model.start(seen, done[:, :2], tick_s=lengths)
    alone = [model.start(seen[[i]], done[[i], :2], tick_s=float(lengths[i])) for i in range(B)]
    assert together.tick_s.tolist() == join(alone).tick_s.tolist()
    assert_same(together, join(alone))
    together = imagine(model, together.fork(2), done[:, 2:].repeat_interleave(2, dim=0))
    alone = [imagine(model, state, done[[i], 2:]) for i, state in enumerate(alone)]
    assert_same(together.select(torch.tensor([0, 2, 4])), join(alone), CLOSE)


def test_an_untrained_world_stands_still() -> None:
    model = world(untrained=True)
    state = model.start(latents(model, B, T), actions(B, T - 1))
    assert torch.equal(imagine(model, state, actions(B, 3)).latents, state.latents)


def test_packed_streams_lie_side_by_side_without_padding() -> None:
    model = world(**SHAPES["packed"])
    assert model.layout.shape == (1, model.config.size.latent_dim + JOINTS)
    seen = latents(model, B, T)
    felt = model.layout.part(seen, ARM.name)[..., 0, :]
    torch.testing.assert_close(felt, model.senses.vector(ARM).scale(clip(B, T)[ARM.name]))
    assert torch.equal(model.goal(seen), model.layout.part(seen, CAMERA.name).flatten(-2))


def test_padding_of_a_vector_stream_stays_zero_in_imagination() -> None:
    model = world(**SHAPES["unpacked"])
    state = imagine(model, model.start(latents(model, B, 1)), actions(B, 3))
    tokens = model.layout.part(state.latents, ARM.name).flatten(1)
    assert tokens[:, :JOINTS].abs().min() > 0
    assert tokens[:, JOINTS:].abs().max() == 0


def test_vector_streams_come_back_exactly_in_their_own_unit(model: WorldModel) -> None:
    seen = clip(B, T)
    scale = model.senses.encoder(ARM).scale
    seen["arm.position"] = 100 + 3 * seen["arm.position"]
    scale.fit(seen["arm.position"].flatten(0, 1))  # type: ignore[union-attr, operator]
    state = model.start(model.encode(seen)[:, :1])
    shown = model.decode(state)
    torch.testing.assert_close(shown["arm.position"], seen["arm.position"][:, 0], atol=1e-4, rtol=0)
    assert shown["camera"].shape == (B, *CAMERA.shape)
    assert shown["camera"].dtype == torch.uint8


def test_actions_are_taken_and_proposed_in_the_robots_units(model: WorldModel) -> None:
    state, goal = model.start(latents(model, B, 1)), model.goal(latents(model, B, 1, seed=5)[:, 0])
    model.action_scale.fit(50 + 10 * torch.randn(400, ACTIONS, generator=torch.Generator().manual_seed(0)))
    standardised = model.goals.act(state.latents.flatten(1), goal)
    proposed = model.propose(state, goal)
    torch.testing.assert_close(model.action_scale(proposed), standardised, atol=CLOSE, rtol=0)
    assert (proposed - 50).abs().max() < 10 * 10
    assert_same(model.step(state, proposed), model.step_standardised(state, standardised), CLOSE)


def test_imagining_a_chunk_equals_imagining_its_ticks_one_by_one(model: WorldModel) -> None:
    done, one_by_one = actions(B, T), model.start(latents(model, B, 1))
    for t, imagined in enumerate(model.steps_standardised(one_by_one, done)):
        one_by_one = model.step_standardised(one_by_one, done[:, t])
        assert_same(imagined, one_by_one, CLOSE)


def test_a_goal_is_what_the_camera_sees_not_what_the_robot_feels(model: WorldModel) -> None:
    seen = clip(B, 1)
    before = model.goal(model.encode(seen)[:, 0])
    seen["arm.position"] += 1.0
    assert torch.equal(model.goal(model.encode(seen)[:, 0]), before)
    seen["camera"] = 255 - seen["camera"]
    assert not torch.equal(model.goal(model.encode(seen)[:, 0]), before)
    assert model.distance(model.start(model.encode(seen)), before).shape == (B,)


def test_goals_of_another_size_or_number_are_refused(model: WorldModel) -> None:
    state, goal = model.start(latents(model, B, 1)), model.goal(latents(model, B, 1)[:, 0])
    for wrong in (goal[:, 1:], goal[:1], goal[0]):
        with pytest.raises(ShapeError, match=r"goals arrive as .*expected \(3, "):
            model.distance(state, wrong)
        with pytest.raises(ShapeError, match=r"goals arrive as .*expected \(3, "):
            model.propose(state, wrong)


def test_without_a_camera_the_goal_is_what_the_robot_feels() -> None:
    model = world(streams=(ARM,))
    seen = {"arm.position": clip(B, 1)["arm.position"]}
    assert model.goal(model.encode(seen)[:, 0]).shape == (B, JOINTS)


def test_a_world_without_actions_can_still_be_imagined() -> None:
    model = world(action=None)
    state = model.start(latents(model, B, T))
    assert model.step(state, None).latents.shape == state.latents.shape
    with pytest.raises(ShapeError, match="it has no action"):
        model.step(state, actions(B, 1)[:, 0])
    assert model.loss({"latents": latents(model, B, T)}, context=2)["total"].isfinite()


def test_what_was_observed_is_certain_and_what_is_imagined_is_not(model: WorldModel) -> None:
    state = model.start(latents(model, B, 1))
    assert model.predict(state)["uncertainty"].tolist() == [0.0] * B
    imagined = imagine(model, state, actions(B, 1))
    assert (model.predict(imagined)["uncertainty"] > 0).all()
    seen = model.observe(imagined, state.latents)
    assert model.predict(seen)["uncertainty"].tolist() == [0.0] * B


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"camera": clip(B, 1)["camera"]}, "arm.position"),
        ({**clip(B, 1), "arm.position": torch.zeros(B, 1, JOINTS + 1)}, "arm.position"),
        ({**clip(B, 1), "camera": clip(B, 1)["camera"][:, :, :16]}, "camera"),
        ({**clip(B, 1), "camera": clip(B, 1)["camera"] / 255}, "uint8 RGB"),
    ],
    ids=["missing", "channels", "side", "unit"],
)
def test_an_observation_of_another_shape_or_unit_is_refused_by_name(wrong: dict, names: str) -> None:
    with pytest.raises(ShapeError, match=names):
        world().encode(wrong)


def test_actions_and_latents_of_another_shape_are_refused_with_both_shapes(model: WorldModel) -> None:
    seen, done = latents(model, B, T), actions(B, T)
    state = model.start(seen[:, :1])
    with pytest.raises(ShapeError, match=r"\(3, 3\).*\(3, 2\).*'left', 'right'.*rad/s"):
        model.step(state, torch.zeros(B, ACTIONS + 1))
    with pytest.raises(ShapeError, match=r"\(3, 6, 2\).*\(3, 5, 2\)"):
        model.start(seen, done)
    with pytest.raises(ShapeError, match="Use its own encode"):
        model.start(seen[..., 1:])
    with pytest.raises(ShapeError, match="without ticks"):
        model.observe(state, seen[:, :1])


def test_a_stream_may_bear_any_name() -> None:
    names = ("values", "type", "observation.state", "keys")
    streams = tuple(StreamSpec(name=n, kind="vector", shape=(2,), unit="m") for n in names)
    model = world(streams=streams)
    seen = {n: torch.randn(B, 1, 2) for n in names}
    shown = model.decode(model.start(model.encode(seen)))
    for name in names:
        torch.testing.assert_close(shown[name], seen[name][:, 0], atol=CLOSE, rtol=0)


def test_a_state_is_a_value() -> None:
    state = world().start(latents(world(), B, 1))
    with pytest.raises(AttributeError):
        state.tick = state.tick + 1  # type: ignore[misc]
    assert isinstance(state.fork(2), State)


def test_shapes_that_disagree_are_caught_where_they_are_made(model: WorldModel) -> None:
    state = model.start(latents(model, B, 1))
    with pytest.raises(TypeCheckError):
        replace(state, log_error=torch.zeros(B + 1))
