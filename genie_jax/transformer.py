"""Stack of pre-norm transformer blocks with a frame window: over a whole clip, or over new frames and a ring cache.

Parameters of all blocks are stacked on a leading axis. Training runs them unrolled (`run_clip`, and `run_ahead` for
frames that the model made itself), on blocks apart (`unstacked`) where it can. `run_frames` is a `lax.scan`, and so is
`run_frame` on stacked blocks; play gives it the blocks apart, their projections merged (`for_play`). All ways give
equal results.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from genie_jax.attention import Attention, merge_projections, split_projections, window_mask
from genie_jax.nn import Activation, FeedForward, MakeLinear, Params, RMSNorm, graph_of, linear, rotate, split
from genie_jax.ring_cache import Cache, held, in_order, places, put
from genie_jax.tiled_linear import TiledLinear, is_tiled, tiled


class Past(NamedTuple):
    """What stretches of own frames see of the clips that they start in: the last `window` frames up to their starts.

    Attributes:
        of_blocks: keys and values (B, window * P, G, E) of each block, oldest first; keys at the places 0, 1, ...
        seen_BS: False at places before the clip's first frame.
    """

    of_blocks: tuple[tuple[Array, Array], ...]
    seen_BS: Bool[Array, "B S"]


Own = tuple[tuple[Array, Array], ...]  # rotated keys and values (B, S, G, E) of each block


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

    def __init__(
        self, config: StackConfig, rngs: nnx.Rngs, *, merged: bool = False, linear: MakeLinear = linear
    ) -> None:
        dtype = jnp.dtype(config.dtype)
        self.attention_norm = RMSNorm((config.width,))
        self.attention = Attention(
            config.width,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            rotary_dims=config.rotary_dims,
            qk_rmsnorm=config.qk_rmsnorm,
            merged=merged,
            linear=linear,
            dtype=dtype,
            rngs=rngs,
        )
        self.feed_forward_norm = RMSNorm((config.width,))
        self.feed_forward = FeedForward(
            config.width,
            config.inner,
            gated=config.gated,
            activation=config.activation,
            linear=linear,
            dtype=dtype,
            rngs=rngs,
        )

    def mix(self, x: Array) -> Array:
        """The half of the block that treats every token alone."""
        return x + self.feed_forward(self.feed_forward_norm(x))


class TransformerStack:
    """`config.layers` blocks as pure functions over their stacked parameters."""

    def __init__(self, config: StackConfig) -> None:
        self.config = config
        self._graph = graph_of(lambda rngs: Block(config, rngs))
        self._play_graph = graph_of(lambda rngs: Block(config, rngs, merged=True))
        self._tiled_graph = graph_of(lambda rngs: Block(config, rngs, merged=True, linear=TiledLinear))

    def init(self, key: Array) -> Params:
        """Parameters of all blocks, each leaf with a leading axis of `layers`."""
        keys = jax.random.split(key, self.config.layers)
        return jax.vmap(lambda one: split(lambda rngs: Block(self.config, rngs), one)[1])(keys)

    def run_clip(
        self, params: Params | list[Params], x_BNM: Float[Array, "B N M"]
    ) -> tuple[Array, tuple[Array, ...], tuple[Array, ...]]:
        """Run all tokens of a clip at once.

        Written out rather than a loop, whose backward pass slices stacked residuals at every layer. A list of
        `unstacked` spares a copy of every block's parameters besides, and of their gradients.

        Returns:
            Output (B, N, M); keys and values of every block, unrotated, (B, T, P, G, E) each.
        """
        config, (B, N, _) = self.config, x_BNM.shape
        place = np.arange(N, dtype=np.int32)
        mask = window_mask(place, place, tokens_per_frame=config.tokens_per_frame, window=config.window)

        keys, values = [], []
        for block_params in self.unstacked(params):
            block = nnx.merge(self._graph, block_params)
            query, key, value = block.attention.project(block.attention_norm(x_BNM))
            attended = block.attention.attend(query, key, value, query_N=place, key_S=place, mask_NS=mask)
            x_BNM = block.mix(x_BNM + attended)
            frames = (B, N // config.tokens_per_frame, config.tokens_per_frame, *key.shape[2:])
            keys.append(key.reshape(frames))
            values.append(value.reshape(frames))
        return x_BNM, tuple(keys), tuple(values)

    def run_frame(
        self, params: Params | list[Params], cache: Cache, x_BPM: Float[Array, "B P M"]
    ) -> tuple[Cache, Array]:
        """Run the tokens of one new frame against the ring; the cost does not depend on what came before.

        A list of `unstacked` or `for_play` spares a copy of each block's parameters: a loop takes them out of the stack
        before it multiplies, which for a single frame is most of the work.
        """
        config = self.config
        P, W = config.tokens_per_frame, config.window
        cursor, filled = (cache.cursor + 1) % W, jnp.minimum(cache.filled + 1, W)
        place = places(W, P, cursor)
        query = (W - 1) * P + np.arange(P, dtype=np.int32)
        mask = window_mask(query, place, tokens_per_frame=P, window=W) & held(place, P, W, filled)

        def body(x: Array, layer: tuple[Params, Array, Array]) -> tuple[Array, tuple[Array, Array]]:
            block = nnx.merge(self._graph_for(layer[0]), layer[0])
            q, k, v = block.attention.project(block.attention_norm(x))
            keys, values = put(layer[1], k, cache.cursor), put(layer[2], v, cache.cursor)
            flat = (x.shape[0], W * P, *k.shape[2:])
            x = x + block.attention.attend(
                q, keys.reshape(flat), values.reshape(flat), query_N=query, key_S=place, mask_NS=mask
            )
            return block.mix(x), (keys, values)

        if not isinstance(params, list):
            out, (keys, values) = lax.scan(body, x_BPM, (params, cache.keys, cache.values))
            return Cache(keys, values, cursor, filled), out
        rings, out = [], x_BPM
        for layer in zip(params, cache.keys, cache.values, strict=True):
            out, ring = body(out, layer)
            rings.append(ring)
        keys, values = (jnp.stack(parts) for parts in zip(*rings, strict=True))
        return Cache(keys, values, cursor, filled), out

    def _graph_for(self, params: Params) -> nnx.GraphDef:
        if "to_qkv" not in params["attention"]:
            return self._graph
        return self._tiled_graph if is_tiled(params["attention"]) else self._play_graph

    def unstacked(self, params: Params | list[Params]) -> list[Params]:
        """Parameters of each block, for `run_ahead` and for training."""
        if isinstance(params, list):
            return params
        return [jax.tree.map(lambda leaf, layer=layer: leaf[layer], params) for layer in range(self.config.layers)]

    def for_play(self, params: Params, *, half: bool = False) -> list[Params]:
        """Parameters of each block for `run_frame`: apart, and with one matrix for queries, keys and values.

        `half` stores the matrices in half precision, for rollouts one at a time: see `tiled_linear`.
        """
        apart = self.unstacked(params)
        merged = [{**block, "attention": merge_projections(block["attention"])} for block in apart]
        return [tiled(block) for block in merged] if half else merged

    def from_play(self, blocks: list[Params]) -> list[Params]:
        """Inverse of `for_play` in float32: as `unstacked` has them."""
        heads, kv_heads = self.config.heads, self.config.kv_heads
        return [{**one, "attention": split_projections(one["attention"], heads, kv_heads)} for one in blocks]

    def past_at(self, keys: Sequence[Array], values: Sequence[Array], starts_S: Int[Array, " S"]) -> Past:
        """What frames after each of S starts see of their clips.

        Args:
            keys, values: of `run_clip`.
            starts_S: the last known frames, the same in every clip.
        """
        config = self.config
        P, W = config.tokens_per_frame, config.window
        place = np.arange(W * P, dtype=np.int32)

        def cut(x: Array) -> Array:
            padded = jnp.pad(x, [(0, 0), (W, 0), (0, 0), (0, 0), (0, 0)])
            joined = jnp.concatenate([lax.dynamic_slice_in_dim(padded, start + 1, W, axis=1) for start in starts_S])
            return joined.reshape(joined.shape[0], W * P, *joined.shape[3:])

        def turned(x: Array) -> Array:
            return rotate(x, place, config.rotary_dims, places=W * P) if config.rotary_dims else x

        seen_SN = jax.vmap(lambda start: held(place, P, W, jnp.minimum(start + 1, W)))(starts_S)
        of_blocks = tuple((turned(cut(k)), cut(v)) for k, v in zip(keys, values, strict=True))
        return Past(of_blocks, jnp.repeat(seen_SN, keys[0].shape[0], axis=0))

    def run_ahead(
        self, blocks: Sequence[Params], past: Past, own: Own, x_BPM: Float[Array, "B P M"]
    ) -> tuple[Own, Float[Array, "B P M"]]:
        """Run the tokens of the next frame after `past` and `own`, which grows by it.

        The window slides on: the first own frame sees all of `past` but its oldest frame. Written out rather than a
        loop, because the backward pass of a loop over a ring copies the ring at every step.

        Args:
            blocks: of `unstacked`.
            past: of `past_at`, for B stretches.
            own: keys and values of the frames after it, by blocks; `()` at first.
            x_BPM: tokens of the next frame.
        """
        config = self.config
        P, W = config.tokens_per_frame, config.window
        before = own[0][0].shape[1] if own else 0
        place = np.arange(W * P + before + P, dtype=np.int32)
        query_N = place[W * P + before :]
        mask_NS = window_mask(query_N, place, tokens_per_frame=P, window=W)
        past_mask = mask_NS[:, : W * P] & past.seen_BS[:, None, None, None]
        grown = []
        for (past_key, past_value), own_pair, params in zip(
            past.of_blocks, own or [()] * len(blocks), blocks, strict=True
        ):
            block = nnx.merge(self._graph, params)
            query, key, value = block.attention.project(block.attention_norm(x_BPM))
            query, key = (block.attention.rotated(x, query_N, len(place)) for x in (query, key))
            if own_pair:
                key, value = (jnp.concatenate(pair, axis=1) for pair in zip(own_pair, (key, value), strict=True))
            grown.append((key, value))
            seen = [(past_key, past_value, past_mask), (key, value, mask_NS[:, W * P :])]
            x_BPM = block.mix(x_BPM + block.attention.attend_rotated(query, seen))
        return tuple(grown), x_BPM

    def run_frames(self, params: Params, cache: Cache, x_BNM: Float[Array, "B N M"]) -> tuple[Cache, Array]:
        """Run several new frames at once against a ring that may hold frames already."""
        config = self.config
        P, W = config.tokens_per_frame, config.window
        B, N, _ = x_BNM.shape
        place = np.arange(W * P + N, dtype=np.int32)
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
