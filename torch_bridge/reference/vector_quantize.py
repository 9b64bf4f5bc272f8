"""Twin of the vector quantiser: `VectorQuantize` of the vector-quantize-pytorch package."""

import jax.numpy as jnp
import numpy as np
import torch
from vector_quantize_pytorch import VectorQuantize

from genie_jax.vq import VQConfig, VQState

# Ours -> the package's, which has one more axis in front, for codebooks of several heads.
BUFFERS = {"cluster_size_K": "cluster_size", "embed_avg_KD": "embed_avg", "embed_KD": "embed"}


def make_quantizer(config: VQConfig, state: VQState | None = None) -> VectorQuantize:
    """The package's module in the configuration that equals `config`, in evaluation mode.

    Args:
        config: of the codebook.
        state: averages and codes to start with; None for the package's own start.
    """
    twin = VectorQuantize(
        dim=config.dim,
        codebook_size=config.codes,
        decay=config.decay,
        eps=config.eps,
        commitment_weight=config.commitment,
        use_cosine_sim=config.cosine,
        rotation_trick=config.gradient == "rotation",
        threshold_ema_dead_code=config.dead_code_threshold,
        kmeans_init=config.kmeans_start,
        kmeans_iters=config.kmeans_iters,
    )
    if config.reset_cluster_size is not None:  # the codebook takes it, the module around it does not pass it on
        twin._codebook.reset_cluster_size = config.reset_cluster_size
    if state is not None:
        load_state(twin, state)
    return twin.eval()


@torch.no_grad()
def load_state(twin: VectorQuantize, state: VQState) -> None:
    """Give the package's module the codebook of `state`."""
    for ours, theirs in BUFFERS.items():
        getattr(twin._codebook, theirs).data.copy_(torch.from_numpy(np.array(getattr(state, ours)))[None])
    twin._codebook.initted.fill_(bool(state.initted))


def read_state(twin: VectorQuantize) -> VQState:
    """The codebook of the package's module."""
    arrays = {ours: getattr(twin._codebook, theirs)[0].detach().numpy() for ours, theirs in BUFFERS.items()}
    return VQState(jnp.array(bool(twin._codebook.initted)), **{name: jnp.array(a) for name, a in arrays.items()})
