"""Dynamics: a decoder-only transformer over the last 16 frames' w and actions that predicts the next w.

Features: rotary places, RMSNorm, gated feed-forward, grouped KV heads, sliding window with an exact ring cache, the
action added to its frame or as a token of its own, residual prediction, context noise with an embedded level
(arXiv:2408.14837, section 3.2), loss through self-generated steps, a head that predicts one next w or draws among
several (`flow_head`). Everything is on *normalised* w.

`codes[t]` leads from frame t to frame t+1: the model reads (w_t, codes_t) and predicts w_{t+1}.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from genie_jax.dynamics_config import DynamicsConfig
from genie_jax.dynamics_loss import LossConfig, clip_loss
from genie_jax.flow_head import FlowHead
from genie_jax.flow_loss import flow_clip_loss
from genie_jax.nn import Params, RMSNorm, graph_of, linear, split
from genie_jax.ring_cache import Cache, empty_cache
from genie_jax.transformer import Own, Past, TransformerStack


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
        self.flow = FlowHead(config.flow()) if config.head == "flow" else None
        self._head = graph_of(lambda rngs: Head(config, rngs))

    def init(self, key: Array) -> Params:
        """Fresh float32 parameters."""
        embed, blocks, head = jax.random.split(key, 3)
        return {
            "embed": split(lambda rngs: Embed(self.config, rngs), embed)[1],
            "blocks": self.blocks.init(blocks),
            "head": self.flow.init(head) if self.flow else split(lambda rngs: Head(self.config, rngs), head)[1],
        }

    def with_change_scale(self, params: Params, change_LD: Float[Array, "L D"]) -> Params:
        """Parameters of a flow head that is told how much each number of w changes from frame to frame.

        Args:
            params: of `init`.
            change_LD: root mean square of the change in the corpus, above 0. A head that predicts w itself, not its
                change, has no need of it: w has unit variance.
        """
        return {**params, "head": {**params["head"], "scale": jnp.asarray(change_LD, jnp.float32).reshape(-1)}}

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

    def kept(self, w: Float[Array, "*batch L D"], level: Float[Array, "*batch"] | None) -> Float[Array, "*batch L D"]:
        """What the change is added to: the part of the noisy w that is signal, w / (1 + level^2) (arXiv:2206.00364,
        table 1: c_skip for data of unit variance), at level 0 w itself; zeros for a model that predicts w itself.
        """
        if not self.config.residual:
            return jnp.zeros_like(w)
        return w if level is None else w / (1 + level[..., None, None] ** 2)

    def predict(
        self,
        params: Params,
        out: Float[Array, "*batch M"],
        w: Float[Array, "*batch L D"],
        level: Float[Array, "*batch"] | None,
        *,
        noise: Float[Array, "*batch L D"] | None = None,
    ) -> Float[Array, "*batch L D"]:
        """Next w from the output at each frame.

        Args:
            params: of `init`.
            out: of `read` or `read_clip`.
            w, level: the w that was read there, and the noise level that was told.
            noise: what a flow starts from, standard normal times the temperature; None for zeros.
        """
        if self.flow is None:
            change = nnx.merge(self._head, params["head"])(out).reshape(w.shape)
            return change + self.kept(w, level) if self.config.residual else change
        start = jnp.zeros_like(w) if noise is None else noise
        drawn = self.flow.draw(params["head"], out, start.reshape(*out.shape[:-1], -1))
        return (drawn * self.flow.scale(params["head"], level)).reshape(w.shape) + self.kept(w, level)

    @staticmethod
    def noise(key: Array, w_BLD: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """Standard normal noise, of one key or of a key for each rollout."""
        keys_B = jax.random.split(key, len(w_BLD)) if key.ndim == 0 else key
        return jax.vmap(lambda one: jax.random.normal(one, w_BLD.shape[1:]))(keys_B)

    def read_clip(
        self, params: Params, w_BTLD: Array, codes_BT: Array, *, noise_level_BT: Array | None = None
    ) -> tuple[Float[Array, "B T M"], tuple[Array, ...], tuple[Array, ...]]:
        """Output at each frame's last token, and the blocks' keys and values: see `apply_with_keys`."""
        tokens = self._tokens(params, w_BTLD, codes_BT, noise_level_BT)
        out, keys, values = self.blocks.run_clip(params["blocks"], tokens)
        return self._last(out), keys, values

    def _last(self, out: Array) -> Array:
        P = self.config.tokens_per_frame
        return out[:, P - 1 :: P]

    def apply_with_keys(
        self,
        params: Params,
        w_BTLD: Float[Array, "B T L D"],
        codes_BT: Int[Array, "B T"],
        *,
        noise_level_BT: Float[Array, "B T"] | None = None,
    ) -> tuple[Float[Array, "B T L D"], tuple[Array, ...], tuple[Array, ...]]:
        """`apply`, and each block's keys and values (B, T, P, G, E), from which `cache_at` cuts a cache."""
        out, keys, values = self.read_clip(params, w_BTLD, codes_BT, noise_level_BT=noise_level_BT)
        return self.predict(params, out, w_BTLD, noise_level_BT), keys, values

    def apply(
        self,
        params: Params,
        w_BTLD: Float[Array, "B T L D"],
        codes_BT: Int[Array, "B T"],
        *,
        noise_level_BT: Float[Array, "B T"] | None = None,
    ) -> Float[Array, "B T L D"]:
        """Prediction of w_{t+1} for every t of a clip, each from frames t-15 .. t and what they saw.

        That of a flow head is at temperature 0.

        Args:
            params: of `init`.
            w_BTLD: normalised w, float32.
            codes_BT: in [0, codes).
            noise_level_BT: level that is told to the model, in [0, context_noise]; it adds no noise itself.
        """
        return self.apply_with_keys(params, w_BTLD, codes_BT, noise_level_BT=noise_level_BT)[0]

    def apart(self, params: Params) -> Params:
        """Parameters with the blocks apart, the form in which training is fastest; see `joined`."""
        return {**params, "blocks": self.blocks.unstacked(params["blocks"])}

    @staticmethod
    def joined(params: Params) -> Params:
        """Inverse of `apart`: parameters as `init` makes them."""
        return {**params, "blocks": jax.tree.map(lambda *leaves: jnp.stack(leaves), *params["blocks"])}

    def for_play(self, params: Params, *, half: bool = False) -> Params:
        """Parameters of `init` in the form in which `step` is fastest; see `from_play`.

        Args:
            params: of `init`.
            half: store the blocks' matrices in half precision, for one rollout at a time (`tiled_linear`).
        """
        return {**params, "blocks": self.blocks.for_play(params["blocks"], half=half)}

    def from_play(self, params: Params) -> Params:
        """Inverse of `for_play` in float32."""
        return self.joined({**params, "blocks": self.blocks.from_play(params["blocks"])})

    def init_cache(self, batch: int) -> Cache:
        """Cache that holds no frame yet, for `batch` rollouts side by side."""
        c = self.config
        shape = (c.layers, batch, c.window, c.tokens_per_frame, c.kv_heads or c.heads, c.head_dim)
        return empty_cache(shape, jnp.dtype(c.compute_dtype))

    def read(
        self,
        params: Params,
        cache: Cache,
        w_BLD: Float[Array, "B L D"],
        codes_B: Int[Array, " B"],
        *,
        noise_level_B: Float[Array, " B"] | None = None,
    ) -> tuple[Cache, Float[Array, "B 1 M"]]:
        """Read one frame and the code that is taken at it; return the cache with it and the output there."""
        level = None if noise_level_B is None else noise_level_B[:, None]
        tokens = self._tokens(params, w_BLD[:, None], codes_B[:, None], level)
        cache, out = self.blocks.run_frame(params["blocks"], cache, tokens)
        return cache, self._last(out)

    def step(
        self,
        params: Params,
        cache: Cache,
        w_BLD: Float[Array, "B L D"],
        codes_B: Int[Array, " B"],
        *,
        noise_level_B: Float[Array, " B"] | None = None,
        key: Array | None = None,
        temperature: Float[Array, ""] | float = 1.0,
    ) -> tuple[Cache, Float[Array, "B L D"]]:
        """Read one frame and the code that is taken at it; return the cache with it and the next w.

        Args:
            params: of `init` or, faster, of `for_play`.
            cache, w_BLD, codes_B: as `prefill`, of one frame.
            noise_level_B: see `apply`.
            key: of a flow head's draw, one for all or one for each rollout (B,); None draws at temperature 0. The
                regression head reads neither key nor temperature.
            temperature: factor of the noise that a draw starts from: 1 draws as learned, 0 always the same.
        """
        cache, out = self.read(params, cache, w_BLD, codes_B, noise_level_B=noise_level_B)
        level = None if noise_level_B is None else noise_level_B[:, None]
        noise = None if key is None or self.flow is None else temperature * self.noise(key, w_BLD)[:, None]
        return cache, self.predict(params, out, w_BLD[:, None], level, noise=noise)[:, 0]

    def ahead(
        self,
        params: Params,
        blocks: Sequence[Params],
        past: Past,
        own: Own,
        w_BLD: Float[Array, "B L D"],
        codes_B: Int[Array, " B"],
    ) -> tuple[Own, Float[Array, "B L D"]]:
        """`step` for training through own frames: equal to it, in a form whose gradient is cheap.

        Args:
            params, w_BLD, codes_B: as `step`.
            blocks: of `self.blocks.unstacked`.
            past, own: see `TransformerStack.run_ahead`.
        """
        own, out = self.blocks.run_ahead(
            blocks, past, own, self._tokens(params, w_BLD[:, None], codes_B[:, None], None)
        )
        return own, self.predict(params, self._last(out), w_BLD[:, None], None)[:, 0]

    def prefill(
        self,
        params: Params,
        cache: Cache,
        w_BTLD: Float[Array, "B T L D"],
        codes_BT: Int[Array, "B T"],
        *,
        noise_level_BT: Float[Array, "B T"] | None = None,
    ) -> tuple[Cache, Float[Array, "B T L D"]]:
        """T times `step` on known frames, in one pass, at temperature 0. T >= 1 may exceed the window."""
        tokens = self._tokens(params, w_BTLD, codes_BT, noise_level_BT)
        cache, out = self.blocks.run_frames(params["blocks"], cache, tokens)
        return cache, self.predict(params, self._last(out), w_BTLD, noise_level_BT)

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
        """Training loss of a batch of clips (see `dynamics_loss` and `flow_loss`): (scalar, metrics).

        Args:
            params: of `init`.
            w_BTLD: normalised w of clips, T >= 2 + config.unroll, better longer than the window.
            codes_BTm1: codes[t] leads from frame t to t+1.
            key: of noise, times, draws and the starts of self-generated stretches.
            weight_LD: weight of each number of w in the loss, mean 1 (for example the decoder's sensitivity to it);
                None for ones.
            config: options of the loss; None for their defaults.
        """
        loss = clip_loss if self.flow is None else flow_clip_loss
        return loss(self, config or LossConfig(), params, w_BTLD, codes_BTm1, key=key, weight_LD=weight_LD)
