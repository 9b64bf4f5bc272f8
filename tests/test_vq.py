"""The vector quantiser against the vector-quantize-pytorch package, and the parts of it that draw random numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from vector_quantize_pytorch import VectorQuantize
from vector_quantize_pytorch.vector_quantize_pytorch import kmeans as kmeans_torch

from genie_jax.code_usage import effect_alarms, perplexity, usage_alarms
from genie_jax.vq import VectorQuantizer, VQConfig, VQState, kmeans
from torch_bridge.reference.vector_quantize import make_quantizer, read_state

CODES, DIM = 8, 6


def twins(*, cosine: bool, rotation: bool = False, seed: int = 0) -> tuple[VectorQuantize, VectorQuantizer, VQState]:
    """Both quantisers with the same codebook."""
    embed = np.random.default_rng(seed).normal(size=(CODES, DIM)).astype(np.float32)
    if cosine:
        embed /= np.linalg.norm(embed, axis=-1, keepdims=True)
    reference = VectorQuantize(DIM, CODES, decay=0.9, use_cosine_sim=cosine, rotation_trick=rotation)
    for name in ("embed", "embed_avg"):
        getattr(reference._codebook, name).data.copy_(torch.from_numpy(embed)[None])
    config = VQConfig(
        CODES, DIM, decay=0.9, cosine=cosine, kmeans_start=False, gradient="rotation" if rotation else "ste"
    )
    return (
        reference,
        VectorQuantizer(config),
        VQState(jnp.array(True), jnp.ones(CODES), jnp.array(embed), jnp.array(embed)),
    )


def vectors(step: int, shape: tuple[int, ...] = (4, 16, DIM)) -> np.ndarray:
    return np.random.default_rng(100 + step).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("cosine", [False, True])
def test_evaluation_equals_the_package(cosine: bool) -> None:
    reference, quantizer, state = twins(cosine=cosine)
    x = vectors(0)
    expected, indices, loss = reference.eval()(torch.from_numpy(x))
    out = quantizer(state, jnp.array(x), train=False)
    assert np.array_equal(out.quantized, expected.numpy())
    assert np.array_equal(out.indices, indices.numpy())
    assert float(out.loss) == float(loss) == 0
    assert all(a is b for a, b in zip(out.state, state, strict=True))
    assert np.array_equal(quantizer.lookup(state, out.indices), out.quantized)


@pytest.mark.parametrize("cosine", [False, True])
def test_three_training_steps_equal_the_package(cosine: bool) -> None:
    reference, quantizer, state = twins(cosine=cosine)
    reference.train()
    train = jax.jit(lambda s, x: quantizer(s, x, train=True))
    for step in range(3):
        x = vectors(step)
        expected, indices, loss = reference(torch.from_numpy(x))
        out = train(state, jnp.array(x))
        state = out.state
        np.testing.assert_allclose(out.quantized, expected.numpy(), atol=1e-6)
        assert np.array_equal(out.indices, indices.numpy())
        np.testing.assert_allclose(out.loss, loss.item(), atol=1e-6)
        book = reference._codebook
        np.testing.assert_allclose(state.cluster_size_K, book.cluster_size[0].numpy(), atol=1e-6)
        np.testing.assert_allclose(state.embed_avg_KD, book.embed_avg[0].numpy(), atol=1e-6)
        np.testing.assert_allclose(state.embed_KD, book.embed[0].numpy(), atol=1e-6)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("rotation", [False, True])
def test_gradients_equal_the_package(rotation: bool, cosine: bool) -> None:
    reference, quantizer, state = twins(cosine=cosine, rotation=rotation)
    x, target = vectors(0), vectors(1)
    leaf = torch.from_numpy(x).requires_grad_()
    quantized, _, loss = reference.train()(leaf, freeze_codebook=True)
    ((quantized - torch.from_numpy(target)) ** 2).sum().add(loss).backward()

    def objective(x: jax.Array) -> jax.Array:
        out = quantizer(state, x, train=True)
        return jnp.sum((out.quantized - target) ** 2) + out.loss

    np.testing.assert_allclose(jax.grad(objective)(jnp.array(x)), leaf.grad.numpy(), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("cosine", [False, True])
def test_kmeans_equals_the_package_from_the_same_start(cosine: bool) -> None:
    x = vectors(0, (200, DIM))
    x = x / np.linalg.norm(x, axis=-1, keepdims=True) if cosine else x
    start = torch.from_numpy(x[:CODES])[None]
    expected, bins = kmeans_torch(
        torch.from_numpy(x)[None], CODES, 10, use_cosine_sim=cosine, sample_fn=lambda _samples, _count: start
    )
    means, counts = kmeans(jnp.array(x), jnp.array(x[:CODES]), 10, cosine=cosine)
    np.testing.assert_allclose(means, expected[0].numpy(), atol=1e-5)
    assert np.array_equal(counts, bins[0].numpy())


def clusters(seed: int = 0) -> np.ndarray:
    """160 vectors around 8 far corners."""
    rng = np.random.default_rng(seed)
    corners = np.eye(CODES, DIM + 2)[:, :DIM] * 20 + rng.normal(size=(CODES, DIM))
    return (corners.repeat(20, 0) + 0.1 * rng.normal(size=(160, DIM))).astype(np.float32)


def test_kmeans_starts_the_codebook_in_the_first_training_batch_only() -> None:
    quantizer = VectorQuantizer(VQConfig(CODES, DIM, kmeans_start=True))
    state = quantizer.init(jax.random.key(0))
    assert not bool(state.initted)
    assert not bool(quantizer(state, jnp.array(clusters()), train=False).state.initted)
    train = jax.jit(lambda s, x, key: quantizer(s, x, train=True, key=key))
    first = train(state, clusters(), jax.random.key(1))
    assert bool(first.state.initted)
    assert float(first.loss) < 0.5 * float(np.var(clusters()))
    second = train(first.state, clusters() + 1000, jax.random.key(2))
    moved = np.abs(np.asarray(second.state.embed_KD) - np.asarray(first.state.embed_KD)).max()
    assert moved < 500  # an average moved by 3%; a second k-means would have moved it by 1000


def test_dead_codes_become_vectors_of_the_batch() -> None:
    config = VQConfig(CODES, DIM, kmeans_start=False, dead_code_threshold=0.5, reset_cluster_size=7.0)
    quantizer, x = VectorQuantizer(config), jnp.array(clusters())
    state = quantizer.init(jax.random.key(0))
    far = state.embed_KD.at[3].set(1e6)
    state = VQState(state.initted, state.cluster_size_K.at[3].set(0.1), far, far)
    after = jax.jit(lambda s, k: quantizer(s, x, train=True, key=k).state)(state, jax.random.key(5))
    assert np.abs(np.asarray(x) - np.asarray(after.embed_KD[3])).max(-1).min() == 0
    assert float(after.cluster_size_K[3]) == 7
    np.testing.assert_allclose(after.embed_avg_KD[3], 7 * after.embed_KD[3], rtol=1e-6)
    untouched = VectorQuantizer(VQConfig(CODES, DIM, kmeans_start=False))(state, x, train=True).state
    alive = np.asarray(untouched.cluster_size_K) >= 0.5
    np.testing.assert_allclose(after.embed_KD[alive], untouched.embed_KD[alive], rtol=1e-5)


def test_fewer_vectors_than_dead_codes_never_give_two_codes_one_vector() -> None:
    quantizer = VectorQuantizer(VQConfig(CODES, DIM, kmeans_start=False, dead_code_threshold=50.0))
    x = jnp.array(vectors(0, (3, DIM)))
    state = quantizer(quantizer.init(jax.random.key(0)), x, train=True, key=jax.random.key(1)).state
    replaced = np.asarray(state.cluster_size_K) == 50
    assert replaced.sum() == 3
    assert len(np.unique(np.asarray(state.embed_KD)[replaced], axis=0)) == 3


def test_faulty_calls_say_what_to_do() -> None:
    quantizer = VectorQuantizer(VQConfig(CODES, DIM))
    state = quantizer.init(jax.random.key(0))
    with pytest.raises(ValueError, match="pass key="):
        quantizer(state, jnp.zeros((2, DIM)), train=True)
    with pytest.raises(ValueError, match=r"VQConfig\.dim"):
        quantizer(state, jnp.zeros((2, DIM + 1)), train=False)


def test_perplexity_counts_codes() -> None:
    assert float(perplexity(jnp.ones(8))) == pytest.approx(8)
    assert float(perplexity(jnp.array([5.0, 0, 0, 0]))) == pytest.approx(1)


def test_alarms_tell_collapse_from_an_unused_action() -> None:
    assert usage_alarms(np.full(8, 100)) == []
    (collapse,) = usage_alarms(np.array([990, 3, 3, 4, 0, 0, 0, 0]))
    assert "collapsed" in collapse
    (unused,) = usage_alarms(np.array([100, 100, 0, 100, 100, 1, 100, 100]))
    assert "codes 2, 5 are" in unused
    assert "codes to 6" in unused


def test_alarms_fit_two_codes_and_sixty_four() -> None:
    assert usage_alarms(np.array([88, 12])) == []  # a rare action is no collapse
    assert "collapsed" in usage_alarms(np.array([995, 5]))[0]
    even = np.random.default_rng(0).multinomial(512, np.full(64, 1 / 64))
    assert even.min() < 5.12  # below 1%, by chance
    assert usage_alarms(even) == []
    even[7] = 0
    assert "code 7 is hardly ever used (below 0.16% of the pairs)" in usage_alarms(even)[0]


def test_alarms_tell_deaf_dynamics_from_codes_that_do_the_same() -> None:
    apart = 1.0 - np.eye(4)
    assert effect_alarms(apart) == []
    (deaf,) = effect_alarms(0.001 * apart)
    assert "hardly answer" in deaf
    alike = apart.copy()
    alike[0, 2] = alike[2, 0] = alike[2, 3] = alike[3, 2] = 0.001
    (same,) = effect_alarms(alike)
    assert "codes 0, 2 and 3 do the same" in same
    assert "codes to 2" in same


@pytest.mark.parametrize("cosine", [False, True])
def test_replacement_of_dead_codes_equals_the_package(cosine: bool) -> None:
    """In a batch of one repeated vector the random choice is none."""
    config = VQConfig(
        CODES, DIM, decay=0.5, cosine=cosine, kmeans_start=False, dead_code_threshold=2.0, reset_cluster_size=5.0
    )
    state = twins(cosine=cosine)[2]
    reference = make_quantizer(config, state).train()
    x = np.tile(vectors(3, (1, DIM)), (32, 1))
    reference(torch.from_numpy(x))
    state = VectorQuantizer(config)(state, jnp.array(x), train=True, key=jax.random.key(0)).state
    for ours, theirs in zip(state, read_state(reference), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    assert np.sum(np.asarray(state.cluster_size_K) == 5) == CODES - 1


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("cosine", [False, True])
def test_kmeans_start_equals_the_package_in_evaluation_too(cosine: bool, train: bool) -> None:
    """Both start from random vectors; on far clusters, started in all of them, both end in their means."""
    config = VQConfig(CODES, DIM, cosine=cosine, kmeans_in_eval=True, decay=0.9)
    x = np.concatenate([np.eye(DIM), -np.eye(DIM)])[:CODES].astype(np.float32) * np.arange(10, 10 + CODES)[:, None]
    reference = make_quantizer(config).train(train)
    reference(torch.from_numpy(x))
    quantizer = VectorQuantizer(config)
    state = quantizer(quantizer.init(jax.random.key(0)), jnp.array(x), train=train, key=jax.random.key(4)).state
    expected = read_state(reference)
    assert bool(state.initted)
    assert bool(expected.initted)

    def by_code(state: VQState) -> np.ndarray:
        rows = np.concatenate([state.embed_KD, state.embed_avg_KD, state.cluster_size_K[:, None]], axis=1)
        return rows[np.lexsort(np.round(rows, 3).T)]

    np.testing.assert_allclose(by_code(state), by_code(expected), atol=1e-5)


def test_the_packages_first_codes() -> None:
    small = VectorQuantizer(VQConfig(64, DIM, kmeans_start=False, init="uniform")).init(jax.random.key(0))
    theirs = VectorQuantize(DIM, 64)._codebook.embed[0].numpy()
    bound = (6 / (64 * DIM)) ** 0.5
    for embed in (np.asarray(small.embed_KD), theirs):
        assert 0.95 * bound < np.abs(embed).max() <= bound
        np.testing.assert_allclose(embed.std(), bound / 3**0.5, rtol=0.1)
    with pytest.raises(ValueError, match="init"):
        VQConfig(init="zeros")


def test_the_quantised_value_is_its_code_bit_for_bit() -> None:
    for gradient in ("ste", "rotation"):
        quantizer = VectorQuantizer(VQConfig(CODES, DIM, kmeans_start=False, gradient=gradient))
        state = quantizer.init(jax.random.key(0))
        out = jax.jit(lambda x, state=state, q=quantizer: q(state, x, train=True))(jnp.array(vectors(5)))
        assert np.array_equal(out.quantized, state.embed_KD[out.indices])
