"""Pixel operations of the action model by PyTorch's own operators: the twins of `genie_jax.pixels`.

Channels-first. Pixel shuffle has no entry: `torch.nn.PixelShuffle` is used as it is, on reordered weights (see
`torch_bridge.reference.action_weights`). `N` pictures, `C` channels, `H`, `W` sides.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor


def area_resize(
    frames_NCHW: UInt8[Tensor, "N C H W"], size: int, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "N C size size"]:
    """Pictures as `size` x `size` in [0, 1], each pixel the mean of the area that it covers.

    `F.interpolate(mode="area")` takes whole pixels only, so the mean is exact for whole factors alone: pixels are
    repeated first until the factor is whole.
    """
    x = frames_NCHW.to(dtype) / 255
    for axis in (2, 3):
        x = x.repeat_interleave(size // math.gcd(x.shape[axis], size), axis)
        x = F.interpolate(x, (size, x.shape[3]) if axis == 2 else (x.shape[2], size), mode="area")
    return x


def warp(image_NCHW: Float[Tensor, "N C H W"], flow_N2HW: Float[Tensor, "N 2 H W"]) -> Float[Tensor, "N C H W"]:
    """The picture read at each pixel's place plus its flow (down, right) in pixels: bilinear, clamped at the border.

    `F.grid_sample` takes places as shares of the sides, (right, down), with the middles of the outermost pixels at -1
    and 1.
    """
    height, width = image_NCHW.shape[2:]
    down, right = flow_N2HW.unbind(1)
    y, x = torch.arange(height)[:, None] + down, torch.arange(width) + right
    grid_NHW2 = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], -1)
    return F.grid_sample(image_NCHW, grid_NHW2, mode="bilinear", padding_mode="border", align_corners=True)


def matching(
    before_NCHW: Float[Tensor, "N C S S"], after_NCHW: Float[Tensor, "N C S S"], *, shrink: int, radius: int, cells: int
) -> Float[Tensor, "N O cells cells"]:
    """How well each displacement of at most `radius` shrunk pixels explains each cell, as a distribution over them.

    The mean absolute error of a cell under a displacement becomes exp(-50 error), normalised over all
    O = (2 radius + 1)^2, rows of displacements first.
    """
    before, after = F.avg_pool2d(before_NCHW, shrink), F.avg_pool2d(after_NCHW, shrink)
    count, channels, side, _ = before.shape
    padded = F.pad(after, (radius,) * 4, mode="replicate")
    moved = F.unfold(padded, 2 * radius + 1).reshape(count, channels, -1, side, side)
    error_NOSS = (moved - before[:, :, None]).abs().mean(1)
    return (-50 * F.avg_pool2d(error_NOSS, side // cells)).softmax(1)
