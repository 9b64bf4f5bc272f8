"""How videos become frames, and the fingerprint by which finished work is recognised."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass

from train.errors import UserError
from train.ingest.crop import parse_crop

ALGORITHM = 1  # counted up whenever the same configuration gives other frames


@dataclass(frozen=True)
class IngestConfig:
    """How videos become frames.

    Attributes:
        fps: upper bound of the frame rate; a slower source keeps its own.
        size: side of the square frames in pixels.
        crop: `center`, `fit` (everything, black around it) or `x,y,w,h` in pixels of the upright picture.
        letterbox: remove constant black bars first.
        detect_cuts: begin a new shot at every cut.
        lossless: PNG instead of JPEG.
        duplicates_seconds: of a standing picture that are kept.
    """

    fps: float = 15.0
    size: int = 64
    crop: str = "center"
    letterbox: bool = True
    detect_cuts: bool = True
    lossless: bool = False
    duplicates_seconds: float = 1.0

    def check(self) -> None:
        """Raises UserError where a value makes no sense."""
        if not 0.1 <= self.fps <= 1000:
            raise UserError("--fps", f"{self.fps} frames a second", "Choose 0.1 to 1000.")
        if not 8 <= self.size <= 4096:
            raise UserError("--size", f"{self.size} pixels", "Choose 8 to 4096.")
        if self.duplicates_seconds < 0:
            raise UserError("--duplicates-seconds", f"{self.duplicates_seconds} is negative", "Choose 0 or more.")
        parse_crop(self.crop)

    @property
    def fingerprint(self) -> str:
        """Equal for configurations that give the same frames."""
        same = {"fps": float(self.fps), "duplicates_seconds": float(self.duplicates_seconds)}  # 15 and 15.0
        content = json.dumps({"algorithm": ALGORITHM, **dataclasses.asdict(self), **same}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]
