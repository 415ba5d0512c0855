"""The two flat yardsticks and their drawing."""

import numpy as np
import pytest

from forerun.control.trials import Observations, Trial, run_trials
from forerun.tasks import expert_towards, planar, scripted_policy
from forerun.tasks.pusht import PushT
from forerun.tasks.pusht_policy import pull
from forerun.tasks.pusht_space import centre_pose, random_state
from forerun.tasks.tworoom import DOOR_PX, RADIUS_PX, WALL_PX, TwoRoom, free_point, move


def test_the_disc_never_overlaps_a_wall_and_crosses_only_through_the_door():
    rng = np.random.default_rng(0)
    here, crossings = free_point(rng), 0
    for _ in range(4000):
        after = move(here, rng.uniform(-40, 40, 2))
        nearest_x = min(max(after[0], WALL_PX[0]), WALL_PX[1])
        for top, bottom in ((0.0, DOOR_PX[0]), (DOOR_PX[1], 224.0)):
            nearest = np.array([nearest_x, min(max(after[1], top), bottom)])
            assert np.hypot(*(after - nearest)) > RADIUS_PX - 1e-6
        crossings += (after[0] > 112) != (here[0] > 112)
        here = after
    assert crossings > 10


def test_a_disc_pressed_on_a_wall_slides_along_it():
    end = move(np.array([100.0, 150.0]), np.array([7.0, 7.0]))
    np.testing.assert_allclose(end, [100.0, 157.0], atol=1e-9)


def test_a_step_as_long_as_the_room_is_still_stopped_by_the_wall():
    assert move(np.array([60.0, 150.0]), np.array([120.0, 0.0]))[0] == pytest.approx(WALL_PX[0] - RADIUS_PX)


def test_goals_in_two_rooms_need_the_door():
    task = TwoRoom()
    for seed in range(20):
        start, goal = task.sample_start_goal(np.random.default_rng(seed))
        assert (start[0] > 112) != (goal[0] > 112)


def test_strict_push_t_holds_for_three_steps():
    task = PushT()
    _, goal = task.sample_start_goal(np.random.default_rng(0))
    goal[5:] = 0
    task.reset(options={"state": goal, "goal_state": goal})
    strict = [task.step(np.zeros(2, np.float32))[4]["success_strict"] for _ in range(3)]
    assert strict == [False, False, True]


def test_moderate_push_t_scores_the_disc_and_strict_only_the_t():
    task = PushT()
    goal = random_state(np.random.default_rng(0))
    aside = goal + np.array([30.0, *np.zeros(9)])
    assert not task.solved(aside, goal, "moderate")
    assert task.solved(aside, goal, "strict")
    turned = goal.copy()
    turned[4] += np.deg2rad(15)
    assert task.solved(turned, goal, "moderate")
    assert not task.solved(turned, goal, "strict")


def test_the_t_moves_only_while_it_is_pushed():
    task = PushT()
    task.set_state(np.array([256.0, 250.0, 256.0, 300.0, 0.0, *np.zeros(5)]))  # disc above the top bar
    task.advance(np.array([0.0, 80.0]))
    task.advance(np.array([0.0, 80.0]))
    pushed = task.state()
    assert pushed[3] > 305
    for _ in range(3):
        task.advance(np.array([0.0, -80.0]))
    away = task.state()
    task.advance(np.array([0.0, 0.0]))
    np.testing.assert_array_equal(task.state()[2:5], away[2:5])


def test_an_action_for_a_displacement_moves_a_free_disc_by_it():
    task = PushT()
    task.set_state(np.array([100.0, 100.0, 300.0, 300.0, 0.0, 40.0, -20.0, *np.zeros(3)]))
    task.advance(task.clip(pull(task.state(), np.array([12.0, -9.0]))))
    np.testing.assert_allclose(task.state()[:2], [112.0, 91.0], atol=1e-3)


class _DiscToItsGoal:
    """Moves the disc to where it is in the goal, and never minds the T."""

    def begin(self, observations: Observations, goals: Observations) -> None:
        self.goal = goals["proprio"][:, :2]

    def act(self, observations: Observations) -> np.ndarray:
        return np.clip(self.goal - observations["proprio"][:, :2], -100, 100)


def test_a_trial_whose_t_is_in_place_goes_on_until_the_disc_is_too():
    goal = np.array([100.0, 400.0, 300.0, 150.0, *np.zeros(6)])
    start = goal + np.array([250.0, *np.zeros(9)])
    trial = Trial(start, goal, "drawn by hand")
    (outcome,) = run_trials("forerun/PushT-v0", [trial], _DiscToItsGoal(), budget=50, keep_pictures=1)
    assert outcome.strict
    assert outcome.moderate
    assert 3 < outcome.steps < 50
    assert len(outcome.pictures) == outcome.steps + 1


def test_the_expert_places_the_t_strictly_within_the_budget():
    task, placed = PushT(), 0
    for seed in range(5):
        _, info = task.reset(seed=seed)
        expert = expert_towards(task, info["goal_state"], np.random.default_rng(seed))
        steps = (task.step(expert())[4]["success_strict"] for _ in range(task.max_steps))
        placed += any(steps)
    assert placed >= 4


def test_noisy_play_brings_the_t_to_many_places_and_headings():
    task, poses = PushT(), []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        task.set_state(random_state(rng))
        play = scripted_policy(task, "noisy", rng)
        for _ in range(200):
            task.advance(task.clip(play()))
            poses.append(centre_pose(task.state()))
    assert (np.std(poses, axis=0) > [50, 50, 0.7]).all()


def test_a_tenth_of_a_pixel_shows():
    task, state = PushT(), np.array([200.0, 400.0, 256.0, 200.0, 0.3, *np.zeros(5)])
    moved = state.copy()
    moved[2] += 0.8  # px of 512: a tenth of a pixel of 64
    assert (task.picture(state) != task.picture(moved)).any()


def test_a_drawn_box_covers_its_area_wherever_it_lies():
    for x, angle in ((20.0, 0.0), (20.37, 0.4), (31.9, 1.2)):
        image = planar.blank(64, (0, 0, 0))
        planar.boxes(image, np.array([x, 30.2]), angle, [(0.0, 0.0, 8.0, 3.0)], (100, 100, 100))
        assert image[..., 0].sum() / 100 == pytest.approx(16 * 6, rel=0.02)


def test_drawing_outside_the_picture_is_harmless():
    image = planar.blank(16, (9, 9, 9))
    planar.disc(image, np.array([-50.0, 200.0]), 3.0, (0, 0, 0))
    planar.boxes(image, np.array([99.0, 3.0]), 0.1, [(0.0, 0.0, 2.0, 2.0)], (0, 0, 0))
    assert (image == 9).all()
