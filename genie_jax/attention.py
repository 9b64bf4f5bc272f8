"""Causal attention with a sliding window counted in frames, grouped KV heads and rotary places.

A frame is one token or several (its w, then its action). A token sees the tokens before it and itself, as far back as
the first token of the frame `window - 1` frames ago.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from genie_jax.nn import MakeLinear, Params, RMSNorm, linear, rotate

PROJECTIONS = ("to_q", "to_k", "to_v")


def window_mask(
    query_N: Int[Array, " N"], key_S: Int[Array, " S"], *, tokens_per_frame: int, window: int
) -> Bool[Array, "N S"]:
    """True where the query token at place `query_N` sees the key token at place `key_S` (places count tokens)."""
    query, key = query_N[:, None], key_S[None, :]
    return (key <= query) & (query // tokens_per_frame - key // tokens_per_frame < window)


class Attention(nnx.Module):
    """Multi-head attention without biases, scale head_dim^-0.5, softmax in float32.

    Query head j uses KV head j % kv_heads (the interleaved order of x-transformers, not the usual j // group).

    Args:
        width: M of input and output.
        heads, kv_heads: `kv_heads` divides `heads`.
        head_dim: E, independent of width / heads.
        rotary_dims: rotated channels of each head, even, 0 for none.
        qk_rmsnorm: RMSNorm of queries and keys with a gain a head, before the rotation.
        merged: one layer `to_qkv` in the place of three, for play: see `merge_projections`.
        linear: what makes the linear layers.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        kv_heads: int,
        head_dim: int,
        rotary_dims: int,
        qk_rmsnorm: bool,
        merged: bool = False,
        linear: MakeLinear = linear,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.heads, self.kv_heads, self.head_dim, self.rotary_dims = heads, kv_heads, head_dim, rotary_dims
        self.merged = merged
        if merged:
            self.to_qkv = linear(width, (heads + 2 * kv_heads) * head_dim, dtype=dtype, rngs=rngs)
        else:
            self.to_q = linear(width, heads * head_dim, dtype=dtype, rngs=rngs)
            self.to_k = linear(width, kv_heads * head_dim, dtype=dtype, rngs=rngs)
            self.to_v = linear(width, kv_heads * head_dim, dtype=dtype, rngs=rngs)
        self.to_out = linear(heads * head_dim, width, dtype=dtype, rngs=rngs)
        self.q_norm = RMSNorm((heads, head_dim)) if qk_rmsnorm else None
        self.k_norm = RMSNorm((kv_heads, head_dim)) if qk_rmsnorm else None

    def project(
        self, x_BNM: Float[Array, "B N M"]
    ) -> tuple[Float[Array, "B N H E"], Float[Array, "B N G E"], Float[Array, "B N G E"]]:
        """Queries, keys and values of tokens, not yet rotated: this is what a cache holds."""
        B, N, _ = x_BNM.shape
        if self.merged:
            heads = self.to_qkv(x_BNM).reshape(B, N, self.heads + 2 * self.kv_heads, self.head_dim)
            query, key, value = jnp.split(heads, (self.heads, self.heads + self.kv_heads), axis=2)
        else:
            query = self.to_q(x_BNM).reshape(B, N, self.heads, self.head_dim)
            key = self.to_k(x_BNM).reshape(B, N, self.kv_heads, self.head_dim)
            value = self.to_v(x_BNM).reshape(B, N, self.kv_heads, self.head_dim)
        if self.q_norm is not None and self.k_norm is not None:
            query, key = self.q_norm(query), self.k_norm(key)
        return query, key, value

    def attend(
        self,
        query: Float[Array, "B N H E"],
        key: Float[Array, "B S G E"],
        value: Float[Array, "B S G E"],
        *,
        query_N: Int[Array, " N"],
        key_S: Int[Array, " S"],
        mask_NS: Bool[Array, "N S"],
    ) -> Float[Array, "B N M"]:
        """Rotate queries and keys to their places in 0 .. S-1, attend where `mask_NS` is True, project out."""
        places = key.shape[1]
        seen = [(self.rotated(key, key_S, places), value, mask_NS)]
        return self.attend_rotated(self.rotated(query, query_N, places), seen)

    def rotated(
        self, x_BNHE: Float[Array, "B N H E"], place_N: Int[Array, " N"], places: int
    ) -> Float[Array, "B N H E"]:
        """Queries or keys, rotated to their places, which are below `places`."""
        return rotate(x_BNHE, place_N, self.rotary_dims, places=places) if self.rotary_dims else x_BNHE

    def attend_rotated(
        self, query: Float[Array, "B N H E"], seen: Sequence[tuple[Array, Array, Array]]
    ) -> Float[Array, "B N M"]:
        """Attend and project out.

        Args:
            query: rotated.
            seen: one or several stretches of rotated keys (B, S, G, E), values (B, S, G, E) and a mask that is True
                where a query sees a key, (N, S), or (B, 1, 1, N, S) where clips differ.
        """
        B, N = query.shape[:2]
        query = query.reshape(B, N, self.heads // self.kv_heads, self.kv_heads, self.head_dim)
        logits, ends = [], []
        for key, _, mask in seen:
            product = jnp.einsum("BNRGE,BSGE->BGRNS", query, key, preferred_element_type=jnp.float32)
            logits.append(jnp.where(mask, product * self.head_dim**-0.5, jnp.finfo(jnp.float32).min))
            ends.append(key.shape[1] + (ends[-1] if ends else 0))
        weight = jax.nn.softmax(jnp.concatenate(logits, axis=-1), axis=-1).astype(seen[0][1].dtype)
        parts = zip(jnp.split(weight, ends[:-1], axis=-1), seen, strict=True)
        mixed = sum(jnp.einsum("BGRNS,BSGE->BNRGE", share, value) for share, (_, value, _) in parts)
        return self.to_out(mixed.reshape(B, N, self.heads * self.head_dim))


def merge_projections(params: Params) -> Params:
    """Parameters of an `Attention` as those of its `merged` form.

    For a single token the work is reading the weights, and one large matrix is read by several threads.
    """
    kernels = [params[name]["kernel"] for name in PROJECTIONS]
    rest = {name: leaf for name, leaf in params.items() if name not in PROJECTIONS}
    return {**rest, "to_qkv": {"kernel": jnp.concatenate(kernels, axis=-1)}}


def split_projections(params: Params, heads: int, kv_heads: int) -> Params:
    """Inverse of `merge_projections`."""
    kernel = params["to_qkv"]["kernel"]
    head_dim = kernel.shape[-1] // (heads + 2 * kv_heads)
    parts = jnp.split(kernel, (heads * head_dim, (heads + kv_heads) * head_dim), axis=-1)
    rest = {name: leaf for name, leaf in params.items() if name != "to_qkv"}
    return {**rest, **{name: {"kernel": part} for name, part in zip(PROJECTIONS, parts, strict=True)}}
