"""The action model against its PyTorch twin: encoder, decoder, loss and the gradients of all parameters.

The twin runs on PyTorch's CPU in float32, its gradients in float64; the Flax model wherever the caller has set JAX's
default device and precision.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Array, Float, Int

from genie_jax.clips import Clip
from genie_jax.latent_action import LatentActionConfig, LatentActionModel
from genie_jax.nn import Params
from genie_jax.vq import VQState, unit
from torch_bridge.crosscheck.moving_clips import moving_clips
from torch_bridge.crosscheck.report import Row, compare
from torch_bridge.reference.action_loss import action_loss
from torch_bridge.reference.action_model import MLPTwin, WarpTwin
from torch_bridge.reference.action_pixels import area_resize
from torch_bridge.reference.action_weights import to_state

TOLERANCES = {"action encoder": 1e-5, "action decoder": 1e-5, "action loss": 1e-5, "action gradients": 1e-4}
Values = dict[str, Any]  # row -> array or named arrays


class Case(NamedTuple):
    """What both sides are given, and the vectors and codes that Flax found in it."""

    clip: Clip
    book: VQState
    vectors_BTm1D: Float[Array, "B Tm1 D"]
    codes_BTm1: Int[Array, "B Tm1"]


def check_actions(model: LatentActionModel, params: Params, *, seed: int, book: VQState | None = None) -> list[Row]:
    """Rows "action encoder", "action decoder", "action loss" and "action gradients".

    The loss row holds the loss and its parts, each side under the codes that it finds nearest. Decoder and gradients
    are compared under the codes that Flax found.

    Args:
        model: the action model, of either form.
        params: its parameters; without the branch `decoder`, which a world need not have, the encoder's row is all.
        seed: of the inputs, and of the codebook where none is given.
        book: the codebook; None draws one around the vectors that the encoder gives.

    Raises:
        ValueError: the codebook has no codes yet, or a parameter is none of the model's.
    """
    model = replace(model, config=replace(model.config, mask=0.0))  # the twin's decoder sees everything
    case = case_for(model, params, seed, book)
    ours, theirs = flax_values(model, params, case), twin_values(model.config, params, case)
    return [compare(name, ours[name], theirs[name], tolerance=TOLERANCES[name]) for name in ours]


def case_for(model: LatentActionModel, params: Params, seed: int, book: VQState | None) -> Case:
    """Seeded inputs and the codebook that goes with them."""
    clip = moving_clips(model.config, seed)
    vectors_BTm1D = jax.jit(model.encode)(params, clip)
    if book is None:
        book = _drawn_book(model.config, np.asarray(vectors_BTm1D).reshape(-1, model.config.dim), seed)
    elif not bool(book.initted):
        raise ValueError("the codebook has no codes yet: train the action model first, or give no codebook.")
    codes_BTm1 = model.config.quantizer()(book, vectors_BTm1D, train=False).indices
    return Case(clip, book, vectors_BTm1D, codes_BTm1)


def flax_values(model: LatentActionModel, params: Params, case: Case) -> Values:
    """What the Flax model computes, by row; pictures channels-last, gradients in the twin's names and layout."""
    values: Values = {"action encoder": case.vectors_BTm1D}
    if "decoder" not in params:
        return values
    values["action decoder"] = jax.jit(model.predict)(params, case.book, case.clip, case.codes_BTm1)
    loss, (_, metrics) = jax.jit(model.loss)(params, case.book, case.clip, key=jax.random.key(0))
    parts = {name: metrics[name] for name in ("prediction", "commitment", "next_over_current")}
    return values | {"action loss": {"loss": loss, **parts}, "action gradients": _flax_gradients(model, params, case)}


def _flax_gradients(model: LatentActionModel, params: Params, case: Case) -> Values:
    """Gradients in float64: a bilinear sample has another slope on either side of a pixel, and where it falls must
    not hang on a rounding of float32.
    """
    with jax.enable_x64(True):
        wide = jax.tree.map(_widened, (params, case.clip))
        gradient = jax.jit(jax.grad(model.loss, has_aux=True))
        return to_state(jax.tree.map(np.asarray, gradient(wide[0], case.book, wide[1], key=jax.random.key(0))[0]))


def _widened(array: Array) -> Array:
    """float64 of what is float32."""
    array = np.asarray(array)
    return jnp.asarray(array, jnp.float64 if array.dtype == np.float32 else array.dtype)


def twin_values(config: LatentActionConfig, params: Params, case: Case) -> Values:
    """What the twin computes from the same weights and inputs, by row, in the shapes of `flax_values`."""
    has_decoder = "decoder" in params
    twin = (WarpTwin if config.form == "warp" else MLPTwin)(config, decoder=has_decoder)
    twin.load_state_dict(to_state(params))
    before, after = _pairs(config, case.clip)
    maps = _maps(config, case.clip)
    pairs = case.codes_BTm1.shape
    values: Values = {"action encoder": twin.encode(before, after, maps).unflatten(0, pairs)}
    if not has_decoder:
        return values
    codes_KD = torch.tensor(np.asarray(case.book.embed_KD))
    indices_N = torch.tensor(np.asarray(case.codes_BTm1)).long().flatten()
    predicted = twin.decode(before, codes_KD[indices_N]).unflatten(0, pairs)
    shaped = predicted.movedim(2, -1) if config.form == "warp" else predicted.reshape(case.clip.w_BTLD[:, 1:].shape)
    values["action decoder"] = shaped
    values["action loss"] = action_loss(twin, config, codes_KD, before, after, maps_N2CGG=maps)._asdict()
    before, after = _pairs(config, case.clip, torch.float64)
    maps = None if maps is None else maps.double()
    action_loss(twin.double(), config, codes_KD.double(), before, after, indices_N, maps).loss.backward()
    values["action gradients"] = {name: parameter.grad for name, parameter in twin.named_parameters()}
    return values


def _pairs(
    config: LatentActionConfig, clip: Clip, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    """All (frame t, frame t+1) as the twin reads them."""
    if config.form == "warp":
        frames_BTCHW = torch.tensor(np.asarray(clip.frames_BTHWC)).movedim(-1, 2)
        small = area_resize(frames_BTCHW.flatten(0, 1), config.warp.size, dtype)
        inputs = small.unflatten(0, frames_BTCHW.shape[:2])
    else:
        inputs = torch.tensor(np.asarray(clip.w_BTLD), dtype=dtype).flatten(2)
    return inputs[:, :-1].flatten(0, 1), inputs[:, 1:].flatten(0, 1)


def _maps(config: LatentActionConfig, clip: Clip) -> torch.Tensor | None:
    """The feature maps of all pairs as the twin reads them, float32; None where it reads none."""
    if not config.reads_features:
        return None
    maps_BTCGG = torch.tensor(np.asarray(clip.features_BTGGC, np.float32)).movedim(-1, 2)
    return torch.stack([maps_BTCGG[:, :-1], maps_BTCGG[:, 1:]], 2).flatten(0, 1)


def _drawn_book(config: LatentActionConfig, vectors_ND: np.ndarray, seed: int) -> VQState:
    """A codebook that has started, with codes spread as the vectors are."""
    noise_KD = np.random.default_rng(seed).normal(size=(config.codes, config.dim))
    embed_KD = jnp.asarray(vectors_ND.mean(0) + vectors_ND.std() * noise_KD, jnp.float32)
    embed_KD = unit(embed_KD) if config.cosine else embed_KD
    return VQState(jnp.array(True), jnp.ones(config.codes), embed_KD, embed_KD)
