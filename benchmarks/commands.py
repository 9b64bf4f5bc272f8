"""What the benchmarks share: the `genie` command, and a held-out video as frames, prepared once."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

GENIE = [sys.executable, "-m", "app.cli"]


def call(words: Sequence[str]) -> None:
    """Run a command; stop where it fails."""
    print(" ".join(words), flush=True)
    subprocess.run(words, check=True)


def prepared(video: Path, frames: Path, size: int, fps: float) -> Path:
    """The folder of a video's frames at a size and a rate; made where it is missing."""
    if not (frames / "manifest.json").exists():
        call([*GENIE, "prepare", str(video), "--out", str(frames), "--size", str(size), "--fps", str(fps)])
    return frames
