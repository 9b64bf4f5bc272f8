"""What a stage leaves to look at: rows of metrics, TensorBoard events, preview pictures."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboardX import SummaryWriter

ROWS_PER_STAGE = 2000


def keep_rows(path: Path, step: int) -> None:
    """Cut a metrics file to the rows up to `step`, so that resumed steps stand in it once. Torn lines go too."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break  # a process killed while it wrote leaves half a line, always the last one
        if row["step"] <= step:
            kept.append(line + "\n")
    beside = path.with_name(path.name + ".tmp")
    beside.write_text("".join(kept), encoding="utf-8")
    os.replace(beside, path)


class Recorder:
    """Averages the metrics of several calls into one row of `metrics.jsonl` and one TensorBoard event.

    Args:
        folder: the stage's folder.
        step: steps of the checkpoint that this process starts from.
        steps: optimiser steps of the stage; at most about `ROWS_PER_STAGE` rows are written.
        enabled: False writes nothing at all.
    """

    def __init__(self, folder: Path, step: int, steps: int, enabled: bool = True) -> None:
        self._path = folder / "metrics.jsonl"
        self._events = folder / "tensorboard"
        self._every = max(1, steps // ROWS_PER_STAGE)
        self._last = step
        self._sums: dict[str, list[float]] = {}
        self._writer: SummaryWriter | None = None
        if enabled:
            self._open(step)

    def _open(self, step: int) -> None:
        keep_rows(self._path, step)
        self._writer = SummaryWriter(logdir=str(self._events), purge_step=step, write_to_disk=True)

    def add(self, metrics: Mapping[str, float]) -> None:
        """Take in the metrics of one call."""
        for name, value in metrics.items():
            self._sums.setdefault(name, []).append(value)

    def row(self, step: int, context: Mapping[str, float], *, force: bool = False) -> None:
        """Write the calls taken in since the last row, if enough steps lie between or `force`."""
        if not self._sums or (step - self._last < self._every and not force):
            return
        means = {name: float(np.mean(values)) for name, values in self._sums.items()}
        self._sums, self._last = {}, step
        if self._writer is None:
            return
        values = {**context, **means}
        line = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **line}) + "\n")
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def rewind(self, step: int) -> None:
        """Forget the rows after `step`: the guard went back to it."""
        self._sums, self._last = {}, step
        if self._writer is not None:
            self._writer.close()
            self._open(step)

    def close(self) -> None:
        """Flush the events."""
        if self._writer is not None:
            self._writer.close()


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write an HWC uint8 picture as PNG, beside its place and renamed into it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    Image.fromarray(picture).save(beside, format="PNG")
    os.replace(beside, path)
