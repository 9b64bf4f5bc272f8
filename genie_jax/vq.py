"""Vector quantiser with a codebook that follows the data as a moving average.

Van den Oord et al., "Neural Discrete Representation Learning" (arXiv 1711.00937, section 3 and appendix A.1). Two
ways for gradients to pass it: straight-through, and the rotation trick (Fifty et al., arXiv 2410.06424, section 4.2).
The arithmetic is that of the `vector-quantize-pytorch` package (one codebook, one head, no projections).

Everything is a pure function of a `VQState`, so it runs inside `jax.jit` and `lax.scan`.

Dimension letters: `N` vectors (any leading shape, flattened), `K` codes, `D` width of a code.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from genie_jax.code_usage import usage_alarms

NORM_FLOOR = 1e-6


@dataclass(frozen=True)
class VQConfig:
    """What a codebook is and how it learns.

    Attributes:
        codes: number of codes.
        dim: width of a code and of the vectors that are quantised.
        decay: share of the moving averages that one batch leaves as it was.
        eps: Laplace smoothing of the code counts, in counts.
        commitment: weight of the loss that draws vectors to their code.
        cosine: compare directions instead of distances; codes then have length 1.
        gradient: how gradients pass the quantiser.
        dead_code_threshold: a code whose averaged count per batch falls below this is replaced by a random vector
            of the batch; 0 replaces none. An evenly used code has a count of (vectors in a batch / codes).
        reset_cluster_size: count that a replaced code starts with; None means the threshold. A larger one leaves a
            replaced code time to find vectors before it is replaced again.
        kmeans_start: the codebook starts as the means that k-means finds in the first training batch.
        kmeans_iters: rounds of that k-means.
        kmeans_in_eval: the first batch starts the codebook in evaluation too, as in the package; otherwise evaluation
            changes nothing, and before training all codes are zeros.
        init: without a k-means start, "normal" draws codes of length about sqrt(dim). "uniform" is the package's: a
            small ball, numbers within sqrt(6 / (codes * dim)) of zero, from which codes collapse easily.
    """

    codes: int = 8
    dim: int = 32
    decay: float = 0.97
    eps: float = 1e-5
    commitment: float = 1.0
    cosine: bool = False
    gradient: Literal["ste", "rotation"] = "ste"
    dead_code_threshold: float = 0.0
    reset_cluster_size: float | None = None
    kmeans_start: bool = True
    kmeans_iters: int = 10
    kmeans_in_eval: bool = False
    init: Literal["normal", "uniform"] = "normal"

    def __post_init__(self) -> None:
        if self.init not in ("normal", "uniform"):
            raise ValueError(f'init {self.init!r} is unknown: use "normal" or "uniform"')

    def starts_in(self, train: bool) -> bool:
        """Whether a call of that kind starts the codebook by k-means where that is not done yet."""
        return self.kmeans_start and (train or self.kmeans_in_eval)


class VQState(NamedTuple):
    """A codebook and the moving averages that it is made from."""

    initted: Bool[Array, ""]
    cluster_size_K: Float[Array, "K"]
    embed_avg_KD: Float[Array, "K D"]
    embed_KD: Float[Array, "K D"]


class VQOutput(NamedTuple):
    """Result of one quantisation: `quantized` has the shape of the input, `indices` lacks its last axis."""

    quantized: Float[Array, "*N D"]
    indices: Int[Array, "*N"]
    loss: Float[Array, ""]
    state: VQState


def unit(x: Float[Array, "*N D"]) -> Float[Array, "*N D"]:
    """Vectors scaled to length 1 along the last axis."""
    # The square root has no gradient at zero, so the floor goes under it; the value is x / max(|x|, floor).
    return x / jnp.sqrt(jnp.maximum(jnp.sum(x**2, -1, keepdims=True), NORM_FLOOR**2))


def scores(x_ND: Float[Array, "N D"], embed_KD: Float[Array, "K D"], *, cosine: bool) -> Float[Array, "N K"]:
    """Closeness of each vector to each code, larger is closer: minus the distance, or the cosine of unit vectors."""
    inner_NK = x_ND @ embed_KD.T
    if cosine:
        return inner_NK
    squared_NK = jnp.sum(x_ND**2, -1)[:, None] + jnp.sum(embed_KD**2, -1)[None] - 2 * inner_NK
    return -jnp.sqrt(jnp.maximum(squared_NK, 1e-8))


def straight_through(x: Float[Array, "*N D"], code: Float[Array, "*N D"]) -> Float[Array, "*N D"]:
    """The value of `code`, bit for bit, with the gradient of `x`."""
    return code + (x - jax.lax.stop_gradient(x))


def rotate_to(x: Float[Array, "*N D"], code: Float[Array, "*N D"]) -> Float[Array, "*N D"]:
    """The value of `code`, bit for bit, with the gradient of a rotation and scaling of `x` to it.

    Rotation and scale are held constant (arXiv 2410.06424, section 4.2). What they make of `x` equals the code up to
    rounding, so it lends its gradient alone.
    """

    def length(a: Array) -> Array:
        return jnp.linalg.norm(a, axis=-1, keepdims=True)

    fixed_x, fixed_code = jax.lax.stop_gradient((x, code))
    x_length = jnp.maximum(length(fixed_x), NORM_FLOOR)
    source, target = fixed_x / x_length, fixed_code / jnp.maximum(length(fixed_code), NORM_FLOOR)
    mirror = unit(source + target)
    reflected = x - 2 * jnp.sum(x * mirror, -1, keepdims=True) * mirror
    rotated = reflected + 2 * jnp.sum(x * source, -1, keepdims=True) * target
    return straight_through(rotated * (length(fixed_code) / x_length), fixed_code)


def kmeans(
    x_ND: Float[Array, "N D"], means_KD: Float[Array, "K D"], iters: int, *, cosine: bool
) -> tuple[Float[Array, "K D"], Float[Array, "K"]]:
    """Lloyd's rounds from the given means; returns the means and how many vectors the last round gave to each.

    A mean without vectors stays where it is.
    """

    def one_round(means_KD: Array, _: None) -> tuple[Array, Array]:
        nearest_N = jnp.argmax(scores(x_ND, means_KD, cosine=cosine), -1)
        onehot_NK = jax.nn.one_hot(nearest_N, len(means_KD), dtype=x_ND.dtype)
        counts_K = onehot_NK.sum(0)
        new_KD = onehot_NK.T @ x_ND / jnp.maximum(counts_K, 1)[:, None]
        new_KD = unit(new_KD) if cosine else new_KD
        return jnp.where(counts_K[:, None] > 0, new_KD, means_KD), counts_K

    means_KD, counts_RK = jax.lax.scan(one_round, means_KD, None, length=iters)
    return means_KD, counts_RK[-1]


def sample_vectors(key: Array, x_ND: Float[Array, "N D"], count: int) -> Float[Array, "K D"]:
    """`count` random vectors of the batch; one is drawn twice only where the batch holds fewer than `count`."""
    order_N = jax.random.permutation(key, len(x_ND))
    return x_ND[jnp.resize(order_N, (count,))]


@dataclass(frozen=True)
class VectorQuantizer:
    """Quantises vectors to the nearest code and lets the codes follow them."""

    config: VQConfig

    def init(self, key: Array) -> VQState:
        """The state before training.

        With `kmeans_start` the codes are zeros until the first training batch; otherwise they are drawn as
        `config.init` says.
        """
        c = self.config
        embed_KD = jnp.zeros((c.codes, c.dim)) if c.kmeans_start else self._drawn(key)
        embed_KD = unit(embed_KD) if c.cosine else embed_KD
        # The average is a copy: a donated state must not hold one buffer twice.
        return VQState(jnp.array(not c.kmeans_start), jnp.ones(c.codes), embed_KD.copy(), embed_KD)

    def _drawn(self, key: Array) -> Float[Array, "K D"]:
        c = self.config
        if c.init == "normal":
            return jax.random.normal(key, (c.codes, c.dim))
        bound = (6 / (c.codes * c.dim)) ** 0.5
        return jax.random.uniform(key, (c.codes, c.dim), minval=-bound, maxval=bound)

    def __call__(self, state: VQState, x: Float[Array, "*N D"], *, train: bool, key: Array | None = None) -> VQOutput:
        """Quantise `x`.

        Args:
            state: the codebook.
            x: float32 vectors, width `config.dim`.
            train: update the codebook, pass gradients to `x`, return the commitment loss. Otherwise the state comes
                back as it was (see `kmeans_in_eval`) and the loss is 0.
            key: random key for the k-means start and for the replacement of dead codes.

        Returns:
            `VQOutput`; `quantized` holds the codes from before the update.
        """
        c = self.config
        if x.shape[-1] != c.dim:
            raise ValueError(f"vectors of width {x.shape[-1]} meet codes of width {c.dim}: set VQConfig.dim to match")
        if key is None and (c.starts_in(train) or (train and c.dead_code_threshold > 0)):
            raise ValueError("a k-means start and the replacement of dead codes draw random vectors: pass key=")
        x = x.astype(jnp.float32)
        x = unit(x) if c.cosine else x
        fixed_ND = jax.lax.stop_gradient(x).reshape(-1, c.dim)
        if c.starts_in(train):
            state = jax.lax.cond(state.initted, lambda: state, lambda: self._start(fixed_ND, key))
        indices_N = jnp.argmax(scores(fixed_ND, state.embed_KD, cosine=c.cosine), -1)
        quantized = state.embed_KD[indices_N].reshape(x.shape)
        indices = indices_N.reshape(x.shape[:-1])
        if not train:
            return VQOutput(quantized, indices, jnp.zeros(()), state)
        commitment = c.commitment * jnp.mean((jax.lax.stop_gradient(quantized) - x) ** 2)
        passed = straight_through(x, quantized) if c.gradient == "ste" else rotate_to(x, quantized)
        state = self._follow(state, fixed_ND, indices_N)
        if c.dead_code_threshold > 0:
            state = self._replace_dead(state, fixed_ND, jax.random.fold_in(key, 1))
        return VQOutput(passed, indices, commitment, state)

    def lookup(self, state: VQState, indices: Int[Array, "*N"]) -> Float[Array, "*N D"]:
        """The codes with these numbers."""
        return state.embed_KD[indices]

    def health(self, counts_K: Float[Array, "K"]) -> list[str]:
        """Alarms about how often each code was used, in plain words, each with what to do; empty when all is well."""
        return usage_alarms(counts_K)

    def _embed(self, cluster_size_K: Array, embed_avg_KD: Array) -> Array:
        """The codes that the averages stand for, counts smoothed so that an unused code does not divide by zero."""
        c = self.config
        total = cluster_size_K.sum()
        smooth_K = (cluster_size_K + c.eps) / (total + c.codes * c.eps) * total
        embed_KD = embed_avg_KD / smooth_K[:, None]
        return unit(embed_KD) if c.cosine else embed_KD

    def _start(self, x_ND: Array, key: Array) -> VQState:
        """The codebook as the means of a batch."""
        c = self.config
        first_KD = sample_vectors(key, x_ND, c.codes)
        means_KD, counts_K = kmeans(x_ND, first_KD, c.kmeans_iters, cosine=c.cosine)
        embed_avg_KD = means_KD * counts_K[:, None]
        return VQState(jnp.array(True), counts_K, embed_avg_KD, self._embed(counts_K, embed_avg_KD))

    def _follow(self, state: VQState, x_ND: Array, indices_N: Array) -> VQState:
        """One step of the moving averages."""
        onehot_NK = jax.nn.one_hot(indices_N, self.config.codes, dtype=x_ND.dtype)
        weight = 1 - self.config.decay
        size_K = state.cluster_size_K + weight * (onehot_NK.sum(0) - state.cluster_size_K)
        avg_KD = state.embed_avg_KD + weight * (onehot_NK.T @ x_ND - state.embed_avg_KD)
        return VQState(state.initted, size_K, avg_KD, self._embed(size_K, avg_KD))

    def _replace_dead(self, state: VQState, x_ND: Array, key: Array) -> VQState:
        """Codes below the threshold become vectors of the batch, at most one code a vector."""
        c = self.config
        vector_key, order_key = jax.random.split(key)
        dead_K = state.cluster_size_K < c.dead_code_threshold
        # Dead codes are ranked at random, so that none is favoured where the batch has too few vectors for all.
        priority_K = jnp.where(dead_K, jax.random.uniform(order_key, (c.codes,)), 2.0)
        rank_K = jnp.argsort(jnp.argsort(priority_K))
        replaced_K = dead_K & (rank_K < len(x_ND))
        vectors_KD = sample_vectors(vector_key, x_ND, c.codes)[rank_K]
        count = c.dead_code_threshold if c.reset_cluster_size is None else c.reset_cluster_size
        return VQState(
            state.initted,
            jnp.where(replaced_K, count, state.cluster_size_K),
            jnp.where(replaced_K[:, None], vectors_KD * count, state.embed_avg_KD),
            jnp.where(replaced_K[:, None], vectors_KD, state.embed_KD),
        )
