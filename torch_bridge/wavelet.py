"""Orthonormal Haar wavelet transform of images as a fixed 4x4 mix and a pixel (un)shuffle.

No transposed convolution and no padding, so it runs and exports everywhere. Packing along the channels: first the low
band LL of all C channels, then LH, HL and HH of channel 0, of channel 1, ... (the packing of MobileStyleGAN,
arXiv 2104.04767). LL is twice the mean of the 2x2 pixels; LH differs between rows, HL between columns.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def haar_dwt(image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 4C H2 W2"]:
    """Wavelet bands at half the resolution. Raises ValueError for an odd height or width."""
    _, channels, height, width = image.shape
    if height % 2 or width % 2:
        raise ValueError(f"The Haar transform halves the image, and {height}x{width} is odd: pad or crop it first.")
    pixels = F.pixel_unshuffle(image, 2).unflatten(1, (channels, 4))
    top_left, top_right, bottom_left, bottom_right = pixels.unbind(2)
    left, left_diff = top_left + bottom_left, top_left - bottom_left
    right, right_diff = top_right + bottom_right, top_right - bottom_right
    high = torch.stack([left_diff + right_diff, left - right, left_diff - right_diff], 2)
    return torch.cat([left + right, high.flatten(1, 2)], 1) * 0.5


def haar_idwt(bands: Float[Tensor, "B 4C H W"]) -> Float[Tensor, "B C 2H 2W"]:
    """Image at twice the resolution: the exact inverse of `haar_dwt`."""
    if bands.shape[1] % 4:
        raise ValueError(f"Wavelet bands come in fours, and {bands.shape[1]} channels are not a multiple of 4.")
    channels = bands.shape[1] // 4
    bands = bands * 0.5
    low, high = bands[:, :channels], bands[:, channels:].unflatten(1, (channels, 3))
    rows, columns, diagonal = high.unbind(2)
    top, bottom = low + rows, low - rows
    top_diff, bottom_diff = columns + diagonal, columns - diagonal
    pixels = torch.stack([top + top_diff, top - top_diff, bottom + bottom_diff, bottom - bottom_diff], 2)
    return F.pixel_shuffle(pixels.flatten(1, 2), 2)
