"""Record scripted play of a task on several processes, in an order that does not depend on how many."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

from forerun.cli.data import DataPolicy, MixedPolicy, make_env, save_episodes
from forerun.data.episode import Episode
from forerun.data.record import record
from forerun.evaluation.workers import cores, helpers

PORTION = 5
"""Episodes that one call to a process records; each portion has a seed of its own."""


def record_play(
    env: str,
    path: Path,
    *,
    episodes: int,
    steps: int,
    policies: Sequence[DataPolicy],
    seed: int = 0,
    processes: int | None = None,
    done: Callable[[int, int], None],
) -> int:
    """Record ``episodes`` of ``steps`` control steps into a new LeRobot v3.0 folder; how many there are.

    Play goes on past any success. The same seed gives the same episodes, however many processes record.

    Args:
        done: called with (episodes written, episodes in all).
        processes: one per core, at most two, by default.

    Raises:
        StorageError: ``path`` exists or cannot be written.
    """
    make_env(env).close()  # a missing extra or GL is said here, in one sentence
    recorded = _portions(env, episodes, steps, tuple(policies), seed, processes or min(2, cores()))
    return save_episodes(path, recorded, lambda count: done(count, episodes))


def _portions(
    env: str, episodes: int, steps: int, policies: tuple[DataPolicy, ...], seed: int, processes: int
) -> Iterator[Episode]:
    """Episodes in order; a few portions are recorded ahead while earlier ones are written."""
    sizes = [min(PORTION, episodes - first) for first in range(0, episodes, PORTION)]
    with helpers(processes) as pool:
        ahead: deque[Future[list[Episode]]] = deque()
        number = 0
        for portion, size in enumerate(sizes):
            ahead.append(pool.submit(_record, env, size, steps, policies, seed * 100_000 + portion))
            while len(ahead) > 2 * processes or (portion == len(sizes) - 1 and ahead):
                for episode in ahead.popleft().result():
                    yield replace(episode, name=f"episode_{number:06d}", success=None)  # play has no task
                    number += 1


def _record(
    env: str, episodes: int, steps: int, policies: tuple[DataPolicy, ...], seed: int
) -> list[Episode]:
    made = make_env(env)
    try:
        policy = MixedPolicy(policies)
        return list(record(made, policy, episodes=episodes, seed=seed, max_steps=steps, past_the_end=True))
    finally:
        made.close()
