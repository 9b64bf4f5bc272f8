"""The dynamics by their properties: causal, windowed, equal with and without the cache, answering to the code."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

from genie_jax.attention import Attention
from genie_jax.dynamics import DynamicsConfig, DynamicsModel
from genie_jax.dynamics_loss import LossConfig, clip_loss, noise_context, penalty, self_generated
from genie_jax.nn import RMSNorm, gelu, graph_of, linear, rotate, split
from genie_jax.ring_cache import cache_at

TINY = DynamicsConfig(
    width=24, layers=2, heads=4, head_dim=8, window=4, codes=5, rows=2, style_dim=6, context_noise=0.0, ff_mult=2
)
FORMS = ("add", "token")


class Jitted(DynamicsModel):
    """The model with its functions jitted: an eager scan compiles at every call."""

    def __init__(self, config):
        super().__init__(config)
        self.apply, self.prefill = jax.jit(super().apply), jax.jit(super().prefill)
        self.step = jax.jit(super().step)


@cache
def make(**changes):
    """Model and parameters none of which is zero, so that every part shows in the output."""
    model = Jitted(dataclasses.replace(TINY, **changes))
    # Drawn by NumPy: compiling the random draws of many small models would take most of the time of these tests.
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: 0.2 * rng.normal(size=leaf.shape).astype(np.float32), shapes)
    return model, jax.device_put(params)


def clip(batch: int, frames: int):
    rng = np.random.default_rng(1)
    w = rng.normal(size=(batch, frames, TINY.rows, TINY.style_dim)).astype(np.float32)
    return jnp.asarray(w), jnp.asarray(rng.integers(0, TINY.codes, (batch, frames)), jnp.int32)


@pytest.mark.parametrize("action", FORMS)
def test_the_future_does_not_change_the_past(action):
    model, params = make(action=action)
    w, codes = clip(1, 14)
    base = model.apply(params, w, codes)
    later_w = model.apply(params, w.at[:, 7].add(1.0), codes)
    later_code = model.apply(params, w, codes.at[:, 7].set((codes[:, 7] + 1) % TINY.codes))
    for other in (later_w, later_code):
        np.testing.assert_array_equal(other[:, :7], base[:, :7])
        assert (np.abs(other - base)[:, 7:11] > 1e-4).any(axis=(0, 2, 3)).all()


@pytest.mark.parametrize("action", FORMS)
def test_memory_reaches_layers_times_the_window(action):
    model, params = make(action=action)
    w, codes = clip(1, 14)
    codes_too = codes.at[:, 1].set((codes[:, 1] + 1) % TINY.codes)
    other = model.apply(params, w.at[:, 1].add(3.0), codes_too)
    change = np.abs(other - model.apply(params, w, codes)).max(axis=(0, 2, 3))
    last = 1 + TINY.layers * (TINY.window - 1)
    assert change[1 : last + 1].min() > 1e-6
    assert change[last + 1 :].max() == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"action": "add", "layers": 3},
        {"action": "token", "layers": 3, "kv_heads": 2, "qk_rmsnorm": True},
        {"kv_heads": 1, "rotary_dims": 0, "ff_glu": False},
    ],
    ids=str,
)
def test_cached_equals_uncached_far_beyond_the_window(changes):
    model, params = make(**changes)
    w, codes = clip(2, 120)
    whole = model.apply(params, w, codes)
    cache, out = model.init_cache(2), []
    size = jax.tree.map(jnp.shape, cache)
    for t in range(120):
        cache, after = model.step(params, cache, w[:, t], codes[:, t])
        out.append(after)
        assert 0 <= int(cache.cursor) < TINY.window
        assert int(cache.filled) == min(t + 1, TINY.window)
    np.testing.assert_allclose(np.stack(out, axis=1), whole, atol=2e-5)
    assert jax.tree.map(jnp.shape, cache) == size
    assert model.step._cache_size() == 1


@pytest.mark.parametrize("action", FORMS)
def test_the_form_for_play_steps_alike_and_is_the_same_parameters(action):
    model, params = make(action=action)
    w, codes = clip(2, 6)
    play = model.for_play(params)
    for back in (model.from_play(play), model.joined(model.apart(params))):
        assert jax.tree.structure(back) == jax.tree.structure(params)
        for one, other in zip(*map(jax.tree.leaves, (back, params)), strict=True):
            np.testing.assert_array_equal(one, other)
    cache, again = model.init_cache(2), model.init_cache(2)
    for t in range(6):
        cache, after = model.step(params, cache, w[:, t], codes[:, t])
        again, same = model.step(play, again, w[:, t], codes[:, t])
        np.testing.assert_allclose(same, after, atol=1e-6)
    np.testing.assert_allclose(again.keys, cache.keys, atol=1e-6)


@pytest.mark.parametrize("action", FORMS)
def test_prefill_in_any_portions_equals_steps(action):
    model, params = make(action=action)
    w, codes = clip(2, 13)
    whole = model.apply(params, w, codes)
    cache, out = model.init_cache(2), []
    for start, stop in ((0, 1), (1, 3), (3, 10), (10, 11), (11, 13)):  # shorter and longer than the window
        cache, after = model.prefill(params, cache, w[:, start:stop], codes[:, start:stop])
        out.append(after)
    np.testing.assert_allclose(np.concatenate(out, axis=1), whole, atol=2e-5)
    cache, _ = model.prefill(params, model.init_cache(2), w[:, :7], codes[:, :7])
    for t in range(7, 13):
        cache, after = model.step(params, cache, w[:, t], codes[:, t])
        np.testing.assert_allclose(after, whole[:, t], atol=2e-5)


def test_query_head_j_reads_kv_head_j_modulo_their_number():
    def build(kv_heads):
        return lambda rngs: Attention(
            16, heads=4, kv_heads=kv_heads, head_dim=4, rotary_dims=2, qk_rmsnorm=False, dtype=jnp.float32, rngs=rngs
        )

    _, params = split(build(2), jax.random.key(0))
    wide = {**params}
    for name in ("to_k", "to_v"):
        wide[name] = {"kernel": jnp.tile(params[name]["kernel"].reshape(16, 2, 4), (1, 2, 1)).reshape(16, 16)}
    x, place = jax.random.normal(jax.random.key(1), (1, 6, 16)), jnp.arange(6)

    def run(kv_heads, weights):
        from flax import nnx

        attention = nnx.merge(graph_of(build(kv_heads)), weights)
        mask = place[:, None] >= place
        return attention.attend(*attention.project(x), query_N=place, key_S=place, mask_NS=mask)

    np.testing.assert_allclose(run(2, params), run(4, wide), atol=1e-6)


def test_rotary_turns_neighbouring_channels_as_complex_numbers():
    x = jax.random.normal(jax.random.key(0), (1, 5, 1, 6))
    turned = np.asarray(rotate(x, jnp.arange(5), 4, places=5))[0, :, 0]
    x = np.asarray(x)[0, :, 0]
    for pair, frequency in enumerate((1.0, 10000**-0.5)):
        number = (x[:, 2 * pair] + 1j * x[:, 2 * pair + 1]) * np.exp(1j * frequency * np.arange(5))
        np.testing.assert_allclose(turned[:, 2 * pair], number.real, atol=1e-6)
        np.testing.assert_allclose(turned[:, 2 * pair + 1], number.imag, atol=1e-6)
    np.testing.assert_array_equal(turned[:, 4:], x[:, 4:])


def test_rms_norm_has_an_offset_gain_and_no_epsilon_in_the_mean():
    norm = RMSNorm((8,))
    tiny = 1e-5 * np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    expected = tiny / np.linalg.norm(tiny, axis=-1, keepdims=True) * 8**0.5
    np.testing.assert_allclose(norm(jnp.asarray(tiny)), expected, rtol=1e-5)
    np.testing.assert_array_equal(norm(jnp.zeros((1, 8))), np.zeros((1, 8)))


@pytest.mark.parametrize("action", FORMS)
def test_every_code_gives_another_prediction(action):
    model, params = make(action=action)
    w = jnp.broadcast_to(clip(1, 3)[0], (TINY.codes, 3, TINY.rows, TINY.style_dim))
    codes = jnp.zeros((TINY.codes, 3), jnp.int32).at[:, 2].set(jnp.arange(TINY.codes))
    out = np.asarray(model.apply(params, w, codes)[:, 2]).reshape(TINY.codes, -1)
    apart = np.abs(out[:, None] - out).max(axis=-1) + np.eye(TINY.codes)
    assert apart.min() > 1e-3


def test_an_untrained_residual_model_copies_the_last_w():
    model, _ = make()
    params = model.init(jax.random.key(0))
    w, codes = clip(2, 9)
    np.testing.assert_array_equal(model.apply(params, w, codes), w)
    kernel = params["blocks"]["attention"]["to_q"]["kernel"]
    assert np.abs(kernel[0] - kernel[1]).max() > 0.1  # each layer is drawn for itself


def test_bfloat16_computes_in_it_and_stays_close():
    model, params = make()
    half, _ = make(compute_dtype="bfloat16")
    w, codes = clip(2, 9)
    exact, close = model.apply(params, w, codes), half.apply(params, w, codes)
    assert close.dtype == jnp.float32
    assert half.init_cache(1).keys.dtype == jnp.bfloat16
    assert 0 < np.abs(close - exact).max() < 0.1
    loss, _ = half.loss(params, w, codes[:, :-1], key=jax.random.key(0), config=LossConfig(unroll=0))
    assert np.isfinite(loss)
    cache, _ = half.step(params, half.init_cache(2), w[:, 0], codes[:, 0])
    assert cache.keys.dtype == jnp.bfloat16


def test_golden_shapes_and_size_of_the_default():
    model = DynamicsModel(DynamicsConfig())
    params = jax.eval_shape(model.init, jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves((params["blocks"], params["head"]["final_norm"])))
    assert count == 25_196_368  # x-transformers: Decoder of width 512, depth 8, gated with multiplier 8/3
    assert params["blocks"]["attention"]["to_q"]["kernel"].shape == (8, 512, 512)
    assert params["blocks"]["feed_forward"]["expand"]["kernel"].shape == (8, 512, 2 * 1365)
    w, codes = jax.ShapeDtypeStruct((3, 20, 1, 512), jnp.float32), jax.ShapeDtypeStruct((3, 20), jnp.int32)
    assert jax.eval_shape(model.apply, params, w, codes).shape == (3, 20, 1, 512)
    cache = jax.eval_shape(lambda: model.init_cache(3))
    assert cache.keys.shape == (8, 3, 16, 1, 8, 64)
    two = DynamicsModel(DynamicsConfig(action="token", kv_heads=2))
    assert jax.eval_shape(lambda: two.init_cache(3)).keys.shape == (8, 3, 16, 2, 2, 64)


def test_the_noise_level_is_told_in_buckets_and_only_where_it_is_embedded():
    model, params = make(context_noise=0.5)
    w, codes = clip(1, 5)

    def told(level):
        return np.asarray(model.apply(params, w, codes, noise_level_BT=jnp.full((1, 5), level)))

    np.testing.assert_array_equal(told(0.0), model.apply(params, w, codes))
    assert np.abs(told(0.4) - told(0.0)).max() > 1e-3
    assert np.isfinite(told(0.5)).all()  # the largest level has the last bucket
    deaf, its = make()
    with pytest.raises(ValueError, match="embeds no noise level"):
        deaf.apply(its, w, codes, noise_level_BT=jnp.zeros((1, 5)))


def test_noise_has_the_level_that_is_told():
    w = jnp.zeros((200, 8, 1, 16))
    for scope in ("clip", "frame"):
        noisy, level = noise_context(LossConfig(noise_scope=scope, clean_share=0.4), 0.7, w, jax.random.key(0))
        level = np.asarray(level)
        assert (level.std(axis=1) == 0).all() == (scope == "clip")
        assert 0.3 < (level == 0).mean() < 0.5
        assert level.max() < 0.7
        measured = np.asarray(noisy).std(axis=(2, 3)) / np.maximum(level, 1e-9)
        assert abs(measured[level > 0].mean() - 1) < 0.05
        assert (np.asarray(noisy)[level == 0] == 0).all()


@pytest.mark.parametrize(("action", "k"), [*((form, 2) for form in FORMS), ("add", TINY.window + 1)])
def test_unroll_equals_a_loop_that_recomputes_everything(action, k):
    model, params = make(action=action)
    w, codes = clip(2, 7 + k)
    codes, starts = codes[:, :-1], (0, 4)  # a window that is not full, and one that is

    def fast(params):
        out, keys, values = model.apply_with_keys(params, w[:, :-1], codes)
        return self_generated(model, params, out, (keys, values), codes, jnp.array(starts), k)

    def slow(params):
        runs = []
        for s in starts:
            seen = w[:, :-1].at[:, s + 1 :].set(0)  # what lies ahead is not seen by a causal model
            for t in range(s, s + k):
                seen = seen.at[:, t + 1].set(model.apply(params, seen, codes)[:, t])
            last = model.apply(params, seen, codes)[:, s + k]
            runs.append(jnp.concatenate([seen[:, s + 2 : s + k + 1], last[:, None]], axis=1))
        return jnp.stack(runs)

    np.testing.assert_allclose(jax.jit(fast)(params), slow(params), atol=1e-5)
    if action == "add":
        return  # the gradient takes the same way in all forms, and long to compile

    def total(run, params):
        return jnp.sum(run(params) ** 2)

    rng = np.random.default_rng(3)
    way = jax.tree.map(lambda leaf: 1e-2 * rng.normal(size=leaf.shape).astype(np.float32), params)
    gradient = jax.jit(jax.grad(lambda params: total(fast, params)))(params)
    slope = sum(float(jnp.vdot(one, other)) for one, other in zip(*map(jax.tree.leaves, (gradient, way)), strict=True))
    ahead, behind = (jax.tree.map(lambda p, d, e=e: p + e * d, params, way) for e in (0.1, -0.1))
    assert slope == pytest.approx(float(total(slow, ahead) - total(slow, behind)) / 0.2, rel=1e-2)


@pytest.mark.parametrize("unroll", [0, 2])
def test_the_gradient_of_blocks_apart_is_that_of_the_stack(unroll):
    model, params = make()
    w, codes = clip(2, 7)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        return model.loss(params, w, codes[:, :-1], key=jax.random.key(0), config=LossConfig(unroll=unroll))[0]

    (stacked, gradient), (value, apart) = loss(params), loss(model.apart(params))
    assert value == pytest.approx(float(stacked), rel=1e-6)
    for one, other in zip(*map(jax.tree.leaves, (model.joined(apart), gradient)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_loss_is_teacher_forced_plus_weighted_self_generated():
    model, params = make()
    w, codes = clip(2, 4)
    codes, key = codes[:, :-1], jax.random.key(0)

    def loss(**options):
        config = LossConfig(kind="mse", **options)
        return jax.jit(lambda p: clip_loss(model, config, p, w, codes, key=key, weight_LD=None))(params)

    teacher, first = loss(unroll=0)
    np.testing.assert_allclose(teacher, np.mean((model.apply(params, w[:, :-1], codes) - w[:, 1:]) ** 2), rtol=1e-6)
    np.testing.assert_allclose(first["copy_mse"], np.mean((w[:, 1:] - w[:, :-1]) ** 2), rtol=1e-6)
    both, metrics = loss(unroll=2, unroll_weight=0.5)  # 4 frames leave one start
    cache, frame = model.init_cache(2), w[:, 0]
    generated = []
    for t in range(3):
        cache, frame = model.step(params, cache, frame, codes[:, t])
        generated.append(frame)
    own = np.stack(generated[1:], axis=1)
    np.testing.assert_allclose(metrics["unroll_mse"], np.mean((own - w[:, 2:]) ** 2), rtol=1e-4)
    np.testing.assert_allclose(both, teacher + 0.5 * metrics["unroll_mse"], rtol=1e-5)
    with pytest.raises(ValueError, match="at least 5"):
        loss(unroll=3)


def test_penalty_is_square_then_linear_and_weighted():
    error = jnp.array([0.5, -2.0]).reshape(1, 1, 2)
    assert penalty(LossConfig(kind="mse"), error, None) == pytest.approx((0.25 + 4) / 2)
    assert penalty(LossConfig(kind="huber"), error, None) == pytest.approx((0.25 + 3) / 2)
    assert penalty(LossConfig(kind="mse"), error, jnp.array([[2.0, 0.0]])) == pytest.approx(0.25)


def test_the_derivative_of_the_penalty_is_that_of_its_value():
    error = jnp.linspace(-3, 3, 24).reshape(2, 3, 4)
    weight = jnp.linspace(0.5, 1.5, 12).reshape(3, 4)
    for kind in ("mse", "huber"):
        config = LossConfig(kind=kind, huber_delta=0.8)
        check_grads(lambda e, c=config: penalty(c, e, weight), (error,), 1, modes=["rev"], eps=1e-3)


def test_layers_equal_their_definitions_and_so_do_their_gradients():
    x = jnp.linspace(-6, 6, 60).reshape(3, 4, 5)
    (value, pull), (expected, expected_pull) = jax.vjp(gelu, x), jax.vjp(lambda h: jax.nn.gelu(h, approximate=False), x)
    np.testing.assert_allclose(value, expected, atol=1e-6)
    np.testing.assert_allclose(pull(value)[0], expected_pull(value)[0], atol=2e-6)
    graph, params = split(
        lambda rngs: linear(5, 2, bias=True, dtype=jnp.dtype("float32"), rngs=rngs), jax.random.key(0)
    )
    value, pull = jax.vjp(lambda params, x: nnx.merge(graph, params)(x), params, x)
    np.testing.assert_allclose(value, np.asarray(x) @ params["kernel"] + params["bias"], atol=1e-5)
    gradients, towards = pull(value)
    np.testing.assert_allclose(gradients["kernel"], np.einsum("BNI,BNO->IO", x, value), rtol=1e-5)
    np.testing.assert_allclose(gradients["bias"], np.asarray(value).sum(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(towards, np.asarray(value) @ params["kernel"].T, atol=1e-5)


def test_a_cache_cut_from_a_clip_is_the_cache_after_that_frame():
    model, params = make(action="token")
    w, codes = clip(1, 8)
    _, keys, values = jax.jit(model.apply_with_keys)(params, w, codes)
    for frame in (1, 6):
        cut = cache_at(keys, values, jnp.int32(frame), TINY.window)
        seen, _ = model.prefill(params, model.init_cache(1), w[:, : frame + 1], codes[:, : frame + 1])
        assert int(cut.filled) == int(seen.filled)
        held = int(cut.filled)
        np.testing.assert_allclose(cut.keys[:, :, -held:], seen.keys[:, :, -held:], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"kv_heads": 3}, "divisor"), ({"rotary_dims": 5}, "even"), ({"action": "both"}, "add")],
)
def test_impossible_configs_say_why(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(TINY, **changes)


def test_latents_of_another_encoder_are_refused():
    model, params = make()
    with pytest.raises(ValueError, match="trained with"):
        model.apply(params, jnp.zeros((1, 3, 1, 6)), jnp.zeros((1, 3), jnp.int32))
    for options in ({"unroll": 9}, {"unroll_starts": 0}, {"clean_share": 1.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            LossConfig(**options)
