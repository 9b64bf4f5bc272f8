"""The training core that every Flax stage shares: state, optimiser, jitted step, checkpoints.

A training step is a pure function of (state, data, step, learning rate). It is jitted with the state donated, makes
several optimiser steps a dispatch by `lax.scan`, and takes its learning rate as an array, so that the loop may change
the rate (schedule over a time budget, lower rate after a divergence) without another compilation. All randomness
comes from `fold_in(key(seed), step)`: a resumed run draws what the uninterrupted one draws.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from genie_jax.adamw import clipped_adamw
from genie_jax.checkpointer import Checkpointer

__all__ = [
    "Checkpointer",
    "OptimizerConfig",
    "TrainState",
    "TrainStep",
    "from_stack",
    "init_state",
    "make_optimizer",
    "make_train_step",
]

PyTree = Any


class TrainState(NamedTuple):
    """What one optimiser step carries to the next.

    Attributes:
        params: trainable arrays.
        ema: exponential moving average of `params`, same tree.
        opt_state: state of the optax transformation.
        extra: arrays that the loss itself updates (a quantiser's codebook); `()` where there is none.
    """

    params: PyTree
    ema: PyTree
    opt_state: PyTree
    extra: PyTree


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW (arXiv:1711.05101) with clipping by the global norm.

    Attributes:
        learning_rate: peak rate.
        warmup: optimiser steps of linear warm-up.
        schedule: "cosine" falls with the *progress* of the stage from the peak to `final_scale` of it.
        final_scale: share of the peak rate at progress 1 ("cosine" alone).
        weight_decay: decoupled decay, for leaves named `kernel` only.
        b1, b2, eps: Adam's constants.
        clip_norm: largest global norm of a gradient; `inf` for none.
        ema_decay: decay of the averaged weights, warmed up as min(ema_decay, (1 + step) / (10 + step)).
    """

    learning_rate: float = 3e-4
    warmup: int = 100
    schedule: Literal["constant", "cosine"] = "cosine"
    final_scale: float = 0.05
    weight_decay: float = 0.01
    b1: float = 0.9
    b2: float = 0.99
    eps: float = 1e-8
    clip_norm: float = 1.0
    ema_decay: float = 0.999

    def rate(self, step: int, progress: float, lr_scale: float = 1.0) -> float:
        """Learning rate of optimiser step number `step` when the share `progress` in [0, 1] of the stage is done."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup > 0 else 1.0
        if self.schedule == "constant":
            return self.learning_rate * warm * lr_scale
        fall = 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
        return self.learning_rate * warm * lr_scale * (self.final_scale + (1 - self.final_scale) * fall)


def _decayed(params: PyTree) -> PyTree:
    """True for the leaves named `kernel`: stacked biases and gains have rank 2 too, so rank cannot tell."""
    return jax.tree_util.tree_map_with_path(lambda path, _: getattr(path[-1], "key", None) == "kernel", params)


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """AdamW whose updates are for a learning rate of 1: `make_train_step` multiplies them by its rate."""
    return clipped_adamw(
        clip_norm=config.clip_norm,
        b1=config.b1,
        b2=config.b2,
        eps=config.eps,
        weight_decay=config.weight_decay,
        decayed=_decayed,
    )


def init_state(params: PyTree, optimizer: optax.GradientTransformation, extra: PyTree = ()) -> TrainState:
    """State before the first step. The average starts as a copy, so that the state can be donated."""
    return TrainState(params, jax.tree.map(jnp.copy, params), optimizer.init(params), extra)


class LossFn(Protocol):
    """`loss_fn(params, extra, batch, key=key) -> (loss, (extra, metrics))`; loss and metrics are scalars."""

    def __call__(
        self, params: PyTree, extra: PyTree, batch: PyTree, *, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]: ...


def from_stack(data: PyTree, step: Int[Array, ""], key: Array) -> PyTree:  # noqa: ARG001 - a BatchFn
    """Batch number `step` of host batches that were stacked on a leading axis of `steps_per_call`."""
    return jax.tree.map(lambda leaf: leaf[step % leaf.shape[0]], data)


BatchFn = Callable[[PyTree, Int[Array, ""], Array], PyTree]
TrainStep = Callable[[TrainState, PyTree, int, float], tuple[TrainState, dict[str, Array]]]


def make_train_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    batch_fn: BatchFn = from_stack,
    *,
    seed: int,
    steps_per_call: int = 1,
    ema_decay: float = 0.999,
) -> TrainStep:
    """Build `train(state, data, step, learning_rate) -> (state, metrics)`, jitted, with `state` donated.

    Args:
        loss_fn: see `LossFn`.
        optimizer: of `make_optimizer`; its updates are multiplied by `learning_rate`.
        batch_fn: `batch_fn(data, step, key) -> batch`, run inside jit, so that a corpus on the device is gathered
            there. It may depend on nothing but its arguments.
        seed: of all random keys.
        steps_per_call: optimiser steps of one dispatch.
        ema_decay: see `OptimizerConfig`.

    Returns:
        A function that makes the optimiser steps `step` .. `step + steps_per_call - 1`. Its metrics are means over
        them, device arrays that nobody has read yet: those of `loss_fn`, "loss", "grad_norm" (before clipping).
    """

    def one(state: TrainState, data: PyTree, step: Array, rate: Array) -> tuple[TrainState, dict[str, Array]]:
        data_key, loss_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), step))
        batch = batch_fn(data, step, data_key)
        (loss, (extra, metrics)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params, state.extra, batch, key=loss_key
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = jax.tree.map(lambda p, u: p + rate.astype(p.dtype) * u, state.params, updates)
        decay = jnp.minimum(ema_decay, (1.0 + step) / (10.0 + step))
        ema = jax.tree.map(lambda e, p: e + (1 - decay).astype(e.dtype) * (p - e), state.ema, params)
        metrics = {**metrics, "loss": loss, "grad_norm": optax.tree.norm(grads)}
        return TrainState(params, ema, opt_state, extra), metrics

    def many(state: TrainState, data: PyTree, first: Array, rate: Array) -> tuple[TrainState, dict[str, Array]]:
        steps = first + jnp.arange(steps_per_call, dtype=jnp.int32)
        state, metrics = jax.lax.scan(lambda carry, step: one(carry, data, step, rate), state, steps)
        return state, jax.tree.map(lambda values: jnp.mean(values, axis=0), metrics)

    jitted = jax.jit(many, donate_argnums=0)

    def train(state: TrainState, data: PyTree, step: int, learning_rate: float) -> tuple[TrainState, dict[str, Array]]:
        # Fixed dtypes: a Python scalar would be weakly typed, and a change of its type would compile again.
        return jitted(state, data, jnp.asarray(step, jnp.int32), jnp.asarray(learning_rate, jnp.float32))

    return train
