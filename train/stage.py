"""What the training loop needs from a stage, and nothing else.

A stage owns models, optimisers, data and the arithmetic of one step; the loop (`train/loop.py`) owns the
clock, the files, the checkpoints, the guard. Every stage is therefore a value that can be advanced, saved, loaded
and looked at.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np


@dataclass(frozen=True)
class Pace:
    """How long a stage runs.

    Attributes:
        steps: optimiser steps of the whole stage when no time budget ends it before.
        share: share of the training time that `--minutes` gives to this stage, relative to the other stages'.
        preview_every: optimiser steps between preview pictures.
        checkpoint_seconds: seconds between checkpoints.
    """

    steps: int
    share: float = 1.0
    preview_every: int = 500
    checkpoint_seconds: float = 60.0


class Stage(Protocol):
    """One trainable stage from initial weights to a result that the next stages load."""

    name: str
    framework: Literal["torch", "jax"]
    pace: Pace
    steps_per_call: int

    def advance(self, step: int, progress: float, lr_scale: float) -> dict[str, Any]:
        """Make `steps_per_call` optimiser steps, the first being number `step`.

        Args:
            step: number of optimiser steps made before. All randomness is a function of (seed, step) alone.
            progress: share of the stage that is done, in [0, 1]; schedules are functions of it.
            lr_scale: factor on the learning rate, 1 unless the divergence guard lowered it.

        Returns:
            Metrics by name. Values may be unread device arrays. A non-finite "loss" trips the guard.
        """

    def state(self) -> dict[str, Any]:
        """Everything that resuming needs, as nested dicts and lists of arrays and plain scalars."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""

    def preview(self) -> dict[str, np.ndarray]:
        """Pictures of what the stage can do now: file stem -> HWC uint8."""

    def result(self) -> dict[str, dict[str, np.ndarray]]:
        """Tensors for the stages that follow: file stem -> flat named arrays, for `RUN/STAGE/<stem>.safetensors`."""

    def health(self) -> list[str]:
        """Alarms in plain words, each with what to do; empty when all is well."""
