"""What a player has done beside the game, one of each at a time: a file read as a prompt, a film made."""

import asyncio
from collections.abc import Iterable, Sequence

from app.play.outbox import Outbox
from app.play.protocol import Film
from app.play.shared import Shared
from app.play.uploads import UploadError, decode_upload
from train.errors import UserError


class Errands:
    """Starts them as tasks, and tells the page how they end; `Player` cancels `tasks` with the connection."""

    def __init__(self, shared: Shared, outbox: Outbox) -> None:
        self._shared, self._outbox = shared, outbox
        self._running: dict[str, asyncio.Task[None]] = {}
        self._uploads = 0

    @property
    def tasks(self) -> Iterable[asyncio.Task[None]]:
        """The last of each kind, ended or not."""
        return self._running.values()

    def upload(self, data: bytes) -> None:
        """Read a file as a prompt."""
        if self._busy("upload"):
            self._outbox.refuse("upload", "One file at a time: the last one is still being read.")
            return
        self._running["upload"] = asyncio.create_task(self._take_in(data))

    def drop(self, prompt: str) -> bool:
        """Forget a file that this page sent; False where there is none."""
        return self._shared.gallery.drop(prompt, self)

    def leave(self) -> None:
        """The page is gone."""
        self._shared.gallery.leave(self)

    def film(self, command: Film, frames: Sequence[tuple[int, int | None, bytes]]) -> None:
        """Make a film of frames (see `Game.stretch`).

        Raises:
            ValueError: another is being made.
        """
        if self._busy("film"):
            raise ValueError("One film at a time: the last one is still being made.")
        self._outbox.text(type="busy", what="film", done=0, total=len(frames))
        self._running["film"] = asyncio.create_task(self._make_film(command, frames))

    def _busy(self, what: str) -> bool:
        return what in self._running and not self._running[what].done()

    async def _take_in(self, data: bytes) -> None:
        world = self._shared.world
        self._outbox.text(type="busy", what="upload", done=0, total=1)
        try:
            # Its process runs on where the page goes meanwhile, and keeps its place until it has ended.
            await (places := self._shared.decoding).acquire()
            decoding = asyncio.ensure_future(decode_upload(data, size=world.size, fps=world.fps))
            decoding.add_done_callback(lambda _: places.release())
            frames_THWC = await asyncio.shield(decoding)
        except (UploadError, OSError) as error:
            self._outbox.refuse("upload", getattr(error, "strerror", None) or str(error))
            return
        self._uploads += 1
        prompt, again = self._shared.gallery.add(frames_THWC, self)
        self._outbox.text(type="prompt", **prompt.about() | {"name": f"yours {self._uploads}"}, again=again)

    async def _make_film(self, command: Film, frames: Sequence[tuple[int, int | None, bytes]]) -> None:
        try:
            name, film = await self._shared.films.make(command.kind, frames, overlay=command.overlay)
        except (ValueError, OSError, UserError) as error:
            self._outbox.refuse("film", getattr(error, "strerror", None) or str(error))
            return
        size = film.path.stat().st_size
        self._outbox.text(type="film", path=f"/films/{name}", kind=film.kind, frames=film.frames, bytes=size)
