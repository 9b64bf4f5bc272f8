"""Weights in half precision for rollouts one at a time: the layer beside a plain product, the step beside float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from genie_jax import tiled_linear
from genie_jax.dynamics import DynamicsConfig, DynamicsModel
from genie_jax.nn import split
from genie_jax.tiled_linear import TiledLinear, compiler_options, is_tiled, tile_kernel, tiled

SIZES = [(8, 64), (13, 70), (64, 3), (1, 1)]  # whole tiles and groups, and remainders of both


def product(kernel_KN: np.ndarray, x: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """What the layer makes of x."""
    graph, _ = split(
        lambda rngs: TiledLinear(*kernel_KN.shape, bias=True, dtype=jnp.float32, rngs=rngs),
        jax.random.key(0),
    )
    params = {"tiles": tile_kernel(jnp.asarray(kernel_KN)), "bias": jnp.asarray(bias)}
    run = jax.jit(lambda params, x: nnx.merge(graph, params)(x), compiler_options=compiler_options())
    return np.asarray(run(params, jnp.asarray(x)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3,)])
def test_half_precision_is_the_product_with_the_rounded_kernel(size: tuple[int, int], shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=size).astype(np.float32), rng.normal(size=size[1]).astype(np.float32)
    x = rng.normal(size=(*shape, size[0])).astype(np.float32)
    rounded = kernel.astype(np.float16).astype(np.float64)
    np.testing.assert_allclose(product(kernel, x, bias), x @ rounded + bias, rtol=1e-5, atol=1e-5)


def test_what_has_no_kernel_stays_as_it_is() -> None:
    params = {"norm": {"gain": jnp.ones(3)}, "layer": {"kernel": jnp.ones((8, 4)), "bias": jnp.zeros(4)}}
    stored = tiled(params)
    assert stored["norm"]["gain"] is params["norm"]["gain"]
    assert set(stored["layer"]) == {"tiles", "bias"}
    assert is_tiled(stored)
    assert not is_tiled(params)


def test_options_that_this_jax_does_not_know_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    known = compiler_options()
    monkeypatch.setattr(tiled_linear, "WANTED_OPTIONS", tiled_linear.WANTED_OPTIONS | {"xla_cpu_no_such_option": True})
    assert compiler_options.__wrapped__() == known


@pytest.mark.parametrize("changes", [{}, {"action": "token"}, {"kv_heads": 1}, {"head": "flow"}])
def test_steps_lead_where_float32_leads(changes: dict) -> None:
    config = DynamicsConfig(
        24, 2, heads=2, head_dim=8, window=4, codes=3, rows=2, style_dim=5, context_noise=0.5, flow_width=16, **changes
    )
    model = DynamicsModel(config)
    params = model.init(jax.random.key(0))
    if config.head == "regression":
        shape = params["head"]["project_out"]["kernel"].shape
        params["head"]["project_out"]["kernel"] = 0.1 * jax.random.normal(jax.random.key(1), shape)
    half = model.for_play(params, half=True)
    assert is_tiled(half["blocks"][0])
    step = jax.jit(model.step, compiler_options=compiler_options())
    ours, theirs = model.init_cache(1), model.init_cache(1)
    w_TLD = jax.random.normal(jax.random.key(2), (7, 1, 2, 5))  # beyond the window
    apart = []
    for number, w_BLD in enumerate(w_TLD):
        codes_B = jnp.array([number % 3])
        ours, mine = step(half, ours, w_BLD, codes_B)
        theirs, exact = step(params, theirs, w_BLD, codes_B)
        apart.append(np.abs(mine - exact).max())
    assert max(apart) < 2e-3
    if config.head == "regression":  # an untrained flow head does not read the blocks
        assert max(apart) > 0
    np.testing.assert_allclose(ours.keys, theirs.keys, atol=2e-3)


def test_half_precision_is_half_the_bytes_where_tiles_are_full() -> None:
    kernel = jnp.zeros((64, 128))
    assert tile_kernel(kernel).nbytes == kernel.nbytes // 2
