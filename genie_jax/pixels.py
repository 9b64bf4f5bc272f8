"""Pictures for the action model: area resize, bilinear warp, block matching, pixel shuffle."""

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
    return np.clip(overlap, 0, None) * (target / source)


def area_resize(frames: UInt8[Array, "*B H W C"], size: int) -> Float[Array, "*B size size C"]:
    """Pictures of any size as `size` x `size` in [0, 1], each pixel the mean of the area that it covers.

    float32, or float64 where `jax_enable_x64` is set.
    """
    height, width = frames.shape[-3:-1]
    pixels = jnp.asarray(frames).astype(float) / 255
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


def matching(
    before_NHWC: Float[Array, "N H W C"], after_NHWC: Float[Array, "N H W C"], *, shrink: int, radius: int, cells: int
) -> Float[Array, "N cells cells O"]:
    """Where each part of a picture went: how well each displacement explains it, softly and without parameters.

    The classic block matching of video coding, as a distribution: pictures are shrunk, and for each displacement of at
    most `radius` shrunk pixels the mean absolute error over a cell becomes exp(-50 error), normalised over the O =
    (2 radius + 1)^2 displacements. A cell without texture says nothing: its distribution is even.
    """
    count, height = before_NHWC.shape[:2]
    side, cell = height // shrink, height // shrink // cells

    def small(image: Array) -> Array:
        return image.reshape(count, side, shrink, side, shrink, -1).mean((2, 4))

    before, after = small(before_NHWC), small(after_NHWC)
    padded = jnp.pad(after, ((0, 0), (radius, radius), (radius, radius), (0, 0)), mode="edge")

    def errors(down: Array) -> Float[Array, "N cells cells R"]:
        rows = jax.lax.dynamic_slice_in_dim(padded, down, side, axis=1)
        moved = [rows[:, :, right : right + side] for right in range(2 * radius + 1)]
        error = [jnp.abs(before - one).mean(-1).reshape(count, cells, cell, cells, cell).mean((2, 4)) for one in moved]
        return jnp.stack(error, -1)

    # In a loop: all displacements written out would take a second more to compile (decision 33).
    errors_RNccR = jax.lax.map(errors, jnp.arange(2 * radius + 1))
    errors_NccO = jnp.moveaxis(errors_RNccR, 0, 3).reshape(count, cells, cells, -1)
    return jax.lax.stop_gradient(jax.nn.softmax(-50 * errors_NccO, -1))
