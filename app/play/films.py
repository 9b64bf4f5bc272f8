"""Films that players ask for: made beside the game, kept for ten minutes under a name that nobody can guess."""

import asyncio
import io
import secrets
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from app.film import film_writers
from app.overlay import Overlay
from torch_bridge.manifest import Code

KEPT_SECONDS = 600.0
MOST_FILMS = 32
GIF_FRAMES = 600  # a longer one is larger than any page should load


@dataclass(frozen=True)
class Film:
    """A finished film."""

    path: Path
    kind: str
    frames: int
    expires: float


class Films:
    """Makes films one at a time, in a thread, and keeps them in a temporary folder.

    Args:
        codes: of the world.
        size: side of a frame in pixels.
        fps: frames a second.
    """

    def __init__(self, codes: Sequence[Code], size: int, fps: float) -> None:
        self._codes, self._size, self._fps = codes, size, fps
        self._folder = tempfile.TemporaryDirectory(prefix="genie-films-", ignore_cleanup_errors=True)
        self._films: dict[str, Film] = {}
        self._lock = asyncio.Lock()

    async def make(
        self, kind: str, frames: Sequence[tuple[int, int | None, bytes]], *, overlay: bool
    ) -> tuple[str, Film]:
        """A film of (step, code, JPEG), as its name and what it is.

        Raises:
            ValueError: a GIF would be too long.
            UserError: the disk is full or the like.
        """
        if kind == "gif" and len(frames) > GIF_FRAMES:
            raise ValueError(f"A GIF of {len(frames)} frames is too large: {GIF_FRAMES} are the limit. Take mp4.")
        name = f"{secrets.token_urlsafe(12)}.{kind}"
        path = Path(self._folder.name, name)
        await self._lock.acquire()
        # Made to its end where the page goes meanwhile: it keeps the lock so long, and its file is known and removed.
        making = asyncio.ensure_future(self._make(path, frames, overlay))
        making.add_done_callback(lambda _: self._lock.release())
        return name, await asyncio.shield(making)

    def find(self, name: str) -> Film | None:
        """The film of a name, while it is kept."""
        self._clean()
        return self._films.get(name)

    def close(self) -> None:
        """Remove all."""
        self._films.clear()
        self._folder.cleanup()

    async def _make(self, path: Path, frames: Sequence[tuple[int, int | None, bytes]], overlay: bool) -> Film:
        self._clean()
        await asyncio.to_thread(self._write, path, frames, overlay)
        expires = time.monotonic() + KEPT_SECONDS
        film = self._films[path.name] = Film(path, path.suffix[1:], len(frames), expires)
        return film

    def _write(self, path: Path, frames: Sequence[tuple[int, int | None, bytes]], overlay: bool) -> None:
        panel = Overlay(self._codes, self._size)
        with film_writers([path], self._fps) as (writer,):
            for step, code, jpeg in frames:
                picture = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
                note = "" if code is None else str(step)
                writer.add(panel.draw(picture, code, note) if overlay else panel.enlarge(picture))

    def _clean(self) -> None:
        now = time.monotonic()
        old = [name for name, film in self._films.items() if film.expires < now]
        too_many = list(self._films)[: max(0, len(self._films) - MOST_FILMS)]
        for name in {*old, *too_many}:
            with suppress(OSError):  # on Windows a file that is being sent cannot be removed
                self._films.pop(name).path.unlink(missing_ok=True)
