"""The action model against its PyTorch twin: equal as they are, and each fault shows in its row and in none before."""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import torch_bridge.crosscheck.actions as actions
import torch_bridge.reference.action_loss as action_loss
import torch_bridge.reference.action_model as action_model
import torch_bridge.reference.action_weights as action_weights
from genie_jax import pixels
from genie_jax.action_mlp import ActionMLPConfig
from genie_jax.latent_action import LatentActionConfig, LatentActionModel
from genie_jax.pair_features import FeatureConfig
from genie_jax.warp import WarpConfig
from torch_bridge.crosscheck.actions import TOLERANCES, check_actions
from torch_bridge.crosscheck.moving_clips import moving_clips
from torch_bridge.reference import action_pixels
from torch_bridge.reference.action_loss import picture_error
from torch_bridge.reference.action_weights import from_state, to_state

ROWS = list(TOLERANCES)
TINY_WARP = WarpConfig(size=16, encoder_channels=(4, 4, 8), decoder_channels=(4, 4, 8))
CONFIGS = {
    "warp": LatentActionConfig(
        codes=4,
        dim=8,
        warp=WarpConfig(size=16, encoder_channels=(8, 8, 16), decoder_channels=(8, 16, 12), max_flow=6.0),
    ),
    "warp, rotation": LatentActionConfig(
        codes=5,
        dim=6,
        gradient="rotation",
        cosine=True,
        warp=WarpConfig(size=24, encoder_channels=(4, 8, 8), decoder_channels=(8, 4, 8)),
    ),
    "warp, features": LatentActionConfig(
        codes=4, dim=8, warp=TINY_WARP, inputs="features", features=FeatureConfig(grid=3, channels=5, hidden=8)
    ),
    "warp, both": LatentActionConfig(
        codes=4, dim=6, warp=TINY_WARP, inputs="both", features=FeatureConfig(grid=2, channels=6, hidden=4)
    ),
    "mlp": LatentActionConfig("mlp", codes=4, dim=6, mlp=ActionMLPConfig(rows=2, style_dim=5, hidden=16, layers=1)),
    "mlp, rotation": LatentActionConfig(
        "mlp", codes=8, dim=5, gradient="rotation", mlp=ActionMLPConfig(rows=1, style_dim=12, hidden=24, layers=3)
    ),
}


def drawn(config: LatentActionConfig) -> tuple[LatentActionModel, dict]:
    """The model with parameters far from the initial ones: scales around 1, no zero anywhere, flows of whole pixels."""
    model, rng = LatentActionModel(config), np.random.default_rng(0)

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        spread = np.prod(leaf.shape[:-1]) ** -0.5 if len(leaf.shape) > 1 else 0.3
        values = rng.normal(size=leaf.shape, scale=spread) + (path[-1].key == "scale")
        return jnp.asarray(values, leaf.dtype)

    return model, jax.tree_util.tree_map_with_path(draw, jax.eval_shape(model.init, jax.random.key(0)))


@pytest.fixture(scope="module")
def flax_side() -> Callable[[str], tuple]:
    """Model, parameters, inputs and what Flax makes of them, by the name of the config; compiled once each."""
    made = {}

    def side(name: str) -> tuple:
        if name not in made:
            model, params = drawn(CONFIGS[name])
            case = actions.case_for(model, params, 0, None)
            made[name] = model, params, case, actions.flax_values(model, params, case)
        return made[name]

    return side


@pytest.fixture
def check(flax_side: Callable[[str], tuple], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[bool]]:
    """Verdicts of `check_actions` by row; Flax's values are those of `flax_side`, the twin runs each time."""

    def verdicts(name: str) -> list[bool]:
        model, params, case, values = flax_side(name)
        monkeypatch.setattr(actions, "case_for", lambda *_: case)
        monkeypatch.setattr(actions, "flax_values", lambda *_: values)
        rows = check_actions(model, params, seed=0)
        assert [row.module for row in rows] == ROWS
        return [row.passed for row in rows]

    return verdicts


@pytest.fixture(autouse=True)
def quick_compiler() -> Iterator[None]:
    """XLA without most of its optimisations: compiling is nearly all that these tests wait for."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def fails_first_at(verdicts: list[bool], row: str) -> bool:
    first = ROWS.index(row)
    return all(verdicts[:first]) and not verdicts[first]


@pytest.mark.parametrize("name", CONFIGS)
def test_flax_equals_its_twin(name: str, flax_side: Callable[[str], tuple], check: Callable[[str], list[bool]]) -> None:
    assert check(name) == [True] * len(ROWS)
    model, params, case, values = flax_side(name)
    rows = check_actions(model, params, seed=0)
    assert rows[ROWS.index("action gradients")].numbers == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert all(bool(gradient.any()) for gradient in values["action gradients"].values())
    assert len(np.unique(case.codes_BTm1)) > 1


def test_inputs_and_codebook_come_from_the_seed_or_are_given() -> None:
    model, params = drawn(CONFIGS["mlp"])
    for name in ("warp", "mlp"):
        first, again, other = (jax.tree.leaves(moving_clips(CONFIGS[name], seed))[0] for seed in (0, 0, 1))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)
    drawn_book = actions.case_for(model, params, 0, None).book
    assert actions.case_for(model, params, 1, drawn_book).book is drawn_book
    assert not np.array_equal(actions.case_for(model, params, 1, None).book.embed_KD, drawn_book.embed_KD)
    with pytest.raises(ValueError, match="no codes yet"):
        check_actions(model, params, seed=0, book=model.init_quantizer(jax.random.key(0)))


@pytest.mark.parametrize("name", ["warp", "mlp"])
def test_an_encoder_alone_is_one_row(
    name: str, flax_side: Callable[[str], tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, params, case, _ = flax_side(name)
    monkeypatch.setattr(actions, "case_for", lambda *_: case)
    rows = check_actions(model, {"encoder": params["encoder"]}, seed=0)
    assert [row.module for row in rows] == ["action encoder"]
    assert rows[0].passed


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_go_to_pytorch_and_return_bit_for_bit(name: str) -> None:
    _, params = drawn(CONFIGS[name])
    odd = np.array([np.nan, -0.0], np.float32)
    params = jax.tree.map(lambda leaf: jnp.array(np.resize(odd, leaf.shape)) if leaf.ndim == 1 else leaf, params)
    returned = from_state(to_state(params))
    assert jax.tree.structure(returned) == jax.tree.structure(params)
    for there, back in zip(jax.tree.leaves(params), jax.tree.leaves(returned), strict=True):
        assert (there.shape, there.dtype) == (back.shape, back.dtype)
        assert np.array_equal(np.asarray(there).view(np.uint32), np.asarray(back).view(np.uint32))


def test_a_leaf_that_is_no_parameter_is_named() -> None:
    with pytest.raises(ValueError, match="encoder/half/offset"):
        to_state({"encoder": {"half": {"offset": jnp.zeros(3)}}})


@pytest.mark.parametrize("name", CONFIGS)
def test_every_changed_tensor_shows_in_the_row_of_its_module(
    name: str, flax_side: Callable[[str], tuple], check: Callable[[str], list[bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, params, *_ = flax_side(name)
    for changed in to_state(params):
        monkeypatch.setattr(
            actions,
            "to_state",
            lambda p, changed=changed: {k: v * (1 + 0.01 * (k == changed)) for k, v in to_state(p).items()},
        )
        branch = changed.split(".")[0]
        assert fails_first_at(check(name), f"action {branch}"), changed


def _flow_up(image: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    return action_pixels.warp(image, -flow)


def _flow_transposed(image: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    return action_pixels.warp(image, flow.flip(1))


def _matched_backwards(before: torch.Tensor, after: torch.Tensor, **sizes: int) -> torch.Tensor:
    return action_pixels.matching(after, before, **sizes)


def _whole_pixel_area(frames: torch.Tensor, size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return F.interpolate(frames.to(dtype) / 255, (size, size), mode="area")


def _evenly_weighed(predicted: torch.Tensor, before: torch.Tensor, after: torch.Tensor, _: float) -> torch.Tensor:
    return picture_error(predicted, before, after, 0.0)


CONVENTIONS = {
    "order of the pixel shuffle": ("warp", action_weights, "SHUFFLED", (), "action decoder"),
    "sign of the flow": ("warp", action_model, "warp", _flow_up, "action decoder"),
    "axes of the flow": ("warp", action_model, "warp", _flow_transposed, "action decoder"),
    "direction of the matching": ("warp", action_model, "matching", _matched_backwards, "action encoder"),
    "area of whole pixels": ("warp", actions, "area_resize", _whole_pixel_area, "action encoder"),
    "epsilon of PyTorch's normalisation": ("warp", action_model, "NORM_EPSILON", 1e-5, "action encoder"),
    "weight of motion": ("warp", action_loss, "picture_error", _evenly_weighed, "action loss"),
    "no gradient past the quantiser": ("warp", action_loss, "straight_through", lambda _, c: c, "action gradients"),
    "rotation for straight-through": ("mlp", action_loss, "straight_through", action_loss.rotated, "action gradients"),
    "straight-through for rotation": (
        "mlp, rotation",
        action_loss,
        "rotated",
        action_loss.straight_through,
        "action gradients",
    ),
}


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_changed_convention_shows_in_its_row(
    convention: str, check: Callable[[str], list[bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, module, attribute, changed, row = CONVENTIONS[convention]
    monkeypatch.setattr(module, attribute, changed)
    assert fails_first_at(check(name), row)


def test_a_changed_commitment_shows_in_the_loss(
    check: Callable[[str], list[bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = actions.twin_values
    monkeypatch.setattr(
        actions, "twin_values", lambda config, *rest: run(dataclasses.replace(config, commitment=0.3), *rest)
    )
    assert fails_first_at(check("mlp"), "action loss")


@pytest.mark.parametrize("source", [(48, 36), (21, 24), (16, 16), (7, 100)])
def test_area_resize_equals_its_twin_at_any_factor(source: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, *source, 3)).astype(np.uint8)
    twin = action_pixels.area_resize(torch.from_numpy(frames).movedim(-1, 1), 16).movedim(1, -1)
    np.testing.assert_allclose(pixels.area_resize(frames, 16), twin, atol=1e-6)


def test_warp_equals_its_twin_far_past_the_border_and_at_whole_pixels() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((2, 9, 13, 3)).astype(np.float32)
    for flow in (rng.uniform(-20, 20, (2, 9, 13, 2)), rng.integers(-14, 14, (2, 9, 13, 2))):
        flow = flow.astype(np.float32)
        twin = action_pixels.warp(torch.from_numpy(image).movedim(-1, 1), torch.from_numpy(flow).movedim(-1, 1))
        np.testing.assert_allclose(pixels.warp(image, flow), twin.movedim(1, -1), atol=1e-5)
