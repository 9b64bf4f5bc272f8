"""Twin of the vector quantiser: `VectorQuantize` of the vector-quantize-pytorch package."""

import jax.numpy as jnp
import numpy as np
import torch
from vector_quantize_pytorch import VectorQuantize

from genie_jax.vq import VQConfig, VQState
from torch_bridge.reference.codebook_names import NAMES, codebook_state


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


def load_state(twin: VectorQuantize, state: VQState) -> None:
    """Give the package's module the codebook of `state`."""
    named = codebook_state({name: np.asarray(array) for name, array in state._asdict().items()})
    twin.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in named.items()})


def read_state(twin: VectorQuantize) -> VQState:
    """The codebook of the package's module."""
    state = twin.state_dict()
    return VQState(**{ours: jnp.array(_without_heads(state[theirs])) for ours, theirs in NAMES.items()})


def _without_heads(tensor: torch.Tensor) -> np.ndarray:
    return tensor.numpy().reshape(tensor.shape[1:])  # a scalar has no axis to lose
