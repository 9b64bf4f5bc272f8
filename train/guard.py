"""The divergence guard: a loss that is not finite costs the way back to the last checkpoint and half the rate."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from train.errors import UserError

ALLOWED_REWINDS = 1


class DivergenceGuard:
    """Counts how often a stage diverged and holds the factor on its learning rate.

    Args:
        stage: name of the stage, for the messages.
        rewinds: divergences so far, from the checkpoint.
    """

    def __init__(self, stage: str, rewinds: int = 0) -> None:
        self._stage = stage
        self.rewinds = rewinds

    @property
    def lr_scale(self) -> float:
        """Factor on the learning rate: halved at every divergence."""
        return 0.5**self.rewinds

    def trip(self, step: int, back_to: int, fault: str) -> str:
        """Note a divergence near `step`; returns the line to tell, or raises when it is one too many."""
        if self.rewinds >= ALLOWED_REWINDS:
            raise UserError(
                f"stage {self._stage}",
                f"{fault} near step {step}, and again after the learning rate had been halved",
                f"lower the learning rate of {self._stage} and start the same command again",
            )
        self.rewinds += 1
        return f"{fault} near step {step}: back to step {back_to}, learning rate x {self.lr_scale:g} from here on"


def scalar(value: Any) -> float:
    """A metric as one number: arrays (one value a step of a call) by their mean.

    NumPy reads neither tensors on an accelerator nor bfloat16 ones, so tensors are brought to the host as float32.
    """
    if hasattr(value, "detach"):
        value = value.detach().float().cpu()
    return float(np.mean(np.asarray(value, dtype=np.float64)))


def finite_loss(metrics: Mapping[str, float]) -> bool:
    """Whether the metrics of one call, as plain numbers, show no divergence."""
    return math.isfinite(metrics.get("loss", 0.0))
