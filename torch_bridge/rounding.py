"""Dense products as 8-bit integers compute them: quantisation after training, of inputs and weights.

Inputs have one step, weights one for each output channel (arXiv 1712.05877, section 2), so what differs in size from
input channel to input channel is lost first: channels are levelled before, at the weights' cost (SmoothQuant, arXiv
2211.10438, section 4). All of this is computed as float; a runtime with integers finds them and their steps in the
values.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

# Of integers in place of inputs and weights. Processors without VNNI add two products of 8 bits each in 16, which hold
# the sum only where weights have 7.
INPUT_TOP, WEIGHT_TOP = 127, 63
LEVELLED = 0.65  # how far the inputs' peaks are levelled: alpha of SmoothQuant (eq. 4)

Module = TypeVar("Module", bound=nn.Module)


class Rounded(NamedTuple):
    """A dense product in integers' multiples.

    Attributes:
        level_I: what the inputs are divided by before they are rounded, (I,).
        input_step: to multiples of which they are then rounded.
        weight: of levelled inputs; the largest of each output channel is WEIGHT_TOP steps.
    """

    level_I: Float[Tensor, " I"]
    input_step: float
    weight: Float[Tensor, "O I h w"]


@torch.no_grad()
def round_product(weight: Float[Tensor, "O I h w"], peak_I: Float[Tensor, " I"]) -> Rounded:
    """Levels, steps and weights of a product.

    Args:
        weight: exact; (I, 1, h, w) of a depthwise convolution.
        peak_I: largest magnitude of each input channel that is expected; larger ones are cut off.
    """
    peak_I = peak_I.clamp(min=1e-6)
    if weight.shape[1] == 1 < len(peak_I):  # of depthwise convolutions each weight has a channel of its own, and a step
        level_I, channels = peak_I, (-1, 1, 1, 1)
    else:
        weight_I = weight.abs().amax((0, 2, 3)).clamp(min=1e-6)
        level_I, channels = peak_I**LEVELLED / weight_I ** (1 - LEVELLED), (1, -1, 1, 1)
    levelled = weight * level_I.view(channels)
    step_O111 = levelled.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12) / WEIGHT_TOP
    return Rounded(level_I, float((peak_I / level_I).max()) / INPUT_TOP, (levelled / step_O111).round() * step_O111)


def round_input(x: Tensor, step: float) -> Tensor:
    """Inputs as multiples of a step, in [-(INPUT_TOP + 1), INPUT_TOP] steps."""
    return torch.fake_quantize_per_tensor_affine(x, step, 0, -INPUT_TOP - 1, INPUT_TOP)


class RoundedConv(nn.Module):
    """A dense or depthwise convolution whose product is rounded: see `round_product`.

    Args:
        conv: the exact one, which is left as it is.
        peak_I: see there.

    Raises:
        ValueError: another kind of convolution.
    """

    def __init__(self, conv: nn.Conv2d, peak_I: Float[Tensor, " I"]) -> None:
        super().__init__()
        plain = conv.dilation == (1, 1) and conv.padding_mode == "zeros"
        if not plain or conv.groups not in (1, conv.in_channels) or conv.groups not in (1, conv.out_channels):
            raise ValueError(f"Dense and depthwise convolutions alone can be rounded, not {conv}.")
        level_I, self.input_step, weight = round_product(conv.weight, peak_I)
        self.register_buffer("unlevel", (1 / level_I)[:, None, None])
        self.register_buffer("weight", weight)
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach())
        self.stride, self.padding, self.groups = conv.stride, conv.padding, conv.groups

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O h w"]:
        x = round_input(x * self.unlevel, self.input_step)
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)


@contextlib.contextmanager
def watched_peaks(
    modules: Iterable[Module], read: Callable[[Module, Tensor], Tensor] = lambda _, x: x
) -> Iterator[dict[Module, Float[Tensor, " I"]]]:
    """The largest magnitude of each input channel of modules, (I,), over all their calls inside of the block.

    Args:
        modules: whose first argument is (B, I, H, W).
        read: what of a module's input its product reads.
    """
    peaks: dict[Module, Tensor] = {}

    def look(module: Module, given: tuple[Tensor, ...], _: object) -> None:
        peak_I = read(module, given[0]).abs().amax((0, 2, 3))
        peaks[module] = torch.maximum(peaks[module], peak_I) if module in peaks else peak_I

    hooks = [module.register_forward_hook(look) for module in modules]
    try:
        yield peaks
    finally:
        for hook in hooks:
            hook.remove()
