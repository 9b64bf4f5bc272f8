"""What the files of MobileStyleGAN.pytorch hold beside the student: its teacher, a StyleGAN2 under other names.

Its converter splits a StyleGAN2 checkpoint into two files {"params": ..., "ckpt": state_dict}, the mapping and the
synthesis network, and takes the weights as they were trained, not their average. A Lightning file of the distillation
holds the same two networks under `mapping_net.` and `synthesis_net.`, the student under `student.` and the
discriminator under `loss.gan_loss.m.`.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from torch_bridge.checkpoint_files import own_name
from torch_bridge.stylegan2 import Generator
from torch_bridge.upstream import load_stylegan2

_PARTS = {
    "student": "student.",
    "mapping": "mapping_net.",
    "synthesis": "synthesis_net.",
    "discriminator": "loss.gan_loss.m.",
}
_OURS = re.compile(r"\b(style|convs|to_rgbs)\.(\d+)(?=[.:\s])")


def lightning_parts(content: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """The networks of a Lightning file by role ("student", "mapping", "synthesis", "discriminator"), those it has."""
    state = content.get("state_dict")
    if not isinstance(state, Mapping):
        return {}
    named = {own_name(name): value for name, value in state.items()}
    parts = {
        role: {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}
        for role, prefix in _PARTS.items()
    }
    return {role: tensors for role, tensors in parts.items() if tensors}


def teacher_part(content: Mapping[str, Any]) -> tuple[str, Mapping[str, Tensor]] | None:
    """("mapping" or "synthesis", state_dict) of a teacher file; None for any other file."""
    state = content.get("ckpt")
    if not isinstance(state, Mapping):
        return None
    named = {own_name(name): value for name, value in state.items()}
    return "synthesis" if any(name.startswith("conv1.") for name in named) else "mapping", named


def load_mobile_teacher(mapping: Mapping[str, Tensor], synthesis: Mapping[str, Tensor]) -> Generator:
    """The StyleGAN2 generator of a mapping and a synthesis network.

    Args:
        mapping: `layers.N.weight`, `layers.N.bias`, N from 1.
        synthesis: `input`, `conv1`, `to_rgb1`, and `layers.N.{conv1, conv2, to_rgb}` for each doubling.

    Raises:
        ValueError: a tensor is missing, left over or of the wrong shape; it is named as the file names it.
    """
    tensors = {re.sub(r"^layers\.", "style.", name): value for name, value in mapping.items()}
    for name, value in synthesis.items():
        if name != "upsample.kernel":  # one for all levels here, one a level there; a constant
            tensors[re.sub(r"^layers\.(\d+)\.(conv1|conv2|to_rgb)\.", _our_name, name)] = value
    try:
        return load_stylegan2(tensors)
    except ValueError as error:
        raise ValueError(_OURS.sub(_their_name, str(error))) from error


def _our_name(found: re.Match[str]) -> str:
    level = int(found[1])
    return {
        "conv1": f"convs.{2 * level}.",
        "conv2": f"convs.{2 * level + 1}.",
        "to_rgb": f"to_rgbs.{level}.",
    }[found[2]]


def _their_name(found: re.Match[str]) -> str:
    number = int(found[2])
    return {
        "style": f"layers.{number}",
        "convs": f"layers.{number // 2}.conv{number % 2 + 1}",
        "to_rgbs": f"layers.{number}.to_rgb",
    }[found[1]]
