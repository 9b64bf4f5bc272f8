"""Stack of pre-norm transformer blocks with a frame window: over a whole clip, or over new frames and a ring cache.

Parameters of all blocks are stacked on a leading axis and run by `lax.scan`: unrolled over a clip, where training spends
its time, else as a loop. The three ways to run (`run_clip`, `run_frame`, `run_frames`) give equal results.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from genie_jax.attention import Attention, window_mask
from genie_jax.nn import Activation, FeedForward, Params, RMSNorm, graph_of, split
from genie_jax.ring_cache import Cache, held, in_order, places, put


@dataclass(frozen=True)
class StackConfig:
    """Sizes of a stack: see `DynamicsConfig`, where they come from."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    gated: bool
    activation: Activation
    rotary_dims: int
    qk_rmsnorm: bool
    window: int
    tokens_per_frame: int
    dtype: str


class Block(nnx.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, config: StackConfig, rngs: nnx.Rngs) -> None:
        dtype = jnp.dtype(config.dtype)
        self.attention_norm = RMSNorm((config.width,))
        self.attention = Attention(
            config.width,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            rotary_dims=config.rotary_dims,
            qk_rmsnorm=config.qk_rmsnorm,
            dtype=dtype,
            rngs=rngs,
        )
        self.feed_forward_norm = RMSNorm((config.width,))
        self.feed_forward = FeedForward(
            config.width, config.inner, gated=config.gated, activation=config.activation, dtype=dtype, rngs=rngs
        )

    def mix(self, x: Array) -> Array:
        """The half of the block that treats every token alone."""
        return x + self.feed_forward(self.feed_forward_norm(x))


class TransformerStack:
    """`config.layers` blocks as pure functions over their stacked parameters."""

    def __init__(self, config: StackConfig) -> None:
        self.config = config
        self._graph = graph_of(lambda rngs: Block(config, rngs))

    def init(self, key: Array) -> Params:
        """Parameters of all blocks, each leaf with a leading axis of `layers`."""
        keys = jax.random.split(key, self.config.layers)
        return jax.vmap(lambda one: split(lambda rngs: Block(self.config, rngs), one)[1])(keys)

    def run_clip(self, params: Params, x_BNM: Float[Array, "B N M"]) -> tuple[Array, Array, Array]:
        """Run all tokens of a clip at once.

        Returns:
            Output (B, N, M); keys and values of every block, unrotated, (layers, B, T, P, G, E).
        """
        config, (B, N, _) = self.config, x_BNM.shape
        place = jnp.arange(N, dtype=jnp.int32)
        mask = window_mask(place, place, tokens_per_frame=config.tokens_per_frame, window=config.window)

        def body(x: Array, block_params: Params) -> tuple[Array, tuple[Array, Array]]:
            block = nnx.merge(self._graph, block_params)
            query, key, value = block.attention.project(block.attention_norm(x))
            x = x + block.attention.attend(query, key, value, query_N=place, key_S=place, mask_NS=mask)
            frames = (B, N // config.tokens_per_frame, config.tokens_per_frame, *key.shape[2:])
            return block.mix(x), (key.reshape(frames), value.reshape(frames))

        # Unrolled: a loop's backward pass slices stacked residuals at every layer, which costs more than it computes.
        out, (keys, values) = lax.scan(body, x_BNM, params, unroll=True)
        return out, keys, values

    def run_frame(self, params: Params, cache: Cache, x_BPM: Float[Array, "B P M"]) -> tuple[Cache, Array]:
        """Run the tokens of one new frame against the ring; the cost does not depend on what came before."""
        config = self.config
        P, W = config.tokens_per_frame, config.window
        cursor, filled = (cache.cursor + 1) % W, jnp.minimum(cache.filled + 1, W)
        place = places(W, P, cursor)
        query = (W - 1) * P + jnp.arange(P, dtype=jnp.int32)
        mask = window_mask(query, place, tokens_per_frame=P, window=W) & held(place, P, W, filled)

        def body(x: Array, layer: tuple[Params, Array, Array]) -> tuple[Array, tuple[Array, Array]]:
            block = nnx.merge(self._graph, layer[0])
            q, k, v = block.attention.project(block.attention_norm(x))
            keys, values = put(layer[1], k, cache.cursor), put(layer[2], v, cache.cursor)
            flat = (x.shape[0], W * P, *k.shape[2:])
            x = x + block.attention.attend(
                q, keys.reshape(flat), values.reshape(flat), query_N=query, key_S=place, mask_NS=mask
            )
            return block.mix(x), (keys, values)

        out, (keys, values) = lax.scan(body, x_BPM, (params, cache.keys, cache.values))
        return Cache(keys, values, cursor, filled), out

    def run_frames(self, params: Params, cache: Cache, x_BNM: Float[Array, "B N M"]) -> tuple[Cache, Array]:
        """Run several new frames at once against a ring that may hold frames already."""
        config = self.config
        P, W = config.tokens_per_frame, config.window
        B, N, _ = x_BNM.shape
        place = jnp.arange(W * P + N, dtype=jnp.int32)
        query = place[W * P :]
        written = (place >= W * P) | held(place, P, W, cache.filled)
        mask = window_mask(query, place, tokens_per_frame=P, window=W) & written

        def body(x: Array, layer: tuple[Params, Array, Array]) -> tuple[Array, tuple[Array, Array]]:
            block = nnx.merge(self._graph, layer[0])
            q, k, v = block.attention.project(block.attention_norm(x))
            old = (B, W * P, *k.shape[2:])
            keys = jnp.concatenate([in_order(layer[1], cache.cursor).reshape(old), k], axis=1)
            values = jnp.concatenate([in_order(layer[2], cache.cursor).reshape(old), v], axis=1)
            x = x + block.attention.attend(q, keys, values, query_N=query, key_S=place, mask_NS=mask)
            ring = (B, W, P, *k.shape[2:])
            return block.mix(x), (keys[:, -W * P :].reshape(ring), values[:, -W * P :].reshape(ring))

        out, (keys, values) = lax.scan(body, x_BNM, (params, cache.keys, cache.values))
        filled = jnp.minimum(cache.filled + N // P, W).astype(jnp.int32)
        return Cache(keys, values, jnp.zeros_like(cache.cursor), filled), out
