"""The vector quantiser beside vector-quantize-pytorch: evaluation, three training steps, gradients."""

from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Array, Float

from genie_jax.vq import VectorQuantizer, VQConfig, VQState
from torch_bridge.crosscheck.report import Row, compare
from torch_bridge.reference.vector_quantize import make_quantizer, read_state

TOLERANCE = 1e-6
VECTORS, STEPS = 256, 3
SPREAD = 0.5  # of vectors around their codes, as a share of the codes' own size
LEAST_LEAD = 1e-4  # of the nearest code over the next one: between two equally near codes rounding decides


def check_quantizer(config: VQConfig, state: VQState, *, seed: int = 0) -> Iterator[Row]:
    """Run the quantiser and its twin on the same codebook and vectors.

    Args:
        config: of the codebook. What draws random vectors (k-means start, dead codes) is left out.
        state: a codebook that was started.
        seed: of the vectors.
    """
    config = replace(config, kmeans_start=False, dead_code_threshold=0.0)
    ours, twin = VectorQuantizer(config), make_quantizer(config, state)
    x, *batches, target = (clear_vectors(config, state, seed + i) for i in range(2 + STEPS))
    with torch.no_grad():
        quantized, indices, _ = twin(torch.from_numpy(x))
    out = ours(state, jnp.asarray(x), train=False)
    yield compare("quantiser, indices", out.indices, indices, tolerance=0)
    yield compare("quantiser, codes", out.quantized, quantized, tolerance=0)
    yield _gradient(ours, config, state, x, target)

    train = jax.jit(lambda state, x: ours(state, x, train=True))
    twin.train()
    for number, batch in enumerate(batches, start=1):
        quantized, indices, loss = twin(torch.from_numpy(batch))
        out = train(state, jnp.asarray(batch))
        state = out.state
        found = {"loss": out.loss, "quantized": out.quantized}
        yield compare(
            f"quantiser, training step {number}", found, {"loss": loss, "quantized": quantized}, tolerance=TOLERANCE
        )
        yield compare(
            f"quantiser, EMA update {number}", _averages(state), _averages(read_state(twin)), tolerance=TOLERANCE
        )


def clear_vectors(config: VQConfig, state: VQState, seed: int) -> Float[np.ndarray, "N D"]:
    """`VECTORS` vectors around the codes, each clearly nearest to one of them.

    Raises:
        ValueError: codes coincide.
    """
    rng = np.random.default_rng(seed)
    codes_KD = np.asarray(state.embed_KD, np.float64)
    size = np.sqrt(np.mean(codes_KD**2))
    candidates = codes_KD[rng.integers(len(codes_KD), size=4 * VECTORS)]
    candidates = (candidates + SPREAD * size * rng.standard_normal(candidates.shape)).astype(np.float32)
    wide = candidates.astype(np.float64)
    if config.cosine:
        wide /= np.linalg.norm(wide, axis=-1, keepdims=True)
    distance_NK = np.sort(np.linalg.norm(wide[:, None] - codes_KD, axis=-1), axis=-1)
    clear = distance_NK[:, 1] - distance_NK[:, 0] > LEAST_LEAD * distance_NK.mean()
    if clear.sum() < VECTORS:
        raise ValueError("the codebook's codes coincide: no vector is clearly nearest to one of them.")
    return candidates[clear][:VECTORS]


def _gradient(ours: VectorQuantizer, config: VQConfig, state: VQState, x: np.ndarray, target: np.ndarray) -> Row:
    """The gradient of a distance and of the commitment with respect to the vectors."""
    leaf = torch.from_numpy(x).requires_grad_()
    twin = make_quantizer(config, state).train()
    quantized, _, loss = twin(leaf, freeze_codebook=True)
    ((quantized - torch.from_numpy(target)) ** 2).sum().add(loss).backward()

    @jax.jit
    @jax.grad
    def gradient(x: Array) -> Array:
        out = ours(state, x, train=True)
        return jnp.sum((out.quantized - target) ** 2) + out.loss

    # Straight through or by rotation, with no more than the rounding of a few sums.
    return compare(f"quantiser, gradient ({config.gradient})", gradient(x), leaf.grad, tolerance=1e-5)


def _averages(state: VQState) -> dict[str, Array]:
    return {name: value for name, value in state._asdict().items() if name != "initted"}
