"""The devices of a run: one for each framework, chosen by one word."""

import jax
import torch

from genie_jax.devices import use_device
from torch_bridge.devices import torch_device
from train.errors import UserError


def choose_devices(wanted: str) -> tuple[torch.device, jax.Device]:
    """The devices of PyTorch and of JAX for a `--device`; the latter becomes JAX's default.

    Args:
        wanted: "auto", "cpu", "cuda" or "mps".

    Raises:
        UserError: one of the frameworks sees none of that kind.
    """
    try:
        return torch_device(wanted), use_device(wanted)
    except ValueError as error:
        fault, _, remedy = str(error).partition(": ")
        raise UserError(f"--device {wanted}", fault, remedy) from error
