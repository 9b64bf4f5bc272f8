"""Stochastic head of the dynamics: a rectified flow from Gaussian noise to the change of w, in a few Euler steps.

Regression predicts the mean of all futures, which is none of them where the future is uncertain. Here a small network
learns the velocity dx/dtime of straight paths x = (1 - time) * noise + time * target, given the transformer's output
(flow matching, arXiv:2210.02747; rectified flow, arXiv:2209.03003). Where the future is certain the paths meet in one
point and Euler's steps are exact.

The network is a perceptron with adaptive normalisation (arXiv:2212.09748, section 3.2). Its output is an offset and a
gain of x beside the gain that is best for any target of unit variance, so that a Gaussian of any mean and variance is
within reach of a network that is narrower than w. The last layer starts at zero: an untrained head draws from a
Gaussian of the target's scale, and at temperature 0 it gives a change of zero.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from genie_jax.nn import FeedForward, Params, RMSNorm, graph_of, linear, split

HARMONICS = 8  # of the time


@dataclass(frozen=True)
class FlowConfig:
    """Sizes of the head: see `DynamicsConfig`, where they come from.

    Attributes:
        condition: width of the transformer's output.
        features: numbers of the target, L * D.
        width, layers: of the network; the hidden width of its blocks is twice as much.
        steps: Euler steps of a draw.
        dtype: of matrix products; x and velocity are float32.
    """

    condition: int
    features: int
    width: int
    layers: int
    steps: int
    dtype: str


class FlowIn(nnx.Module):
    """Condition and time to what the blocks are told, and x to their width."""

    def __init__(self, config: FlowConfig, rngs: nnx.Rngs) -> None:
        self.dtype = jnp.dtype(config.dtype)
        self.final_norm = RMSNorm((config.condition,))
        self.project_condition = linear(config.condition, config.width, dtype=self.dtype, rngs=rngs)
        self.project_time = linear(2 * HARMONICS, config.width, bias=True, dtype=self.dtype, rngs=rngs)
        self.project_in = linear(config.features, config.width, dtype=self.dtype, rngs=rngs)

    def __call__(self, x: Array, time: Array, condition: Array) -> tuple[Array, Array]:
        angle = jnp.pi * time[..., None] * jnp.arange(1, HARMONICS + 1)
        harmonics = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)
        told = self.project_condition(self.final_norm(condition)) + self.project_time(harmonics)
        return self.project_in(x), nnx.silu(told)


class FlowBlock(nnx.Module):
    """h + gate * feed_forward(norm(h) * (1 + scale) + shift), the three from what is told."""

    def __init__(self, config: FlowConfig, rngs: nnx.Rngs) -> None:
        dtype = jnp.dtype(config.dtype)
        self.norm = RMSNorm((config.width,))
        self.modulation = linear(config.width, 3 * config.width, bias=True, dtype=dtype, rngs=rngs)
        self.feed_forward = FeedForward(
            config.width, 2 * config.width, gated=False, activation="silu", dtype=dtype, rngs=rngs
        )

    def __call__(self, h: Array, told: Array) -> Array:
        shift, scale, gate = jnp.split(self.modulation(told), 3, axis=-1)
        return h + gate * self.feed_forward(self.norm(h) * (1 + scale) + shift)


class FlowOut(nnx.Module):
    """Offset and gain of x, 2 * features; both zero at the start."""

    def __init__(self, config: FlowConfig, rngs: nnx.Rngs) -> None:
        self.norm = RMSNorm((config.width,))
        self.project_out = linear(config.width, 2 * config.features, dtype=jnp.dtype(config.dtype), rngs=rngs)
        self.project_out.kernel = nnx.Param(jnp.zeros((config.width, 2 * config.features), jnp.float32))

    def __call__(self, h: Array) -> tuple[Array, Array]:
        offset, gain = jnp.split(self.project_out(self.norm(h)).astype(jnp.float32), 2, axis=-1)
        return offset, gain


class FlowHead:
    """Pure functions over a plain dict of parameters: "scale", "enter", "blocks" (stacked) and "leave".

    "scale" is no weight but a statistic, the root mean square of each number's change, by which the target is divided
    (see `DynamicsModel.with_change_scale`); it gets no gradient.
    """

    def __init__(self, config: FlowConfig) -> None:
        self.config = config
        self._enter = graph_of(lambda rngs: FlowIn(config, rngs))
        self._block = graph_of(lambda rngs: FlowBlock(config, rngs))
        self._leave = graph_of(lambda rngs: FlowOut(config, rngs))

    def init(self, key: Array) -> Params:
        """Fresh float32 parameters, "scale" of ones."""
        config = self.config
        enter, blocks, leave = jax.random.split(key, 3)
        keys = jax.random.split(blocks, config.layers)
        return {
            "scale": jnp.ones((config.features,), jnp.float32),
            "enter": split(lambda rngs: FlowIn(config, rngs), enter)[1],
            "blocks": jax.vmap(lambda one: split(lambda rngs: FlowBlock(config, rngs), one)[1])(keys),
            "leave": split(lambda rngs: FlowOut(config, rngs), leave)[1],
        }

    def scale(self, params: Params, level: Float[Array, "*batch"] | None) -> Float[Array, "*#batch F"]:
        """Standard deviation of the target, by the context's noise level.

        A w of unit variance whose change has the root mean square s, told with noise of level l: the next w less
        w / (1 + l^2) has the variance (s^2 + l^2) / (1 + l^2).
        """
        square = lax.stop_gradient(params["scale"]) ** 2
        if level is None:
            return jnp.sqrt(square)
        noise = level[..., None] ** 2
        return jnp.sqrt((square + noise) / (1 + noise))

    def velocity(
        self,
        params: Params,
        x: Float[Array, "*batch F"],
        time: Float[Array, "*batch"],
        condition: Float[Array, "*batch M"],
    ) -> Float[Array, "*batch F"]:
        """dx/dtime at `time` in [0, 1], 0 the noise and 1 the target in units of `scale`."""
        h, told = nnx.merge(self._enter, params["enter"])(x, time, condition)

        def body(h: Array, block: Params) -> tuple[Array, None]:
            return nnx.merge(self._block, block)(h, told), None

        h, _ = lax.scan(body, h, params["blocks"])
        offset, gain = nnx.merge(self._leave, params["leave"])(h)
        # Covariance of velocity and x over the variance of x, for independent noise and target of unit variance.
        best = (2 * time - 1) / ((1 - time) ** 2 + time**2)
        return (best[..., None] + gain) * x + offset

    def draw(
        self, params: Params, condition: Float[Array, "*batch M"], noise: Float[Array, "*batch F"]
    ) -> Float[Array, "*batch F"]:
        """The target that the flow leads `noise` to, in units of `scale`; noise of zeros gives the middle one."""
        steps = self.config.steps

        def body(x: Array, number: Array) -> tuple[Array, None]:
            time = jnp.full(x.shape[:-1], number / steps, jnp.float32)
            return x + self.velocity(params, x, time, condition) / steps, None

        return lax.scan(body, noise, jnp.arange(steps, dtype=jnp.float32))[0]
