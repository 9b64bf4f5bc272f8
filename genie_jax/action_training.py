"""The training step of the action model.

Convolutions inside a `lax.scan` run 10 to 30 times slower on XLA's CPU backend than outside one (a scan of a single
step too), so the steps of one dispatch are unrolled here. There is no average of the weights: the codebook follows the
encoder's present weights, and an encoder of other weights would not fit it.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from genie_jax.action_labels import Labelled
from genie_jax.clips import Clip
from genie_jax.latent_action import LatentActionModel
from genie_jax.nn import Params
from genie_jax.vq import VQState


class ActionState(NamedTuple):
    """What one optimiser step of the action model carries to the next."""

    params: Params
    opt_state: Any
    quantizer: VQState


class ActionStep(Protocol):
    """What `make_action_step` returns."""

    def __call__(
        self, state: ActionState, clips: Clip, step: int, learning_rate: float, labelled: Labelled | None = None
    ) -> tuple[ActionState, dict[str, Array]]: ...


def init_action_state(
    model: LatentActionModel, optimizer: optax.GradientTransformation, *, seed: int, label_classes: int = 0
) -> ActionState:
    """State before the first step; with true actions of so many classes, with their classifier."""
    params_key, quantizer_key = jax.random.split(jax.random.key(seed))
    params = jax.jit(lambda key: model.init(key, label_classes))(
        params_key
    )  # compiled whole: drawn one by one, each shape would compile alone
    return ActionState(params, optimizer.init(params), model.init_quantizer(quantizer_key))


def make_action_step(model: LatentActionModel, optimizer: optax.GradientTransformation, *, seed: int) -> ActionStep:
    """Build `train(state, clips, step, learning_rate, labelled=None) -> (state, metrics)`, jitted, `state` donated.

    Args:
        model: what is trained.
        optimizer: of `genie_jax.training.make_optimizer`; its updates are multiplied by the learning rate.
        seed: of all random keys, which are functions of (seed, step).

    Returns:
        A function that makes one optimiser step for each entry of the leading axis of `clips` and, where there are
        some, of `labelled` (stacked batches, the first being number `step`). Its metrics are means over these steps,
        device arrays that nobody has read yet.
    """

    def one(
        state: ActionState, clip: Clip, labelled: Labelled | None, step: Array, rate: Array
    ) -> tuple[ActionState, dict[str, Array]]:
        key = jax.random.fold_in(jax.random.key(seed), step)
        loss_and_grad = jax.value_and_grad(model.loss, has_aux=True)
        (loss, (quantizer, metrics)), grads = loss_and_grad(
            state.params, state.quantizer, clip, key=key, labelled=labelled
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = jax.tree.map(lambda p, u: p + rate * u, state.params, updates)
        metrics = {**metrics, "loss": loss, "grad_norm": optax.tree.norm(grads)}
        return ActionState(params, opt_state, quantizer), metrics

    def many(
        state: ActionState, clips: Clip, labelled: Labelled | None, first: Array, rate: Array
    ) -> tuple[ActionState, dict[str, Array]]:
        collected = []
        for i in range(len(jax.tree.leaves(clips)[0])):
            here = jax.tree.map(lambda leaf, i=i: leaf[i], (clips, labelled))
            state, metrics = one(state, *here, first + i, rate)
            collected.append(metrics)
        return state, jax.tree.map(lambda *values: jnp.mean(jnp.stack(values)), *collected)

    jitted = jax.jit(many, donate_argnums=0)

    def train(
        state: ActionState, clips: Clip, step: int, learning_rate: float, labelled: Labelled | None = None
    ) -> tuple[ActionState, dict[str, Array]]:
        # Fixed dtypes: a Python scalar would be weakly typed, and a change of its type would compile again.
        return jitted(state, clips, labelled, jnp.asarray(step, jnp.int32), jnp.asarray(learning_rate, jnp.float32))

    return train
