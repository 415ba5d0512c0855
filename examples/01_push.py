"""Learn how a block moves from recordings of aimless play, then push it to where a picture shows it.

    python examples/01_push.py            about ten minutes on two cores
    python examples/01_push.py --quick    a few seconds: shows the steps, and learns next to nothing

Needs the simulator: pip install 'forerun[sim]'
"""

from pathlib import Path

import gymnasium
import numpy as np
import tyro

import forerun
import forerun.tasks
from forerun.control.agents import RandomAgent, WorldModelAgent
from forerun.control.trials import make_task, recorded_trials, run_trials
from forerun.data.window import split_episodes
from forerun.evaluation.stats import wilson
from forerun.teach import Recipe, teach

ENV, TICK_S = "forerun/Push-v0", 0.1


class Play:
    """A scripted policy that pushes the block about, well and badly, without any goal."""

    def reset(self, env: gymnasium.Env, rng: np.random.Generator) -> None:
        self.act = forerun.tasks.scripted_policy(env, rng.choice(["noisy", "weak", "random"]), rng)

    def __call__(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        return self.act()


def main(out: Path = Path("runs/example-push"), quick: bool = False) -> None:
    """Record, train, and count how often goals are reached.

    Args:
        out: recordings, training run and model; the same call continues what was interrupted.
        quick: next to nothing of everything.
    """
    episodes, steps, share, count = (12, 40, 0.003, 4) if quick else (300, 150, 1.0, 100)
    if not (out / "recordings").exists():
        env = gymnasium.make(ENV)
        play = forerun.record(env, Play(), episodes=episodes, max_steps=steps, past_the_end=True)
        forerun.write_lerobot(out / "recordings", play, fps=1 / TICK_S, crf=12)

    recordings = forerun.open_recordings(out / "recordings")
    cache = forerun.build_cache(recordings, out / "cache", tick_s=TICK_S)
    recipe = Recipe(holdout=0.2).scaled(share)
    model = teach(cache, out / "run", recipe)

    _, held_out = split_episodes(cache, recipe.holdout, recipe.seed)
    task = make_task(ENV)
    trials = recorded_trials(task, cache, held_out, offset=25, count=count, seed=0)
    agents = {"planner": WorldModelAgent(model), "random moves": RandomAgent(task.action_spec)}
    for name, agent in agents.items():
        outcomes = run_trials(ENV, trials, agent, budget=10 if quick else 50)
        share = wilson(sum(outcome.moderate for outcome in outcomes), len(outcomes))
        print(f"{name:<13} {share.estimate:4.0%} of {len(outcomes)} ({share.low:.0%} to {share.high:.0%})")
    print(f"the model: {out / 'run' / 'model'}")


if __name__ == "__main__":
    tyro.cli(main)
