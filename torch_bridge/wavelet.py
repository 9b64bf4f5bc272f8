"""Orthonormal Haar wavelet transform of images: fixed sums and a rearrangement of pixels.

No transposed convolution and no padding, so it runs and exports everywhere. Packing along the channels: first the low
band LL of all C channels, then LH, HL and HH of channel 0, of channel 1, ... (the packing of MobileStyleGAN,
arXiv 2104.04767). LL is twice the mean of the 2x2 pixels; LH differs between rows, HL between columns.

The work is done channels-last, and the results lie in memory so: on a CPU the convolutions around them then take little
more than half the time. No tensor has more than five dimensions, which is what some exporters allow; the form of
`spread_pixels` for others has six.
"""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor


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


def merge_blocks(bands: Float[Tensor, "B 4C H W"], *, channels_first: bool) -> Float[Tensor, "B C 2H 2W"]:
    """`merge_bands` of channels in the order of `band_order`; for `channels_first` see `spread_pixels`."""
    axis = 1 if channels_first else -1
    low, rows, columns, diagonal = (bands if channels_first else bands.permute(0, 2, 3, 1)).chunk(4, axis)
    top, bottom = low + rows, low - rows
    top_diff, bottom_diff = columns + diagonal, columns - diagonal
    pixels = torch.cat([top + top_diff, top - top_diff, bottom + bottom_diff, bottom - bottom_diff], axis)
    return spread_pixels(pixels if channels_first else pixels.permute(0, 3, 1, 2), channels_first=channels_first)


def spread_pixels(pixels: Shaped[Tensor, "B 4C H W"], *, channels_first: bool) -> Shaped[Tensor, "B C 2H 2W"]:
    """The 2x2 pixels that lie at one place as channels (row, column, C), side by side.

    Args:
        pixels: of any dtype.
        channels_first: whether it is written as the rearrangement that other runtimes have as one operation; else it is
            done channels-last, and the result lies in memory so.
    """
    batch, channels, height, width = pixels.shape
    if channels_first:
        blocks = pixels.reshape(batch, 2, 2, channels // 4, height, width).permute(0, 3, 4, 1, 5, 2)
        return blocks.reshape(batch, channels // 4, 2 * height, 2 * width)
    upper, lower = pixels.permute(0, 2, 3, 1).chunk(2, -1)
    spread = torch.stack([upper, lower], 2).reshape(batch, 2 * height, 2 * width, channels // 4)
    return spread.permute(0, 3, 1, 2)


def pixels_of_bands(bands: Float[Tensor, "12 ..."]) -> Float[Tensor, "12 ..."]:
    """`haar_idwt` for what stands for the 12 bands of an RGB image along the first axis, such as a layer's weights: the
    2x2 pixels as (row, column, RGB)."""
    low, rows, columns, diagonal = bands[band_order(12)].chunk(4)
    return 0.5 * torch.cat(
        [
            low + rows + columns + diagonal,
            low + rows - columns - diagonal,
            low - rows + columns - diagonal,
            low - rows - columns + diagonal,
        ]
    )
