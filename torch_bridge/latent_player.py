"""The JAX half of a world: w and a code to the next w, one compiled step for reset, play and evaluation alike."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt32

from genie_jax.dynamics import DynamicsConfig, DynamicsModel
from genie_jax.flops import count_flops
from genie_jax.nn import Params
from genie_jax.ring_cache import Cache
from genie_jax.tiled_linear import compiler_options
from genie_jax.trees import unflatten_tree
from torch_bridge.manifest import parse_config


class LatentState(NamedTuple):
    """Where rollouts stand.

    Attributes:
        cache: what the dynamics remembers.
        w_BLD: normalised w of the newest frame of each.
        key_B: where each rollout's stream of random numbers stands; a regression head never moves it.
    """

    cache: Cache
    w_BLD: Float[Array, "B L D"]
    key_B: Key[Array, " B"]


class Knobs(NamedTuple):
    """What may change between two steps without compiling again.

    Attributes:
        noise_level: context-noise level that the model is told; read only by a model that embeds one.
        clamp: largest absolute value of a generated normalised w, inf for none.
        temperature: of draws; read only by a model with a flow head.
    """

    noise_level: Float[Array, ""]
    clamp: Float[Array, ""]
    temperature: Float[Array, ""]


class Step(Protocol):
    """A step of the dynamics: see `LatentPlayer.step`."""

    def __call__(self, state: LatentState, codes_B: Array, knobs: Knobs) -> tuple[LatentState, Array]: ...


class LatentPlayer:
    """Steps of the dynamics with everything around them in one jitted function whose state is donated.

    Args:
        model: the dynamics.
        params: its parameters.
        w_mean_LD, w_std_LD: statistics of the corpus, by which w is normalised.
    """

    def __init__(
        self, model: DynamicsModel, params: Params, w_mean_LD: Float[Array, "L D"], w_std_LD: Float[Array, "L D"]
    ) -> None:
        self.model, self._params = model, jax.jit(model.for_play)(params)
        self._from_play = jax.jit(model.from_play)
        self.w_mean_LD, self.w_std_LD = w_mean_LD, w_std_LD
        # jit gives each field a buffer of its own; donating one buffer twice is an error.
        # It is bound to the parameters' device as all later states are: else the first step is compiled for itself.
        self.empty_cache = jax.jit(model.init_cache, static_argnums=0, out_shardings=w_mean_LD.sharding)
        self._keys = jax.jit(jax.vmap(jax.random.key))
        self._step = jax.jit(self._one_step, donate_argnums=2)
        place = {"in_shardings": w_mean_LD.sharding, "out_shardings": w_mean_LD.sharding}  # for NumPy arrays as well
        self.normalise = jax.jit(lambda w: (w - w_mean_LD) / w_std_LD, **place)
        self.denormalise = jax.jit(lambda w: w * w_std_LD + w_mean_LD)

    @classmethod
    def from_tensors(
        cls, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], device: jax.Device
    ) -> "LatentPlayer":
        """The player of a bundle: fields of `DynamicsConfig`, and the tensors `params/...`, `w_mean`, `w_std`.

        Raises:
            ValueError: the config is none of `DynamicsConfig`, or a tensor does not fit it.
        """
        model = DynamicsModel(parse_config(DynamicsConfig, config))
        row = jax.ShapeDtypeStruct((model.config.rows, model.config.style_dim), jnp.float32)
        like = {"params": jax.eval_shape(model.init, jax.random.key(0)), "w_mean": row, "w_std": row}
        tree = jax.device_put(unflatten_tree(tensors, like, what="the dynamics"), device)
        return cls(model, tree["params"], tree["w_mean"], tree["w_std"])

    @property
    def params(self) -> Params:
        """The dynamics' parameters as `DynamicsModel.init` makes them, put together anew at each call."""
        return self._from_play(self._params)

    def start(
        self,
        w_TBLD: Sequence[Float[Array, "B L D"]],
        codes_Tm1B: Sequence[Int[Array, " B"]],
        knobs: Knobs,
        seeds_B: UInt32[Array, " B"],
    ) -> LatentState:
        """The state after T known frames and the codes between them, by the step that also generates.

        Frames come one by one, so that prompts of every length share one compiled step.
        """
        state = LatentState(self.empty_cache(w_TBLD[0].shape[0]), self.normalise(w_TBLD[0]), self._keys(seeds_B))
        for known_BLD, codes_B in zip(w_TBLD[1:], codes_Tm1B, strict=True):
            state, _ = self.step(state, codes_B, knobs)
            state = state._replace(w_BLD=self.normalise(known_BLD))
        return state

    def step(self, state: LatentState, codes_B: Int[Array, " B"], knobs: Knobs) -> tuple[LatentState, Array]:
        """Take one code in each rollout: the state after it (the given one is used up), and w_BLD for the decoder."""
        return self._step(self._params, (self.w_mean_LD, self.w_std_LD), state, codes_B, knobs)

    def half_step(self) -> Step:
        """`step` with the blocks' weights in half precision, faster for one rollout: see `genie_jax.tiled_linear`.

        Each call of this makes a copy of them and a program of its own.
        """
        params = jax.jit(lambda params: self.model.for_play(params, half=True))(self.params)
        jitted = jax.jit(self._one_step, donate_argnums=2, compiler_options=compiler_options())
        stats = (self.w_mean_LD, self.w_std_LD)

        def step(state: LatentState, codes_B: Int[Array, " B"], knobs: Knobs) -> tuple[LatentState, Array]:
            return jitted(params, stats, state, codes_B, knobs)

        return step

    def _one_step(
        self, params: Params, stats: tuple[Array, Array], state: LatentState, codes_B: Array, knobs: Knobs
    ) -> tuple[LatentState, Float[Array, "B L D"]]:
        level_B = jnp.broadcast_to(knobs.noise_level, codes_B.shape) if self.model.config.context_noise > 0 else None
        key_B, now_B = state.key_B, None
        if self.model.flow is not None:
            key_B, now_B = jnp.moveaxis(jax.vmap(jax.random.split)(state.key_B), 1, 0)
        cache, w_BLD = self.model.step(
            params, state.cache, state.w_BLD, codes_B, noise_level_B=level_B, key=now_B, temperature=knobs.temperature
        )
        w_BLD = jnp.clip(w_BLD, -knobs.clamp, knobs.clamp)
        mean_LD, std_LD = stats
        return LatentState(cache, w_BLD, key_B), w_BLD * std_LD + mean_LD

    @staticmethod
    def copy(state: LatentState) -> LatentState:
        """A state that survives the steps taken from the given one."""
        return jax.tree.map(jnp.copy, state)

    def compiled_steps(self) -> int:
        """How often the step was compiled: once for each number of rollouts side by side."""
        return self._step._cache_size()

    def weight_bytes(self, *, half: bool = False) -> int:
        """Bytes that `step`, or `half_step`, reads of the parameters."""
        params = jax.eval_shape(lambda p: self.model.for_play(self.model.from_play(p), half=half), self._params)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))

    def parameters(self) -> int:
        """Numbers that a step reads."""
        return sum(leaf.size for leaf in jax.tree.leaves((self._params, self.w_mean_LD, self.w_std_LD)))

    def flops(self) -> int:
        """Floating-point operations of one step of one rollout."""
        config = self.model.config
        w_BLD = jnp.zeros((1, config.rows, config.style_dim))
        state = LatentState(self.empty_cache(1), w_BLD, self._keys(jnp.zeros(1, jnp.uint32)))
        knobs = Knobs(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))
        stats = (self.w_mean_LD, self.w_std_LD)
        return count_flops(self._one_step, self._params, stats, state, jnp.zeros((1,), jnp.int32), knobs)
