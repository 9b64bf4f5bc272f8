"""Linear layers of play, whose weights are stored in 16 or 8 bits: a single row is multiplied as fast as they are read.

A product of one row does nothing with a weight but read it, so half the bytes are half the time. XLA's CPU backend has
no such product: it converts the weights to an array of float32 first. Here they lie in tiles, and the product is
written as sums that it compiles to loops which convert as they read (with `COMPILER_OPTIONS`; otherwise a library takes
the sums over and is slower). Sums are in float32; `for_play` of the dynamics is where layers get this form.
"""

from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from genie_jax.nn import Params

TILE = 64  # outputs side by side in memory
GROUP = 8  # inputs that are summed in one expression

Stored = Literal["float16", "int8"]

# For functions with such layers on a CPU: no library for sums, vectors as wide as the processor has.
COMPILER_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "", "xla_cpu_prefer_vector_width": 512}


class TiledLinear(nnx.Module):
    """`Linear` with its kernel as `tile_kernel` stores it."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        del rngs  # layers are made of trained ones
        self.inputs, self.outputs, self.dtype = inputs, outputs, dtype
        groups, tiles = -(-inputs // GROUP), -(-outputs // TILE)
        self.tiles = nnx.Param(jnp.zeros((tiles, groups, GROUP, TILE), jnp.float16))
        self.scale = nnx.Param(jnp.ones(outputs, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32)) if bias else None

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        rows = x.reshape(-1, self.inputs).astype(jnp.float32)
        y = jnp.stack([self._row(row) for row in rows]).reshape(*x.shape[:-1], self.outputs)
        return (y if self.bias is None else y + self.bias[...]).astype(self.dtype)

    def _row(self, x_K: Float[Array, " K"]) -> Float[Array, " N"]:
        tiles = self.tiles[...]
        x_GJ = jnp.pad(x_K, (0, -self.inputs % GROUP)).reshape(-1, GROUP)
        terms = [x_GJ[None, :, j, None] * tiles[:, :, j].astype(jnp.float32) for j in range(GROUP)]
        return jnp.sum(sum(terms[1:], terms[0]), axis=1).reshape(-1)[: self.outputs] * self.scale[...]


def tile_kernel(kernel_KN: Float[Array, "K N"], stored: Stored) -> Params:
    """`tiles` and `scale` of a kernel.

    Args:
        kernel_KN: float32.
        stored: "float16", rounded to it; "int8", each column over its largest value, in 127 steps.
    """
    scale_N = jnp.ones(kernel_KN.shape[1])
    if stored == "int8":
        scale_N = jnp.maximum(jnp.max(jnp.abs(kernel_KN), axis=0), jnp.finfo(jnp.float32).tiny) / 127
        kernel_KN = jnp.round(kernel_KN / scale_N)
    K, N = kernel_KN.shape
    padded = jnp.pad(kernel_KN, ((0, -K % GROUP), (0, -N % TILE)))
    tiles = padded.reshape(-1, GROUP, padded.shape[1] // TILE, TILE).transpose(2, 0, 1, 3)
    return {"tiles": tiles.astype(stored), "scale": scale_N}


def tiled(params: Params, stored: Stored) -> Params:
    """A tree of parameters with every linear layer (a dict with a `kernel`) as a `TiledLinear`."""
    if "kernel" in params:
        rest = {name: leaf for name, leaf in params.items() if name != "kernel"}
        return {**tile_kernel(params["kernel"], stored), **rest}
    return {name: tiled(leaf, stored) if isinstance(leaf, dict) else leaf for name, leaf in params.items()}


def is_tiled(params: Params) -> bool:
    """Whether a tree of parameters came out of `tiled`."""
    return "tiles" in params or any(is_tiled(leaf) for leaf in params.values() if isinstance(leaf, dict))
