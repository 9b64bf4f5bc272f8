"""Inputs of the action model's cross-check, drawn from a seed: pictures and w that move, without ties.

Neither two places nor two displacements fit equally well, so that no maximum and no absolute value hangs on a rounding.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from genie_jax.clips import Clip
from genie_jax.latent_action import LatentActionConfig

CLIPS, FRAMES = 3, 3
Texture = Callable[[np.ndarray, np.ndarray], np.ndarray]


def moving_clips(config: LatentActionConfig, seed: int) -> Clip:
    """Clips of what the model reads: frames (B, T, H, W, 3) uint8, w (B, T, L, D) float32, maps (B, T, G, G, C)."""
    rng = np.random.default_rng(seed)
    if config.form == "warp":
        clip = Clip(frames_BTHWC=jnp.asarray(moving_textures(rng, config.warp.size)))
        if not config.reads_features:
            return clip
        grid, channels = config.features.grid, config.features.channels
        maps = rng.normal(size=(CLIPS, FRAMES, grid, grid, channels))
        return clip._replace(features_BTGGC=jnp.asarray(maps, jnp.float16))
    steps = rng.normal(size=(CLIPS, FRAMES, config.mlp.rows, config.mlp.style_dim))
    steps[:, 1:] *= 0.3
    return Clip(w_BTLD=jnp.asarray(steps.cumsum(1), jnp.float32))


def moving_textures(rng: np.random.Generator, size: int) -> UInt8[np.ndarray, "B T H W 3"]:
    """Waves that drift by up to 3 working pixels a frame, and a soft spot of other waves that drifts otherwise.

    Higher and wider than the working size by factors that are not whole, so that the area resize has work to do.
    """
    y, x = np.meshgrid(*((np.arange(n) + 0.5) / n for n in (4 * size // 3, 3 * size // 2)), indexing="ij")
    frames = np.empty((CLIPS, FRAMES, *y.shape, 3))
    for clip in frames:
        ground, figure = _texture(rng), _texture(rng)
        drifts, centre = rng.uniform(-3, 3, (2, 2)) / size, rng.uniform(0.3, 0.7, 2)
        for t, picture in enumerate(clip):
            (down, right), (spot_down, spot_right) = t * drifts
            spot_y, spot_x = y - spot_down, x - spot_right
            share = np.exp(-20 * ((spot_y - centre[0]) ** 2 + (spot_x - centre[1]) ** 2))[..., None]
            picture[:] = (1 - share) * ground(y - down, x - right) + share * figure(spot_y, spot_x)
    return (255 * frames).round().astype(np.uint8)


def _texture(rng: np.random.Generator) -> Texture:
    """A function of places in [0, 1] whose values, (..., 3), lie in [0, 1]: six waves a channel, up to 3 periods."""
    frequency, phase = rng.uniform(-3, 3, (6, 3, 2)), rng.uniform(0, 1, (6, 3))

    def at(y: Float[np.ndarray, "H W"], x: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W 3"]:
        turns = y[..., None, None] * frequency[..., 0] + x[..., None, None] * frequency[..., 1] + phase
        return 0.5 + np.sin(2 * np.pi * turns).mean(-2) / 2

    return at
