"""What the decoder of an action model may not see in training: a share of its input, hidden anew for every sample.

A decoder that guesses the next frame from the present one leaves the code nothing to tell. Hidden parts make guessing
hard and leave the code as it is (masked autoencoders, arXiv:2111.06377, hide patches in the same way).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def hide_patches(
    pictures_NSSC: Float[Array, "N S S C"], share: float, *, patches: int, key: Array
) -> Float[Array, "N S S C"]:
    """Pictures of which some patches show the picture's mean colour.

    Args:
        pictures_NSSC: square pictures.
        share: of the patches, rounded to a whole number of them, the same for every picture.
        patches: patches along a side; must divide S.
        key: decides which patches, for each picture anew.
    """
    count, side = pictures_NSSC.shape[0], pictures_NSSC.shape[1] // patches
    order_NP = jnp.argsort(jax.random.uniform(key, (count, patches * patches)), -1)
    hidden_NP = jnp.argsort(order_NP, -1) < round(share * patches * patches)
    hidden_NSS = hidden_NP.reshape(count, patches, patches).repeat(side, 1).repeat(side, 2)
    return jnp.where(hidden_NSS[..., None], pictures_NSSC.mean((1, 2), keepdims=True), pictures_NSSC)


def drop_entries(x_NI: Float[Array, "N I"], share: float, *, key: Array) -> Float[Array, "N I"]:
    """Dropout (Srivastava et al., JMLR 15, 2014): entries become 0 with probability `share`, the rest grow by
    1 / (1 - share).
    """
    kept_NI = jax.random.bernoulli(key, 1 - share, x_NI.shape)
    return jnp.where(kept_NI, x_NI / (1 - share), 0)
