"""The server on a real network: what clients do wrong costs nobody else anything."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as dial

from forerun.serving.access import Access
from forerun.serving.client import Refusal, Server, ServerGoneError, connect
from forerun.serving.messages import pack, unpack
from forerun.serving.protocol import PATH
from served import Served, served
from tiny_worlds import ACTIONS

NAN = float("nan")


@pytest.fixture(scope="module")
def live() -> Iterator[Served]:
    with served() as found:
        yield found


@pytest.fixture
def server(live: Served) -> Iterator[Server]:
    with connect(live.url) as found:
        yield found


def until(what, seconds: float = 5.0) -> bool:
    """Whether ``what()`` becomes true in time."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def get(url: str, token: str | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_a_client_drives_forks_keeps_and_goes_back(server: Server) -> None:
    world = server.open(start=1, picture="jpeg")
    first = world.step(np.ones(ACTIONS))
    assert first.picture is not None
    assert first.picture["camera"][:2] == b"\xff\xd8"
    assert first.timing["rows"] >= 1
    kept = world.snapshot()
    second = world.step(np.zeros(ACTIONS))
    again = server.restore(kept).step(np.zeros(ACTIONS))
    assert np.array_equal(second.streams["arm.position"], again.streams["arm.position"])
    fan = world.fork(32)
    seen = fan.step(np.random.default_rng(0).standard_normal((32, 3, ACTIONS)))
    assert seen.streams["arm.position"].shape == (32, 3)
    fan.select([7])
    assert fan.step(np.zeros(ACTIONS)).streams["arm.position"].shape == (3,)
    back = world.rollback(1)
    assert np.array_equal(back.streams["arm.position"], first.streams["arm.position"])
    world.close()
    with pytest.raises(Refusal, match="not open"):
        world.step(np.zeros(ACTIONS))


def test_the_server_says_first_what_it_is(server: Server) -> None:
    assert server.hello["model"]["name"] == "tiny"
    assert server.action is not None
    assert server.action.names == ("left", "right")
    assert list(server.streams) == ["camera", "arm.position"]
    assert server.hello["capacity"]["slots"] == 64


def test_a_client_of_another_robot_is_refused_at_open(live: Served) -> None:
    with dial(live.url + PATH) as wire:
        wire.recv()
        space = {"names": ["left", "up"], "unit": "rad/s"}
        wire.send(pack({"type": "open", "id": 0, "start": 0, "action": space}))
        assert unpack(wire.recv())["code"] == "bad_action"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "step", "id": 0, "seq": 0, "action": np.array([NAN, 0.0])}, "bad_action"),
        ({"type": "step", "id": 0, "seq": 0, "action": np.zeros(7)}, "bad_action"),
        ({"type": "step", "id": 0, "seq": 0, "action": ["a", "b"]}, "bad_action"),
        ({"type": "step", "id": 0, "action": None}, "bad_message"),
        ({"type": "step", "id": -1, "seq": 0, "action": None}, "bad_message"),
        ({"type": "step", "id": 77, "seq": 0, "action": None}, "unknown_session"),
        ({"type": "dance", "id": 0}, "bad_message"),
        ({"type": "open", "id": 1}, "bad_message"),
        ({"type": "open", "id": 1, "start": 0, "period_s": NAN}, "bad_message"),
        ({"type": "open", "id": 1, "start": 0, "picture": "bmp"}, "bad_message"),
        ({"type": "restore", "id": 1, "data": b"not a snapshot"}, "snapshot_refused"),
        ({"type": "restore", "id": 1, "name": "../../etc/passwd"}, "bad_message"),
        ([1, 2, 3], "bad_message"),
        (None, "bad_message"),
    ],
)
def test_a_mistake_gets_a_code_and_a_sentence_and_the_connection_lives(
    live: Served, message, code: str
) -> None:
    with dial(live.url + PATH) as wire:
        wire.recv()
        wire.send(pack(message))
        reply = unpack(wire.recv(timeout=5))
        assert (reply["type"], reply["code"]) == ("error", code)
        assert len(reply["message"]) > 20
        wire.send(pack({"type": "open", "id": 5, "start": 0}))
        assert unpack(wire.recv(timeout=5))["type"] == "opened"


@pytest.mark.parametrize(
    "garbage", [b"", b"\xc1", b"\xff" * 50, b"\x81\xa1", b"\xdd\xff\xff\xff\xff", "text"]
)
def test_garbage_is_answered(live: Served, garbage: bytes | str) -> None:
    with dial(live.url + PATH) as wire:
        wire.recv()
        wire.send(garbage)
        assert unpack(wire.recv(timeout=5))["code"] == "bad_message"


def test_a_message_that_is_too_large_ends_only_its_own_connection() -> None:
    with served(Access(message_bytes=10_000)) as live, connect(live.url) as other:
        world = other.open()
        with dial(live.url + PATH) as wire:
            wire.recv()
            wire.send(b"x" * 20_000)
            with pytest.raises(ConnectionClosed, match="1009"):
                wire.recv(timeout=5)
        assert world.step(np.zeros(ACTIONS)).streams


def test_a_client_that_vanishes_leaves_no_session_behind(live: Served) -> None:
    before = len(live.engine.registry.sessions)
    with dial(live.url + PATH) as wire:
        wire.recv()
        for number in range(3):
            wire.send(pack({"type": "open", "id": number, "start": 0}))
            wire.recv()
        assert len(live.engine.registry.sessions) == before + 3
        wire.socket.shutdown(socket.SHUT_RDWR)  # no goodbye
    assert until(lambda: len(live.engine.registry.sessions) == before)


def test_a_slow_reader_loses_old_observations_and_holds_up_nobody() -> None:
    with (
        served(Access(outbox=8)) as live,
        dial(live.url + PATH, close_timeout=0.1) as slow,
        connect(live.url) as quick,
    ):
        unpack(slow.recv())
        slow.send(pack({"type": "open", "id": 0, "start": 0, "picture": "raw"}))
        slow.recv()
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        world, took = quick.open(), []
        for seq in range(600):  # 3 kB each, and nobody reads them
            slow.send(pack({"type": "step", "id": 0, "seq": seq, "action": None}))
            if seq % 10 == 0:
                began = time.perf_counter()
                world.step(np.zeros(ACTIONS))
                took.append(time.perf_counter() - began)
        assert float(np.median(took)) < 0.2
        assert len(live.engine.registry.sessions) == 2


def test_without_the_token_nobody_comes_in() -> None:
    with served(Access(tokens=["open sesame", "second"])) as live:
        with pytest.raises(ServerGoneError, match="token"):
            connect(live.url)
        with pytest.raises(ServerGoneError, match="token"):
            connect(live.url, token="open barley")
        with connect(live.url, token="open sesame") as server:
            assert server.open().step(np.zeros(ACTIONS)).streams
        assert get(f"{live.page}/starts/0.jpg")[0] == 401
        assert get(f"{live.page}/starts/0.jpg", "second")[0] == 200


def test_one_peer_cannot_take_all_connections() -> None:
    full = pytest.raises(ServerGoneError, match="2 connections")
    with served(Access(connections=2)) as live, connect(live.url), connect(live.url), full:
        connect(live.url)


def test_a_flood_is_slowed_down_and_told_so() -> None:
    with served(Access(messages_per_s=5)) as live, dial(live.url + PATH) as wire:
        wire.recv()
        for _ in range(12):
            wire.send(pack({"type": "close", "id": 0}))
        codes = [unpack(wire.recv(timeout=5))["code"] for _ in range(12)]
        assert "rate_limited" in codes


def test_probes_and_prometheus_see_what_happens(live: Served, server: Server) -> None:
    server.open().step(np.zeros(ACTIONS))
    assert get(f"{live.page}/healthz")[0] == 200
    status, body = get(f"{live.page}/readyz")
    assert status == 200
    assert json.loads(body)["ready"] is True
    text = get(f"{live.page}/metrics")[1].decode()
    for name in ("forerun_sessions", "forerun_passes_total", "forerun_reply_seconds_bucket", "forerun_level"):
        assert name in text


def test_a_drained_server_sends_every_world_home() -> None:
    with served() as live, connect(live.url) as server:
        world = server.open()
        world.step(np.ones(ACTIONS))
        live.engine.drain()
        pushed = server.wait(world.number, None)
        assert pushed["reason"] == "draining"
        assert world.step(np.zeros(ACTIONS)).streams  # who is in may finish
        with pytest.raises(Refusal, match="about to stop"):
            server.open()
        assert get(f"{live.page}/readyz")[0] == 503
        with served() as other, connect(other.url) as there:
            assert there.restore(pushed["data"]).step(np.zeros(ACTIONS)).streams


def test_nobody_there_is_said_in_one_sentence() -> None:
    with pytest.raises(ServerGoneError, match="forerun serve"):
        connect("ws://127.0.0.1:9")


def test_a_server_with_a_certificate_of_its_own_is_met_over_tls(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -subj /CN=localhost"
    subprocess.run(
        [*words.split(), "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True
    )
    trusted = ssl.create_default_context(cafile=str(certificate))
    with served(tls={"ssl_certfile": certificate, "ssl_keyfile": key}) as live:
        with connect(f"wss://localhost:{live.port}", tls=trusted) as server:
            assert server.open().step(np.zeros(ACTIONS)).streams
        with pytest.raises(ServerGoneError, match="certificate"):
            connect(f"wss://localhost:{live.port}")
