"""Training loss of dynamics with a flow head: the velocity's error, teacher-forced and from self-generated frames.

Teacher-forced as in `dynamics_loss`, with the squared error of the velocity (arXiv:2210.02747, equation 23) in place
of that of w, measured in units of w, so that a weight of a number of w means the same for both heads. It is always
the square: the mean velocity is what makes the flow lead to the right distribution, and Huber's function has another
minimum.

Self-generated: from the start of each stretch the next frame is *drawn* and fed back, and at every such frame the
target is the true next w as seen from there. No gradient passes through what was drawn: pulled towards the truth, a
draw would learn to be the mean. It passes through the keys and values that the drawn frames are read with.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from genie_jax.dynamics_loss import LossConfig, draw, penalty
from genie_jax.ring_cache import cache_at

SQUARE = LossConfig(kind="mse")


def velocity_loss(
    model: Any,
    params: dict,
    out_BTM: Float[Array, "*batch M"],
    seen_BTLD: Float[Array, "*batch L D"],
    level_BT: Float[Array, "*batch"] | None,
    truth_BTLD: Float[Array, "*batch L D"],
    *,
    key: Array,
    draws: int,
    weight_LD: Array | None,
) -> Float[Array, ""]:
    """Mean squared error of the velocity at `draws` times and noises for each frame, in units of w.

    Args:
        model, params: a `DynamicsModel` with a flow head.
        out_BTM: the transformer's output at each frame; any leading axes.
        seen_BTLD, level_BT: the w that was read there and the noise level that was told.
        truth_BTLD: the w that follows.
        key: of times (uniform) and noises.
        draws, weight_LD: see `LossConfig.flow_draws` and `DynamicsModel.loss`.
    """
    head, batch = params["head"], out_BTM.shape[:-1]
    scale = model.flow.scale(head, level_BT)
    target = (truth_BTLD - model.kept(seen_BTLD, level_BT)).reshape(*batch, -1) / scale
    time_key, noise_key = jax.random.split(key)
    time = jax.random.uniform(time_key, (draws, *batch))
    noise = jax.random.normal(noise_key, (draws, *target.shape))
    x = (1 - time[..., None]) * noise + time[..., None] * target
    condition = jnp.broadcast_to(out_BTM, (draws, *out_BTM.shape))
    error = (model.flow.velocity(head, x, time, condition) - (target - noise)) * scale
    return penalty(SQUARE, error.reshape(draws, *truth_BTLD.shape), weight_LD)


def flow_clip_loss(
    model: Any,
    config: LossConfig,
    params: dict,
    w_BTLD: Float[Array, "B T L D"],
    codes_BTm1: Array,
    *,
    key: Array,
    weight_LD: Array | None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Loss and metrics of a batch of clips: "mse" of the prediction at temperature 0, "unroll_mse" of draws."""
    draw_key, teacher_key, own_key, start_key = jax.random.split(key, 4)
    options = {"draws": config.flow_draws, "weight_LD": weight_LD}
    context, level, starts = draw(config, model.config.context_noise, w_BTLD, draw_key)
    out, keys, values = model.read_clip(params, context, codes_BTm1, noise_level_BT=level)
    loss = velocity_loss(model, params, out, context, level, w_BTLD[:, 1:], key=teacher_key, **options)
    predicted = lax.stop_gradient(model.predict(params, out, context, level))
    metrics = {
        "mse": jnp.mean((predicted - w_BTLD[:, 1:]) ** 2),
        "copy_mse": jnp.mean((w_BTLD[:, 1:] - w_BTLD[:, :-1]) ** 2),
    }
    if not config.unroll:
        return loss, metrics
    first_SBLD = _first(model, params, out, context, level, starts, start_key)
    own_keys = jax.random.split(own_key, (config.unroll_starts + 1, config.unroll))

    def from_start(start: Array, first_BLD: Array, keys_k: Array) -> tuple[Array, Array, Array]:
        cache = cache_at(keys, values, start, model.config.window)
        codes_kB = lax.dynamic_slice_in_dim(codes_BTm1, start + 1, config.unroll, axis=1).T

        def body(carry: tuple, given: tuple[Array, Array]) -> tuple[tuple, tuple[Array, Array, Array]]:
            cache, w_BLD = carry
            codes_B, key = given
            # What it made itself counts as clean: that is what play tells the model.
            cache, out_B1M = model.read(params, cache, w_BLD, codes_B)
            out_BM, noise = out_B1M[:, 0], model.noise(key, w_BLD)
            drawn = lax.stop_gradient(model.predict(params, out_BM, w_BLD, None, noise=noise))
            return (cache, drawn), (out_BM, w_BLD, drawn)

        return lax.scan(body, (cache, first_BLD), (codes_kB, keys_k))[1]

    outs, seen, drawn = jax.vmap(from_start)(starts, first_SBLD, own_keys[:-1])  # starts, k, B, ...
    truth = jax.vmap(lambda s: lax.dynamic_slice_in_dim(w_BTLD, s + 2, config.unroll, axis=1))(starts)
    truth = jnp.swapaxes(truth, 1, 2)
    own = velocity_loss(model, params, outs, seen, None, truth, key=own_keys[-1, 0], **options)
    metrics["unroll_mse"] = jnp.mean((drawn - truth) ** 2)
    return loss + config.unroll_weight * own, metrics


def _first(
    model: Any, params: dict, out_BTM: Array, context_BTLD: Array, level_BT: Array | None, starts_S: Array, key: Array
) -> Float[Array, "S B L D"]:
    """The frame drawn after each start."""

    def at(x_BT: Array) -> Array:
        return jnp.moveaxis(x_BT[:, starts_S], 1, 0)

    level = None if level_BT is None else at(level_BT)
    context = at(context_BTLD)
    noise = jax.random.normal(key, context.shape)
    return lax.stop_gradient(model.predict(params, at(out_BTM), context, level, noise=noise))
