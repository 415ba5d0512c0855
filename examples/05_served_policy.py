"""The loop that runs a LeRobot policy on a robot, with a served world in the robot's place.

    python examples/05_served_policy.py                              a tiny world, untrained, served by itself
    python examples/05_served_policy.py --url ws://127.0.0.1:8600    your own, opened by `forerun serve RUN`

`Damping` stands for a policy of LeRobot's, such as `ACTPolicy.from_pretrained(...)`: anything with `reset`
and `select_action` will do, with its processors around it as on the robot.

Needs the server: pip install 'forerun[serve]'
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
import tyro
import uvicorn

import forerun
from forerun.serving.app import create_app
from forerun.serving.engine import Engine
from forerun.serving.env import ServedEnv
from forerun.serving.passes import Passes
from forerun.serving.starts import Start

CAMERA = forerun.StreamSpec(name="front", kind="video", shape=(64, 64, 3), unit="rgb")
ARM = forerun.StreamSpec(name="arm.position", kind="vector", shape=(3,), unit="rad", names=("a", "b", "c"))
ACTION = forerun.StreamSpec(
    name="action",
    kind="action",
    shape=(3,),
    unit="rad/s",
    names=("a", "b", "c"),
    low=(-1,) * 3,
    high=(1,) * 3,
)


class Damping:
    """A policy in LeRobot's form: it pushes against where the joints are, and looks at no picture."""

    def __init__(self, joints: int) -> None:
        self.joints = joints

    def reset(self) -> None:
        """A new episode."""

    def select_action(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """(1, A) for observations of one row each."""
        push = -0.5 * batch["observation.state"][:, : self.joints]
        return torch.nn.functional.pad(push, (0, self.joints - push.shape[1]))


def as_lerobot(seen: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Pictures as (1, 3, H, W) from 0 to 1, all numbers side by side as (1, S), under LeRobot's names."""
    batch, numbers = {}, []
    for name, values in seen.items():
        part = torch.as_tensor(values)
        if values.dtype == np.uint8:
            camera = name.removeprefix("observation.images.")
            batch[f"observation.images.{camera}"] = part.permute(2, 0, 1)[None] / 255
        else:
            numbers.append(part.flatten())
    return {**batch, "observation.state": torch.cat(numbers)[None]}


@contextmanager
def tiny_server() -> Iterator[str]:
    """The address of a server with an untrained world and one start, in a thread until the block ends."""
    model = forerun.WorldModel(forerun.model_config("xs", (CAMERA, ARM), ACTION, tick_s=0.1))
    random = np.random.default_rng(0)
    moment = {
        "front": random.integers(0, 256, (1, *CAMERA.shape)).astype(np.uint8),
        "arm.position": random.normal(size=(1, 3)).astype(np.float32),
    }
    passes = Passes(model, slots=8, max_rows=8, engine="torch")  # at once; an export would take a while
    engine = Engine(passes, starts=[Start("anywhere", moment, None)])
    server = uvicorn.Server(uvicorn.Config(create_app(engine), ws="websockets-sansio", log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as sock:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield f"ws://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def main(url: str | None = None, ticks: int = 100, quick: bool = False) -> None:
    """Let the policy act, and say what the world made of it.

    Args:
        url: of a server that runs already.
        ticks: of the episode.
        quick: ten ticks only.
    """
    ticks = 10 if quick else ticks
    with tiny_server() if url is None else nullcontext(url) as address:
        env = ServedEnv(address, max_steps=ticks, pictures=True)
        policy = Damping(env.action_space.shape[0])  # type: ignore[index]
        seen, info = env.reset(seed=0)
        policy.reset()
        began, over = time.perf_counter(), False
        while not over:
            batch = as_lerobot(seen)
            action = policy.select_action(batch)[0].numpy()
            action = np.clip(action, env.action_space.low, env.action_space.high)  # type: ignore[attr-defined]
            seen, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated
        spent_ms = 1000 * (time.perf_counter() - began) / ticks
        print(f"the policy was given {', '.join(f'{n} {tuple(part.shape)}' for n, part in batch.items())}")
        doubt = info["heads"]["uncertainty"]
        print(f"{ticks} ticks at {spent_ms:.1f} ms each; uncertainty at the end: {doubt:.3g}")
        env.close()


if __name__ == "__main__":
    tyro.cli(main)
