"""Layers of MobileStyleGAN (Belousov 2021, arXiv 2104.04767) in native operations, with the published tensor names.

The style scales the input channels. The demodulation of this network does not depend on the style: it is computed from
a buffer `style_inv`, hence one constant for each output channel, which is folded into the weight at every call.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from torch_bridge.layers import SLOPE
from torch_bridge.wavelet import merge_bands

# Second moment of a leaky ReLU's output for a standard normal input: what each layer takes away from the signal.
_ACTIVATION_MOMENT = (1 + SLOPE**2) / 2


def modulation_layer(style_dim: int, channels: int, input_moment: float) -> nn.Linear:
    """Linear layer w -> style whose mean square is 1 / input_moment at initialisation, for w of unit variance.

    The published network starts from bias 1 and loses a fifth of the signal's deviation at every level; this bias
    makes up for what the activation before takes away. The default weight gives the style a variance of 1/3.
    """
    layer = nn.Linear(style_dim, channels)
    nn.init.constant_(layer.bias, math.sqrt(1 / input_moment - 1 / 3))
    return layer


class ModulatedConv(nn.Module):
    """Dense convolution; the heads (1x1, 12 channels) are not demodulated and have no `style_inv`."""

    style_inv: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, style_dim: int, *, demodulate: bool, moment: float
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        if demodulate:
            self.register_buffer("style_inv", torch.ones(1, 1, in_channels, 1, 1))
        self.modulation = modulation_layer(style_dim, in_channels, moment)
        self.scale = 1 / math.sqrt(in_channels * kernel_size**2)
        self.demodulate = demodulate

    def folded_weight(self) -> Float[Tensor, "O I K K"]:
        """The convolution's weight with scale and demodulation in it."""
        weight = self.weight * self.scale
        if not self.demodulate:
            return weight
        squared_norm_O = (weight * self.style_inv[0]).square().sum((1, 2, 3))
        return weight * torch.rsqrt(squared_norm_O + 1e-8)[:, None, None, None]


class ModulatedDWConv(nn.Module):
    """Depthwise 3x3 convolution followed by a pointwise one."""

    style_inv: Tensor

    def __init__(self, in_channels: int, out_channels: int, style_dim: int) -> None:
        super().__init__()
        self.weight_dw = nn.Parameter(torch.randn(in_channels, 1, 3, 3))
        self.weight_permute = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.register_buffer("style_inv", torch.ones(1, 1, in_channels, 1, 1))
        self.modulation = modulation_layer(style_dim, in_channels, _ACTIVATION_MOMENT)
        self.scale = 1 / math.sqrt(in_channels * 9)

    def folded_weight(self) -> Float[Tensor, "O I 1 1"]:
        """The pointwise weight with scale and demodulation in it."""
        depthwise_I = self.weight_dw.square().sum((1, 2, 3)) * (self.scale * self.style_inv.flatten()).square()
        pointwise_OI = self.weight_permute[:, :, 0, 0]
        squared_norm_O = pointwise_OI.square() @ depthwise_I
        return self.weight_permute * (self.scale * torch.rsqrt(squared_norm_O + 1e-8))[:, None, None, None]


class NoiseScale(nn.Module):
    """The learned strength of a noise image."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, y: Float[Tensor, "B C H W"], noise: Tensor | None) -> Float[Tensor, "B C H W"]:
        return y if noise is None else y + self.weight * noise


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias and leaky ReLU (without StyleGAN2's gain of sqrt(2))."""

    def __init__(self, in_channels: int, out_channels: int, style_dim: int, *, depthwise: bool) -> None:
        super().__init__()
        self.conv = (
            ModulatedDWConv(in_channels, out_channels, style_dim)
            if depthwise
            else ModulatedConv(in_channels, out_channels, 3, style_dim, demodulate=True, moment=1.0)
        )
        self.noise = NoiseScale()
        self.bias = nn.Parameter(torch.zeros(1, out_channels, 1, 1))

    def style(self, w_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B I 1 1"]:
        """Factor of each input channel."""
        return self.conv.modulation(w_BD)[:, :, None, None]

    def forward(self, x: Float[Tensor, "B I H W"], noise: Tensor | None) -> Float[Tensor, "B O H W"]:
        """`x` is already multiplied by `style`: the caller merges that factor with others."""
        weight, bias = self.conv.folded_weight(), self.bias.flatten()
        if isinstance(self.conv, ModulatedDWConv):
            x = F.conv2d(x, self.conv.weight_dw, padding=1, groups=x.shape[1])
            y = F.conv2d(x, weight, bias)
        else:
            y = F.conv2d(x, weight, bias, padding=1)
        return F.leaky_relu(self.noise(y, noise), SLOPE, inplace=True)


class WaveletHead(nn.Module):
    """Modulated 1x1 convolution to the 12 wavelet bands of an RGB image of twice the resolution."""

    def __init__(self, in_channels: int, style_dim: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(in_channels, 12, 1, style_dim, demodulate=False, moment=_ACTIVATION_MOMENT)
        self.bias = nn.Parameter(torch.zeros(1, 12, 1, 1))

    def forward(self, x: Float[Tensor, "B C H W"], w_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B 12 H W"]:
        # Twelve outputs: a weight for each sample is cheaper than a pass over the activations.
        style = self.conv.modulation(w_BD)
        weight_B12C = style[:, None] * self.conv.folded_weight()[None, :, :, 0, 0]
        y = torch.matmul(weight_B12C, x.flatten(2)).unflatten(2, x.shape[2:])
        return y + self.bias


class WaveletUpsample(nn.Module):
    """Doubles the resolution by reading C channels as the Haar bands of C/4: modulation, then the inverse transform."""

    def __init__(self, channels: int, style_dim: int) -> None:
        super().__init__()
        self.modulation = modulation_layer(style_dim, channels, 1.0)

    def forward(
        self, x: Float[Tensor, "B C H W"], w_BD: Float[Tensor, "B D"], style: Float[Tensor, "B C4 1 1"]
    ) -> Float[Tensor, "B C4 2H 2W"]:
        """`style` scales the result; it is applied to the bands, in one pass with this layer's own modulation."""
        of_bands = torch.cat([style, style.repeat_interleave(3, dim=1)], 1) * 0.5
        return merge_bands(x * (self.modulation(w_BD)[:, :, None, None] * of_bands))
