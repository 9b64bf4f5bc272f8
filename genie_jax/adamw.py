"""AdamW (arXiv:1711.05101) with clipping by the global norm, written for few passes over memory.

A chain of optax transformations leaves the clipped gradient behind as an array of its own and divides each number three
times. Here everything that is one number for the whole tree (clipping, bias corrections) is a factor, so that XLA makes
a loop for each moment and one for the weights, which read nothing but the gradient and the state. The state is that of
the chain, so that checkpoints are too, and so are the results but for rounding.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

PyTree = Any


def clipped_adamw(
    *,
    clip_norm: float,
    b1: float,
    b2: float,
    eps: float,
    weight_decay: float,
    decayed: Callable[[PyTree], PyTree],
) -> optax.GradientTransformation:
    """`clip_by_global_norm`, `scale_by_adam`, `add_decayed_weights` and `scale(-1)` of optax, in one.

    Args:
        clip_norm: largest global norm of a gradient; `inf` for none.
        b1, b2, eps: Adam's constants.
        weight_decay: decoupled decay, for a learning rate of 1.
        decayed: tree of parameters to a tree of bools, True for the leaves that decay.
    """
    chain = optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        optax.add_decayed_weights(weight_decay, mask=decayed),
        optax.scale(-1.0),
    )

    def update(grads: PyTree, state: tuple, params: PyTree) -> tuple[PyTree, tuple]:
        clip, adam, *rest = state
        norm = optax.tree.norm(grads)
        factor = jnp.where(norm <= clip_norm, 1.0, clip_norm / norm)
        count = optax.safe_increment(adam.count)
        first_factor, second_factor = 1 / (1 - b1**count), 1 / (1 - b2**count)
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * (factor * g), adam.mu, grads)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * (factor * g) ** 2, adam.nu, grads)

        def change(m: Array, v: Array, p: Array, decays: bool) -> Array:
            step = m * first_factor / (jnp.sqrt(v * second_factor) + eps)
            return -(step + weight_decay * p if decays else step)

        updates = jax.tree.map(change, mu, nu, params, decayed(params))
        return updates, (clip, adam._replace(count=count, mu=mu, nu=nu), *rest)

    return optax.GradientTransformation(chain.init, update)
