"""The one place where frames (uint8, channels last) and images (float, channels first, [-1, 1]) are converted."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def to_float(frames_BHWC: UInt8[Tensor, "*B H W C"]) -> Float[Tensor, "*B C H W"]:
    """float32 images in [-1, 1] of uint8 frames, with any leading dimensions. The result is a channels-last tensor."""
    if frames_BHWC.dtype != torch.uint8:
        raise ValueError(f"Frames are uint8, not {frames_BHWC.dtype}: images in [-1, 1] need no conversion.")
    last = frames_BHWC.ndim - 1
    channels_first = (*range(last - 2), last, last - 2, last - 1)  # by numbers that exporters take
    return frames_BHWC.permute(channels_first).float() * (2 / 255) - 1


def to_uint8(images_BCHW: Float[Tensor, "*B C H W"]) -> UInt8[Tensor, "*B H W C"]:
    """uint8 frames of images: [-1, 1] is rounded to 0..255, values outside are clamped. Inverse of `to_float`."""
    return to_levels(images_BCHW).movedim(-3, -1).contiguous()


def to_levels(images: Float[Tensor, "..."]) -> UInt8[Tensor, "..."]:
    """uint8 levels of numbers in [-1, 1], in any layout: see `to_uint8`."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
