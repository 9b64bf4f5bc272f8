"""Ring of the last `window` frames' keys and values: a generated frame costs the same at step 10 and at step 100,000.

Keys are stored before their rotation. A key's place is its place in the window (oldest 0, newest window - 1), not its
number in the rollout: rotary attention depends on differences of places alone, so the result is that of the uncached
model, and no position grows until float32 angles lose precision.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int


class Cache(NamedTuple):
    """Keys and values of the last frames, for all layers.

    Attributes:
        keys, values: (layers, B, window, P, G, E), P tokens a frame, G KV heads of E channels.
        cursor: slot of the next frame, in [0, window).
        filled: frames held, in [0, window].
    """

    keys: Float[Array, "layers B window P G E"]
    values: Float[Array, "layers B window P G E"]
    cursor: Int[Array, ""]
    filled: Int[Array, ""]


def empty_cache(shape: tuple[int, int, int, int, int, int], dtype: jnp.dtype) -> Cache:
    """Cache of `shape` (layers, B, window, P, G, E) that holds no frame."""
    # Four buffers of their own: a cache is donated, and one buffer cannot be donated twice.
    counters = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
    return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), *counters)


def put(
    ring: Float[Array, "B window P G E"], frame: Float[Array, "B P G E"], cursor: Int[Array, ""]
) -> Float[Array, "B window P G E"]:
    """Write one frame's keys (or values) over the oldest ones."""
    return lax.dynamic_update_slice_in_dim(ring, frame[:, None].astype(ring.dtype), cursor, axis=1)


def places(window: int, tokens: int, cursor: Int[Array, ""]) -> Int[Array, " S"]:
    """Place of every stored token, in the order of storage, once slot `cursor - 1` holds the newest frame."""
    frame = (jnp.arange(window, dtype=jnp.int32) - cursor) % window
    return (frame[:, None] * tokens + jnp.arange(tokens, dtype=jnp.int32)).reshape(-1)


def held(place_S: Int[Array, " S"], tokens: int, window: int, filled: Int[Array, ""]) -> Bool[Array, " S"]:
    """True for the places of frames that were written; the others still hold zeros."""
    return place_S // tokens >= window - filled


def in_order(ring: Float[Array, "B window P G E"], cursor: Int[Array, ""]) -> Float[Array, "B window P G E"]:
    """The ring from its oldest slot to its newest."""
    window = ring.shape[1]
    return jnp.take(ring, (cursor + jnp.arange(window)) % window, axis=1)


def cache_at(
    keys: Sequence[Float[Array, "B T P G E"]], values: Sequence[Array], frame: Int[Array, ""], window: int
) -> Cache:
    """Cache as it was after frame number `frame`, cut from the keys and values by blocks of a whole clip."""
    front = [(0, 0)] * 6
    front[2] = (window, 0)

    def cut(x: Sequence[Array]) -> Array:
        return lax.dynamic_slice_in_dim(jnp.pad(jnp.stack(x), front), frame + 1, window, axis=2)

    filled = jnp.minimum(frame + 1, window).astype(jnp.int32)
    return Cache(cut(keys), cut(values), jnp.zeros((), jnp.int32), filled)
