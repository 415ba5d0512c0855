"""A world as a video track: it plays, and it obeys."""

from __future__ import annotations

import asyncio
import json
import urllib.request

import numpy as np
import pytest

from served import served
from tiny_worlds import UNPACKED, world

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


async def watched(page: str, action: list[float], frames: int = 20) -> np.ndarray:
    """The last of some frames, with an action held all the while."""
    aiortc = pytest.importorskip("aiortc")
    peer = aiortc.RTCPeerConnection()
    got: asyncio.Future = asyncio.get_running_loop().create_future()
    channel = peer.createDataChannel("control")
    channel.on("open", lambda: channel.send(json.dumps({"action": action})))
    peer.addTransceiver("video", direction="recvonly")
    peer.on("track", lambda track: got.set_result(track))
    await peer.setLocalDescription(await peer.createOffer())
    said = {"sdp": peer.localDescription.sdp, "type": peer.localDescription.type, "start": 1}
    request = urllib.request.Request(
        f"{page}/rtc", json.dumps(said).encode(), {"Content-Type": "application/json"}
    )
    answer = json.loads(await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=10).read()))
    await peer.setRemoteDescription(aiortc.RTCSessionDescription(**answer))
    track = await got
    for _ in range(frames):
        frame = await asyncio.wait_for(track.recv(), 10)
    await peer.close()
    return frame.to_ndarray(format="rgb24")


def test_a_browser_sees_a_world_that_obeys() -> None:
    pytest.importorskip("aiortc")
    with served(model=world(**UNPACKED), rtc=True) as live:
        left = asyncio.run(watched(live.page, [-3.0, 0.0]))
        right = asyncio.run(watched(live.page, [3.0, 0.0]))
    assert left.shape == (256, 256, 3)
    assert np.abs(left.astype(float) - right).mean() > 1
