"""The stochastic head draws among possible futures where regression gives their mean, and repeats itself by key."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import make_world, world_parts

from genie_jax.dynamics import DynamicsConfig, DynamicsModel
from genie_jax.dynamics_loss import LossConfig
from genie_jax.rollout import rollout
from genie_jax.training import OptimizerConfig, init_state, make_optimizer, make_train_step
from torch_bridge.crosscheck.dynamics import check_dynamics, check_layers, draw_inputs
from torch_bridge.reference.x_transformers import DynamicsTwin
from torch_bridge.world import World
from train.world import WorldConfig

TINY = DynamicsConfig(
    width=16, layers=1, heads=2, head_dim=8, window=4, codes=3, rows=2, style_dim=3, ff_mult=2, context_noise=0.0,
    head="flow", flow_width=24, flow_layers=2,
)  # fmt: skip
MODES = np.array([[1.0, 1.0, -0.5], [0.5, -1.0, 1.0]], np.float32)  # the next w is this or its negative
SPREAD = 0.1


@cache
def make(**changes):
    """Model and parameters none of which is zero."""
    model = DynamicsModel(dataclasses.replace(TINY, **changes))
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return model, jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32), shapes)


def clip(batch: int, frames: int):
    rng = np.random.default_rng(1)
    w = rng.normal(size=(batch, frames, TINY.rows, TINY.style_dim)).astype(np.float32)
    return jnp.asarray(w), jnp.asarray(rng.integers(0, TINY.codes, (batch, frames)), jnp.int32)


def two_futures(_data, _step, key):
    """Clips of two frames: from w = 0 one goes to +MODES or to -MODES, whatever the code."""
    side, blur, code = jax.random.split(key, 3)
    sign = jnp.where(jax.random.bernoulli(side, shape=(64, 1, 1, 1)), 1.0, -1.0)
    then = sign * MODES + SPREAD * jax.random.normal(blur, (64, 1, *MODES.shape))
    return jnp.concatenate([jnp.zeros_like(then), then], axis=1), jax.random.randint(code, (64, 1), 0, TINY.codes)


def next_frames(head: str):
    """512 draws of the frame after w = 0 by a model that was trained on `two_futures`, and those at temperature 0."""
    model = DynamicsModel(dataclasses.replace(TINY, head=head, flow_steps=8))
    options = LossConfig(kind="mse", unroll=0)

    def loss(params, extra, batch, *, key):
        value, metrics = model.loss(params, *batch, key=key, config=options)
        return value, (extra, metrics)

    optimizer = make_optimizer(OptimizerConfig())
    train = make_train_step(loss, optimizer, two_futures, seed=0, steps_per_call=100, ema_decay=0.98)
    state = init_state(model.init(jax.random.key(0)), optimizer)
    for step in range(0, 400, 100):
        state, _ = train(state, (), step, 3e-3)
    start, codes = jnp.zeros((512, *MODES.shape)), jnp.zeros(512, jnp.int32)

    @jax.jit
    def drawn(temperature):
        cache, key = model.init_cache(512), jax.random.key(7)
        return model.step(state.ema, cache, start, codes, key=key, temperature=temperature)[1]

    return np.asarray(drawn(1.0)), np.asarray(drawn(0.0))


def test_regression_gives_the_mean_of_two_futures_and_flow_gives_both():
    mean, _ = next_frames("regression")
    assert np.abs(mean).max() < 0.2
    drawn, still = next_frames("flow")
    near = [np.abs(drawn - sign * MODES).max(axis=(1, 2)) < 5 * SPREAD for sign in (1, -1)]
    assert (near[0] | near[1]).mean() > 0.9
    assert 0.35 < near[0].mean() < 0.65
    assert still.std(axis=0).max() < 1e-5


def test_a_rollout_by_the_cache_equals_recomputing_every_frame_with_the_same_key():
    model, params = make()
    w, codes = clip(2, 9)
    key = jax.random.key(5)
    cached = jax.jit(lambda *given: rollout(model, params, w[:, :3], codes[:, :2], codes[:, 2:], key=given[0]))
    seen = w[:, :3]
    read = jax.jit(lambda w, codes: model.read_clip(params, w, codes)[0])
    whole = jnp.zeros((2, 9, *w.shape[2:])).at[:, :3].set(seen)
    draw = jax.jit(lambda out, last, key: model.predict(params, out, last, None, noise=model.noise(key, last)))
    for number, one in enumerate(jax.random.split(key, 7)):
        after = draw(read(whole, codes)[:, 2 + number], whole[:, 2 + number], one)
        if number < 6:
            whole = whole.at[:, 3 + number].set(after)
    made = cached(key)
    np.testing.assert_allclose(made[:, :6], whole[:, 3:], atol=2e-5)
    np.testing.assert_allclose(made[:, 6], after, atol=2e-5)
    assert np.abs(made - cached(jax.random.key(6))).max() > 0.1


def test_without_a_key_or_at_temperature_zero_nothing_is_left_to_chance():
    model, params = make()
    w, codes = clip(2, 1)
    step = jax.jit(model.step)

    def after(**options):
        return np.asarray(step(params, model.init_cache(2), w[:, 0], codes[:, 0], **options)[1])

    one, other = jax.random.split(jax.random.key(0))
    np.testing.assert_array_equal(after(), after(key=one, temperature=0.0))
    np.testing.assert_array_equal(after(), jax.jit(model.apply)(params, w, codes)[:, 0])
    np.testing.assert_array_equal(after(key=one), after(key=one))
    assert np.abs(after(key=one) - after(key=other)).max() > 0.1
    both = jnp.stack([one, one])  # a key for each rollout
    noise = np.asarray(model.noise(both, w[:, 0]))
    np.testing.assert_array_equal(noise[0], noise[1])


def test_regression_reads_neither_key_nor_temperature():
    model, params = make(head="regression")
    w, codes = clip(2, 1)
    plain = jax.make_jaxpr(lambda: model.step(params, model.init_cache(2), w[:, 0], codes[:, 0]))
    drawn = jax.make_jaxpr(
        lambda: model.step(params, model.init_cache(2), w[:, 0], codes[:, 0], key=jax.random.key(0), temperature=2.0)
    )

    def last_steps(program):
        return [str(equation.primitive) for equation in program().jaxpr.eqns if "random" not in str(equation.primitive)]

    assert last_steps(plain) == last_steps(drawn)
    assert set(params["head"]) == {"final_norm", "project_out"}


def test_an_untrained_head_draws_from_a_gaussian_of_the_change_and_copies_at_temperature_zero():
    model = DynamicsModel(dataclasses.replace(TINY, flow_steps=200))
    change = np.array([[0.1, 0.2, 0.4], [0.8, 1.0, 0.3]], np.float32)
    params = model.with_change_scale(model.init(jax.random.key(0)), change)
    w, codes = jnp.ones((4096, *change.shape)), jnp.zeros(4096, jnp.int32)
    step = jax.jit(model.step)
    np.testing.assert_array_equal(step(params, model.init_cache(4096), w, codes)[1], w)
    drawn = step(params, model.init_cache(4096), w, codes, key=jax.random.key(1))[1]
    np.testing.assert_allclose(np.std(drawn, axis=0), change, rtol=0.06)
    level = jnp.array([0.0, 0.5])
    told = model.flow.scale(params["head"], level)
    np.testing.assert_allclose(told[1], np.sqrt((change.reshape(-1) ** 2 + 0.25) / 1.25), rtol=1e-5)


def test_gradients_are_finite_reach_every_weight_and_leave_the_scale_alone():
    model, params = make(context_noise=0.5)
    w, codes = clip(2, 8)
    options = LossConfig(unroll=2, unroll_starts=2, flow_draws=2)

    def loss(params):
        return model.loss(params, w, codes[:, :-1], key=jax.random.key(0), config=options)[0]

    gradients = jax.jit(jax.grad(loss))(params)
    scale = gradients["head"].pop("scale")
    assert not np.any(scale)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path


@pytest.mark.parametrize("changes", [{"flow_steps": 0}, {"flow_layers": 0}, {"head": "gan"}])
def test_impossible_heads_say_why(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        dataclasses.replace(TINY, **changes)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = make_world(tmp_path_factory.mktemp("flow") / "world", head="flow", temperature=0.8)
    return World.load(folder, device="cpu")


def test_a_saved_world_with_a_flow_head_plays_the_same(world, tmp_path):
    prompt, codes = world.prompts["00"], [1, 2, 3, 4]
    world.save(tmp_path / "copy")
    copy = World.load(tmp_path / "copy", device="cpu")
    assert float(copy.knobs().temperature) == pytest.approx(0.8)
    for player in (world, copy):
        player.reset(prompt, seed=3)
    first = world.rollout(codes)
    np.testing.assert_array_equal(copy.rollout(codes), first)


def test_play_repeats_itself_by_its_seed_in_a_session_as_in_a_batch(world):
    prompts, codes = np.stack([world.prompts["00"]] * 2), [1, 2, 3, 4]
    alone = []
    for seed in (5, 6, 5):
        world.reset(prompts[0], seed=seed)
        alone.append(world.rollout(codes))
    np.testing.assert_array_equal(alone[0], alone[2])
    assert np.abs(alone[0].astype(int) - alone[1]).mean() > 0.5
    together = world.rollout_batch(prompts, None, [codes, codes], seed=5)
    for one, other in zip(together, alone, strict=False):
        assert np.abs(one.astype(int) - other).max() <= 1
    player = world.session()
    player.reset(prompts[0], seed=5)
    player.step(1)
    fork = player.snapshot()
    player.rollout([3, 3])
    player.restore(fork)
    np.testing.assert_array_equal(player.rollout(codes[1:]), alone[0][1:])


def test_every_step_draws_anew(world):
    """From one w with one code, two steps differ: the stream moves on."""
    settings = world.knobs(temperature=1.0)
    state = world.start(world.prompts["00"][None, :1], None, settings, seed=1)
    start, key = np.array(state.w_BLD), jax.random.key_data(state.key_B).tolist()
    state, _ = world.advance(state, 0, settings)
    assert jax.random.key_data(state.key_B).tolist() != key
    one = world.player.model.noise(jax.random.wrap_key_data(jnp.asarray(key, jnp.uint32)), jnp.asarray(start))
    assert np.abs(np.asarray(world.player.model.noise(state.key_B, jnp.asarray(start)) - one)).max() > 0.1


def test_temperature_changes_the_draws_and_compiles_nothing(world):
    prompt, codes = world.prompts["00"], [1, 2, 3]
    made, compiled = [], []
    for seed, temperature in ((1, 1.0), (1, 0.0), (2, 0.0), (1, 0.5)):
        world.reset(prompt, seed=seed, temperature=temperature)
        made.append(world.rollout(codes).astype(int))
        compiled.append(world.player.compiled_steps())
    assert len(set(compiled)) == 1
    np.testing.assert_array_equal(made[1], made[2])
    assert np.abs(made[0] - made[1]).mean() > 0.5
    assert np.abs(made[3] - made[1]).mean() > 0.1


def test_settings_that_cannot_be_are_refused(world):
    prompt = world.prompts["00"]
    for settings in ({"temperature": -1.0}, {"temperature": float("nan")}, {"seed": -1}, {"seed": 0.5}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            world.reset(prompt, **settings)
    plain = World(*world_parts(), device="cpu")
    with pytest.raises(ValueError, match="flow head"):
        plain.reset(prompt, temperature=1.0)
    with pytest.raises(ValueError, match="temperature"):
        WorldConfig(temperature=-0.5)


def test_the_cross_check_finds_the_flow_head_equal_and_a_fault_in_its_own_row():
    model, params = make(context_noise=0.5)
    rows = list(check_dynamics(model.config, params))
    assert [row.module for row in rows if not row.passed] == []
    assert {"flow head", "prediction, all layers", "cached rollout, 64 frames"} <= {row.module for row in rows}
    twin = DynamicsTwin(model.config, params)
    twin.flow.leaves["blocks/modulation/bias"][0] += 1e-2
    faulty = check_layers(model, params, twin, draw_inputs(model.config, 0))
    assert [row.module for row in faulty if not row.passed] == ["flow head", "prediction, all layers"]
