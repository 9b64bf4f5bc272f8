"""Training loss of the dynamics: teacher-forced over a long clip, plus through steps that the model generated itself.

Teacher-forced: every frame of the clip predicts the next one, from a context with Gaussian noise whose level is
embedded (arXiv:2408.14837, section 3.2). Self-generated: from `unroll_starts` frames of the clip, the model's own
prediction is fed back `unroll` times with the true codes, and every result is compared with the truth; the keys and
values of the first pass, cut at the start, are what it sees, so that `unroll` more steps cost `unroll * unroll_starts`
tokens a clip rather than whole passes. The form (`ahead`) is made for its gradient and equal to the `step` of play.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from genie_jax.transformer import Own, Past, TransformerStack


class Unrollable(Protocol):
    """What the loss asks of a model: see `DynamicsModel`. `config` has `window` and `context_noise`."""

    config: Any
    blocks: TransformerStack

    def apply_with_keys(
        self, params: dict, w_BTLD: Array, codes_BT: Array, *, noise_level_BT: Array | None = None
    ) -> tuple[Array, tuple[Array, ...], tuple[Array, ...]]: ...

    def ahead(
        self, params: dict, blocks: Sequence[dict], past: Past, own: Own, w_BLD: Array, codes_B: Array
    ) -> tuple[Own, Array]: ...


@dataclass(frozen=True)
class LossConfig:
    """Options of the loss.

    Attributes:
        kind: "mse", or "huber": quadratic up to `huber_delta`, linear beyond; of the regression head, a flow head's
            loss is always the square.
        huber_delta: in standard deviations of w.
        noise_scope: the level is drawn for each "clip" or, independently, for each "frame".
        clean_share: share of the clips (frames) that get level 0, which is what play tells the model.
        unroll: self-generated steps, 0 .. 8.
        unroll_starts: frames of each clip that a self-generated stretch starts from (drawn anew each step).
        unroll_weight: of the self-generated part, relative to the teacher-forced part.
        curriculum: share of the training, in [0, 1), over which the self-generated steps grow as 1, 2, 4, ..., each
            for an equal part of it, before all `unroll` are made; 0 makes all from the start. The loss itself makes
            `unroll` steps: who trains asks `steps_at`.
        flow_draws: times and noises at which a flow head's velocity is compared for each frame.
    """

    kind: Literal["mse", "huber"] = "huber"
    huber_delta: float = 1.0
    noise_scope: Literal["clip", "frame"] = "clip"
    clean_share: float = 0.25
    unroll: int = 4
    unroll_starts: int = 4
    unroll_weight: float = 1.0
    curriculum: float = 0.0
    flow_draws: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.unroll <= 8:
            raise ValueError(f"unroll {self.unroll} is outside 0 .. 8: choose a number of self-generated steps in it.")
        if not 0 <= self.clean_share < 1:
            raise ValueError(f"clean_share {self.clean_share} is outside [0, 1); for no noise set context_noise to 0.")
        if self.unroll_starts < 1:
            raise ValueError(f"unroll_starts {self.unroll_starts} is below 1; to switch the part off set unroll to 0.")
        if not 0 <= self.curriculum < 1:
            raise ValueError(f"curriculum {self.curriculum} is outside [0, 1); for none of it set it to 0.")
        if self.flow_draws < 1:
            raise ValueError(f"flow_draws {self.flow_draws} is below 1: a flow head needs at least one time a frame.")

    def steps_at(self, progress: float) -> int:
        """Self-generated steps when the share `progress` in [0, 1] of the training is done."""
        fewer = [2**power for power in range(self.unroll.bit_length()) if 2**power < self.unroll]
        if progress >= self.curriculum or not fewer:
            return self.unroll
        return fewer[min(int(progress / self.curriculum * len(fewer)), len(fewer) - 1)]


def penalty(config: LossConfig, error: Float[Array, "*batch L D"], weight_LD: Array | None) -> Float[Array, ""]:
    """Mean over all numbers of error^2 (or Huber's function, scaled to equal error^2 below its delta)."""
    # Huber's function is bounded * (2 * error - bounded), and its derivative 2 * bounded, as if that were a constant.
    delta = config.huber_delta
    bounded = error if config.kind == "mse" else lax.stop_gradient(jnp.clip(error, -delta, delta))
    cost = bounded * (2 * error - bounded)
    return jnp.mean(cost if weight_LD is None else cost * weight_LD)


def noise_context(
    config: LossConfig, largest: float, w_BTLD: Float[Array, "B T L D"], key: Array
) -> tuple[Float[Array, "B T L D"], Float[Array, "B T"] | None]:
    """Context with Gaussian noise and its level, 0 or uniform in [0, `largest`); None where noise is off."""
    if not largest:
        return w_BTLD, None
    level_key, noise_key = jax.random.split(key)
    B, T = w_BTLD.shape[:2]
    # The interval is stretched below 0 so far that the clean share of the draws falls there.
    below = config.clean_share / (1 - config.clean_share)
    drawn = jax.random.uniform(level_key, (B, T if config.noise_scope == "frame" else 1), minval=-below)
    level_BT = jnp.broadcast_to(jnp.maximum(drawn, 0) * largest, (B, T))
    noise = jax.random.normal(noise_key, w_BTLD.shape)
    return w_BTLD + level_BT[..., None, None] * noise, level_BT


class Draws(NamedTuple):
    """What is random in the loss of a batch: everything else is arithmetic.

    Attributes:
        context_BTLD: all frames but the last, with their noise.
        level_BT: level of that noise, None where noise is off.
        starts_S: frames that the self-generated stretches start from.
    """

    context_BTLD: Float[Array, "B Tm1 L D"]
    level_BT: Float[Array, "B Tm1"] | None
    starts_S: Int[Array, " S"]


def draw(config: LossConfig, largest: float, w_BTLD: Float[Array, "B T L D"], key: Array) -> Draws:
    """Draw the noise up to the level `largest` and the starts for clips `w_BTLD`.

    Raises:
        ValueError: the clips are too short for `config.unroll` self-generated steps.
    """
    T, k = w_BTLD.shape[1], config.unroll
    if k + 2 > T:
        raise ValueError(f"clips of {T} frames are too short for {k} self-generated steps: give at least {k + 2}.")
    noise_key, start_key = jax.random.split(key)
    context, level = noise_context(config, largest, w_BTLD[:, :-1], noise_key)
    return Draws(context, level, jax.random.randint(start_key, (config.unroll_starts,), 0, T - 1 - k))


def clip_loss(
    model: Unrollable,
    config: LossConfig,
    params: dict,
    w_BTLD: Float[Array, "B T L D"],
    codes_BTm1: Array,
    *,
    key: Array,
    weight_LD: Array | None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Loss and metrics of a batch of clips; see `DynamicsModel.loss`."""
    k = config.unroll
    context, level, starts = draw(config, model.config.context_noise, w_BTLD, key)
    predicted, keys, values = model.apply_with_keys(params, context, codes_BTm1, noise_level_BT=level)
    error = predicted - w_BTLD[:, 1:]
    loss = penalty(config, error, weight_LD)
    metrics = {
        "mse": jnp.mean(error**2),
        "copy_mse": jnp.mean((w_BTLD[:, 1:] - w_BTLD[:, :-1]) ** 2),
    }
    if k:
        unrolled = self_generated(model, params, predicted, (keys, values), codes_BTm1, starts, k)
        truth = jax.vmap(lambda s: lax.dynamic_slice_in_dim(w_BTLD, s + 2, k, axis=1))(starts)
        error = unrolled - truth  # starts, B, k, L, D
        loss = loss + config.unroll_weight * penalty(config, error, weight_LD)
        metrics["unroll_mse"] = jnp.mean(error**2)
    return loss, metrics


def self_generated(
    model: Unrollable,
    params: dict,
    predicted_BTLD: Float[Array, "B T L D"],
    keys_values: tuple[Sequence[Array], Sequence[Array]],
    codes_BT: Array,
    starts_S: Array,
    count: int,
) -> Float[Array, "S B k L D"]:
    """Feed the prediction made at each start back `count` times.

    Args:
        model, params: see `DynamicsModel`.
        predicted_BTLD: predictions of the first pass; that of frame s is the first fed back.
        keys_values: of the first pass, (B, T, P, G, E) each, by blocks.
        codes_BT: codes of the clip.
        starts_S: frame numbers s.
        count: k.

    Returns:
        Predictions of frames s+2 .. s+1+k.
    """

    stack, B = model.blocks, predicted_BTLD.shape[0]
    blocks, past = stack.unstacked(params["blocks"]), stack.past_at(*keys_values, starts_S)
    w_XLD = jnp.concatenate([predicted_BTLD[:, start] for start in starts_S])  # X = S * B stretches
    codes_XT = jnp.concatenate([lax.dynamic_slice_in_dim(codes_BT, s + 1, count, axis=1) for s in starts_S])
    own, made = (), []
    for step in range(count):
        # Its own predictions count as clean: that is what play tells the model.
        own, w_XLD = model.ahead(params, blocks, past, own, w_XLD, codes_XT[:, step])
        made.append(w_XLD)
    return jnp.stack(made, axis=1).reshape(len(starts_S), B, count, *w_XLD.shape[1:])
