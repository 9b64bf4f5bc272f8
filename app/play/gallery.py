"""The prompts of a server: the world's own by their names, uploaded ones by the digest of their frames.

Equal files of several players are kept once. The server lists no uploads, and one player's removal takes nothing from
the others. An ID is found by whoever has the file or a link to it, and only by them: they can ask whether it is here.
"""

import hashlib
import io
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass

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
        self._bringers: dict[str, set[Hashable]] = {}  # players who are here and brought it, by ID
        self._limit = limit

    def own(self) -> Iterator[Prompt]:
        """The world's prompts in their order."""
        yield from self._own.values()

    def add(self, frames_THWC: UInt8[np.ndarray, "T H W 3"], bringer: Hashable) -> tuple[Prompt, bool]:
        """An uploaded prompt, and whether this player brought the same frames before."""
        digest = hashlib.sha256(np.ascontiguousarray(frames_THWC)).hexdigest()
        identity = f"upload-{digest[:32]}"
        prompt = self.find(identity)
        if prompt is None:
            prompt = self._uploads[identity] = Prompt(identity, "uploaded", frames_THWC, True)
            self._bringers[identity] = set()
            while len(self._uploads) > 1 and sum(p.frames_THWC.nbytes for p in self._uploads.values()) > self._limit:
                oldest, _ = self._uploads.popitem(last=False)
                del self._bringers[oldest]
        again = bringer in self._bringers[identity]
        self._bringers[identity].add(bringer)
        return prompt, again

    def find(self, identity: str) -> Prompt | None:
        """The prompt of an ID."""
        if identity in self._own:
            return self._own[identity]
        if identity in self._uploads:
            self._uploads.move_to_end(identity)
        return self._uploads.get(identity)

    def drop(self, identity: str, bringer: Hashable) -> bool:
        """Forget what a player brought, unless another brought it too; False where this one did not."""
        bringers = self._bringers.get(identity, set())
        if bringer not in bringers:
            return False
        bringers.discard(bringer)
        if not bringers:
            del self._uploads[identity], self._bringers[identity]
        return True

    def leave(self, bringer: Hashable) -> None:
        """A player goes; what was brought stays for links to it."""
        for bringers in self._bringers.values():
            bringers.discard(bringer)
