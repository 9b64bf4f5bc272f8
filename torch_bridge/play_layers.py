"""Layers of MobileStyleGAN for play: those of `mobile_layers` for frozen weights, with less to compute and move.

Scale and demodulation are inside the weights, and so is the Haar transform behind the head. Channels that are read as
wavelet bands lie band by band (`band_order`), so that they are cut into four blocks instead of gathered one by one. The
doubling has two forms, which give equal results: in PyTorch and ONNX Runtime each operation is a pass, and sums of
blocks are the fewest of them (`merge_blocks`); with `bands_apart` the bands are four convolutions, so that none is cut
out, and the doubling is one expression, for runtimes that compile it to one pass (`sum_bands`).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from torch_bridge.layers import SLOPE
from torch_bridge.mobile_layers import ModulatedDWConv, StyledConv, WaveletHead, WaveletUpsample
from torch_bridge.rounding import round_input, round_product
from torch_bridge.wavelet import band_order, merge_blocks, pixels_of_bands, spread_pixels, sum_bands


class FoldedConv(nn.Module):
    """A `StyledConv` for play: scale and demodulation are inside the weight, and the noise comes scaled.

    Attributes:
        bands_apart: whether the four bands of the result, which then lie `by_bands`, are computed each by itself.
        input_step: to multiples of which the inputs of the dense product are rounded; None for not at all.
    """

    bands_apart = False
    input_step: float | None = None

    def __init__(self, in_channels: int, out_channels: int, style_dim: int, *, depthwise: bool) -> None:
        super().__init__()
        self.modulation = nn.Linear(style_dim, in_channels)
        self.depthwise = nn.Parameter(torch.zeros(in_channels, 1, 3, 3)) if depthwise else None
        kernel_size = 1 if depthwise else 3
        self.weight = nn.Parameter(torch.zeros(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    @torch.no_grad()
    def fold(self, layer: StyledConv, *, by_bands: bool = False) -> None:
        """Take over the function of `layer`; `by_bands` puts its output channels in the order of `band_order`."""
        order = band_order(len(self.bias)) if by_bands else torch.arange(len(self.bias))
        self.modulation.load_state_dict(layer.conv.modulation.state_dict())
        self.weight.copy_(layer.conv.folded_weight()[order])
        self.bias.copy_(layer.bias.flatten()[order])
        if isinstance(layer.conv, ModulatedDWConv):
            self.depthwise.copy_(layer.conv.weight_dw)

    @torch.no_grad()
    def round_product(self, peak_I: Float[Tensor, " I"]) -> None:
        """Round weights and, from now on, inputs of the dense product: see `rounding.round_product`.

        What scales the inputs (depthwise weights, else the style) levels them as well.
        """
        level_I, self.input_step, weight = round_product(self.weight, peak_I)
        self.weight.copy_(weight)
        if self.depthwise is None:
            self.modulation.weight.div_(level_I[:, None])
            self.modulation.bias.div_(level_I)
        else:
            self.depthwise.div_(level_I[:, None, None, None])

    def style(self, w_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B I 1 1"]:
        """Factor of each input channel."""
        return self.modulation(w_BD)[:, :, None, None]

    def gather(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B I H W"]:
        """Inputs of the dense product: by the depthwise convolution, where there is one."""
        return x if self.depthwise is None else F.conv2d(x, self.depthwise, padding=1, groups=x.shape[1])

    def forward(
        self, x: Float[Tensor, "B I H W"], noise: Tensor | None
    ) -> Float[Tensor, "B O H W"] | list[Float[Tensor, "B O4 H W"]]:
        """`x` is already multiplied by `style`, as in `StyledConv`."""
        x = self.gather(x)
        if self.input_step is not None:
            x = round_input(x, self.input_step)
        if not self.bands_apart:
            return self._dense(x, self.weight, self.bias, noise)
        return [self._dense(x, *part, noise) for part in zip(self.weight.chunk(4), self.bias.chunk(4), strict=True)]

    @staticmethod
    def _dense(x: Tensor, weight: Tensor, bias: Tensor, noise: Tensor | None) -> Tensor:
        if noise is None:
            y = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
        else:  # in one sum: OpenVINO 2026.4 adds noise of one channel to products of integers at a wrong scale
            y = F.conv2d(x, weight, padding=weight.shape[-1] // 2) + (bias[:, None, None] + noise)
        return F.leaky_relu(y, SLOPE, inplace=True)


class FoldedUpsample(nn.Module):
    """A `WaveletUpsample` for play, of channels that lie band by band; the factor 1/2 is in the modulation."""

    def __init__(self, channels: int, style_dim: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(style_dim, channels)

    @torch.no_grad()
    def fold(self, layer: WaveletUpsample) -> None:
        """Take over the function of `layer` for channels in the order of `band_order`."""
        order = band_order(len(layer.modulation.bias))
        self.modulation.weight.copy_(0.5 * layer.modulation.weight[order])
        self.modulation.bias.copy_(0.5 * layer.modulation.bias[order])

    def forward(
        self,
        x: Float[Tensor, "B C H W"] | Sequence[Float[Tensor, "B C4 H W"]],
        w_BD: Float[Tensor, "B D"],
        style: Float[Tensor, "B C4 1 1"],
    ) -> Float[Tensor, "B C4 2H 2W"]:
        """`style` scales the result, as in `WaveletUpsample`; `x` is one tensor or its four bands."""
        scales_B4C = self.modulation(w_BD).unflatten(1, (4, -1)) * style[:, None, :, 0, 0]
        if isinstance(x, Tensor):
            return merge_blocks(x * scales_B4C.flatten(1)[:, :, None, None])
        return sum_bands(x, scales_B4C)


class PixelHead(nn.Module):
    """A `WaveletHead` and the inverse Haar transform behind it: RGB of the 2x2 pixels at each place as 12 channels.

    Channels are (row, column, RGB). The doubling itself is left to `spread`, so that a caller can convert to uint8
    before anything is moved.
    """

    def __init__(self, in_channels: int, style_dim: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(style_dim, in_channels)
        self.weight = nn.Parameter(torch.zeros(12, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(12))

    @torch.no_grad()
    def fold(self, layer: WaveletHead) -> None:
        """Take over the function of `layer` and of `haar_idwt`."""
        self.modulation.load_state_dict(layer.conv.modulation.state_dict())
        self.weight.copy_(pixels_of_bands(layer.conv.folded_weight()))
        self.bias.copy_(pixels_of_bands(layer.bias.flatten()))

    def forward(self, x: Float[Tensor, "B C H W"], w_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B 12 H W"]:
        return F.conv2d(x * self.modulation(w_BD)[:, :, None, None], self.weight, self.bias)

    def spread(self, pixels_B12HW: Tensor) -> Tensor:
        """(B, 3, 2H, 2W) of this head's output, of any dtype."""
        return spread_pixels(pixels_B12HW)
