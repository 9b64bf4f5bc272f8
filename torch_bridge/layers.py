"""Building blocks of StyleGAN2 in native PyTorch operations: they run on CPU, CUDA and MPS and need no compiler.

Equalised learning rates are those of Karras et al. 2018 (arXiv 1710.10196, section 4.1): weights are stored with unit
variance and scaled at run time. Parameter and buffer names are the ones of the published PyTorch checkpoints.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SLOPE = 0.2
_TAPS = (1.0, 3.0, 3.0, 1.0)  # the binomial low-pass filter of StyleGAN2


def scaled_leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2 times sqrt(2), which keeps the second moment of a normal input near one."""
    return F.leaky_relu(x, SLOPE) * math.sqrt(2)


class PixelNorm(nn.Module):
    """x / sqrt(mean(x^2) + 1e-8) over the last dimension."""

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-8)


class EqualLinear(nn.Module):
    """Linear layer with equalised learning rate; `lr_mul` lowers the rate of weight and bias alike."""

    def __init__(
        self, in_dim: int, out_dim: int, *, bias_init: float = 0.0, lr_mul: float = 1.0, activate: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim) / lr_mul)
        self.bias = nn.Parameter(torch.full((out_dim,), bias_init))
        self.scale = lr_mul / math.sqrt(in_dim)
        self.lr_mul = lr_mul
        self.activate = activate

    def forward(self, x: Float[Tensor, "B I"]) -> Float[Tensor, "B O"]:
        y = F.linear(x, self.weight * self.scale, self.bias * self.lr_mul)
        return scaled_leaky_relu(y) if self.activate else y


class EqualConv2d(nn.Module):
    """Bias-free convolution with equalised learning rate."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, padding: int = 0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.scale = 1 / math.sqrt(in_channels * kernel_size**2)
        self.stride = stride
        self.padding = padding

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H2 W2"]:
        return F.conv2d(x, self.weight * self.scale, stride=self.stride, padding=self.padding)


class BiasedLeakyReLU(nn.Module):
    """Adds one bias for each channel, then applies `scaled_leaky_relu`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return scaled_leaky_relu(x + self.bias[:, None, None])


def binomial_kernel(gain: float) -> Float[Tensor, "4 4"]:
    """Outer product of [1, 3, 3, 1] with itself, normalised to the sum `gain`."""
    taps = torch.tensor(_TAPS)
    kernel = taps[:, None] * taps
    return kernel * (gain / kernel.sum())


class Blur(nn.Module):
    """Low-pass filter, the same for every channel, as a depthwise convolution; keeps every `stride`-th output."""

    kernel: Tensor

    def __init__(self, *, padding: int, stride: int = 1, gain: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("kernel", binomial_kernel(gain))
        self.padding = padding
        self.stride = stride

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H2 W2"]:
        channels = x.shape[1]
        weight = self.kernel.flip(0, 1).expand(channels, 1, -1, -1)  # filtering is correlation with the flipped kernel
        return F.conv2d(x, weight, stride=self.stride, padding=self.padding, groups=channels)


class Upsample(nn.Module):
    """Doubles the resolution: zeros between the pixels, then the low-pass filter of sum four."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", binomial_kernel(4.0))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C 2H 2W"]:
        channels = x.shape[1]
        weight = self.kernel.expand(channels, 1, -1, -1)
        return F.conv_transpose2d(x, weight, stride=2, padding=1, groups=channels)
