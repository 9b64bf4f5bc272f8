"""Orthonormal Haar wavelet transform of images: fixed sums and a rearrangement of pixels.

No transposed convolution and no padding, so it runs and exports everywhere. Packing along the channels: first the low
band LL of all C channels, then LH, HL and HH of channel 0, of channel 1, ... (the packing of MobileStyleGAN,
arXiv 2104.04767). LL is twice the mean of the 2x2 pixels; LH differs between rows, HL between columns.

The work is done channels-last, and the results lie in memory so: on a CPU the convolutions around them then take little
more than half the time. No tensor has more than five dimensions, which is what some exporters allow; `sum_bands`, which
is for others, has up to seven.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

# How the bands LL, LH, HL and HH enter the 2x2 pixels of their place, times 2.
_SIGNS = (((1.0, 1.0), (1.0, 1.0)), ((1.0, 1.0), (-1.0, -1.0)), ((1.0, -1.0), (1.0, -1.0)), ((1.0, -1.0), (-1.0, 1.0)))


def haar_dwt(image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 4C H2 W2"]:
    """Wavelet bands at half the resolution. Raises ValueError for an odd height or width."""
    height, width = image.shape[2:]
    if height % 2 or width % 2:
        raise ValueError(f"The Haar transform halves the image, and {height}x{width} is odd: pad or crop it first.")
    top, bottom = (image.permute(0, 2, 3, 1) * 0.5).unflatten(1, (-1, 2)).unbind(2)
    left, right = (top + bottom).unflatten(2, (-1, 2)).unbind(3)
    left_diff, right_diff = (top - bottom).unflatten(2, (-1, 2)).unbind(3)
    high = torch.stack([left_diff + right_diff, left - right, left_diff - right_diff], -1)
    return torch.cat([left + right, high.flatten(-2)], -1).permute(0, 3, 1, 2)


def haar_idwt(bands: Float[Tensor, "B 4C H W"]) -> Float[Tensor, "B C 2H 2W"]:
    """Image at twice the resolution: the exact inverse of `haar_dwt`."""
    return merge_bands(bands * 0.5)


def merge_bands(bands: Float[Tensor, "B 4C H W"]) -> Float[Tensor, "B C 2H 2W"]:
    """Twice `haar_idwt`: for callers that scale the bands anyway and can put the factor 1/2 there."""
    channels = int(bands.shape[1]) // 4  # a plain number under torch.jit.trace too, where shapes are tensors
    if bands.shape[1] != 4 * channels:
        raise ValueError(f"Wavelet bands come in fours, and {bands.shape[1]} channels are not a multiple of 4.")
    low, high = bands.permute(0, 2, 3, 1).split((channels, 3 * channels), -1)
    rows, columns, diagonal = high.unflatten(-1, (channels, 3)).unbind(-1)
    top, bottom = low + rows, low - rows
    top_diff, bottom_diff = columns + diagonal, columns - diagonal
    upper = torch.cat([top + top_diff, top - top_diff], -1)  # two neighbouring pixels of the upper row
    lower = torch.cat([bottom + bottom_diff, bottom - bottom_diff], -1)
    batch, height, width, _ = upper.shape
    pixels = torch.stack([upper, lower], 2).reshape(batch, 2 * height, 2 * width, channels)
    return pixels.permute(0, 3, 1, 2)


def band_order(channels: int) -> Int[Tensor, " C"]:
    """Where to find the channels of the packing above so that the bands lie one after another: LL, LH, HL, HH."""
    low = channels // 4
    return torch.cat([torch.arange(low), *(torch.arange(low + band, channels, 3) for band in range(3))])


def merge_blocks(bands: Float[Tensor, "B 4C H W"]) -> Float[Tensor, "B C 2H 2W"]:
    """`merge_bands` of channels in the order of `band_order`."""
    low, rows, columns, diagonal = bands.permute(0, 2, 3, 1).chunk(4, -1)
    top, bottom = low + rows, low - rows
    top_diff, bottom_diff = columns + diagonal, columns - diagonal
    pixels = torch.cat([top + top_diff, top - top_diff, bottom + bottom_diff, bottom - bottom_diff], -1)
    return spread_pixels(pixels.permute(0, 3, 1, 2))


def sum_bands(
    bands: Sequence[Float[Tensor, "B C H W"]], scales_B4C: Float[Tensor, "B 4 C"]
) -> Float[Tensor, "B C 2H 2W"]:
    """`merge_blocks` of four bands that are tensors of their own, each multiplied by its scale of each channel.

    A pixel is one sum of broadcast products, written in the order in which pixels lie: a runtime that joins what is
    done to elements makes one pass of it, and nothing is cut, stacked or moved before or after.
    """
    batch, channels, height, width = bands[0].shape
    signs = scales_B4C.new_tensor(_SIGNS)[:, None, :, None, :, None]
    # The factors of all bands by one product: written apart they would belong to the pass, too much for one.
    factors = (scales_B4C[:, :, None, None, None, None] * signs).unbind(1)
    low, rows, columns, diagonal = (
        band.permute(0, 2, 3, 1).reshape(batch, height, 1, width, 1, channels) * factor
        for band, factor in zip(bands, factors, strict=True)
    )
    pixels = low + rows + columns + diagonal
    return pixels.reshape(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)


def spread_pixels(pixels: Shaped[Tensor, "B 4C H W"]) -> Shaped[Tensor, "B C 2H 2W"]:
    """The 2x2 pixels that lie at one place as channels (row, column, C), side by side; of any dtype."""
    batch, channels, height, width = pixels.shape
    upper, lower = pixels.permute(0, 2, 3, 1).chunk(2, -1)
    spread = torch.stack([upper, lower], 2).reshape(batch, 2 * height, 2 * width, channels // 4)
    return spread.permute(0, 3, 1, 2)


def pixels_of_bands(bands: Float[Tensor, "12 ..."]) -> Float[Tensor, "12 ..."]:
    """`haar_idwt` for what stands for the 12 bands of an RGB image along the first axis, such as a layer's weights: the
    2x2 pixels as (row, column, RGB)."""
    signs_QP = bands.new_tensor(_SIGNS).flatten(1)  # bands, pixels
    return 0.5 * torch.tensordot(signs_QP.T, bands[band_order(12)].unflatten(0, (4, 3)), 1).flatten(0, 1)
