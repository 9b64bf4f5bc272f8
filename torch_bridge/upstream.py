"""Published weights: StyleGAN2 (rosinality's PyTorch layout) and MobileStyleGAN, given as state_dict or as a file.

Our modules carry the published names, so there is no key map: sizes are inferred from shapes, then the tensors are
checked one by one. Every parameter must be there with its shape and nothing may be left over; constants that the
architecture defines (blur and Haar kernels) and the stored noise images may be missing.
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from torch_bridge.channels import infer_multiplier
from torch_bridge.checkpoint_files import own_name, read_checkpoint
from torch_bridge.discriminator import Discriminator, DiscriminatorConfig
from torch_bridge.mobile_stylegan import Student, StudentConfig
from torch_bridge.stylegan2 import Generator, GeneratorConfig

M = TypeVar("M", bound=nn.Module)
Source = str | Path | Mapping[str, Any]

_CONSTANTS = re.compile(r"(^|\.)(kernel|g[01]_(col|row)|device_info)$|^noises\.")


def load_stylegan2(source: Source) -> Generator:
    """Generator of a trainer's file (its `g_ema`, else `g`), a converted file or a bare state_dict.

    Raises ValueError that names the tensor for anything missing, left over or of the wrong shape.
    """
    tensors = _tensors(source, parts=("g_ema", "g"))
    levels = _count(tensors, "to_rgbs")
    widths = {4: _vote(tensors, {"conv1.conv.weight": 1, "conv1.activate.bias": 0, "to_rgb1.conv.weight": 2})}
    for i in range(levels):
        up, conv, rgb = f"convs.{2 * i}", f"convs.{2 * i + 1}", f"to_rgbs.{i}"
        names = {f"{up}.conv.weight": 1, f"{up}.activate.bias": 0, f"{conv}.conv.weight": 1, f"{rgb}.conv.weight": 2}
        widths[8 * 2**i] = _vote(tensors, names)
    config = GeneratorConfig(
        4 * 2**levels, _style_dim(tensors), _count(tensors, "style", first=1), *infer_multiplier(widths)
    )
    return _fill(Generator(config), tensors)


def load_stylegan2_discriminator(source: Source) -> Discriminator:
    """Discriminator of a trainer's file (its `d`), a converted file or a bare state_dict; errors as above."""
    tensors = _tensors(source, parts=("d",))
    levels = _count(tensors, "convs", first=1)
    size = 4 * 2**levels
    widths = {size: _vote(tensors, {"convs.0.0.weight": 0, "convs.0.1.bias": 0, "convs.1.conv1.0.weight": 0})}
    for i in range(1, levels + 1):
        block = f"convs.{i}"
        names = {f"{block}.conv2.1.weight": 0, f"{block}.conv2.2.bias": 0, f"{block}.skip.1.weight": 0}
        widths[size // 2**i] = _vote(tensors, names)
    return _fill(Discriminator(DiscriminatorConfig(size, *infer_multiplier(widths))), tensors)


def load_mobile_stylegan(source: Source) -> Student:
    """Student of a Lightning file (tensors under `student.`) or of a bare state_dict; errors as above."""
    tensors = _tensors(source, parts=("state_dict",))
    if any(name.startswith("student.") for name in tensors):  # beside teacher, losses and metrics
        tensors = {name.removeprefix("student."): t for name, t in tensors.items() if name.startswith("student.")}
    channels = [_vote(tensors, {"conv1.conv.weight": 0, "conv1.bias": 1, "to_img1.conv.weight": 1})]
    for i in range(_count(tensors, "layers")):
        conv1, conv2 = f"layers.{i}.conv1", f"layers.{i}.conv2"
        names = {f"{conv1}.conv.weight_permute": 0, f"{conv1}.bias": 1, f"{conv2}.conv.weight_dw": 0}
        channels.append(_vote(tensors, names))
    return _fill(Student(StudentConfig(4 * 2 ** len(channels), _style_dim(tensors), tuple(channels))), tensors)


def _tensors(source: Source, parts: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors of `source`, or of the first of its `parts` that it has, without the names of wrapping modules."""
    content = source if isinstance(source, Mapping) else read_checkpoint(source)
    chosen = next((content[part] for part in parts if isinstance(content.get(part), Mapping)), content)
    for name, value in chosen.items():
        if not isinstance(value, Tensor):
            wanted = " or ".join(repr(part) for part in parts)
            raise ValueError(
                f"{name!r} is a {type(value).__name__}, not a tensor: pass a state_dict or one in {wanted}."
            )
    return {own_name(name): value for name, value in chosen.items()}


def _count(tensors: Mapping[str, Tensor], prefix: str, *, first: int = 0) -> int:
    """How many numbered modules `prefix`.N there are, from `first` to the largest number found, none left out."""
    numbers = {int(m[1]) for name in tensors if (m := re.match(rf"{prefix}\.(\d+)\.", name))}
    stop = max(numbers, default=first) + 1
    if (gap := next((number for number in range(first, stop) if number not in numbers), None)) is not None:
        raise ValueError(
            f"Missing tensors: nothing is named {prefix}.{gap}.*, so the file is incomplete or of another architecture."
        )
    return stop - first


def _vote(tensors: Mapping[str, Tensor], axes: Mapping[str, int]) -> int:
    """The width that most of the named tensors have along the given axis: one damaged tensor is then named later."""
    shapes = {name: tensors[name].shape for name in axes if name in tensors}
    votes = Counter(shape[axes[name]] for name, shape in shapes.items() if axes[name] < len(shape))
    if not votes:
        raise ValueError(f"Missing tensor {next(iter(axes))}: the file is incomplete or of another architecture.")
    return votes.most_common(1)[0][0]


def _style_dim(tensors: Mapping[str, Tensor]) -> int:
    return _vote(
        tensors, {name: 1 for name in tensors if name.endswith("modulation.weight")} or {"modulation.weight": 1}
    )


def _fill(model: M, tensors: Mapping[str, Tensor]) -> M:
    """Copy `tensors` into `model` after checking every name and shape."""
    own = model.state_dict()
    for name, target in own.items():
        if name not in tensors:
            if _CONSTANTS.search(name):
                continue
            raise ValueError(f"Missing tensor {name} of shape {tuple(target.shape)}: the file is incomplete.")
        if tensors[name].shape != target.shape:
            shapes = f"{tuple(tensors[name].shape)} in the file, {tuple(target.shape)} in the network"
            raise ValueError(f"Tensor {name} has the wrong shape: {shapes}.")
        if tensors[name].layout is not torch.strided or tensors[name].is_meta:
            raise ValueError(f"Tensor {name} is sparse, or has no values: save it as a dense one.")
        if not tensors[name].is_floating_point():
            raise ValueError(f"Tensor {name} is {tensors[name].dtype}, not floating point: the file is damaged.")
        if not torch.isfinite(tensors[name]).all():
            raise ValueError(f"Tensor {name} holds numbers that are not finite: its training had diverged.")
    for name in tensors:
        if name not in own and not _CONSTANTS.search(name):
            raise ValueError(
                f"Unknown tensor {name}: a {type(model).__name__} of {model.config} has none of that name."
            )
    with torch.no_grad():
        for name, target in own.items():
            if name in tensors:
                target.copy_(tensors[name])
    return model
