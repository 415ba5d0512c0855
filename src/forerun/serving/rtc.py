"""A world as a WebRTC video track, for browsers behind bad networks: the extra "webrtc" (aiortc).

The browser posts an offer to ``/rtc``; the answer carries a video track of what the model imagines. On a data
channel it sends ``{"action": [...]}``, newest wins; the world is stepped once a frame.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import numpy as np
from fastapi import FastAPI, HTTPException, Request

from forerun.serving.access import Access
from forerun.serving.engine import Engine
from forerun.serving.parsing import checked_action
from forerun.serving.protocol import Close, Open, Refusal, Step, View
from forerun.types import require

PATH = "/rtc"
FRAMES_PER_S = 30
SIDE = 256
"""Pixels of a frame: codecs blur pictures of 64."""


def add_rtc(app: FastAPI, engine: Engine, access: Access) -> None:
    """Let an application answer offers.

    Raises:
        MissingExtraError: aiortc is not installed.
    """
    aiortc: Any = require("aiortc", "webrtc", "WebRTC")
    peers: set[Any] = set()

    @app.post(PATH)
    async def offer(request: Request) -> dict[str, str]:
        """``{"sdp", "type", "start"}`` to ``{"sdp", "type"}``."""
        if not access.admits(request.headers.get("authorization"), request.query_params.get("token")):
            raise HTTPException(401, "a token is needed")
        said = await request.json()
        viewer = Viewer(engine)
        app.state.door.connections.add(viewer)
        peer = aiortc.RTCPeerConnection()
        peers.add(peer)

        @peer.on("connectionstatechange")
        async def changed() -> None:
            if peer.connectionState in ("failed", "closed", "disconnected"):
                peers.discard(peer)
                app.state.door.connections.discard(viewer)
                engine.leave(viewer)
                await peer.close()

        @peer.on("datachannel")
        def opened(channel: Any) -> None:
            channel.on("message", viewer.steer)

        try:
            await viewer.open(int(said.get("start", 0)))
        except (Refusal, ValueError, TypeError) as cause:
            app.state.door.connections.discard(viewer)
            raise HTTPException(409, str(cause)) from cause
        peer.addTrack(_track(aiortc, viewer))
        await peer.setRemoteDescription(aiortc.RTCSessionDescription(sdp=said["sdp"], type=said["type"]))
        await peer.setLocalDescription(await peer.createAnswer())
        return {"sdp": peer.localDescription.sdp, "type": peer.localDescription.type}


class Viewer:
    """A client of the engine whose replies become frames."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.seq = engine, 0
        self.spec = engine.passes.model.config.action
        self.action: np.ndarray | None = None
        self.picture = np.zeros((SIDE, SIDE, 3), np.uint8)
        self._owed: asyncio.Future[dict[str, Any]] | None = None

    def post(self, reply: dict[str, Any]) -> None:
        """From the door: the answer that is waited for."""
        if self._owed is not None and not self._owed.done():
            self._owed.set_result(reply)

    def steer(self, message: str | bytes) -> None:
        """A new action; what is none changes nothing."""
        try:
            self.action = checked_action(json.loads(message)["action"], self.spec)
        except (Refusal, ValueError, KeyError, TypeError):
            return

    async def open(self, start: int) -> None:
        """Begin; Refusal if there is no room."""
        view = View(picture="raw", period_s=1 / FRAMES_PER_S, observe=())
        self._show(await self._ask(Open(id=0, start=start, view=view)))

    async def frame(self) -> np.ndarray:
        """One step further: (SIDE, SIDE, 3) uint8; the last picture where the server draws none."""
        self.seq += 1
        action = self.action if self.action is None or self.action.ndim == 1 else None
        self._show(await self._ask(Step(id=0, seq=self.seq, action=action)))
        return self.picture

    async def close(self) -> None:
        """Forget the world."""
        self.engine.submit(self, Close(id=0, quiet=True))

    async def _ask(self, request: Any) -> dict[str, Any]:
        self._owed = asyncio.get_running_loop().create_future()
        self.engine.submit(self, request)
        reply = await self._owed
        if reply["type"] == "error" and reply["code"] != "not_finite":
            raise Refusal(cast(Any, reply["code"]), reply["message"])
        return reply

    def _show(self, reply: dict[str, Any]) -> None:
        cameras = reply.get("picture", {}).get("cameras")
        if cameras:
            small = next(iter(cameras.values()))
            times = max(1, SIDE // len(small))
            self.picture = np.ascontiguousarray(small.repeat(times, 0).repeat(times, 1))


def _track(aiortc: Any, viewer: Viewer) -> Any:
    """A track of a viewer's frames; its class can only be made where aiortc is."""
    import av

    class Imagined(aiortc.VideoStreamTrack):
        async def recv(self) -> Any:
            pts, time_base = await self.next_timestamp()
            frame = av.VideoFrame.from_ndarray(await viewer.frame(), format="rgb24")
            frame.pts, frame.time_base = pts, time_base
            return frame

    return Imagined()
