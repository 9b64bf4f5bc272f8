"""The server of `genie play`: a page, a WebSocket, pictures of prompts, films."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from app.play.access import Guard
from app.play.films import Films
from app.play.gallery import Gallery
from app.play.outbox import GONE
from app.play.player import Player
from app.play.protocol import FULL
from app.play.shared import Shared
from app.play.thread import WorldThread
from torch_bridge.world import World

STATIC = Path(__file__).with_name("static")
FILM_TYPES = {"mp4": "video/mp4", "gif": "image/gif"}


@dataclass(frozen=True)
class ServerConfig:
    """What a server allows.

    Attributes:
        sessions: pages at once.
        idle_seconds: without a message, after which a page is sent away.
        token: that requests must carry; None on loopback.
    """

    sessions: int = 20
    idle_seconds: float = 900.0
    token: str | None = None


def build_app(world: World, name: str, config: ServerConfig | None = None) -> ASGIApp:
    """The server as an ASGI application.

    Args:
        world: played by all pages; nobody else may step it while the server runs.
        name: of the world, for people.
        config: see `ServerConfig`.
    """
    config = config or ServerConfig()
    gallery = Gallery(world.prompts)
    films = Films(world.codes, world.size, world.fps)
    thread = WorldThread()
    shared = Shared(world, name, thread, gallery, films, config.idle_seconds)
    players: set[Player] = set()

    async def page(request: Request) -> Response:
        del request
        return FileResponse(STATIC / "index.html")

    async def prompt_picture(request: Request) -> Response:
        prompt = gallery.find(request.path_params["identity"])
        if prompt is None:
            return PlainTextResponse("There is no such prompt.\n", 404)
        return Response(prompt.picture(), media_type="image/png")

    async def film(request: Request) -> Response:
        found = films.find(request.path_params["name"])
        if found is None:
            return PlainTextResponse("There is no such film any more: films are kept for ten minutes.\n", 404)
        file = f"{quote(name, safe='')}.{found.kind}"
        return FileResponse(found.path, media_type=FILM_TYPES[found.kind], filename=file)

    async def play(socket: WebSocket) -> None:
        await socket.accept()
        if len(players) >= config.sessions:
            with suppress(*GONE):
                await socket.close(FULL, f"all {config.sessions} places are taken: close another page, or try later")
            return
        player = Player(shared, socket)
        players.add(player)
        try:
            await player.run()
        finally:
            players.discard(player)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        yield
        thread.close()
        films.close()

    routes = [
        Route("/", page),
        Route("/prompts/{identity}.png", prompt_picture),
        Route("/films/{name}", film),
        WebSocketRoute("/play", play),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.state.players = players
    return Guard(app, config.token)
