"""Dynamics: a decoder-only transformer over the last 16 frames' w and actions that predicts the next w.

Features: rotary places, RMSNorm, gated feed-forward, grouped KV heads, sliding window with an exact ring cache, the
action added to its frame or as a token of its own, residual prediction, context noise with an embedded level
(arXiv:2408.14837, section 3.2), loss through self-generated steps. Everything is on *normalised* w.

`codes[t]` leads from frame t to frame t+1: the model reads (w_t, codes_t) and predicts w_{t+1}.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from genie_jax.dynamics_loss import LossConfig, clip_loss
from genie_jax.nn import Activation, Params, RMSNorm, graph_of, linear, split
from genie_jax.ring_cache import Cache, empty_cache
from genie_jax.transformer import StackConfig, TransformerStack


@dataclass(frozen=True)
class DynamicsConfig:
    """Sizes and options of the dynamics.

    Attributes:
        width, layers, heads, head_dim: of the transformer; heads * head_dim need not equal width.
        kv_heads: key/value heads, a divisor of `heads`; None for as many as `heads`.
        ff_mult, ff_glu, ff_activation: hidden width width * ff_mult; gated linear unit; "gelu" (exact) or "silu".
        rotary_dims: rotated channels a head, even; None for half of them.
        qk_rmsnorm: RMSNorm of queries and keys.
        window: frames that a token sees.
        codes: latent actions.
        rows, style_dim: L and D of w.
        action: "add" to the frame's token, or "token" of its own after it.
        context_noise: largest noise level of the training context in standard deviations of w; 0: off, no embedding.
        noise_buckets: embedded levels.
        residual: predict the change of w rather than w itself.
        compute_dtype: of matrix products and cache; parameters, norms, softmax and the prediction are float32.
    """

    width: int = 512
    layers: int = 8
    heads: int = 8
    head_dim: int = 64
    kv_heads: int | None = None
    ff_mult: float = 8 / 3
    ff_glu: bool = True
    ff_activation: Activation = "gelu"
    rotary_dims: int | None = None
    qk_rmsnorm: bool = False
    window: int = 16
    codes: int = 8
    rows: int = 1
    style_dim: int = 512
    action: Literal["add", "token"] = "add"
    context_noise: float = 0.7
    noise_buckets: int = 10
    residual: bool = True
    compute_dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"heads {self.heads} is no multiple of kv_heads {self.kv_heads}: choose a divisor.")
        if self.rotary % 2 or not 0 <= self.rotary <= self.head_dim:
            raise ValueError(f"rotary_dims {self.rotary} must be even and at most head_dim {self.head_dim}.")
        if self.action not in ("add", "token"):
            raise ValueError(f'action {self.action!r} is unknown: use "add" or "token".')

    @property
    def rotary(self) -> int:
        """Rotated channels of each head."""
        return self.head_dim // 2 // 2 * 2 if self.rotary_dims is None else self.rotary_dims

    @property
    def tokens_per_frame(self) -> int:
        """1, or 2 where the action has a token of its own."""
        return 2 if self.action == "token" else 1

    def stack(self) -> StackConfig:
        """The part of this config that the blocks see."""
        return StackConfig(
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            kv_heads=self.kv_heads or self.heads,
            head_dim=self.head_dim,
            inner=int(self.width * self.ff_mult),
            gated=self.ff_glu,
            activation=self.ff_activation,
            rotary_dims=self.rotary,
            qk_rmsnorm=self.qk_rmsnorm,
            window=self.window,
            tokens_per_frame=self.tokens_per_frame,
            dtype=self.compute_dtype,
        )


class Embed(nnx.Module):
    """Frames' w and codes to tokens: (B, T, L*D), (B, T), level buckets (B, T) -> (B, T * tokens_per_frame, M)."""

    def __init__(self, config: DynamicsConfig, rngs: nnx.Rngs) -> None:
        self.dtype, self.as_token = jnp.dtype(config.compute_dtype), config.action == "token"
        self.project_in = linear(config.rows * config.style_dim, config.width, dtype=self.dtype, rngs=rngs)
        normal = nnx.initializers.normal
        self.code = nnx.Param(normal(0.5)(rngs.params(), (config.codes, config.width), jnp.float32))
        noisy = config.context_noise > 0
        levels = (config.noise_buckets, config.width)
        self.level = nnx.Param(normal(0.02)(rngs.params(), levels, jnp.float32)) if noisy else None

    def __call__(self, w_BTF: Array, codes_BT: Array, bucket_BT: Array) -> Array:
        frame = self.project_in(w_BTF)
        if self.level is not None:
            frame = frame + self.level[...][bucket_BT].astype(self.dtype)
        action = self.code[...][codes_BT].astype(self.dtype)
        if not self.as_token:
            return frame + action
        B, T, M = frame.shape
        return jnp.stack([frame, action], axis=2).reshape(B, 2 * T, M)


class Head(nnx.Module):
    """Final norm and projection to w. The projection starts at zero: an untrained model copies the last w."""

    def __init__(self, config: DynamicsConfig, rngs: nnx.Rngs) -> None:
        features = config.rows * config.style_dim
        self.final_norm = RMSNorm((config.width,))
        self.project_out = linear(config.width, features, dtype=jnp.dtype(config.compute_dtype), rngs=rngs)
        if config.residual:
            self.project_out.kernel = nnx.Param(jnp.zeros((config.width, features), jnp.float32))

    def __call__(self, x: Array) -> Array:
        return self.project_out(self.final_norm(x)).astype(jnp.float32)


class DynamicsModel:
    """Pure functions over a plain dict of parameters: {"embed": ..., "blocks": stacked ..., "head": ...}."""

    def __init__(self, config: DynamicsConfig) -> None:
        self.config = config
        self.blocks = TransformerStack(config.stack())
        self._embed = graph_of(lambda rngs: Embed(config, rngs))
        self._head = graph_of(lambda rngs: Head(config, rngs))

    def init(self, key: Array) -> Params:
        """Fresh float32 parameters."""
        embed, blocks, head = jax.random.split(key, 3)
        return {
            "embed": split(lambda rngs: Embed(self.config, rngs), embed)[1],
            "blocks": self.blocks.init(blocks),
            "head": split(lambda rngs: Head(self.config, rngs), head)[1],
        }

    def _tokens(self, params: Params, w: Array, codes: Array, level: Array | None) -> Array:
        B, T, L, D = w.shape
        if (self.config.rows, self.config.style_dim) != (L, D):
            raise ValueError(
                f"w is {w.shape}, and this model takes (B, T, {self.config.rows}, {self.config.style_dim}): "
                "use latents of the encoder that the model was trained with."
            )
        bucket = jnp.zeros((B, T), jnp.int32)
        if level is not None:
            if not self.config.context_noise:
                raise ValueError("this model embeds no noise level (context_noise is 0): leave the level out.")
            share = level / self.config.context_noise * self.config.noise_buckets
            bucket = jnp.clip(share.astype(jnp.int32), 0, self.config.noise_buckets - 1)
        return nnx.merge(self._embed, params["embed"])(w.reshape(B, T, L * D), codes, bucket)

    def _predict(self, params: Params, out: Array, w: Array, level: Array | None) -> Array:
        """Next w from the output at each frame's last token.

        The residual is added to the part of the noisy w that is signal, w / (1 + level^2) (arXiv:2206.00364, table 1:
        c_skip for data of unit variance); at level 0 that is w itself.
        """
        B, T, L, D = w.shape
        P = self.config.tokens_per_frame
        change = nnx.merge(self._head, params["head"])(out[:, P - 1 :: P]).reshape(B, T, L, D)
        if not self.config.residual:
            return change
        return change + (w if level is None else w / (1 + level[..., None, None] ** 2))

    def apply_with_keys(
        self,
        params: Params,
        w_BTLD: Float[Array, "B T L D"],
        codes_BT: Int[Array, "B T"],
        *,
        noise_level_BT: Float[Array, "B T"] | None = None,
    ) -> tuple[Float[Array, "B T L D"], Array, Array]:
        """`apply`, and the blocks' keys and values (layers, B, T, P, G, E), from which `cache_at` cuts a cache."""
        out, keys, values = self.blocks.run_clip(
            params["blocks"], self._tokens(params, w_BTLD, codes_BT, noise_level_BT)
        )
        return self._predict(params, out, w_BTLD, noise_level_BT), keys, values

    def apply(
        self,
        params: Params,
        w_BTLD: Float[Array, "B T L D"],
        codes_BT: Int[Array, "B T"],
        *,
        noise_level_BT: Float[Array, "B T"] | None = None,
    ) -> Float[Array, "B T L D"]:
        """Prediction of w_{t+1} for every t of a clip, each from frames t-15 .. t and what they saw.

        Args:
            params: of `init`.
            w_BTLD: normalised w, float32.
            codes_BT: in [0, codes).
            noise_level_BT: level that is told to the model, in [0, context_noise]; it adds no noise itself.
        """
        return self.apply_with_keys(params, w_BTLD, codes_BT, noise_level_BT=noise_level_BT)[0]

    def init_cache(self, batch: int) -> Cache:
        """Cache that holds no frame yet, for `batch` rollouts side by side."""
        c = self.config
        shape = (c.layers, batch, c.window, c.tokens_per_frame, c.kv_heads or c.heads, c.head_dim)
        return empty_cache(shape, jnp.dtype(c.compute_dtype))

    def step(
        self,
        params: Params,
        cache: Cache,
        w_BLD: Float[Array, "B L D"],
        codes_B: Int[Array, " B"],
        *,
        noise_level_B: Float[Array, " B"] | None = None,
    ) -> tuple[Cache, Float[Array, "B L D"]]:
        """Read one frame and the code that is taken at it; return the cache with it and the next w."""
        level = None if noise_level_B is None else noise_level_B[:, None]
        tokens = self._tokens(params, w_BLD[:, None], codes_B[:, None], level)
        cache, out = self.blocks.run_frame(params["blocks"], cache, tokens)
        return cache, self._predict(params, out, w_BLD[:, None], level)[:, 0]

    def prefill(
        self,
        params: Params,
        cache: Cache,
        w_BTLD: Float[Array, "B T L D"],
        codes_BT: Int[Array, "B T"],
        *,
        noise_level_BT: Float[Array, "B T"] | None = None,
    ) -> tuple[Cache, Float[Array, "B T L D"]]:
        """T times `step` on known frames, in one pass. T is at least 1 and may exceed the window."""
        tokens = self._tokens(params, w_BTLD, codes_BT, noise_level_BT)
        cache, out = self.blocks.run_frames(params["blocks"], cache, tokens)
        return cache, self._predict(params, out, w_BTLD, noise_level_BT)

    def loss(
        self,
        params: Params,
        w_BTLD: Float[Array, "B T L D"],
        codes_BTm1: Int[Array, "B Tm1"],
        *,
        key: Array,
        weight_LD: Float[Array, "L D"] | None = None,
        config: LossConfig | None = None,
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Training loss of a batch of clips (see `dynamics_loss`): (scalar, metrics).

        Args:
            params: of `init`.
            w_BTLD: normalised w of clips, T >= 2 + config.unroll, better longer than the window.
            codes_BTm1: codes[t] leads from frame t to t+1.
            key: of the noise and the starts of self-generated stretches.
            weight_LD: weight of each number of w in the loss, mean 1 (for example the decoder's sensitivity to it);
                None for ones.
            config: options of the loss; None for their defaults.
        """
        return clip_loss(self, config or LossConfig(), params, w_BTLD, codes_BTm1, key=key, weight_LD=weight_LD)
