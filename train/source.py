"""Where the frames of a run come from: videos that the run prepares itself, or a folder of frames."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from train.action_labels import NONE, SETTING, stamp
from train.errors import UserError
from train.ingest.store import Manifest
from train.run import Run


@dataclass(frozen=True)
class Source:
    """Videos, or a folder of frames.

    Attributes:
        inputs: absolute paths of videos and folders; empty where `frames` is given.
        frames: absolute path of a folder that `genie prepare` wrote.
        actions: absolute path of a file of true actions, of some frames of the video at least; None for none.
    """

    inputs: tuple[Path, ...] = ()
    frames: Path | None = None
    actions: Path | None = None

    @classmethod
    def given(cls, inputs: Sequence[Path], frames: Path | None, run: Run, actions: Path | None = None) -> "Source":
        """The source that was named, or else the run's own.

        True actions are the run's own where none are named and the source is the same; "none" takes them away.

        Raises:
            UserError: none was named, and the run has none.
        """
        if inputs or frames:
            named = cls(tuple(path.absolute() for path in inputs), frames.absolute() if frames else None)
            return replace(named, actions=_actions(actions, run if _stored(run) == named else None))
        if (stored := _stored(run)) is None:
            raise UserError(
                "genie train", "no video was given", "name one, or --frames FRAMES, or a --run that has one"
            )
        return replace(stored, actions=_actions(actions, run))

    def settings(self, run: Run) -> dict[str, Any]:
        """For `run.json`: what was named, of each input [path, bytes, time of change in ns], the digest of labels.

        An input that is gone counts as unchanged: a run whose frames are prepared does not need its videos.
        """
        known = {entry[0]: entry for entry in run.settings.get("inputs") or ()}
        inputs = [_stamp(path) or known.get(str(path)) or [str(path), 0, 0] for path in self.inputs]
        labels = {} if self.actions is None else {SETTING: stamp(self.actions, run.settings.get(SETTING))}
        return {"inputs": inputs, "frames": str(self.frames) if self.frames else None, **labels}

    def folder(self, run: Run) -> Path:
        """The folder of frames."""
        return self.frames or run.path / "frames"


def _stored(run: Run) -> Source | None:
    """The source that the run had before, without its true actions."""
    inputs, frames = run.settings.get("inputs"), run.settings.get("frames")
    if not inputs and not frames:
        return None
    return Source(tuple(Path(entry[0]) for entry in inputs or ()), Path(frames) if frames else None)


def _actions(given: Path | None, run: Run | None) -> Path | None:
    if given is not None:
        return None if str(given) == NONE else given.absolute()
    known = None if run is None else run.settings.get(SETTING)
    return None if known is None else Path(known["path"])


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
