"""Latent rollouts: a prompt of known frames, then as many generated ones as there are codes, by one `lax.scan`."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from genie_jax.dynamics import DynamicsModel
from genie_jax.nn import Params


def rollout(
    model: DynamicsModel,
    params: Params,
    prompt_w_BTLD: Float[Array, "B T L D"],
    prompt_codes_BTm1: Int[Array, "B Tm1"],
    codes_BS: Int[Array, "B S"],
    *,
    noise_level: float = 0.0,
    key: Array | None = None,
    temperature: Float[Array, ""] | float = 1.0,
) -> Float[Array, "B S L D"]:
    """Generate S frames.

    Args:
        model, params: see `DynamicsModel`.
        prompt_w_BTLD: normalised w of T >= 1 known frames.
        prompt_codes_BTm1: codes between them.
        codes_BS: `codes_BS[:, 0]` leads from the prompt's last frame to the first generated one.
        noise_level: level that the model is told for every frame, in [0, context_noise]: above 0 it trusts its context
            less. No noise is added.
        key: of a flow head's draws; None for those at temperature 0.
        temperature: of these draws, see `DynamicsModel.step`.

    Returns:
        Normalised w of the generated frames, the prompt left out.
    """
    B, T = prompt_w_BTLD.shape[:2]
    if prompt_codes_BTm1.shape != (B, T - 1):
        raise ValueError(
            f"{T} prompt frames need codes of shape {(B, T - 1)}, not {prompt_codes_BTm1.shape}: "
            "codes[t] leads from frame t to frame t+1, and the last frame's code is the first of the rollout."
        )
    told = noise_level > 0
    cache = model.init_cache(B)
    if T > 1:
        level_BT = jnp.full((B, T - 1), noise_level) if told else None
        cache, _ = model.prefill(params, cache, prompt_w_BTLD[:, :-1], prompt_codes_BTm1, noise_level_BT=level_BT)
    level_B = jnp.full((B,), noise_level) if told else None

    def body(carry: tuple, given: tuple[Array, Array | None]) -> tuple[tuple, Array]:
        cache, w_BLD = carry
        codes_B, key = given
        cache, w_BLD = model.step(
            params, cache, w_BLD, codes_B, noise_level_B=level_B, key=key, temperature=temperature
        )
        return (cache, w_BLD), w_BLD

    keys_S = None if key is None else jax.random.split(key, codes_BS.shape[1])
    _, generated = lax.scan(body, (cache, prompt_w_BTLD[:, -1]), (codes_BS.T, keys_S))
    return jnp.moveaxis(generated, 0, 1)
