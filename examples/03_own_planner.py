"""Write a planner of your own: 256 random futures, imagined at once, and the first step of the best.

A planner needs four calls of a world model: `start`, `fork`, `step` and `distance`.

    python examples/03_own_planner.py runs/example-push/run/model
"""

from pathlib import Path
from typing import Any

import gymnasium
import torch
import tyro
from tyro.conf import Positional

import forerun
import forerun.tasks

FUTURES, HORIZON = 256, 5


def shoot(
    model: forerun.WorldModel, state: forerun.State, goal: torch.Tensor, low: torch.Tensor, high: torch.Tensor
) -> torch.Tensor:
    """(A,) the first action of the random plan that is expected to end nearest to the goal."""
    plans = low + (high - low) * torch.rand(FUTURES, HORIZON, len(low))
    futures = state.fork(FUTURES)  # they share the past; nothing is copied
    for t in range(HORIZON):
        futures = model.step(futures, plans[:, t])
    return plans[model.distance(futures, goal.expand(FUTURES, -1)).argmin(), 0]


@torch.inference_mode()
def main(model: Positional[Path], env: str = "forerun/Push-v0", quick: bool = False) -> None:
    """Try to reach one goal.

    Args:
        model: a folder written by training.
        env: the task its recordings came from.
        quick: five steps only.
    """
    world = forerun.WorldModel.from_pretrained(model)
    task: Any = gymnasium.make(env)
    observation, info = task.reset(seed=0)

    def see(streams: dict) -> torch.Tensor:
        """(1, 1, N, D) latents of one moment."""
        names = [spec.name for spec in world.config.streams]
        return world.encode({name: torch.as_tensor(streams[name])[None, None] for name in names})

    goal = world.goal(see(info["goal"])[:, 0])
    low, high = torch.as_tensor(task.action_space.low), torch.as_tensor(task.action_space.high)
    for step in range(5 if quick else 50):
        state = world.start(see(observation))
        action = shoot(world, state, goal, low, high)
        observation, _, reached, _, _ = task.step(action.numpy())
        print(f"step {step:2d}: about {float(world.distance(state, goal)):.1f} ticks to go")
        if reached:
            print("reached")
            break


if __name__ == "__main__":
    tyro.cli(main)
