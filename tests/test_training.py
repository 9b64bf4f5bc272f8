"""The JAX training core: the arithmetic of a step, its randomness, donation, and checkpoints that come back exactly."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genie_jax.training import Checkpointer, OptimizerConfig, TrainState, init_state, make_optimizer, make_train_step

CONFIG = OptimizerConfig(learning_rate=0.1, weight_decay=0.1, clip_norm=0.5, b1=0.9, b2=0.95)
SEED = 3


def start() -> dict:
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(3, 2)), rng.normal(size=(4, 2))
    return {"layer": {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}}


def data(count: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 5, 3)).astype(np.float32)


def loss_fn(params, extra, batch, *, key):
    noise = 0.1 * jax.random.normal(key, (5, 2))
    out = batch @ params["layer"]["kernel"] + params["layer"]["bias"].sum(axis=0) + noise
    return jnp.mean(out**2), (extra + 1, {"largest": jnp.max(out)})


def trainer(steps_per_call: int = 1, **options):
    optimizer = make_optimizer(CONFIG)
    step = make_train_step(loss_fn, optimizer, seed=SEED, steps_per_call=steps_per_call, **options)
    return init_state(start(), optimizer, jnp.zeros((), jnp.int32)), step


def test_three_steps_equal_adamw_written_out_by_hand():
    state, step = trainer(ema_decay=0.5)
    batches, params = data(3), jax.tree.map(np.asarray, start())
    ema, first, second = params, jax.tree.map(np.zeros_like, params), jax.tree.map(np.zeros_like, params)
    for t in range(3):
        state, metrics = step(state, batches[t : t + 1], t, 0.1)
        _, key = jax.random.split(jax.random.fold_in(jax.random.key(SEED), t))
        (loss, _), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, 0, batches[t], key=key)
        norm = math.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(grads)))
        assert norm > CONFIG.clip_norm  # else clipping goes untested
        grads = jax.tree.map(lambda g, s=CONFIG.clip_norm / norm: np.asarray(g) * s, grads)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
        second = jax.tree.map(lambda v, g: 0.95 * v + 0.05 * g**2, second, grads)
        change = jax.tree.map(
            lambda m, v, t=t: m / (1 - 0.9 ** (t + 1)) / (np.sqrt(v / (1 - 0.95 ** (t + 1))) + 1e-8), first, second
        )
        change["layer"]["kernel"] = change["layer"]["kernel"] + 0.1 * params["layer"]["kernel"]  # the bias has no decay
        params = jax.tree.map(lambda p, c: p - 0.1 * c, params, change)
        decay = min(0.5, (1 + t) / (10 + t))
        ema = jax.tree.map(lambda e, p, d=decay: d * e + (1 - d) * p, ema, params)
        np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
        np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state.params, params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state.ema, ema)
    assert int(state.extra) == 3


@pytest.mark.parametrize("clip_norm", [0.5, 1e3, math.inf])
def test_the_optimizer_is_the_chain_of_optax_on_the_state_of_that_chain(clip_norm):
    chain = optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.scale_by_adam(b1=0.9, b2=0.95),
        optax.add_decayed_weights(0.1, mask={"layer": {"kernel": True, "bias": False}}),
        optax.scale(-1.0),
    )
    ours = make_optimizer(dataclasses.replace(CONFIG, clip_norm=clip_norm))
    params, rng = start(), np.random.default_rng(2)
    state = expected_state = chain.init(params)
    assert jax.tree.structure(ours.init(params)) == jax.tree.structure(state)
    for size in (3.0, 0.01, 0.0):
        grads = jax.tree.map(lambda p, s=size: jnp.asarray(s * rng.normal(size=p.shape), jnp.float32), params)
        updates, state = ours.update(grads, state, params)
        expected, expected_state = chain.update(grads, expected_state, params)
        for one, other in zip(*map(jax.tree.leaves, ((updates, state), (expected, expected_state))), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert jax.tree.structure(state) == jax.tree.structure(expected_state)


def test_several_steps_a_dispatch_are_the_same_steps():
    (one, single), (many, four) = trainer(), trainer(4)
    batches, losses = data(8), []
    for t in range(8):
        one, metrics = single(one, batches[t : t + 1], t, 0.1)
        losses.append(float(metrics["loss"]))
    for t in (0, 4):
        many, metrics = four(many, batches[t : t + 4], t, 0.1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), many, one)
    assert float(metrics["loss"]) == pytest.approx(np.mean(losses[4:]), rel=1e-5)


def test_randomness_is_a_function_of_seed_and_step_alone():
    batches = data(1)

    def after(step: int) -> np.ndarray:
        state, train = trainer()
        return np.asarray(train(state, batches, step, 0.1)[0].params["layer"]["kernel"])

    np.testing.assert_array_equal(after(7), after(7))
    assert np.abs(after(7) - after(8)).max() > 0


def test_state_is_donated_and_a_new_rate_compiles_nothing():
    state, step = trainer()
    batches, begun = data(1), state
    state, _ = step(state, batches, 0, 0.1)
    copies = [jax.tree.map(jnp.copy, state) for _ in range(2)]
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((begun.params, begun.ema, begun.opt_state)))
    compiled = []

    def listener(name: str, **_) -> None:
        if "compile" in name:
            compiled.append(name)

    jax.monitoring.register_event_listener(listener)
    try:
        slow, _ = step(copies[0], batches, 1, 1e-9)
        fast, _ = step(copies[1], batches, 2, 1)
        assert compiled == []
        jax.jit(lambda x: x + 1)(jnp.zeros(17))  # the listener does hear of compilations
        assert compiled
    finally:
        jax.monitoring.unregister_event_listener(listener)
    kernel = np.asarray(state.params["layer"]["kernel"])
    assert np.abs(np.asarray(slow.params["layer"]["kernel"]) - kernel).max() < 1e-7
    assert np.abs(np.asarray(fast.params["layer"]["kernel"]) - kernel).max() > 1e-3


def test_batches_are_gathered_inside_the_step_by_number():
    def gather(corpus, step, key):
        del key
        return corpus[step * 5 + jnp.arange(5)]

    corpus = data(3).reshape(15, 3)
    (state, step), (other, stacked) = trainer(3, batch_fn=gather), trainer(3)
    state, _ = step(state, corpus, 0, 0.1)
    other, _ = stacked(other, corpus.reshape(3, 5, 3), 0, 0.1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state, other)


def test_rate_warms_up_by_steps_and_falls_by_progress():
    config = OptimizerConfig(learning_rate=1.0, warmup=10, final_scale=0.1)
    assert config.rate(0, 0.0) == pytest.approx(0.1)
    assert config.rate(9, 0.0) == config.rate(500, 0.0) == pytest.approx(1.0)
    assert config.rate(500, 0.5) == pytest.approx(0.55)
    assert config.rate(500, 1.0) == config.rate(500, 1.2) == pytest.approx(0.1)
    assert config.rate(500, 0.5, lr_scale=0.5) == pytest.approx(0.275)
    flat = OptimizerConfig(learning_rate=1.0, warmup=0, schedule="constant")
    assert flat.rate(0, 0.0) == flat.rate(3, 1.0) == 1.0


def tree() -> dict:
    state, step = trainer()
    state, _ = step(state, data(1), 0, 0.1)
    return {
        "train": state,
        "step": 7,
        "share": 0.1,
        "flag": True,
        "empty": {},
        "list": [np.arange(5, dtype=np.int64), np.float32(0.1), jnp.ones(2, jnp.bfloat16) / 3],
        "bits": np.array([1, 2**63], np.uint64),
        "frames": np.arange(12, dtype=np.uint8).reshape(3, 4),
        "ordered": {name: np.full(2, i) for i, name in enumerate("zebra")},
    }


def abstract(values):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype) if hasattr(x, "shape") else x, values)


def test_a_checkpoint_comes_back_bit_for_bit_in_its_structure(tmp_path):
    saved = tree()
    Checkpointer().save(tmp_path / "a", saved)
    back = Checkpointer().restore(tmp_path / "a", abstract(saved))
    assert jax.tree.structure(back) == jax.tree.structure(saved)
    assert isinstance(back["train"], TrainState)
    for path, leaf in jax.tree_util.tree_leaves_with_path(saved):
        other = dict(jax.tree_util.tree_leaves_with_path(back))[path]
        assert np.asarray(other).dtype == np.asarray(leaf).dtype, path
        assert np.asarray(other).tobytes() == np.asarray(leaf).tobytes(), path
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("w", np.zeros((3, 2), np.float32)),
        ("w", np.zeros((2, 2), np.float16)),
        ("w", None),
        ("more", np.zeros(1)),
        ("step", 1.0),
    ],
)
def test_a_tree_that_does_not_fit_is_refused_by_name(tmp_path, name, value):
    saved = {"w": np.zeros((2, 2), np.float32), "v": np.ones(1), "step": 1}
    Checkpointer().save(tmp_path / "a", saved)
    asked = {key: leaf for key, leaf in {**saved, name: value}.items() if leaf is not None}
    with pytest.raises(ValueError, match=name):
        Checkpointer().restore(tmp_path / "a", asked)


def test_a_checkpoint_is_never_written_over_nor_invented(tmp_path):
    Checkpointer().save(tmp_path / "a", {"w": np.ones(2)})
    with pytest.raises(ValueError, match="exists"):
        Checkpointer().save(tmp_path / "a", {"w": np.zeros(2)})
    np.testing.assert_array_equal(Checkpointer().restore(tmp_path / "a", {"w": np.zeros(2)})["w"], np.ones(2))
    with pytest.raises(FileNotFoundError, match="not a checkpoint"):
        Checkpointer().restore(tmp_path / "b", {"w": np.zeros(2)})
