"""What the benchmarks share: the `genie` command, and a held-out video as frames, prepared once."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from train.ingest.config import IngestConfig
from train.ingest.prepare import prepare

GENIE = [sys.executable, "-m", "app.cli"]


def call(words: Sequence[str]) -> None:
    """Run a command; stop where it fails."""
    print(" ".join(words), flush=True)
    subprocess.run(words, check=True)


def prepared(video: Path, frames: Path, ingest: IngestConfig) -> Path:
    """The folder of a video's frames, prepared as those that were trained on; what is there of it is kept."""
    prepare([video], frames, ingest)
    return frames
