"""How the trunk, the memory and the heads learn, and what they leave alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from forerun.dynamics.cache import Memory, concatenate
from forerun.dynamics.heads import GoalConfig, GoalHeads, Uncertainty
from forerun.encoders.proprio import Standardise
from forerun.layers import Gelu, Rotary, SpaceAttention, rotate
from forerun.types import ConfigError
from forerun.world_model import WorldModel
from tiny_worlds import ARM, JOINTS, SHAPES, TICK_S, actions, latents, world

B, T = 4, 6
CLOSE = 1e-5
Z, G, A = 6, 4, 2  # numbers of a latent, of a goal, of an action


@pytest.fixture(params=list(SHAPES))
def model(request: pytest.FixtureRequest) -> WorldModel:
    return world(**SHAPES[request.param])


def window(model: WorldModel) -> dict[str, Tensor]:
    return {"latents": latents(model, B, T), "action": actions(B, T)}


@pytest.mark.parametrize("context", range(1, T))
def test_the_loss_reads_the_context_then_imagines_the_rest(model: WorldModel, context: int) -> None:
    batch = window(model)
    seen, done = batch["latents"], batch["action"]
    error, expected = [], []
    for t in range(1, T):  # step by step, as everybody else would
        given = min(t, context)
        state = model.start(seen[:, :given], done[:, : given - 1])
        for ahead in range(given - 1, t):
            state = model.step(state, done[:, ahead])
        error.append(((state.latents - seen[:, t]).square() * model.loss_weight()).sum((-1, -2)))
        expected.append(state.log_error)
    error, expected = torch.stack(error, dim=1), torch.stack(expected, dim=1)
    losses = model.loss(batch, context=context)
    torch.testing.assert_close(losses["prediction"], error.mean(), atol=CLOSE, rtol=CLOSE)
    likelihood = (error * (-expected).exp() + expected).mean()
    torch.testing.assert_close(losses["uncertainty"], likelihood, atol=CLOSE, rtol=1e-4)
    torch.testing.assert_close(losses["total"], losses["prediction"] + 0.1 * losses["uncertainty"])


def test_zero_padding_has_no_part_in_the_loss() -> None:
    model = world(**SHAPES["unpacked"])
    batch, (place, _) = window(model), model.layout.places[ARM.name]
    before = model.loss(batch)["prediction"]
    batch["latents"][:, 1:, place, JOINTS:] += 100.0
    assert torch.equal(model.loss(batch)["prediction"], before)
    batch["latents"][:, 1:, place, :JOINTS] += 1.0
    assert not torch.equal(model.loss(batch)["prediction"], before)
    torch.testing.assert_close(model.loss_weight().sum(), torch.tensor(1.0))


def test_streams_weigh_the_same_however_many_numbers_they_have(model: WorldModel) -> None:
    for place in model.layout.places.values():
        torch.testing.assert_close(model.loss_weight()[place].sum(), torch.tensor(0.5))


def test_the_loss_moves_every_weight_of_the_trunk(model: WorldModel) -> None:
    present = torch.rand(B, T, generator=torch.Generator().manual_seed(0)) > 0.5
    model.loss({**window(model), "present": present}, context=3)["prediction"].backward()
    for name, weight in [*model.trunk.named_parameters(), *model.next_latents.named_parameters()]:
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name
    for part in (model.goals, model.senses, model.uncertainty):
        assert all(weight.grad is None for weight in part.parameters())


def test_doubt_moves_only_the_uncertainty_head(model: WorldModel) -> None:
    model.loss(window(model), context=2)["uncertainty"].backward()
    assert all(weight.grad is not None for weight in model.uncertainty.parameters())
    assert all(weight.grad is None for weight in model.trunk.parameters())
    assert all(weight.grad is None for weight in model.next_latents.parameters())


def test_a_wish_about_the_future_reaches_every_action_before_it(model: WorldModel) -> None:
    done = actions(B, 3).requires_grad_()
    state = model.start(latents(model, B, 1))
    for t in range(3):
        state = model.step(state, done[:, t])
    state.latents.square().sum().backward()
    assert done.grad is not None
    assert (done.grad.abs().sum(-1) > 0).all()


def test_a_window_may_have_its_own_tick_length(model: WorldModel) -> None:
    batch = window(model)
    usual = model.loss(batch, context=2)["total"]
    same = model.loss({**batch, "tick_s": torch.full((B,), TICK_S)}, context=2)["total"]
    torch.testing.assert_close(same, usual)
    slow = model.loss({**batch, "tick_s": torch.full((B,), 5 * TICK_S)}, context=2)["total"]
    assert abs(slow - usual) > 1e-3


def test_a_context_that_leaves_nothing_to_foretell_is_refused(model: WorldModel) -> None:
    for context in (0, T):
        with pytest.raises(ConfigError, match=f"context is {context}; .* room for 1 to {T - 1}"):
            model.loss(window(model), context=context)


def test_the_activation_is_the_same_curve_with_and_without_gradients() -> None:
    x, gelu = torch.linspace(-12, 12, 2001), Gelu()
    with torch.no_grad():
        quick = gelu(x)
    torch.testing.assert_close(quick, gelu(x), atol=2e-6, rtol=1e-6)
    torch.testing.assert_close(gelu(x), torch.nn.functional.gelu(x, approximate="tanh"), atol=0, rtol=0)


def test_turning_by_age_tells_only_how_far_apart_two_ticks_are() -> None:
    rotary = Rotary(8)
    q, k = torch.randn(2, 1, 1, 1, 1, 1, 8).expand(2, 1, 1, 1, 3, 1, 8)

    def score(query_tick: int, key_tick: int) -> Tensor:
        turned_q = rotate(q, rotary(torch.tensor([[query_tick]])))[..., 0, 0, :]
        turned_k = rotate(k, rotary(torch.tensor([[key_tick]])))[..., 1, 0, :]
        return (turned_q * turned_k).sum()

    torch.testing.assert_close(score(5, 3), score(105, 103), atol=1e-4, rtol=0)
    assert not torch.allclose(score(5, 3), score(5, 2))
    assert torch.equal(rotate(k, rotary(torch.tensor([[7]])))[..., 2, 0, :], k[..., 2, 0, :])  # a value stays


def test_tokens_of_one_tick_see_each_other_and_nothing_else() -> None:
    torch.manual_seed(0)
    attention, x = SpaceAttention(8, 2), torch.randn(2, 3, 5, 8)
    seen = attention(x)
    x[:, 1] += 1.0
    altered = attention(x)
    assert torch.equal(seen[:, [0, 2]], altered[:, [0, 2]])
    torch.testing.assert_close(attention(x[0, 0]), altered[0, 0])


def memory(rows: int, ticks: int) -> Memory:
    layers = torch.randn(2, rows, ticks, 1, 2, 2, 4, generator=torch.Generator().manual_seed(ticks))
    return Memory(own=(layers[0], layers[1]))


def test_memories_of_any_length_lie_side_by_side_newest_last() -> None:
    short, long = memory(1, 2), memory(2, 5)
    both = concatenate([short, long])
    assert len(both) == 3
    assert both.ticks == 5
    assert both.empty is not None
    assert both.empty.tolist() == [3, 0, 0]
    assert torch.equal(both.own[0][0, 3:], short.own[0][0])
    assert torch.equal(both.own[1][1:], long.own[1])
    again = concatenate([both.fork(2), memory(1, 7)])
    assert again.empty is not None
    assert again.empty.tolist() == [5, 5, 2, 2, 2, 2, 0]
    assert concatenate([long, long]).empty is None


def test_empty_slots_are_the_first_to_be_forgotten() -> None:
    both = concatenate([memory(1, 2), memory(1, 5)]).fork(2)
    assert both.trim(3).empty is not None
    assert both.trim(3).empty.tolist() == [1, 0]  # type: ignore[union-attr]
    slots = both.trim(3).empty_slots()
    assert slots is not None
    assert slots.tolist() == [[True, False, False, False]] * 2 + [[False] * 4] * 2
    assert both.trim(0).ticks == 0
    assert len(both.trim(0)) == 4
    assert both.trim(9) is both


def heads(**settings: float) -> GoalHeads:
    torch.manual_seed(0)
    return GoalHeads(Z, G, A, 16, GoalConfig(**settings))  # type: ignore[arg-type]


def transitions(rows: int = 64) -> dict[str, Tensor]:
    torch.manual_seed(1)
    some = torch.arange(rows) % 2 == 0
    return {
        "z": torch.randn(rows, Z), "next_z": torch.randn(rows, Z), "goal": torch.randn(rows, G),
        "action": torch.randn(rows, A), "reached": some, "ahead": ~some,
    }  # fmt: skip


def test_the_slow_copy_of_the_distance_is_moved_by_hand_only() -> None:
    goals = heads(target_rate=0.25)
    goals.loss(transitions())["total"].backward()
    assert all(weight.grad is None for weight in goals.target.parameters())
    assert all(weight.grad is not None for weight in goals.value.parameters())
    slow, fast = next(goals.target.parameters()), next(goals.value.parameters())
    with torch.no_grad():
        fast += 1.0
    before = slow.clone()
    goals.update_target()
    torch.testing.assert_close(slow, before + 0.25)


def test_the_policy_imitates_only_steps_that_led_towards_the_goal() -> None:
    goals, batch = heads(), transitions()
    before = goals.loss(batch)["policy"]
    batch["action"][~batch["ahead"]] += 100.0
    assert torch.equal(goals.loss(batch)["policy"], before)
    batch["ahead"][:] = False
    assert goals.loss(batch)["policy"] == 0  # and not 0 / 0


@pytest.mark.slow
def test_distance_learns_how_many_ticks_lie_between_two_places() -> None:
    length, discount = 6, 0.9  # a corridor of six places, walked to the right
    torch.manual_seed(0)
    goals = GoalHeads(length, length, 1, 32, GoalConfig(discount=discount, target_rate=0.05))
    here = torch.eye(length)
    place, goal = torch.cartesian_prod(torch.arange(length), torch.arange(length)).unbind(1)
    keep = place <= goal
    place, goal = place[keep], goal[keep]
    batch = {
        "z": here[place], "next_z": here[(place + 1).clamp_max(length - 1)], "goal": here[goal],
        "action": torch.ones(len(place), 1), "reached": place == goal, "ahead": place < goal,
    }  # fmt: skip
    trained = [p for p in goals.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=3e-3)
    for _ in range(600):
        optimizer.zero_grad()
        goals.loss(batch)["total"].backward()
        optimizer.step()
        goals.update_target()
    ticks = (goal - place).float()
    discounted = (1 - discount**ticks) / (1 - discount)
    learned = goals.distance(batch["z"], batch["goal"])
    assert (learned - discounted).abs().max() < 0.3
    chosen = goals.act(batch["z"], batch["goal"])[batch["ahead"]]
    torch.testing.assert_close(chosen, torch.ones_like(chosen), atol=0.1, rtol=0)


def test_the_uncertainty_head_learns_the_size_of_the_error() -> None:
    torch.manual_seed(0)
    head, hidden = Uncertainty(4), torch.randn(256, 1, 4)
    error = (hidden[:, 0, 0]).exp() * torch.rand(256) * 2
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        head.loss(head(hidden), error).backward()
        optimizer.step()
    assert abs(float(head.out.weight[0, 0].detach()) - 1) < 0.2
    assert abs(float(head.out.bias.detach())) < 0.2


def test_standardised_values_come_back_and_a_constant_channel_keeps_its_scale() -> None:
    values = torch.tensor([[1.0, 7.0], [3.0, 7.0], [5.0, 7.0]])
    scale = Standardise(2)
    scale.fit(values)
    assert torch.equal(scale(values)[:, 0], torch.tensor([-1.0, 0.0, 1.0]))
    assert torch.equal(scale(values)[:, 1], torch.zeros(3))
    torch.testing.assert_close(scale.inverse(scale(values)), values)
    assert nn.ModuleList([scale]).state_dict().keys() == {"0.mean", "0.std"}
