"""Linear layers of play, whose weights are stored in half precision: a row is multiplied as fast as they are read.

A product of one row does nothing with a weight but read it, so half the bytes are half the time. XLA's CPU backend has
no such product: it converts the weights to an array of float32 first. Here they lie in tiles, and the product is
written as sums that it compiles to loops which convert as they read (with `compiler_options()`; otherwise a library
takes the sums over and is slower). Sums are in float32; `for_play` of the dynamics is where layers get this form.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Float16

from genie_jax.nn import Params

TILE = 64  # outputs side by side in memory
GROUP = 8  # inputs that are summed in one expression

# No library for sums, vectors as wide as the processor has.
WANTED_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "", "xla_cpu_prefer_vector_width": 512}


@functools.cache
def compiler_options() -> dict[str, str | int]:
    """Options of `jax.jit` for functions with such layers on a CPU: those of the wanted that this JAX knows."""

    def known(name: str) -> bool:
        try:
            jax.jit(lambda: 0, compiler_options={name: WANTED_OPTIONS[name]}).lower().compile()
        except jax.errors.JaxRuntimeError:
            return False
        return True

    return {name: value for name, value in WANTED_OPTIONS.items() if known(name)}


class TiledLinear(nnx.Module):
    """`Linear` with its kernel as `tile_kernel` stores it."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        del rngs  # layers are made of trained ones
        self.inputs, self.outputs, self.dtype = inputs, outputs, dtype
        groups, tiles = -(-inputs // GROUP), -(-outputs // TILE)
        self.tiles = nnx.Param(jnp.zeros((tiles, groups, GROUP, TILE), jnp.float16))
        self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32)) if bias else None

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        rows = x.reshape(-1, self.inputs).astype(jnp.float32)
        y = jnp.stack([self._row(row) for row in rows]).reshape(*x.shape[:-1], self.outputs)
        return (y if self.bias is None else y + self.bias[...]).astype(self.dtype)

    def _row(self, x_K: Float[Array, " K"]) -> Float[Array, " N"]:
        tiles = self.tiles[...]
        x_GJ = jnp.pad(x_K, (0, -self.inputs % GROUP)).reshape(-1, GROUP)
        terms = [x_GJ[None, :, j, None] * tiles[:, :, j].astype(jnp.float32) for j in range(GROUP)]
        return jnp.sum(sum(terms[1:], terms[0]), axis=1).reshape(-1)[: self.outputs]


def tile_kernel(kernel_KN: Float[Array, "K N"]) -> Float16[Array, "tiles groups GROUP TILE"]:
    """A kernel rounded to half precision, in tiles of `TILE` outputs, zeros where K or N is no multiple."""
    K, N = kernel_KN.shape
    padded = jnp.pad(kernel_KN, ((0, -K % GROUP), (0, -N % TILE)))
    tiles = padded.reshape(-1, GROUP, padded.shape[1] // TILE, TILE).transpose(2, 0, 1, 3)
    return tiles.astype(jnp.float16)


def tiled(params: Params) -> Params:
    """A tree of parameters with every linear layer (a dict with a `kernel`) as a `TiledLinear`."""
    if "kernel" in params:
        rest = {name: leaf for name, leaf in params.items() if name != "kernel"}
        return {"tiles": tile_kernel(params["kernel"]), **rest}
    return {name: tiled(leaf) if isinstance(leaf, dict) else leaf for name, leaf in params.items()}


def is_tiled(params: Params) -> bool:
    """Whether a tree of parameters came out of `tiled`."""
    return "tiles" in params or any(is_tiled(leaf) for leaf in params.values() if isinstance(leaf, dict))
