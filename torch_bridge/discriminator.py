"""StyleGAN2 residual discriminator (Karras et al. 2020, arXiv 1912.04958), with native operations only."""

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torch_bridge.channels import check_size, resolutions, width_at
from torch_bridge.layers import BiasedLeakyReLU, Blur, EqualConv2d, EqualLinear


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Size of a discriminator; widths as in `GeneratorConfig`."""

    size: int = 256
    channel_multiplier: float = 2
    channel_max: int = 512

    def __post_init__(self) -> None:
        check_size(self.size)

    @property
    def widths(self) -> dict[int, int]:
        """Resolution -> channels, from 4 px to the image size."""
        return {r: width_at(r, self.channel_multiplier, self.channel_max) for r in resolutions(self.size)}


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, the second halving the resolution after a blur, and a blurred 1x1 skip; sum / sqrt(2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(EqualConv2d(in_channels, in_channels, 3, padding=1), BiasedLeakyReLU(in_channels))
        self.conv2 = nn.Sequential(
            Blur(padding=2), EqualConv2d(in_channels, out_channels, 3, stride=2), BiasedLeakyReLU(out_channels)
        )
        # The stride stands in the blur: a 1x1 convolution needs only the pixels that remain.
        self.skip = nn.Sequential(Blur(padding=1, stride=2), EqualConv2d(in_channels, out_channels, 1))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B O H2 W2"]:
        return (self.conv2(self.conv1(x)) + self.skip(x)) * math.sqrt(0.5)


def minibatch_stddev(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C1 H W"]:
    """Appends one channel: the standard deviation over a group of samples, averaged over channels and pixels.

    The group has the largest size that is at most 4 and divides the batch. For batches of up to 4 samples, or of a
    multiple of 4, that is the published rule, which no other batch size satisfies. In a batch of a prime size above 4
    every group is a single sample, whose deviation says nothing: train with multiples of 4.
    """
    batch, channels, height, width = x.shape
    group = next(size for size in (4, 3, 2, 1) if batch % size == 0)
    groups = x.reshape(group, -1, channels, height, width)
    deviation = torch.sqrt(groups.var(0, unbiased=False) + 1e-8).mean((1, 2, 3))
    plane = deviation.repeat(group)[:, None, None, None].expand(-1, 1, height, width)
    return torch.cat([x, plane], 1)


class Discriminator(nn.Module):
    """Images (B, 3, size, size) -> raw logits (B, 1), high for real ones.

    The state_dict has the names and shapes of the published checkpoints.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        widths = list(config.widths.values())[::-1]  # from the image down to 4 px
        blocks = [ResidualBlock(wide, narrow) for wide, narrow in itertools.pairwise(widths)]
        from_rgb = nn.Sequential(EqualConv2d(3, widths[0], 1), BiasedLeakyReLU(widths[0]))
        self.convs = nn.Sequential(from_rgb, *blocks)
        last = widths[-1]
        self.final_conv = nn.Sequential(EqualConv2d(last + 1, last, 3, padding=1), BiasedLeakyReLU(last))
        self.final_linear = nn.Sequential(EqualLinear(last * 16, last, activate=True), EqualLinear(last, 1))

    def features(self, images: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B C Hi Wi"]]:
        """Activations after each residual block, from size/2 down to 4 px: perceptual features of the corpus."""
        if images.shape[1:] != (3, self.config.size, self.config.size):
            raise ValueError(
                f"Images must be (B, 3, {self.config.size}, {self.config.size}), not {tuple(images.shape)}."
            )
        from_rgb, *blocks = self.convs
        x, activations = from_rgb(images), []
        for block in blocks:
            x = block(x)
            activations.append(x)
        return activations

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1"]:
        x = self.final_conv(minibatch_stddev(self.features(images)[-1]))
        return self.final_linear(x.flatten(1))
