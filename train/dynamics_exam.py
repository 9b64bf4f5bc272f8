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
        response: mean square by which another code changes the predicted w, over that of the predicted change.
        truth_BSLD, predicted_BSLD: normalised w after the prompt.
    """

    error_S: Float[Array, " S"]
    copy_S: Float[Array, " S"]
    response: Float[Array, ""]
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
        code_response(model, params, w_BTLD[:, :-1], codes_BTm1),
        truth,
        predicted,
    )


def code_response(
    model: DynamicsModel, params: Params, w_BTLD: Float[Array, "B T L D"], codes_BT: Int[Array, "B T"]
) -> Float[Array, ""]:
    """Mean square change of the prediction of the frame after each clip when its last code is each of the others.

    It is divided by the mean square of the predicted change of w: 0 for a model that is deaf to the code, about 1 and
    more for one whose prediction is made of the code.
    """
    codes = model.config.codes
    base = model.apply(params, w_BTLD, codes_BT)[:, -1]

    def other(shift: Array) -> Array:
        swapped = codes_BT.at[:, -1].set((codes_BT[:, -1] + shift) % codes)
        return jnp.mean((model.apply(params, w_BTLD, swapped)[:, -1] - base) ** 2)

    changed = jnp.mean(jax.lax.map(other, jnp.arange(1, max(codes, 2))))
    return changed / (jnp.mean((base - w_BTLD[:, -1]) ** 2) + 1e-12)
