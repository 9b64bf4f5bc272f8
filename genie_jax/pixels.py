"""Pictures for the action model: area resize, bilinear warp, pixel shuffle, flicker-proof motion weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8


@functools.cache
def area_weights(source: int, target: int) -> np.ndarray:
    """Matrix (target, source) that averages a line of `source` pixels over `target` equal stretches of it.

    A target larger than the source repeats pixels. Rows sum to 1.
    """
    edges = np.arange(target + 1) * (source / target)
    pixel = np.arange(source)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return (np.clip(overlap, 0, None) * (target / source)).astype(np.float32)


def area_resize(frames: UInt8[Array, "*B H W C"], size: int) -> Float[Array, "*B size size C"]:
    """Pictures of any size as `size` x `size` float32 in [0, 1], each pixel the mean of the area that it covers."""
    height, width = frames.shape[-3:-1]
    pixels = frames.astype(jnp.float32) / 255
    if (height, width) == (size, size):
        return pixels
    pixels = jnp.einsum("yh,...hwc->...ywc", area_weights(height, size), pixels)
    return jnp.einsum("xw,...ywc->...yxc", area_weights(width, size), pixels)


def warp(image_NHWC: Float[Array, "N H W C"], flow_NHW2: Float[Array, "N H W 2"]) -> Float[Array, "N H W C"]:
    """Backward warp: pixel (y, x) of the result is the picture at (y, x) + flow, bilinear, clamped at the border.

    Args:
        image_NHWC: the picture; no gradient passes to it, so that the gather needs no scatter on the way back.
        flow_NHW2: displacement (down, right) in pixels.
    """
    height, width = image_NHWC.shape[1:3]
    y_NHW = jnp.arange(height)[None, :, None] + flow_NHW2[..., 0]
    x_NHW = jnp.arange(width)[None, None, :] + flow_NHW2[..., 1]

    def sample(channel_HW: Array, y_HW: Array, x_HW: Array) -> Array:
        return jax.scipy.ndimage.map_coordinates(channel_HW, [y_HW, x_HW], order=1, mode="nearest")

    channels = jax.vmap(sample, in_axes=(-1, None, None), out_axes=-1)
    return jax.vmap(channels)(jax.lax.stop_gradient(image_NHWC), y_NHW, x_NHW)


def pixel_shuffle(x_NHWC: Float[Array, "N H W C4"]) -> Float[Array, "N H2 W2 C"]:
    """Four channels of one pixel become a 2 x 2 square: twice the height and width, a quarter of the channels."""
    count, height, width, channels = x_NHWC.shape
    x = x_NHWC.reshape(count, height, width, 2, 2, channels // 4)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(count, 2 * height, 2 * width, channels // 4)
