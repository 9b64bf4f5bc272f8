"""A generated frame by the ring cache beside recomputing the window of frames that it depends on.

    python benchmarks/cached_step.py [-o cached_step.json] [--device cuda]

The cached step reads one frame against the keys and values of the frames before; the other way runs `apply` over the
last `window` frames and takes the last prediction. The first predictions of both must be equal.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from rows import Row, arguments, compare, finish
from timing import interleaved

from genie_jax.dynamics import DynamicsConfig, DynamicsModel
from train.devices import choose_devices
from train.presets import preset

TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}  # of the largest number: the two sum in another order


def measure(name: str, batch: int, *, rounds: int) -> Row:
    """The row of one preset's dynamics with `batch` rollouts side by side."""
    config = sized(name)
    model = DynamicsModel(config)
    params = model.init(jax.random.key(0))
    head = params["head"]["project_out"]
    head["kernel"] = 0.02 * jax.random.normal(jax.random.key(1), head["kernel"].shape)  # it begins at zero
    W = config.window
    rng = np.random.default_rng(0)
    w_BTLD = jnp.asarray(rng.standard_normal((batch, W, config.rows, config.style_dim), np.float32))
    codes_BT = jnp.asarray(rng.integers(0, config.codes, (batch, W)), jnp.int32)
    cache, _ = model.prefill(params, model.init_cache(batch), w_BTLD[:, :-1], codes_BT[:, :-1])
    step = jax.jit(model.step, donate_argnums=1)
    apply = jax.jit(lambda *inputs: model.apply(*inputs)[:, -1])

    play = jax.block_until_ready(jax.jit(model.for_play)(params))  # the form that play steps with
    held, first = step(play, jax.tree.map(jnp.copy, cache), w_BTLD[:, -1], codes_BT[:, -1])
    same = apply(params, w_BTLD, codes_BT)
    error = float(jnp.abs(first - same).max() / jnp.abs(same).max())
    if error > TOLERANCE[config.compute_dtype]:
        raise SystemExit(f"{name}: the cached step and the whole window differ by {error:.1e}")
    state = [held]

    def cached() -> None:
        state[0], w_BLD = step(play, state[0], w_BTLD[:, -1], codes_BT[:, -1])
        w_BLD.block_until_ready()

    functions = {"cached": cached, "window": lambda: apply(params, w_BTLD, codes_BT).block_until_ready()}
    taken = interleaved(functions, rounds=rounds, warmup=3)
    case = f"{name}, {batch} rollout{'s' if batch > 1 else ''}"
    return compare(case, taken["cached"], f"recomputing {W} frames", taken["window"], goal=1.0)


def sized(name: str) -> DynamicsConfig:
    """The preset's dynamics for its own w."""
    config = preset(name)
    return replace(config.dynamics.model, style_dim=config.style_dim)


def main() -> None:
    options = arguments(__doc__, rounds=100, devices=("cpu", "cuda")).parse_args()
    choose_devices(options.device)
    rounds = 3 if options.quick else options.rounds
    cases = [("debug", 1)] if options.quick else [("tiny", 1), ("tiny", 16), ("laptop", 1), ("laptop", 16)]
    rows = [measure(name, batch, rounds=rounds) for name, batch in cases]
    finish("cached_step", "Cached step of the dynamics", rows, options)


if __name__ == "__main__":
    main()
