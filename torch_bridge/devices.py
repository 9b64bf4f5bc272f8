"""Where the PyTorch parts run: CUDA before Apple's MPS before the CPU, or what was asked for."""

from collections.abc import Sequence

import torch

ORDER = ("cuda", "mps", "cpu")


def choose(wanted: str, present: Sequence[str]) -> str:
    """The device kind to use.

    Args:
        wanted: "auto", "cuda", "mps" or "cpu".
        present: the kinds that the framework sees.

    Raises:
        ValueError: it sees none of the wanted kind.
    """
    if wanted == "auto":
        return next(kind for kind in ORDER if kind in present)
    if wanted not in present:
        raise ValueError(f"PyTorch sees no {wanted} device here, it sees {', '.join(present)}: choose one of these")
    return wanted


def present() -> list[str]:
    """The device kinds that PyTorch sees, best first."""
    seen = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [kind for kind in ORDER if seen[kind]]


def describe(kind: str) -> str:
    """The device's name in words."""
    if kind == "cuda":
        gib = torch.cuda.get_device_properties(0).total_memory / 2**30
        return f"{torch.cuda.get_device_name(0)}, {gib:.0f} GiB, {torch.cuda.device_count()} of them"
    if kind == "mps":
        return "Apple GPU (Metal Performance Shaders)"
    return f"{torch.get_num_threads()} threads"


def torch_device(wanted: str = "auto") -> torch.device:
    """The device for the PyTorch parts.

    Raises:
        ValueError: there is none of the wanted kind.
    """
    return torch.device(choose(wanted, present()))
