"""Layers shared by the Flax models, in the arithmetic of x-transformers, so that each can be checked against its twin.

Modules are Flax NNX, run as pure functions: `split(make, key)` gives a static graph and a plain dict of arrays, and
`nnx.merge(graph, params)` inside `jax.jit` gives the module back. No module holds a random state.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

Params = dict[str, Any]
Activation = Literal["gelu", "silu"]

# The default of PyTorch's linear layers: kernel and bias uniform in +-1/sqrt(fan_in).
uniform_fan_in = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Linear(nnx.Linear):
    """x @ kernel + bias over the last axis, with the other axes as one.

    As one, because JAX differentiates a product of several batch axes into one with a transposed copy of the output's
    gradient, which XLA's CPU backend multiplies at half the rate.
    """

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        return super().__call__(x.reshape(-1, self.in_features)).reshape(*x.shape[:-1], self.out_features)


def linear(inputs: int, outputs: int, *, bias: bool = False, dtype: jnp.dtype, rngs: nnx.Rngs) -> Linear:
    """Linear layer with float32 parameters that computes in `dtype`, initialised as PyTorch's."""
    bound = inputs**-0.5

    def bias_init(key: Array, shape: tuple[int, ...], kind: jnp.dtype = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, kind, -bound, bound)

    return Linear(
        inputs, outputs, use_bias=bias, dtype=dtype, kernel_init=uniform_fan_in, bias_init=bias_init, rngs=rngs
    )


class MakeLinear(Protocol):
    """What makes a linear layer: `linear`, or one of the same arguments."""

    def __call__(
        self, inputs: int, outputs: int, *, bias: bool = False, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> Callable[[Array], Array]: ...


def split(make: Callable[[nnx.Rngs], nnx.Module], key: Array) -> tuple[nnx.GraphDef, Params]:
    """Static graph and freshly drawn parameters (a plain nested dict) of the module `make(rngs)`."""
    graph, state = nnx.split(make(nnx.Rngs(key)))
    return graph, nnx.to_pure_dict(state)


def graph_of(make: Callable[[nnx.Rngs], nnx.Module]) -> nnx.GraphDef:
    """Static graph of `make(rngs)`, without drawing anything."""
    return nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))[0]


class RMSNorm(nnx.Module):
    """x / max(|x|, 1e-12) * sqrt(features) * (gain + 1), over the last axis, in float32.

    The epsilon bounds the norm and is not added to the mean square, and the gain is stored with an offset of 1
    (x-transformers `RMSNorm(unit_offset=True)`). `shape` is that of the gain: (features,), or (heads, features) for
    one gain a head.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.gain = nnx.Param(jnp.zeros(shape, jnp.float32))

    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
        wide = x.astype(jnp.float32)
        norm = jnp.sqrt(jnp.maximum(jnp.sum(wide * wide, axis=-1, keepdims=True), 1e-24))
        return (wide * (x.shape[-1] ** 0.5 / norm) * (self.gain[...] + 1)).astype(x.dtype)


def rotate(
    x_BNHE: Float[Array, "B N H E"], place_N: Int[Array, " N"] | Int[np.ndarray, " N"], dims: int, *, places: int
) -> Float[Array, "B N H E"]:
    """Rotary position embedding (arXiv:2104.09864, section 3.4) of the first `dims` channels of each head.

    Channels (0, 1), (2, 3), ... form the rotated pairs, with frequencies 10000^(-pair * 2 / dims). The places are below
    `places` (which nothing checks), for which angles are a table: sines in a compiled loop are computed anew for every
    head of every block.
    """
    frequency = np.float32(10000.0) ** (-np.arange(0, dims, 2, dtype=np.float32) / dims)
    angle = np.arange(places, dtype=np.float32)[:, None] * frequency
    known = isinstance(place_N, np.ndarray)
    cos, sin = (table[place_N] if known else jnp.asarray(table)[place_N] for table in (np.cos(angle), np.sin(angle)))
    cos, sin = cos[:, None, :], sin[:, None, :]  # N 1 pairs
    turned, rest = x_BNHE[..., :dims].astype(jnp.float32), x_BNHE[..., dims:]
    even, odd = turned[..., 0::2], turned[..., 1::2]
    pairs = jnp.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1)
    return jnp.concatenate([pairs.reshape(turned.shape).astype(x_BNHE.dtype), rest], axis=-1)


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Exact GELU (arXiv:1606.08415, section 2) by erf, as in PyTorch. That of JAX is by erfc, which costs more."""
    return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))


class FeedForward(nnx.Module):
    """Two linear layers with an activation between; gated: value * activation(gate), value first in the kernel.

    Args:
        width: of input and output.
        inner: hidden width; the gated form's first layer is twice as wide.
        gated: gated linear unit (arXiv:2002.05202).
        activation: "gelu" is the exact, erf form.
        linear: what makes the linear layers.
    """

    def __init__(
        self,
        width: int,
        inner: int,
        *,
        gated: bool,
        activation: Activation,
        linear: MakeLinear = linear,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.gated, self.activation = gated, activation
        self.expand = linear(width, inner * (2 if gated else 1), bias=True, dtype=dtype, rngs=rngs)
        self.contract = linear(inner, width, bias=True, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "*batch M"]) -> Float[Array, "*batch M"]:
        hidden = self.expand(x)
        act = nnx.silu if self.activation == "silu" else gelu
        if not self.gated:
            return self.contract(act(hidden))
        value, gate = jnp.split(hidden, 2, axis=-1)
        return self.contract(value * act(gate))
