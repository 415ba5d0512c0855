"""Reach one picture that a person brings: nothing is counted, since nobody knows when it is reached."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from rich.console import Console

from forerun.control.agents import WorldModelAgent
from forerun.evaluation.strips import Attempt, write_attempt_film
from forerun.tasks import Task
from forerun.types import ConfigError, DataError, StorageError


@torch.inference_mode()
def reach_picture(
    task: Task, agent: WorldModelAgent, goal: Path, out: Path, *, steps: int, seed: int, console: Console
) -> None:
    """Act towards the picture from a start the task draws, film it, and say how near it came.

    Nearness is what the model thinks; beside it stand the pixels that differ, and what a decision costs.
    """
    picture, note = read_goal(goal, task.observe()["camera"].shape[0])
    if note:
        console.print(note, highlight=False)
    film = out / f"{goal.stem}.seed{seed}.mp4"
    if film.exists():
        raise StorageError(f"{film.name} exists already; choose another --out or --seed. Path: {film}")
    observation, _ = task.reset(seed=seed)
    goals = {name: np.zeros_like(value)[None] for name, value in observation.items()}
    goals["camera"] = picture[None]  # of a goal only the picture counts, see WorldModel.goal
    agent.begin(_one(observation), goals)
    frames, distances, seconds = [], [], []
    for _ in range(steps):
        began = time.perf_counter()
        action = agent.act(_one(observation))
        seconds.append(time.perf_counter() - began)
        assert agent.state is not None
        distances.append(float(agent.model.distance(agent.state, agent.goal)[0]))
        frames.append(observation["camera"])
        observation = task.step(action[0])[0]
    frames.append(observation["camera"])
    attempt = Attempt(
        name=goal.stem, frames=np.stack(frames), goal=picture, reached=False, tick_s=1 / task.control_hz
    )
    write_attempt_film(film, [attempt])
    console.print(
        f"distance to the goal as the model sees it: {distances[0]:.1f} discounted steps at the start, "
        f"{min(distances):.1f} at best, {distances[-1]:.1f} after {steps} steps"
    )
    console.print(f"pixels that differ from the goal: {apart(frames[0], picture)} at the start, "
                  f"{apart(frames[-1], picture)} at the end")  # fmt: skip
    console.print(
        f"{1000 * float(np.median(seconds)):.1f} ms per decision, from picture to action (median of "
        f"{steps}); decides anew at every step, {task.control_hz:g} Hz",
        highlight=False,
    )
    console.print(f"film  {film}", highlight=False)


def _one(observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value[None] for name, value in observation.items()}


def apart(picture: np.ndarray, goal: np.ndarray) -> str:
    """Share of pixels that differ by more than 30 of 255 in some channel."""
    return f"{100 * (np.abs(picture.astype(int) - goal) > 30).any(-1).mean():.1f} %"


def read_goal(path: Path, side: int) -> tuple[np.ndarray, str]:
    """A picture file as (side, side, 3) uint8, and what was done to it, if anything.

    Raises:
        DataError: the file is absent, or no picture.
    """
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except FileNotFoundError as cause:
        raise DataError(f"the goal picture is not there; check --goal. Path: {path}") from cause
    except (UnidentifiedImageError, OSError, SyntaxError) as cause:
        raise DataError(
            f"the goal cannot be read as a picture ({cause}); expected a PNG or JPEG file. Path: {path}"
        ) from cause
    if picture.size == (side, side):
        return np.array(picture), ""
    if min(picture.size) < 8:
        raise ConfigError(
            f"the goal picture has {picture.size} pixels; expected {side} x {side}. Path: {path}"
        )
    width, height = picture.size
    resized = picture.resize((side, side), Image.Resampling.BOX)
    squashed = "" if width == height else ", which squashes it"
    return np.asarray(
        resized
    ), f"the goal picture is {width} x {height}: resized to {side} x {side}{squashed}"
