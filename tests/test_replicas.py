"""Worlds outlive the server they run on: another replica goes on, bit for bit."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from forerun.serving.client import Observation, Refusal, Server, ServerGoneError, connect
from forerun.serving.resilient import ResilientServer
from forerun.serving.router import Router
from forerun.serving.starts import Start, save_starts
from forerun.types import MissingExtraError
from tiny_worlds import ACTIONS, clip, world

SESSIONS, STEPS, EVERY, CONTEXT = 8, 60, 8, 3
FLEET = """
import os, sys, time
from pathlib import Path
import forerun.serving.app, forerun.world_model
from forerun.serving.replicas import from_folder
from forerun.serving.server import serve
folder = Path(sys.argv[1])
build = from_folder(folder, starts=folder / "starts.safetensors", slots=32, rows=8, shape="fixed")
for port in map(int, sys.argv[2:]):
    process = os.fork()
    if not process:
        app, engine = build()
        serve(app, engine, port=port, drain_s=20.0)
        os._exit(0)
    print(process, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model and a recorded start for each session."""
    path = tmp_path_factory.mktemp("run") / "model"
    world().save_pretrained(path)
    starts = []
    for k in range(SESSIONS):
        context = {name: values[0].numpy() for name, values in clip(1, CONTEXT, seed=k).items()}
        starts.append(Start(f"start {k}", context, np.zeros((CONTEXT - 1, ACTIONS), np.float32)))
    save_starts(starts, path / "starts.safetensors")
    return path


@dataclass
class Fleet:
    """Servers by address with their process numbers, each for one test that does with it what it likes."""

    spare: list[tuple[str, int]]

    def take(self) -> tuple[str, int]:
        url, process = self.spare.pop()
        wait_until(lambda: answers(url), 60)
        return url, process


@pytest.fixture(scope="module")
def fleet(folder: Path) -> Iterator[Fleet]:
    """They are forks of one process, which has imported what takes long."""
    ports = [str(free_port()) for _ in range(5)]
    words = [sys.executable, "-c", FLEET, str(folder), *ports]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        started = [(f"http://127.0.0.1:{port}", int(parent.stdout.readline())) for port in ports]
        yield Fleet(list(started))
        for _, process in started:  # those that are dead already wait for their parent, numbers and all
            os.kill(process, signal.SIGKILL)
        parent.kill()


@pytest.fixture(scope="module")
def survivor(fleet: Fleet) -> str:
    """A server that no test harms."""
    return fleet.take()[0]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def answers(url: str) -> bool:
    try:
        connect(url.replace("http", "ws")).close()
    except ServerGoneError:
        return False
    return True


def wait_until(true: Callable[[], bool], seconds: float) -> None:
    until_s = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until_s, "it did not come to pass"
        time.sleep(0.05)


def actions(session: int, steps: int = STEPS) -> np.ndarray:
    return np.random.default_rng(session).normal(size=(steps, ACTIONS)).astype(np.float32)


def assert_same(one: Observation, other: Observation) -> None:
    for name, values in one.streams.items():
        assert_array_equal(values, other.streams[name])
    for name, value in one.heads.items():
        assert_array_equal(value, other.heads[name])
    for name in ("latents", "distance", "actions"):
        assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.fixture(scope="module")
def undisturbed(survivor: str) -> list[list[Observation]]:
    """What the sessions see if nothing happens to them."""
    with connect(survivor.replace("http", "ws")) as server:
        lives = [server.open(session, latents=True) for session in range(SESSIONS)]
        seen = [[live.observation] for live in lives]
        for step in range(STEPS):
            seqs = [live.send_step(actions(session)[step]) for session, live in enumerate(lives)]
            for live, seq, own in zip(lives, seqs, seen, strict=True):
                own.append(live.receive(seq))
    return seen


@dataclass
class Driver:
    """A client in a thread of its own that steps one world through a router."""

    url: str
    session: int
    pause_s: float = 0.002

    def __post_init__(self) -> None:
        self.server = ResilientServer(self.url, every=EVERY)
        self.live = self.server.open(self.session, latents=True)
        self.seen, self.fault = [self.live.observation], None
        self.thread = threading.Thread(target=self._drive)

    def _drive(self) -> None:
        try:
            for action in actions(self.session):
                self.seen.append(self.live.step(action))
                time.sleep(self.pause_s)
        except Exception as fault:
            self.fault = fault

    def finish(self) -> None:
        self.thread.join(60)
        self.server.close()
        assert self.fault is None
        assert len(self.seen) == STEPS + 1


def drive_while(url: str, disturb: Callable[[], None], pause_s: float = 0.002) -> list[Driver]:
    """Eight sessions; the disturbance comes when all are well under way and none is near its end."""
    drivers = [Driver(url, session, pause_s) for session in range(SESSIONS)]
    for driver in drivers:
        driver.thread.start()
    wait_until(lambda: min(len(driver.seen) for driver in drivers) > STEPS // 4, 30)
    assert max(len(driver.seen) for driver in drivers) < STEPS
    disturb()
    for driver in drivers:
        driver.finish()
    return drivers


def assert_all_same(drivers: list[Driver], undisturbed: list[list[Observation]]) -> None:
    for driver in drivers:
        for seen, expected in zip(driver.seen, undisturbed[driver.session], strict=True):
            assert_same(seen, expected)


def test_all_sessions_of_a_killed_replica_go_on_and_the_others_notice_nothing(
    fleet: Fleet, survivor: str, undisturbed: list[list[Observation]]
) -> None:
    url, process = fleet.take()
    with Router([survivor, url]) as router:
        placed = []

        def kill() -> None:
            placed.extend(replica.connections for replica in router.replicas.values())
            os.kill(process, signal.SIGKILL)

        drivers = drive_while(router.url, kill)
    assert placed == [SESSIONS // 2, SESSIONS // 2]
    assert sorted(driver.server.moves for driver in drivers) == [0] * 4 + [1] * 4
    assert_all_same(drivers, undisturbed)


def test_a_replica_that_drains_is_left_before_it_ends(
    fleet: Fleet, survivor: str, undisturbed: list[list[Observation]]
) -> None:
    url, process = fleet.take()
    with Router([survivor, url]) as router:
        drivers = drive_while(router.url, lambda: os.kill(process, signal.SIGTERM))
    wait_until(lambda: not answers(url), 5)
    assert sorted(driver.server.moves for driver in drivers) == [0] * 4 + [1] * 4
    assert_all_same(drivers, undisturbed)


def explore(server: Server, disturb: Callable[[], None]) -> list[Observation]:
    """A world, its twin and its candidates, all alive at once, disturbed in the middle of everything."""
    live = server.open(0, latents=True)
    seen = [live.step(action) for action in actions(0, 2 * EVERY + 3)]
    seen.append(live.rollback(2))
    twin, fan = live.fork(), live.fork(3)
    nested = twin.fork(2)
    waiting = [live.send_step(action) for action in actions(1, 2 * EVERY)]
    chosen = np.stack([actions(k, 1)[0] for k in range(3)])
    seen.append(fan.step(chosen))
    disturb()
    seen += [live.receive(seq) for seq in waiting]
    seen += [fan.step(chosen), twin.step(None), nested.step(chosen[:2]), fan.select([1]), fan.step(chosen[0])]
    with pytest.raises(Refusal, match="not finite"):
        live.step([np.nan, 0.0])
    restored = server.restore(live.snapshot(), latents=True)
    seen += [restored.step(chosen[2]), live.step(chosen[2])]
    goal = {name: values[0, -1].numpy() for name, values in clip(1, 1, seed=9).items()}
    futures = actions(2, 3 * 4).reshape(3, 4, ACTIONS)
    seen += [live.imagine(futures, goal, judge=(1, 3)), live.step(chosen[1])]
    with pytest.raises(Refusal):
        live.imagine(futures, goal, judge=(7,))
    seen += [live.imagine(futures, goal, judge=(3,))]
    twin.close()
    with pytest.raises(Refusal, match="not open"):
        twin.step(None)
    for other in (live, fan, nested, restored):
        other.close()
    return seen


def test_forks_candidates_and_answers_still_owed_outlive_the_replica(fleet: Fleet, survivor: str) -> None:
    url, process = fleet.take()
    with connect(survivor.replace("http", "ws")) as server:
        expected = explore(server, lambda: None)
    with Router([url]) as router, ResilientServer(router.url, every=EVERY) as server:
        router.enter(survivor)
        seen = explore(server, lambda: os.kill(process, signal.SIGKILL))
        assert server.moves == 1
    for one, other in zip(seen, expected, strict=True):
        assert_same(one, other)


class Breaking(socketserver.ThreadingTCPServer):
    """A way to a server that breaks off after so many bytes of replies, another number each time."""

    daemon_threads = True

    def __init__(self, far: str, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), BreakingWay)
        self.far = "127.0.0.1", int(far.rsplit(":", 1)[1])
        self.lengths = np.random.default_rng(seed)
        self.url = f"ws://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class BreakingWay(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Breaking)
        left = int(self.server.lengths.integers(6_000, 20_000))
        with socket.create_connection(self.server.far) as far:
            threading.Thread(target=self.pass_on, args=(far,), daemon=True).start()
            while left and (data := far.recv(min(left, 4096))):
                self.request.sendall(data)
                left -= len(data)
            far.shutdown(socket.SHUT_RDWR)

    def pass_on(self, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := self.request.recv(4096):
                far.sendall(data)


@pytest.mark.parametrize("seed", range(2))
def test_the_connection_may_break_at_any_byte(survivor: str, seed: int) -> None:
    with connect(survivor.replace("http", "ws")) as server:
        expected = [seen for _ in range(2) for seen in explore(server, lambda: None)]
    with Breaking(survivor, seed) as way:
        while True:  # the first connection is not the claim
            with contextlib.suppress(ServerGoneError):
                server = ResilientServer(way.url, every=EVERY, timeout_s=3.0, patience_s=10.0)
                break
        seen = [seen for _ in range(2) for seen in explore(server, lambda: None)]
        server.close()
    assert server.moves > 0
    for one, other in zip(seen, expected, strict=True):
        assert_same(one, other)


def test_a_replica_that_hangs_is_left_when_the_time_for_an_answer_is_over(
    fleet: Fleet, survivor: str, undisturbed: list[list[Observation]]
) -> None:
    url, process = fleet.take()
    with Router([url]) as router, ResilientServer(router.url, timeout_s=2.0, every=EVERY) as server:
        live = server.open(0, latents=True)
        for action in actions(0)[: EVERY + 1]:
            live.step(action)
        router.enter(survivor)
        os.kill(process, signal.SIGSTOP)
        assert_same(live.step(actions(0)[EVERY + 1]), undisturbed[0][EVERY + 2])
        assert server.moves == 1


def test_a_router_without_a_ready_replica_says_so() -> None:
    with Router([f"http://127.0.0.1:{free_port()}"]) as router, pytest.raises(ServerGoneError, match="503"):
        ResilientServer(router.url)


def test_a_world_whose_last_server_died_is_given_up_after_the_time_stated(survivor: str) -> None:
    with Router([survivor]) as router:
        server = ResilientServer(router.url, patience_s=0.3)
        live = server.open(0)
    with pytest.raises(ServerGoneError, match="no server took 1 worlds over"):
        live.step(None)


def test_deploying_without_ray_says_which_extra_is_missing() -> None:
    from forerun.serving.replicas import deploy, from_folder

    if importlib.util.find_spec("ray") is not None:
        pytest.skip("ray is installed here")
    with pytest.raises(MissingExtraError, match=r"forerun\[ray\]"):
        deploy(from_folder(Path("model")))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Ray on this machine, small."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed: pip install 'forerun[ray]'")
    import ray
    from ray import serve

    ray.init(
        num_cpus=2, object_store_memory=100 * 2**20, include_dashboard=False, log_to_driver=False,
        configure_logging=False,
    )  # fmt: skip
    yield serve
    serve.shutdown()
    ray.shutdown()


def placed_by(cluster: Any) -> dict[str, int]:
    """Process numbers by address of the replicas that Ray Serve has."""
    return cluster.get_app_handle("forerun-router").replicas.remote().result()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # ray has its own
def test_ray_serve_replaces_a_killed_replica_and_its_sessions_go_on_meanwhile(
    cluster: Any, folder: Path, undisturbed: list[list[Observation]]
) -> None:
    from forerun.serving.replicas import deploy, from_folder

    build = from_folder(folder, starts=folder / "starts.safetensors", slots=32, rows=8, shape="fixed")
    url = deploy(build, 2, port=0, cpus=0.5)
    before = placed_by(cluster)
    assert len(before) == 2
    killed = next(iter(before.values()))
    drivers = drive_while(url, lambda: os.kill(killed, signal.SIGKILL))
    assert sorted(driver.server.moves for driver in drivers) == [0] * 4 + [1] * 4
    assert_all_same(drivers, undisturbed)
    wait_until(lambda: len({*placed_by(cluster).values()} - {killed}) == 2, 120)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_sessions_live_through_the_replacement_of_every_replica(
    cluster: Any, folder: Path, undisturbed: list[list[Observation]]
) -> None:
    from forerun.serving.replicas import deploy, from_folder

    build = from_folder(folder, starts=folder / "starts.safetensors", slots=32, rows=8, shape="fixed")
    url = deploy(build, 2, port=0, cpus=0.5)
    before = {*placed_by(cluster).values()}
    drivers = drive_while(url, lambda: deploy(build, 2, port=0, cpus=0.5) and None, pause_s=0.5)
    assert all(driver.server.moves >= 1 for driver in drivers)
    assert_all_same(drivers, undisturbed)
    wait_until(lambda: len({*placed_by(cluster).values()} - before) == 2, 120)
