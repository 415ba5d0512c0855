"""`forerun serve --replicas 2`: two processes behind one address, each with worlds, ended without loss."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

from forerun.cli.fleet import words_of
from forerun.cli.serve import Serve
from forerun.serving.client import connect


def test_every_server_gets_the_options_that_are_its_own() -> None:
    words = words_of(Serve(replicas=2, port=9, slots=8, shape="fixed", open_doors=True))
    assert words[words.index("--slots") + 1] == "8"
    assert words[words.index("--shape") + 1] == "fixed"
    assert "--open-doors" in words
    assert not {"--port", "--replicas", "--host", "--browser", "--snapshots"} & set(words)


@pytest.mark.slow
def test_two_connections_meet_two_servers_and_both_are_drained() -> None:
    words = [
        sys.executable,
        "-m",
        "forerun.cli.main",
        "serve",
        "--replicas",
        "2",
        "--port",
        "0",
        "--no-browser",
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        port = next(m[1] for line in process.stdout if (m := re.search(r"localhost:(\d+)", line)))
        with connect(f"ws://127.0.0.1:{port}") as one, connect(f"ws://127.0.0.1:{port}") as other:
            worlds = [server.open() for server in (one, other)]
            assert [w.server.hello["capacity"]["sessions"] for w in worlds] == [0, 0]  # each was the first
            process.send_signal(signal.SIGTERM)
            for world in worlds:
                assert world.server.wait(world.number, None)["reason"] == "draining"
        assert process.wait(30) == 0
