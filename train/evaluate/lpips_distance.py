"""LPIPS of uint8 pictures, where its weights are already on this machine; nothing is downloaded to evaluate a world."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from torch_bridge.images import to_float
from torch_bridge.perceptual import LpipsUnavailable, lpips_perceptual

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
_BATCH = 32


def load_lpips() -> Distance | str:
    """The distance `(truth, other) -> one number a picture`, or the sentence that says why it is not to be had."""
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    if not list(cache.glob("alexnet-*.pth")):
        return (
            "LPIPS needs the AlexNet weights of torchvision and they are not on this machine; download them once "
            "with: python -c \"import lpips; lpips.LPIPS(net='alex')\""
        )
    try:
        net = lpips_perceptual()
    except LpipsUnavailable as error:
        return str(error)

    @torch.no_grad()
    def distance(truth: UInt8[np.ndarray, "*n H W C"], other: UInt8[np.ndarray, "*n H W C"]) -> Float[np.ndarray, "*n"]:
        lead = truth.shape[:-3]
        a, b = (torch.from_numpy(np.ascontiguousarray(x)).reshape(-1, *x.shape[-3:]) for x in (truth, other))
        values = [net(to_float(b[i : i + _BATCH]), to_float(a[i : i + _BATCH])) for i in range(0, len(a), _BATCH)]
        return torch.cat(values).double().numpy().reshape(lead)

    return distance
