"""A server of live play on a free port, in a thread of this process, and a page that talks to it."""

import asyncio
import json
import socket
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from email.message import Message
from typing import Any

import uvicorn
import websockets

from app.play.protocol import PROMPT, FrameMessage, unpack
from app.play.server import ServerConfig, build_app
from torch_bridge.world import World


@contextmanager
def serving(world: World, config: ServerConfig | None = None, port: int = 0) -> Iterator[tuple[int, Any]]:
    """Port and ASGI application of a running server."""
    app = build_app(world, "tested", config)
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_level="error", ws_max_size=2**26, ws_per_message_deflate=False, timeout_graceful_shutdown=1
        )
    )
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield bound.getsockname()[1], app
    finally:
        server.should_exit = True
        thread.join(20)
        bound.close()
        assert not thread.is_alive()


class Page:
    """What a page does: keeps what it hears, draws (acknowledges) every frame."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self.socket = socket
        self.texts: list[dict[str, Any]] = []
        self.frames: list[FrameMessage] = []
        self.draws = True

    async def say(self, message_type: str, **fields: Any) -> None:
        """Send a message."""
        await self.socket.send(json.dumps({"type": message_type, **fields}))

    async def hear(self, wanted: Callable[[], Any], seconds: float = 60.0) -> Any:
        """Read until `wanted()` is true, and return it."""
        async with asyncio.timeout(seconds):
            while not (found := wanted()):
                message = await self.socket.recv()
                if isinstance(message, str):
                    self.texts.append(json.loads(message))
                    continue
                frame, number, _ = unpack(message)
                self.frames.append(frame)
                if self.draws:
                    await self.say("ack", number=number)
            return found

    async def told(self, kind: str, count: int = 1, seconds: float = 60.0) -> dict[str, Any]:
        """The count-th text of a type from the beginning."""
        return await self.hear(
            lambda: ([t for t in self.texts if t["type"] == kind][count - 1 :] or [None])[0], seconds
        )

    async def begin(self, prompt: str = "00", **fields: Any) -> None:
        """Start, and wait for the first frame; what was heard before is forgotten."""
        self.texts, self.frames = [], []
        await self.say("start", prompt=prompt, **fields)
        await self.told("started")
        await self.hear(lambda: self.frames)


@asynccontextmanager
async def page(port: int, query: str = "", **options: Any) -> AsyncIterator[Page]:
    """A page that has been greeted."""
    origin = options.pop("origin", f"http://127.0.0.1:{port}")
    async with websockets.connect(
        f"ws://127.0.0.1:{port}/play{query}", origin=origin, max_size=None, open_timeout=20, **options
    ) as socket:
        talking = Page(socket)
        await talking.told("hello")
        yield talking


def codes_shown(talking: Page) -> list[int | None]:
    """The codes of the frames that a page was sent, without those of prompts."""
    return [frame.code for frame in talking.frames if not frame.flags & PROMPT]


async def settled(app: Any, count: int) -> None:
    """Wait until the server knows of `count` pages."""
    async with asyncio.timeout(60):
        while len(app._app.state.players) != count:
            await asyncio.sleep(0.01)


def fetch(port: int, path: str, **headers: str) -> tuple[bytes, Message]:
    """Body and headers of what the server has at a path."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read(), answer.headers
