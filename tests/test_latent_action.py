"""The action model: convention, sealed decoder, both forms, gradients; the parts that it is made of."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from moving import MOVES, moving_squares, positions

from genie_jax.action_masking import drop_entries, hide_patches
from genie_jax.action_mlp import ActionMLPConfig
from genie_jax.action_training import init_action_state, make_action_step
from genie_jax.clips import Clip
from genie_jax.latent_action import LatentActionConfig, LatentActionModel
from genie_jax.pixels import area_resize, matching, pixel_shuffle, warp
from genie_jax.training import OptimizerConfig, make_optimizer
from genie_jax.vq import VQState
from genie_jax.warp import WarpConfig

WARP = LatentActionConfig(
    codes=8, dim=8, warp=WarpConfig(size=16, encoder_channels=(8, 8, 16), decoder_channels=(8, 16, 16), max_flow=6.0)
)
MLP = LatentActionConfig("mlp", codes=4, dim=8, mlp=ActionMLPConfig(rows=2, style_dim=1, hidden=32, layers=1))


def clip_for(config: LatentActionConfig, batch: int = 2, frames: int = 3, seed: int = 0) -> tuple[Clip, np.ndarray]:
    """A clip of what the form reads, and the direction (0..3) from each frame to the next."""
    frames_BTHWC, moves_BTm1 = moving_squares(batch, frames, seed=seed)
    if config.form == "warp":
        return Clip(frames_BTHWC=jnp.array(frames_BTHWC)), moves_BTm1
    return Clip(w_BTLD=jnp.array(positions(frames_BTHWC))), moves_BTm1


def fresh(config: LatentActionConfig) -> tuple[LatentActionModel, dict, VQState]:
    """The model with random parameters and codes, drawn by NumPy: compiling `init` takes seconds."""
    model, rng = LatentActionModel(config), np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        return jnp.array(rng.normal(size=leaf.shape, scale=np.prod(leaf.shape[:-1]) ** -0.5), leaf.dtype)

    book = model.init_quantizer(jax.random.key(1))
    codes = jnp.array(rng.normal(size=book.embed_KD.shape), jnp.float32)
    return model, jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0))), book._replace(embed_KD=codes)


def trained(config: LatentActionConfig, steps: int) -> tuple[LatentActionModel, dict, tuple]:
    model = LatentActionModel(config)
    optimizer = make_optimizer(OptimizerConfig(weight_decay=0.0))
    state = init_action_state(model, optimizer, seed=0)
    train = make_action_step(model, optimizer, seed=0)
    for step in range(steps):
        clip, _ = clip_for(config, 32, 2, seed=step)
        state, metrics = train(state, jax.tree.map(lambda leaf: leaf[None], clip), step, 3e-3)
    return model, metrics, state


def agreement(codes: np.ndarray, moves: np.ndarray) -> float:
    """Share of pairs whose move is the most frequent one of their code."""
    codes, moves = codes.reshape(-1), moves.reshape(-1)
    table = np.zeros((int(codes.max()) + 1, 4))
    np.add.at(table, (codes, moves), 1)
    return float(table.max(1).sum() / table.sum())


@pytest.mark.parametrize("config", [WARP, MLP], ids=["warp", "mlp"])
def test_codes_are_the_known_moves_at_their_own_frame_and_at_no_other(config: LatentActionConfig) -> None:
    model, metrics, state = trained(config, 300)
    clip, moves = clip_for(config, 24, 9, seed=999)
    codes = np.asarray(jax.jit(model.infer)(state.params, state.quantizer, clip))
    assert codes.shape == moves.shape == (24, 8)
    assert agreement(codes, moves) > 0.95
    assert agreement(codes[:, 1:], moves[:, :-1]) < 0.6
    assert agreement(codes[:, :-1], moves[:, 1:]) < 0.6
    assert float(metrics["prediction"]) < 0.7
    assert float(jax.jit(model.next_over_current)(state.params, state.quantizer, clip)) < 1


@pytest.mark.parametrize("config", [WARP, MLP], ids=["warp", "mlp"])
def test_the_decoder_sees_the_next_frame_through_the_code_alone(config: LatentActionConfig) -> None:
    model, params, book = fresh(config)
    predict = jax.jit(model.predict)
    clip, _ = clip_for(config, 2, 3)
    codes = jnp.array([[0, 1], [2, 3]])
    predicted = predict(params, book, clip, codes)
    whole = clip.frames_BTHWC if config.form == "warp" else clip.w_BTLD
    other = Clip(*[None if leaf is None else leaf.at[:, -1].set(leaf[:, 0] * 0 + 1) for leaf in clip])
    assert np.array_equal(predict(params, book, other, codes), predicted)
    assert predicted.shape[:2] == (2, 2)
    assert predicted.shape[2:] == ((16, 16, 3) if config.form == "warp" else whole.shape[2:])
    assert np.abs(np.asarray(predict(params, book, clip, 3 - codes) - predicted)).max() > 1e-4


@pytest.mark.parametrize(("config", "gradient"), [(WARP, "ste"), (MLP, "ste"), (MLP, "rotation")])
def test_gradients_reach_every_parameter(config: LatentActionConfig, gradient: str) -> None:
    model, params, book = fresh(dataclasses.replace(config, gradient=gradient))
    clip, _ = clip_for(config, 8, 2)
    grads, (after, metrics) = jax.jit(jax.grad(model.loss, has_aux=True))(params, book, clip, key=jax.random.key(2))
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path
    assert bool(after.initted)
    assert 1 <= float(metrics["perplexity"]) <= config.codes
    assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("config", [WARP, MLP], ids=["warp", "mlp"])
def test_a_mask_hides_from_the_decoder_alone(config: LatentActionConfig) -> None:
    model, params, book = fresh(config)
    masked = LatentActionModel(dataclasses.replace(config, mask=0.5))
    clip, _ = clip_for(config, 4, 2)
    started, losses = book._replace(initted=jnp.array(True)), {of: jax.jit(of.loss) for of in (model, masked)}
    whole, once, again, other = (
        losses[of](params, started, clip, key=jax.random.key(key))[1][1]
        for of, key in ((model, 1), (masked, 1), (masked, 1), (masked, 2))
    )
    assert once["commitment"] == whole["commitment"]  # the encoder sees everything
    assert once["prediction"] == again["prediction"]
    assert len({float(metrics["prediction"]) for metrics in (whole, once, other)}) == 3
    codes = jnp.zeros((4, 1), jnp.int32)
    assert np.array_equal(masked.predict(params, book, clip, codes), model.predict(params, book, clip, codes))


def test_hidden_patches_are_a_share_of_every_picture_and_show_its_mean() -> None:
    pictures = jnp.array(np.random.default_rng(0).random((32, 16, 16, 3)), jnp.float32)
    hidden = hide_patches(pictures, 0.3, patches=4, key=jax.random.key(0))
    changed = (hidden != pictures).any(-1)
    by_patch = changed.reshape(32, 4, 4, 4, 4).transpose(0, 1, 3, 2, 4).reshape(32, 16, 16)
    assert (by_patch.all(-1) == by_patch.any(-1)).all()
    assert (by_patch.all(-1).sum(-1) == round(0.3 * 16)).all()
    assert len(np.unique(by_patch.all(-1), axis=0)) > 16  # each picture has patches of its own
    mean = jnp.broadcast_to(pictures.mean((1, 2), keepdims=True), pictures.shape)
    assert np.array_equal(hidden[changed], mean[changed])
    dropped = drop_entries(jnp.ones((200, 100)), 0.25, key=jax.random.key(0))
    np.testing.assert_allclose(np.unique(dropped), [0, 1 / 0.75], rtol=1e-6)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("codes", [2, 64])
def test_fewest_and_most_codes_train_even_where_a_batch_has_fewer_vectors(codes: int) -> None:
    model = LatentActionModel(dataclasses.replace(MLP, codes=codes))
    optimizer = make_optimizer(OptimizerConfig())
    state, train = init_action_state(model, optimizer, seed=0), make_action_step(model, optimizer, seed=0)
    for step in range(200):
        clip, _ = clip_for(MLP, 16, 2, seed=step)
        state, metrics = train(state, jax.tree.map(lambda leaf: leaf[None], clip), step, 1e-3)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, metrics)))
    used = np.unique(model.infer(state.params, state.quantizer, clip_for(MLP, 64, 9, seed=99)[0]))
    assert len(used) > codes / 4
    assert used.max() < codes


def test_numbers_of_codes_and_masks_that_cannot_be_are_refused() -> None:
    for wrong, words in (({"codes": 1}, "2 to 64"), ({"codes": 65}, "2 to 64"), ({"mask": 1.0}, "mask 1.0")):
        with pytest.raises(ValueError, match=words):
            LatentActionConfig(**wrong)


def test_infer_needs_the_encoder_alone() -> None:
    model, params, book = fresh(WARP)
    clip, _ = clip_for(WARP)
    infer = jax.jit(model.infer)
    assert np.array_equal(infer({"encoder": params["encoder"]}, book, clip), infer(params, book, clip))


def test_the_wrong_half_of_a_clip_is_refused_with_the_remedy() -> None:
    for config, wrong, remedy in ((WARP, MLP, "Clip.frames_BTHWC"), (MLP, WARP, "Clip.w_BTLD")):
        model = LatentActionModel(config)
        with pytest.raises(ValueError, match=remedy):
            model.infer({}, model.init_quantizer(jax.random.key(1)), clip_for(wrong)[0])
    single, model = Clip(frames_BTHWC=jnp.zeros((1, 1, 16, 16, 3), jnp.uint8)), LatentActionModel(WARP)
    with pytest.raises(ValueError, match="at least 2 frames"):
        model.infer({}, model.init_quantizer(jax.random.key(1)), single)
    with pytest.raises(ValueError, match="multiple of 8"):
        WarpConfig(size=20)


def test_area_resize_keeps_means_and_is_exact_for_whole_factors() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    halved = frames.reshape(2, 32, 2, 32, 2, 3).mean((2, 4)) / 255
    np.testing.assert_allclose(area_resize(frames, 32), halved, atol=1e-6)
    np.testing.assert_allclose(area_resize(frames, 48).mean((1, 2)), frames.mean((1, 2)) / 255, atol=1e-6)
    np.testing.assert_allclose(area_resize(frames, 64), frames / 255, atol=1e-7)


def test_warp_moves_by_whole_and_half_pixels() -> None:
    image = np.random.default_rng(0).random((1, 8, 8, 3)).astype(np.float32)
    flow = np.zeros((1, 8, 8, 2), np.float32) + np.array([1.0, 0.0], np.float32)
    np.testing.assert_allclose(warp(image, flow)[:, :-1], image[:, 1:], atol=1e-6)
    np.testing.assert_allclose(warp(image, flow)[:, -1], image[:, -1], atol=1e-6)
    half = warp(image, flow[..., ::-1] / 2)
    np.testing.assert_allclose(half[:, :, :-1], (image[:, :, :-1] + image[:, :, 1:]) / 2, atol=1e-6)


def test_matching_finds_the_displacement() -> None:
    image = np.random.default_rng(0).random((1, 16, 16, 3)).astype(np.float32)
    moved = np.roll(image, (1, -2), (1, 2))
    found = matching(image, moved, shrink=1, radius=2, cells=4)
    assert found.shape == (1, 4, 4, 25)
    down, right = np.divmod(np.asarray(found[0, 1:3, 1:3]).argmax(-1), 5)
    assert (down - 2 == 1).all()
    assert (right - 2 == -2).all()
    even = matching(image * 0, image * 0, shrink=1, radius=2, cells=4)
    np.testing.assert_allclose(even, 1 / 25, atol=1e-6)


def test_pixel_shuffle_lays_four_channels_out_as_a_square() -> None:
    shuffled = pixel_shuffle(jnp.arange(8.0).reshape(1, 1, 1, 8))
    assert shuffled.shape == (1, 2, 2, 2)
    np.testing.assert_array_equal(shuffled[0, :, :, 0], [[0, 2], [4, 6]])


def test_moves_are_what_they_say() -> None:
    frames, moves = moving_squares(1, 6, seed=3)
    steps = np.diff(positions(frames)[0, :, :, 0] * 16, axis=0)
    np.testing.assert_allclose(steps, np.array(MOVES)[moves[0]], atol=0.1)
