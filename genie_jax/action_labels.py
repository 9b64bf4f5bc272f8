"""A few true actions for the action model: a linear classifier that reads the vector before it is quantised.

Its loss asks the encoder to tell true actions apart, so that the codes, which follow the vectors, align with them (a
few labels against distractors: arXiv:2502.00379). The classifier is the branch `labels` of the parameters while the
model is trained, and of nothing else: codes are inferred without it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from genie_jax.clips import Clip
from genie_jax.nn import Params, graph_of, split

BRANCH = "labels"


class Labelled(NamedTuple):
    """Pairs of consecutive frames, clips of length 2, and the class (0, 1, ...) of the true action in each."""

    clip: Clip
    classes_B: Int[Array, " B"]


def init_classifier(dim: int, classes: int, key: Array) -> Params:
    """Fresh parameters of the classifier of vectors of width `dim`."""
    return split(lambda rngs: nnx.Linear(dim, classes, rngs=rngs), key)[1]


def label_loss(
    params: Params, vectors_BD: Float[Array, "B D"], classes_B: Int[Array, " B"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean cross-entropy of the classifier in nats, and the share of vectors whose class it finds."""
    dim, classes = params["kernel"].shape
    logits_BA = nnx.merge(graph_of(lambda rngs: nnx.Linear(dim, classes, rngs=rngs)), params)(vectors_BD)
    found = jnp.mean(jax.lax.stop_gradient(logits_BA).argmax(-1) == classes_B)
    return optax.softmax_cross_entropy_with_integer_labels(logits_BA, classes_B).mean(), found
