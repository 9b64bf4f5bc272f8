"""Where the JAX parts run: CUDA before Apple's Metal before the CPU, or what was asked for.

`JAX_PLATFORMS` in the environment limits what JAX sees, and so what is chosen from. Apple's GPU is seen through the
plugin `jax-mps` (extra `mac`), whose platform is called "mps".
"""

import os
from collections.abc import Sequence

import jax

ORDER = ("cuda", "mps", "cpu")  # kinds of devices, which are JAX's names of the platforms as well


def choose(wanted: str, present: Sequence[str]) -> str:
    """The device kind to use.

    Args:
        wanted: "auto", "cuda", "mps" or "cpu".
        present: the kinds that the framework sees.

    Raises:
        ValueError: it sees none of the wanted kind, or none at all.
    """
    if not present:
        limit = os.environ.get("JAX_PLATFORMS", "")
        raise ValueError(f"JAX sees no device with JAX_PLATFORMS={limit!r}: unset it, or set it to 'cpu'")
    if wanted == "auto":
        return next(kind for kind in ORDER if kind in present)
    if wanted not in present:
        extra = "; on a Mac the extra 'mac' installs the plugin for its GPU" if wanted == "mps" else ""
        raise ValueError(f"JAX sees no {wanted} device here, it sees {', '.join(present)}: choose one of these{extra}")
    return wanted


def devices(kind: str) -> list[jax.Device]:
    """JAX's devices of one kind; empty where it sees none."""
    try:
        return jax.devices(kind)
    except (RuntimeError, AssertionError):  # a platform that is unknown, or shut out by JAX_PLATFORMS
        return []


def present() -> list[str]:
    """The device kinds that JAX sees, best first."""
    return [kind for kind in ORDER if devices(kind)]


def share_memory() -> None:
    """Let JAX take GPU memory as it needs it: by default it reserves most of it, and PyTorch trains beside it.

    Has an effect before the first use of a JAX device only. A setting from outside stays.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def use_device(wanted: str = "auto") -> jax.Device:
    """Make the first device of the chosen kind JAX's default and return it.

    Raises:
        ValueError: there is none of the wanted kind.
    """
    share_memory()
    device = devices(choose(wanted, present()))[0]
    jax.config.update("jax_default_device", device)
    return device


def beside(wanted: str) -> jax.Device:
    """JAX's device beside PyTorch's of a kind. Where only PyTorch reaches Apple's GPU, it is the CPU."""
    seen = present()
    return devices(choose("cpu" if wanted == "mps" and "mps" not in seen else wanted, seen))[0]
