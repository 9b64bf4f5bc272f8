"""Where the frames of a run come from: videos that the run prepares itself, or a folder of frames."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.errors import UserError
from train.ingest.store import Manifest
from train.run import Run


@dataclass(frozen=True)
class Source:
    """Videos, or a folder of frames.

    Attributes:
        inputs: absolute paths of videos and folders; empty where `frames` is given.
        frames: absolute path of a folder that `genie prepare` wrote.
    """

    inputs: tuple[Path, ...] = ()
    frames: Path | None = None

    @classmethod
    def given(cls, inputs: Sequence[Path], frames: Path | None, run: Run) -> "Source":
        """The source that was named, or else the run's own.

        Raises:
            UserError: none was named, and the run has none.
        """
        if inputs or frames:
            return cls(tuple(path.absolute() for path in inputs), frames.absolute() if frames else None)
        stored, folder = run.settings.get("inputs"), run.settings.get("frames")
        if not stored and not folder:
            raise UserError(
                "genie train", "no video was given", "name one, or --frames FRAMES, or a --run that has one"
            )
        return cls(tuple(Path(entry[0]) for entry in stored or ()), Path(folder) if folder else None)

    def settings(self, run: Run) -> dict[str, Any]:
        """For `run.json`: what was named, and of each input [path, bytes, time of change in ns].

        An input that is gone counts as unchanged: a run whose frames are prepared does not need its videos.
        """
        known = {entry[0]: entry for entry in run.settings.get("inputs") or ()}
        inputs = [_stamp(path) or known.get(str(path)) or [str(path), 0, 0] for path in self.inputs]
        return {"inputs": inputs, "frames": str(self.frames) if self.frames else None}

    def folder(self, run: Run) -> Path:
        """The folder of frames."""
        return self.frames or run.path / "frames"


def _stamp(path: Path) -> list[Any] | None:
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
    elif path.exists():
        files = [path]
    else:
        return None
    stats = [file.stat() for file in files]
    return [str(path), sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)]


def content_of(manifest: Manifest) -> str:
    """Hash of the frames that a folder holds: the same videos by another name have the same."""
    sources = [[s.sha256, s.fps, s.crop, s.shots, s.dropped] for s in manifest.sources]
    text = json.dumps([manifest.size, manifest.fingerprint, sources])
    return hashlib.sha256(text.encode()).hexdigest()[:20]
