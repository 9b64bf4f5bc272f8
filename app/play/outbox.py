"""What waits to be sent to one page: texts in order, and of frames the newest alone."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable
from typing import Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect

from app.play.protocol import BROKEN, CUT, PROMPT, FrameMessage

IN_FLIGHT = 2  # frames that are sent and not yet drawn
MOST_WAITING = 256  # texts; more wait only for a page that does not read
# What Starlette and uvicorn raise for a message to a page that has left.
GONE = (RuntimeError, OSError, WebSocketDisconnect)
STALLED_SECONDS = 1.0  # without an `ack`, while frames are in flight


class Closed(Exception):
    """The connection ends: with a code and a reason, or because the page is gone (code None)."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Channel(Protocol):
    """The sending half of a WebSocket."""

    async def send_text(self, data: str) -> None: ...
    async def send_bytes(self, data: bytes) -> None: ...


class Outbox:
    """Sends by one task; everybody else only puts something in, which never waits.

    At most IN_FLIGHT frames are on their way. While they are, a newer frame takes the place of the one that waits,
    unless that one tells of a new beginning (PROMPT, CUT).
    """

    def __init__(self) -> None:
        self._texts: deque[str] = deque()
        self._frames: deque[tuple[FrameMessage, float]] = deque()
        self._sent = self._acked = 0
        self._moved = time.monotonic()  # when a frame was last sent into an empty pipe, or acknowledged
        self._event = asyncio.Event()

    def text(self, **message: object) -> None:
        """Send a text message.

        Raises:
            Closed: too many wait.
        """
        if len(self._texts) >= MOST_WAITING:
            raise Closed(BROKEN, "the page does not read what it is sent")
        self._texts.append(json.dumps(message, allow_nan=False))
        self._event.set()

    def refuse(self, what: str, reason: str) -> None:
        """Say that something was not done, and why, in a sentence for a person."""
        self.text(type="refused", what=what, reason=reason)

    def frame(self, frame: FrameMessage, began: float) -> None:
        """Send a frame, whose step began at `began` (`time.perf_counter`)."""
        if self._frames and not self._frames[-1][0].flags & (PROMPT | CUT):
            self._frames.pop()
        if len(self._frames) >= MOST_WAITING:
            raise Closed(BROKEN, "the page does not read what it is sent")
        self._frames.append((frame, began))
        self._event.set()

    def forget_frames(self) -> None:
        """Drop the frames that wait: they belong to a game that is over."""
        self._frames.clear()

    def ack(self, number: int) -> None:
        """The page has drawn a frame."""
        self._acked = max(self._acked, min(number, self._sent))
        self._moved = time.monotonic()
        self._event.set()

    @property
    def stalled(self) -> bool:
        """Whether the page has not drawn a frame for long, though some were sent."""
        full = self._sent - self._acked >= IN_FLIGHT
        return full and time.monotonic() - self._moved > STALLED_SECONDS

    async def run(self, channel: Channel) -> None:
        """Send until cancelled."""
        while True:
            await self._event.wait()
            self._event.clear()
            while self._texts:
                await channel.send_text(self._texts.popleft())
            while self._frames and self._sent - self._acked < IN_FLIGHT and not self._texts:
                frame, began = self._frames.popleft()
                if self._sent == self._acked:
                    self._moved = time.monotonic()
                self._sent += 1
                await channel.send_bytes(frame.pack(self._sent, round((time.perf_counter() - began) * 1e6)))
            if self._texts:
                self._event.set()


class SocketChannel:
    """The socket's sending half; a page that is gone ends the connection."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def send_text(self, data: str) -> None:
        await self._send(self._socket.send_text(data))

    async def send_bytes(self, data: bytes) -> None:
        await self._send(self._socket.send_bytes(data))

    @staticmethod
    async def _send(sending: Awaitable[None]) -> None:
        try:
            await sending
        except GONE as error:
            raise Closed(None) from error
