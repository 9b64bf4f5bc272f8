"""Published EfficientViT weights (arXiv 2205.14756, in the names of its own code) for the encoder's trunk.

The trunk is timm's port of the same network, so tensors pass under new names and otherwise as they are. `i` counts
stages, `j` blocks:

    small (b0, b1)                          large (l1)                       trunk
    backbone.input_stem.op_list.0           backbone.stages.0.op_list.0      stem_in_conv
    backbone.input_stem.op_list.{j + 1}     backbone.stages.0.op_list.{j+1}  stem_res{j}
    backbone.stages.{i}.op_list.{j}         backbone.stages.{i+1}.op_list.{j}  stages_{i}.blocks.{j}
    head.*                                  head.*                           none: the classifier

The epsilon of the batch norms is no tensor of the file; `encoder.Encoder` gives each size the published one. What is
left of a difference to the published code is the attention's: it adds 1e-15 to the divisor, timm 1e-5.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torch_bridge.checkpoint_files import own_name, read_checkpoint

_NAMED = 3  # tensors that a message names of each kind


def load_efficientvit(source: str | Path | Mapping[str, Any], encoder_or_trunk: nn.Module) -> None:
    """Fill the trunk in place.

    Args:
        source: a file (read without running code in it) or its content: a state_dict, or one under "state_dict".
        encoder_or_trunk: an `Encoder`, or a trunk as it holds one (timm's b0, b1 or l1 in the form `features_only`).

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no checkpoint, or a tensor is missing, left over, of the wrong shape or no number; nothing was
            changed then. Left over may be the classifier's tensors, and those of stages after the trunk's last.
    """
    trunk = getattr(encoder_or_trunk, "trunk", encoder_or_trunk)
    own = trunk.state_dict()
    tensors = _renamed(source, large="stem_res0.main.conv1.conv.weight" in own)
    known = own.keys() & tensors.keys()
    shapes = {name: (tuple(tensors[name].shape), tuple(own[name].shape)) for name in known}
    faults = {
        "missing": sorted(own.keys() - known),
        "left over": sorted(name for name in tensors.keys() - known if not _beyond(name, own)),
        "of the wrong shape": sorted(
            f"{name} {there}, not {here}" for name, (there, here) in shapes.items() if there != here
        ),
        "no finite floating-point numbers": sorted(
            name for name in known if own[name].is_floating_point() and not _finite(tensors[name])
        ),
    }
    if any(faults.values()):
        told = "; ".join(f"{_listed(names)} {kind}" for kind, names in faults.items() if names)
        raise ValueError(f"These are not the weights of this EfficientViT trunk: {told}.")
    with torch.no_grad():
        for name, target in own.items():
            target.copy_(tensors[name])


def _renamed(source: str | Path | Mapping[str, Any], *, large: bool) -> dict[str, Tensor]:
    """The tensors under the trunk's names; those of no known name keep their own."""
    content = source if isinstance(source, Mapping) else read_checkpoint(source)
    nested = content.get("state_dict")
    tensors = {own_name(name): value for name, value in (nested if isinstance(nested, Mapping) else content).items()}
    strangers = sorted(name for name, value in tensors.items() if not isinstance(value, Tensor))
    if strangers:
        raise ValueError(f"{_listed(strangers)} no tensor: give a state_dict of EfficientViT, or one in 'state_dict'.")
    return {_trunk_name(name, large): value for name, value in tensors.items()}


def _trunk_name(name: str, large: bool) -> str:
    place = re.match(r"(?:backbone\.)?(input_stem|stages\.(\d+))\.op_list\.(\d+)\.(.+)", name)
    if place is None or (large and place[1] == "input_stem"):
        return name
    stage = -1 if place[1] == "input_stem" else int(place[2]) - large
    block, rest = int(place[3]), place[4]
    if stage >= 0:
        return f"stages_{stage}.blocks.{block}.{rest}"
    return f"stem_res{block - 1}.{rest}" if block else f"stem_in_conv.{rest}"


def _finite(tensor: Tensor) -> bool:
    dense = tensor.layout is torch.strided and not tensor.is_meta
    return dense and tensor.is_floating_point() and bool(torch.isfinite(tensor).all())


def _beyond(name: str, own: Mapping[str, Tensor]) -> bool:
    """Whether a tensor belongs to what comes after the trunk: the classifier, or stages that it was built without."""
    stage = re.match(r"stages_(\d+)\.", name)
    return name.startswith("head.") if stage is None else not any(n.startswith(stage[0]) for n in own)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more + (" are" if len(names) > 1 else " is")
