"""The prompts of a server: the world's own by their names, uploaded ones by the digest of their frames."""

import hashlib
import io
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
from jaxtyping import UInt8
from PIL import Image

UPLOADS_BYTES = 256 * 2**20  # of frames that are kept for all players together


@dataclass(frozen=True)
class Prompt:
    """Frames to begin from.

    Attributes:
        id: as messages name it.
        name: for people.
        frames_THWC: uint8 RGB of the world's size.
        uploaded: by a player.
    """

    id: str
    name: str
    frames_THWC: UInt8[np.ndarray, "T H W 3"]
    uploaded: bool

    def about(self) -> dict[str, object]:
        """What the page is told."""
        return {"id": self.id, "name": self.name, "frames": len(self.frames_THWC), "uploaded": self.uploaded}

    def picture(self) -> bytes:
        """The last frame as PNG."""
        out = io.BytesIO()
        Image.fromarray(self.frames_THWC[-1]).save(out, "PNG")
        return out.getvalue()


class Gallery:
    """Prompts by ID. Uploaded ones that nobody asked for longest are forgotten when they become too many.

    Args:
        own: the world's prompts.
        limit: bytes of uploaded frames.
    """

    def __init__(self, own: Mapping[str, UInt8[np.ndarray, "T H W 3"]], limit: int = UPLOADS_BYTES) -> None:
        self._own = {name: Prompt(name, name, frames, False) for name, frames in own.items()}
        self._uploads: OrderedDict[str, Prompt] = OrderedDict()
        self._limit = limit

    def own(self) -> Iterator[Prompt]:
        """The world's prompts in their order."""
        yield from self._own.values()

    def add(self, frames_THWC: UInt8[np.ndarray, "T H W 3"], name: str) -> tuple[Prompt, bool]:
        """An uploaded prompt, and whether the same frames were there already."""
        digest = hashlib.sha256(np.ascontiguousarray(frames_THWC)).hexdigest()
        identity = f"upload-{digest[:20]}"
        if (known := self.find(identity)) is not None:
            return known, True
        prompt = self._uploads[identity] = Prompt(identity, name, frames_THWC, True)
        while len(self._uploads) > 1 and sum(p.frames_THWC.nbytes for p in self._uploads.values()) > self._limit:
            self._uploads.popitem(last=False)
        return prompt, False

    def find(self, identity: str) -> Prompt | None:
        """The prompt of an ID."""
        if identity in self._own:
            return self._own[identity]
        if identity in self._uploads:
            self._uploads.move_to_end(identity)
        return self._uploads.get(identity)

    def drop(self, identity: str) -> bool:
        """Forget an uploaded prompt; False where there is none."""
        return self._uploads.pop(identity, None) is not None


def picture_path(identity: str) -> str:
    """Where the page finds a prompt's picture."""
    return f"/prompts/{quote(identity, safe='')}.png"
