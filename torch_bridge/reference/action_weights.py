"""The action model's weights between Flax and PyTorch: renamed and reordered, never computed with.

Kernels: (in, out) and (height, width, in, out) in Flax, (out, in) and (out, in, height, width) in PyTorch. Where a
pixel shuffle follows, Flax's outputs are ordered (place in the 2 x 2 square, channel) and `nn.PixelShuffle` takes them
as (channel, place).
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import torch

from genie_jax.nn import Params
from genie_jax.trees import flatten_tree

# `half` is a method of every PyTorch module, so the halvings have other names there.
TORCH_NAMES = {"half": "down_half", "quarter": "down_quarter", "eighth": "down_eighth"}
FLAX_NAMES = {theirs: ours for ours, theirs in TORCH_NAMES.items()}
SHUFFLED = ("to_quarter", "to_half", "head")
PLACES = 4


def to_state(params: Params) -> dict[str, torch.Tensor]:
    """The twin's state_dict, "encoder.down_half.weight", from Flax's parameters {"encoder": ..., "decoder": ...}.

    Every value is copied bit for bit, so it serves gradients too.

    Raises:
        ValueError: a leaf is neither a kernel, a scale nor a bias.
    """
    state = {}
    for path, array in flatten_tree(params).items():
        *modules, leaf = path.split("/")
        if leaf not in ("kernel", "scale", "bias"):
            raise ValueError(f"{path} is no parameter of the action model: kernel, scale or bias is expected.")
        outputs_first = np.moveaxis(array, (-1, -2), (0, 1)) if leaf == "kernel" else array
        if modules[-1] in SHUFFLED:
            outputs_first = _exchange(outputs_first, PLACES)
        renamed = [TORCH_NAMES.get(module, module) for module in modules]
        name = ".".join([*renamed, "bias" if leaf == "bias" else "weight"])
        state[name] = torch.from_numpy(np.array(outputs_first, order="C"))
    return state


def from_state(state: Mapping[str, torch.Tensor]) -> Params:
    """Flax's parameters from the twin's state_dict: the inverse of `to_state`, bit for bit."""
    params: Params = {}
    for name, tensor in state.items():
        *modules, leaf = name.split(".")
        array = tensor.detach().cpu().numpy()
        if modules[-1] in SHUFFLED:
            array = _exchange(array, len(array) // PLACES)
        if leaf == "weight":
            leaf = "kernel" if array.ndim > 1 else "scale"
        if leaf == "kernel":
            array = np.moveaxis(array, (0, 1), (-1, -2))
        branch = params
        for module in modules:
            branch = branch.setdefault(FLAX_NAMES.get(module, module), {})
        branch[leaf] = jnp.array(array)
    return params


def _exchange(array: np.ndarray, slow: int) -> np.ndarray:
    """The first axis read as (slow, fast) and written as (fast, slow)."""
    return array.reshape(slow, -1, *array.shape[1:]).swapaxes(0, 1).reshape(array.shape)
