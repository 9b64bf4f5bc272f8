"""Style-modulated convolution of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958, section 2.2).

The published code builds one weight for each sample and runs a grouped convolution. Here the *activations* are scaled:
    conv(x; W * s) = conv(x * s; W),    demodulation = one factor for each sample and output channel,
which is the same function with one shared weight, and the form that CPU, MPS and exporters handle well.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from torch_bridge.layers import BiasedLeakyReLU, Blur, EqualLinear, Upsample


class ModulatedConv2d(nn.Module):
    """Convolution whose input channels are scaled by a style; `upsample` doubles the resolution.

    `demodulate` divides each output channel by the norm of its modulated weight.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        style_dim: int,
        *,
        demodulate: bool = True,
        upsample: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, out_channels, in_channels, kernel_size, kernel_size))
        self.modulation = EqualLinear(style_dim, in_channels, bias_init=1.0)
        self.scale = 1 / math.sqrt(in_channels * kernel_size**2)
        self.padding = kernel_size // 2
        self.demodulate = demodulate
        self.blur = Blur(padding=1, gain=4.0) if upsample else None

    def forward(self, x_BCHW: Float[Tensor, "B C H W"], w_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B O H2 W2"]:
        style_BC = self.modulation(w_BD) * self.scale
        weight = self.weight[0]
        x_BCHW = x_BCHW * style_BC[:, :, None, None]
        if self.blur is None:
            y_BOHW = F.conv2d(x_BCHW, weight, padding=self.padding)
        else:
            y_BOHW = self.blur(F.conv_transpose2d(x_BCHW, weight.transpose(0, 1), stride=2))
        if not self.demodulate:
            return y_BOHW
        squared_norm_BO = F.linear(style_BC.square(), weight.square().sum((2, 3)))
        return y_BOHW * torch.rsqrt(squared_norm_BO + 1e-8)[:, :, None, None]


class NoiseInjection(nn.Module):
    """Adds one noise image, scaled by one learned number, to all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "B C H W"], noise: Tensor | None) -> Float[Tensor, "B C H W"]:
        return x if noise is None else x + self.weight * noise


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias and leaky ReLU."""

    def __init__(self, in_channels: int, out_channels: int, style_dim: int, *, upsample: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, out_channels, 3, style_dim, upsample=upsample)
        self.noise = NoiseInjection()
        self.activate = BiasedLeakyReLU(out_channels)

    def forward(
        self, x_BCHW: Float[Tensor, "B C H W"], w_BD: Float[Tensor, "B D"], noise: Tensor | None
    ) -> Float[Tensor, "B O H2 W2"]:
        return self.activate(self.noise(self.conv(x_BCHW, w_BD), noise))


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to RGB without demodulation, added to the upsampled image of the level below."""

    def __init__(self, in_channels: int, style_dim: int, *, upsample: bool = True) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, 3, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.upsample = Upsample() if upsample else None

    def forward(
        self,
        x_BCHW: Float[Tensor, "B C H W"],
        w_BD: Float[Tensor, "B D"],
        image: Float[Tensor, "B 3 Hh Wh"] | None = None,
    ) -> Float[Tensor, "B 3 H W"]:
        rgb = self.conv(x_BCHW, w_BD) + self.bias
        return rgb if self.upsample is None else rgb + self.upsample(image)
