"""What the dynamics know of clips that they never saw: error by horizon, and whether they answer to the code."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genie_jax.dynamics import DynamicsModel
from genie_jax.nn import Params
from genie_jax.rollout import rollout


class Exam(NamedTuple):
    """Errors are mean squares over clips and numbers of normalised w, autoregressive.

    Attributes:
        error_S: of the rollout, by step after the prompt.
        copy_S: of holding the prompt's last w.
        distance_KK: how far apart the predictions under each two codes are, see `code_distances`.
        truth_BSLD, predicted_BSLD: normalised w after the prompt.
    """

    error_S: Float[Array, " S"]
    copy_S: Float[Array, " S"]
    distance_KK: Float[Array, "K K"]
    truth_BSLD: Float[Array, "B S L D"]
    predicted_BSLD: Float[Array, "B S L D"]


def examine(
    model: DynamicsModel, params: Params, w_BTLD: Float[Array, "B T L D"], codes_BTm1: Int[Array, "B Tm1"]
) -> Exam:
    """Roll out from the first half of each clip (at most the window) with the true codes; a pure function for jit.

    Args:
        model, params: see `DynamicsModel`.
        w_BTLD: normalised w, T >= 3.
        codes_BTm1: codes between the frames.
    """
    prompt = min(model.config.window, max(1, w_BTLD.shape[1] // 2))
    truth, last = w_BTLD[:, prompt:], w_BTLD[:, prompt - 1 : prompt]
    predicted = rollout(model, params, w_BTLD[:, :prompt], codes_BTm1[:, : prompt - 1], codes_BTm1[:, prompt - 1 :])
    return Exam(
        jnp.mean((predicted - truth) ** 2, axis=(0, 2, 3)),
        jnp.mean((last - truth) ** 2, axis=(0, 2, 3)),
        code_distances(model, params, w_BTLD[:, :-1], codes_BTm1),
        truth,
        predicted,
    )


def code_distances(
    model: DynamicsModel, params: Params, w_BTLD: Float[Array, "B T L D"], codes_BT: Int[Array, "B T"]
) -> Float[Array, "K K"]:
    """Mean square between the predictions of the frame after each clip under each two codes in place of its last one.

    It is divided by the mean square of the predicted change of w: 0 for two codes that do the same, about 1 and more
    where the prediction is made of the code.
    """

    def under(code: Array) -> Array:
        return model.apply(params, w_BTLD, codes_BT.at[:, -1].set(code))[:, -1]

    predicted_KBLD = jax.lax.map(under, jnp.arange(model.config.codes))
    squares_KK = jax.lax.map(lambda one: jnp.mean((predicted_KBLD - one) ** 2, axis=(1, 2, 3)), predicted_KBLD)
    own_BLD = predicted_KBLD[codes_BT[:, -1], jnp.arange(len(w_BTLD))]
    return squares_KK / (jnp.mean((own_BLD - w_BTLD[:, -1]) ** 2) + 1e-12)
