"""The share of a training step that the encoder stage waits for its frames: it must stay below 5%.

    python benchmarks/loader.py [-o loader.json] [--device cuda]

The stage is the run's own, with new networks; its corpus is a prepared folder, decoded into memory, and read from the
disk (a corpus larger than `memory_limit_mb`). What is counted is the time inside the corpus' reads during `advance`.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ingest import film
from rows import Row, arguments, figure, finish

from torch_bridge.discriminator import Discriminator
from torch_bridge.mobile_stylegan import Student
from train.corpus import Corpus
from train.devices import choose_devices
from train.encoder import EncoderStage
from train.ingest.config import IngestConfig
from train.ingest.prepare import prepare
from train.ingest.store import FrameStore
from train.presets import preset

MOST = 0.05
STEPS = {"debug": 3, "tiny": 20, "laptop": 3}
GPU_STEPS = 50


class Waited:
    """A corpus that counts the seconds that its reader waits."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus, self.seconds = corpus, 0.0

    def batch(self, step: int, size: int, *, stream: str) -> np.ndarray:
        """As `Corpus.batch`."""
        began = time.perf_counter()
        frames = self._corpus.batch(step, size, stream=stream)
        self.seconds += time.perf_counter() - began
        return frames

    def __getattr__(self, name: str) -> Any:
        return getattr(self._corpus, name)


def measure(name: str, store: FrameStore, device: torch.device, *, in_memory: bool, steps: int) -> list[Row]:
    """Rows of one preset: the share that its encoder stage waits, and the time of a step."""
    config = preset(name)
    corpus = Waited(Corpus(store, seed=0, memory_limit_mb=config.memory_limit_mb if in_memory else 0))
    # Adversarial and perceptual terms only make a step longer, and the share of waiting smaller.
    settings = replace(config.encoder, adversarial=0.0, perceptual=0.0)
    zeros, ones = np.zeros(config.style_dim, np.float32), np.ones(config.style_dim, np.float32)
    student, critic = Student(config.student.model), Discriminator(config.teacher.discriminator)
    stage = EncoderStage(settings, corpus, student, critic, zeros, ones, seed=0, device=device)

    def run(first: int, last: int) -> float:
        began = time.perf_counter()
        for step in range(first, last):
            loss = stage.advance(step, 0.0, 1.0)["loss"]
        loss.item()  # waits for the device
        return time.perf_counter() - began

    run(0, 2)
    corpus.seconds = 0.0
    taken = run(2, 2 + steps)
    title = f"{name}, {settings.batch} frames of {config.size} px from {'memory' if in_memory else 'the disk'}"
    return [
        figure(f"{title}: share of waiting", corpus.seconds / taken, "", most=MOST),
        figure(f"{title}: a step", taken / steps, "s"),
    ]


def main() -> None:
    options = arguments(__doc__, rounds=1, devices=("cpu", "cuda")).parse_args()
    device, _ = choose_devices(options.device)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("debug",) if options.quick else ("tiny", "laptop"):
            size = preset(name).size
            video = film(Path(folder) / f"{name}.mp4", width=size, height=size, frames=24 if options.quick else 200)
            frames = Path(folder) / f"{name}_frames"
            prepare([video], frames, IngestConfig(fps=30.0, size=size), log=lambda _: None, progress=False)
            steps = GPU_STEPS if device.type == "cuda" else STEPS[name]
            for in_memory in (True, False):
                rows += measure(name, FrameStore(frames), device, in_memory=in_memory, steps=steps)
    finish("loader", "Loader and the step that it feeds", rows, options)


if __name__ == "__main__":
    main()
