"""Action model on pictures: an encoder that sees two frames, a decoder that warps the first by a code.

Small moving things and camera motion alike are mostly displacement, so the decoder predicts frame t+1 as a learned
bilinear warp of frame t, blended with painted colour where something appears that was not there. The code conditions
it at two depths (FiLM, arXiv:1709.07871). The decoder takes frame t and the code alone: nothing of frame t+1 reaches
it by another way.

`N` pairs of frames, `S` side of the working pictures, `D` width of a code.
"""

from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from genie_jax.action_masking import hide_patches
from genie_jax.clips import Clip
from genie_jax.nn import Params, graph_of, split
from genie_jax.pair_features import FeatureConfig, FeatureEncoder
from genie_jax.pixels import area_resize, matching, pixel_shuffle, warp

Inputs = Literal["frames", "features", "both"]

# (shrink, radius): far displacements coarsely, near ones finely; 12 and 4 pixels of the working picture.
MATCHING = ((4, 3), (2, 2))


@dataclass(frozen=True)
class WarpConfig:
    """Sizes and loss of the picture form.

    Attributes:
        size: side in pixels at which frames are compared; a multiple of 8.
        encoder_channels: channels of the encoder at 1/2, 1/4 and 1/8 of the size.
        decoder_channels: the same of the decoder.
        motion_weight: how much more an average moving pixel counts in the loss than a still one.
        max_flow: largest displacement in pixels of the working picture.
    """

    size: int = 48
    encoder_channels: tuple[int, int, int] = (24, 48, 64)
    decoder_channels: tuple[int, int, int] = (24, 48, 64)
    motion_weight: float = 4.0
    max_flow: float = 12.0

    def __post_init__(self) -> None:
        if self.size % 8:
            raise ValueError(f"size {self.size} cannot be halved three times: give a multiple of 8, as 48 or 32")


def _down(inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(inputs, outputs, (4, 4), strides=2, rngs=rngs)


class PairEncoder(nnx.Module):
    """Two frames to one vector: what changed (convolutions of pictures and difference) and what moved (matching).

    Matching is given, not learned: a small encoder trained for minutes finds colours long before displacements. The
    last maps are pooled over the picture, by mean and by maximum: the decoder sees frame t and can undo whatever the
    code depends on, so that an encoder which knows places gives one action another code in every place.
    """

    def __init__(self, config: WarpConfig, dim: int, rngs: nnx.Rngs) -> None:
        half, quarter, eighth = config.encoder_channels
        self.cells = config.size // 8
        self.half = _down(9, half, rngs)
        self.quarter = _down(half, quarter, rngs)
        self.eighth = _down(quarter, eighth, rngs)
        displacements = sum((2 * radius + 1) ** 2 for _, radius in MATCHING)
        self.moved = nnx.Linear(displacements, eighth, rngs=rngs)
        self.norm = nnx.LayerNorm(2 * eighth, rngs=rngs)
        self.local = nnx.Linear(2 * eighth, 2 * eighth, rngs=rngs)
        self.out = nnx.Linear(4 * eighth, dim, rngs=rngs)

    def __call__(self, before_NSSC: Float[Array, "N S S 3"], after_NSSC: Float[Array, "N S S 3"]) -> Array:
        # Differences are small against colours: scaled up they start at the same size.
        x = jnp.concatenate([before_NSSC - 0.5, after_NSSC - 0.5, 4 * (after_NSSC - before_NSSC)], -1)
        for layer in (self.half, self.quarter, self.eighth):
            x = jax.nn.silu(layer(x))
        matches = [
            matching(before_NSSC, after_NSSC, shrink=shrink, radius=radius, cells=self.cells)
            for shrink, radius in MATCHING
        ]
        x = jnp.concatenate([x, jax.nn.silu(self.moved(4 * jnp.concatenate(matches, -1)))], -1)
        x = jax.nn.silu(self.local(self.norm(x)))  # N cells cells 2*eighth
        return self.out(jnp.concatenate([x.mean((1, 2)), x.max((1, 2))], -1))  # N D


class BothEncoder(nnx.Module):
    """Frames and feature maps to one vector: the sum of what each says."""

    def __init__(self, config: WarpConfig, features: FeatureConfig, dim: int, rngs: nnx.Rngs) -> None:
        self.frames = PairEncoder(config, dim, rngs)
        self.features = FeatureEncoder(features, dim, rngs)

    def __call__(self, before_NSSC: Array, after_NSSC: Array, maps_N2GGC: Array) -> Float[Array, "N D"]:
        return self.frames(before_NSSC, after_NSSC) + self.features(maps_N2GGC)


class Film(nnx.Module):
    """Scale and shift of every channel by a code."""

    def __init__(self, dim: int, channels: int, rngs: nnx.Rngs) -> None:
        self.scale_shift = nnx.Linear(dim, 2 * channels, rngs=rngs)

    def __call__(self, x_NHWC: Float[Array, "N H W C"], code_ND: Float[Array, "N D"]) -> Float[Array, "N H W C"]:
        scale_NC, shift_NC = jnp.split(self.scale_shift(code_ND), 2, -1)
        return x_NHWC * (1 + scale_NC[:, None, None]) + shift_NC[:, None, None]


class WarpDecoder(nnx.Module):
    """Frame t and a code to frame t+1. What moves is found from `seen`, frame t or a masked copy; frame t is moved."""

    def __init__(self, config: WarpConfig, dim: int, rngs: nnx.Rngs) -> None:
        half, quarter, eighth = config.decoder_channels
        self.max_flow = config.max_flow
        self.half = _down(3, half, rngs)
        self.quarter = _down(half, quarter, rngs)
        self.eighth = _down(quarter, eighth, rngs)
        self.deep_film = Film(dim, eighth, rngs)
        self.deep = nnx.Conv(eighth, eighth, (3, 3), rngs=rngs)
        self.to_quarter = nnx.Conv(eighth, 4 * quarter, (1, 1), rngs=rngs)
        self.quarter_film = Film(dim, quarter, rngs)
        self.middle = nnx.Conv(quarter, quarter, (3, 3), rngs=rngs)
        self.to_half = nnx.Conv(quarter, 4 * half, (1, 1), rngs=rngs)
        # Six outputs a pixel: flow 2, colour 3, blend 1. Small kernels: the first prediction is nearly a copy.
        small = nnx.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        self.head = nnx.Conv(half, 4 * 6, (3, 3), kernel_init=small, rngs=rngs)

    def __call__(
        self,
        before_NSSC: Float[Array, "N S S 3"],
        code_ND: Float[Array, "N D"],
        seen_NSSC: Float[Array, "N S S 3"],
    ) -> Float[Array, "N S S 3"]:
        half = jax.nn.silu(self.half(seen_NSSC - 0.5))
        quarter = jax.nn.silu(self.quarter(half))
        x = jax.nn.silu(self.eighth(quarter))
        x = x + jax.nn.silu(self.deep(self.deep_film(x, code_ND)))
        x = quarter + pixel_shuffle(self.to_quarter(x))
        x = x + jax.nn.silu(self.middle(self.quarter_film(x, code_ND)))
        x = jax.nn.silu(half + pixel_shuffle(self.to_half(x)))
        out = pixel_shuffle(self.head(x))  # N S S 6
        flow = self.max_flow * jnp.tanh(4 * out[..., :2] / self.max_flow)
        moved = warp(before_NSSC, flow)
        painted, blend = 0.5 + out[..., 2:5], jax.nn.sigmoid(4 * out[..., 5:] - 2)
        return moved + blend * (painted - moved)


@dataclass(frozen=True)
class WarpForm:
    """The picture form of the action model as pure functions of its parameters.

    The decoder warps pictures; `reads` says what the encoder reads.
    """

    config: WarpConfig
    dim: int
    reads: Inputs = "frames"
    features: FeatureConfig = field(default_factory=FeatureConfig)

    def init(self, key: Array) -> Params:
        """Fresh parameters: `encoder` and `decoder`."""
        encoder_key, decoder_key = jax.random.split(key)
        return {"encoder": split(self._encoder, encoder_key)[1], "decoder": split(self._decoder, decoder_key)[1]}

    def inputs(self, clip: Clip) -> Float[Array, "B T S S 3"]:
        """The clip's frames at the working size, in [0, 1]."""
        if clip.frames_BTHWC is None:
            raise ValueError("the warp form of the action model reads frames: give Clip.frames_BTHWC")
        return area_resize(clip.frames_BTHWC, self.config.size)

    def maps(self, clip: Clip) -> Float[Array, "N 2 G G C"] | None:
        """The feature maps of all pairs of consecutive frames of the clips; None where the encoder reads none."""
        if self.reads == "frames":
            return None
        shape = (self.features.grid, self.features.grid, self.features.channels)
        if clip.features_BTGGC is None or clip.features_BTGGC.shape[2:] != shape:
            found = "none" if clip.features_BTGGC is None else f"those of shape {clip.features_BTGGC.shape[2:]}"
            raise ValueError(f"the action model reads feature maps of shape {shape}, and was given {found}")
        # Stored as float16, computed with as the parameters are.
        wide = jnp.promote_types(clip.features_BTGGC.dtype, jnp.float32)
        maps = clip.features_BTGGC.astype(wide)
        return jnp.stack([maps[:, :-1], maps[:, 1:]], 2).reshape(-1, 2, *shape)

    def encode(
        self, params: Params, before_N: Array, after_N: Array, maps_N2GGC: Array | None = None
    ) -> Float[Array, "N D"]:
        """One vector for each pair of frames."""
        network = nnx.merge(graph_of(self._encoder), params["encoder"])
        if self.reads == "frames":
            return network(before_N, after_N)
        return network(maps_N2GGC) if self.reads == "features" else network(before_N, after_N, maps_N2GGC)

    def masked(self, before_N: Array, share: float, *, key: Array) -> Array:
        """Frames of which a share of the patches (an eighth of the side, as the maps' cells) shows the mean colour."""
        return hide_patches(before_N, share, patches=self.config.size // 8, key=key)

    def decode(
        self, params: Params, before_N: Array, code_ND: Float[Array, "N D"], seen_N: Array | None = None
    ) -> Array:
        """Frame t+1 from frame t and a code, in about [0, 1]; `seen_N` is what the network sees of frame t."""
        network = nnx.merge(graph_of(self._decoder), params["decoder"])
        return network(before_N, code_ND, before_N if seen_N is None else seen_N)

    def errors(self, predicted_N: Array, before_N: Array, after_N: Array) -> Array:
        """Error of the prediction relative to that of "nothing changes", weighed toward what moves: a scalar.

        Relative, so that games in which little moves and games in which all moves give losses of one size.
        """
        change = jnp.mean(jnp.abs(after_N - before_N), -1, keepdims=True)
        weight = 1 + self.config.motion_weight * change / (jnp.mean(change) + 1e-4)
        wrong = jnp.mean(weight * jnp.abs(predicted_N - after_N))
        return wrong / (jnp.mean(weight * change) + 1e-4)

    def _encoder(self, rngs: nnx.Rngs) -> PairEncoder | FeatureEncoder | BothEncoder:
        if self.reads == "frames":
            return PairEncoder(self.config, self.dim, rngs)
        if self.reads == "features":
            return FeatureEncoder(self.features, self.dim, rngs)
        return BothEncoder(self.config, self.features, self.dim, rngs)

    def _decoder(self, rngs: nnx.Rngs) -> WarpDecoder:
        return WarpDecoder(self.config, self.dim, rngs)
