"""Stage "actions": the latent action model learns which of a few codes leads from each frame to the next.

The picture form reads the corpus, the latent form the corpus's normalised w. Which pairs a step sees is a function of
(seed, step) alone. Afterwards `infer_corpus_codes` gives every pair of consecutive frames its code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float16, Int

from genie_jax.action_labels import BRANCH, Labelled
from genie_jax.action_training import ActionState, init_action_state, make_action_step
from genie_jax.clips import Clip
from genie_jax.latent_action import LatentActionConfig, LatentActionModel
from genie_jax.nn import Params
from genie_jax.training import OptimizerConfig, make_optimizer
from genie_jax.trees import flatten_tree, unflatten_tree
from genie_jax.vq import VQState
from train.action_labels import Labels
from train.action_pictures import action_strips, usage_bars
from train.errors import UserError
from train.stage import Pace

EXAM_PAIRS = 512
SHOWN_PAIRS = 6
INFER_PAIRS = 256


class Shots(Protocol):
    """The part of `train.ingest.store.FrameStore` that this stage uses."""

    shots: np.ndarray


class Frames(Protocol):
    """The part of `train.corpus.Corpus` that this stage uses."""

    store: Shots
    heldout_shots: np.ndarray
    train_shots: np.ndarray

    def clip_indices(self, step: int, size: int, length: int, *, stream: str) -> np.ndarray: ...

    def read(self, indices: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class ActionsConfig:
    """The action model and its training.

    Attributes:
        model: architecture; for the mlp form, rows and style_dim are the encoder's.
        optimizer: AdamW; weights are not averaged, so its `ema_decay` has no effect.
        pace: length of the stage.
        batch: clips a step.
        clip: frames a clip; every pair of consecutive frames in it counts.
        labels: share of the labelled training transitions whose true action is used, where true actions are given.
        label_batch: labelled pairs of frames a step.
        steps_per_call: optimiser steps of one dispatch. They are compiled one after the other, so that a large number
            compiles long; worth it on an accelerator alone.
    """

    model: LatentActionConfig = field(default_factory=LatentActionConfig)
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=1e-3, warmup=50, weight_decay=0.0)
    )
    pace: Pace = field(default_factory=lambda: Pace(steps=5_000))
    batch: int = 32
    clip: int = 2
    labels: float = 1.0
    label_batch: int = 16
    steps_per_call: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.labels <= 1:
            raise ValueError(f"labels {self.labels} is no share of the labels: give more than 0, at most 1")
        if self.label_batch < 1:
            raise ValueError(f"label_batch {self.label_batch} is no number of pairs: give 1 or more")


class ActionsStage:
    """(frame t, frame t+1) -> code.

    Args:
        config: architecture and training.
        corpus: the frames and their shots.
        w_FLD: normalised w of every frame (mean and deviation as the dynamics use them), for the mlp form alone.
        features_FGGC: the encoder's feature maps of every frame, where the warp form reads them.
        labels: true actions of some training transitions; None for none.
        seed: of everything random in the stage.
        device: where it computes; None for JAX's default.

    Raises:
        UserError: w or feature maps that the model reads are missing, or have another shape than its config says.
    """

    name = "actions"
    framework = "jax"

    def __init__(
        self,
        config: ActionsConfig,
        corpus: Frames,
        *,
        w_FLD: Float[np.ndarray, "F L D"] | None = None,
        features_FGGC: Float16[np.ndarray, "F G G C"] | None = None,
        labels: Labels | None = None,
        seed: int,
        device: jax.Device | None = None,
    ) -> None:
        _check(config, w_FLD, features_FGGC)
        self.config, self.pace, self.steps_per_call = config, config.pace, config.steps_per_call
        self.model = LatentActionModel(config.model)
        self._corpus, self._w_FLD, self._features_FGGC = corpus, w_FLD, features_FGGC
        self._device = device or jax.devices()[0]
        self._labels, self._seed = labels, seed
        optimizer = make_optimizer(config.optimizer)
        with jax.default_device(self._device):
            classes = 0 if labels is None else labels.classes
            fresh = init_action_state(self.model, optimizer, seed=seed, label_classes=classes)
        # Committed to the device as what the step returns will be: otherwise the second call compiles again.
        self.action_state: ActionState = jax.device_put(fresh, self._device)
        self._train = make_action_step(self.model, optimizer, seed=seed)
        self._infer, self._predict = jax.jit(self.model.infer), jax.jit(self.model.predict)
        self._exam_pairs = _exam_pairs(corpus)

    def advance(self, step: int, progress: float, lr_scale: float) -> dict[str, Any]:
        """`steps_per_call` optimiser steps in one dispatch; metrics are unread device arrays."""
        c = self.config
        indices = [
            self._corpus.clip_indices(number, c.batch, c.clip, stream="actions")
            for number in range(step, step + c.steps_per_call)
        ]
        rate = c.optimizer.rate(step, progress, lr_scale)
        clips, labelled = self._clip(np.stack(indices)), self._labelled(step)
        self.action_state, metrics = self._train(self.action_state, clips, step, rate, labelled)
        return {**metrics, "learning_rate": rate}

    def state(self) -> dict[str, Any]:
        """The train state. The next `advance` uses its buffers up: save or copy it before."""
        return {"train": self.action_state}

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of `state`; the given arrays are copied."""
        copied = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), state["train"])
        self.action_state = jax.device_put(copied, self._device)

    def preview(self) -> dict[str, np.ndarray]:
        """How often each code occurs and, in the warp form, what each code does to a few frames.

        A line of the strips: frame t | predicted frame t+1 under each code | true frame t+1; the code that was
        inferred is framed.
        """
        codes = self._exam_codes()
        pictures = {"usage": usage_bars(np.bincount(codes, minlength=self.config.model.codes))}
        if self.config.model.form == "warp":
            pictures["codes"] = self._strips(codes)
        return pictures

    def result(self) -> dict[str, dict[str, np.ndarray]]:
        """`actions`: weights as `params/...` and the codebook as `vq/...`; `load_action_model` reads it.

        The classifier of true actions stays behind, in the checkpoints.
        """
        state = self.action_state
        params = {name: branch for name, branch in state.params.items() if name != BRANCH}
        return {"actions": flatten_tree({"params": params, "vq": state.quantizer})}

    def health(self) -> list[str]:
        """Alarms: collapse, unused codes, predictions nearer to the current frame than to the next."""
        state, codes = self.action_state, self._exam_codes()
        quantizer = self.config.model.quantizer()
        alarms = quantizer.health(np.bincount(codes, minlength=self.config.model.codes))
        clip = self._clip(self._exam_pairs)
        ratio = float(jax.jit(self.model.next_over_current)(state.params, state.quantizer, clip))
        if ratio >= 1:
            alarms.append(
                f"predicted frames are nearer to the current frame than to the next (ratio {ratio:.2f}, 1 or more is "
                "bad): the codes do not carry the motion yet; train the actions longer or lower the frame rate"
            )
        return alarms

    def _exam_codes(self) -> Int[np.ndarray, " N"]:
        state = self.action_state
        return np.asarray(self._infer(state.params, state.quantizer, self._clip(self._exam_pairs)))[:, 0]

    def _strips(self, codes_N: Int[np.ndarray, " N"]) -> np.ndarray:
        chosen = np.linspace(0, len(codes_N) - 1, min(SHOWN_PAIRS, len(codes_N))).round().astype(int)
        codes = self.config.model.codes
        every_code = np.tile(np.arange(codes), len(chosen))[:, None]
        clip = self._clip(np.repeat(self._exam_pairs[chosen], codes, axis=0))
        state = self.action_state
        predicted = np.asarray(self._predict(state.params, state.quantizer, clip, every_code))[:, 0]
        real = np.asarray(self.model.form.inputs(self._clip(self._exam_pairs[chosen])))
        return action_strips(real, predicted.reshape(len(chosen), codes, *predicted.shape[1:]), codes_N[chosen])

    def _labelled(self, step: int) -> Labelled | None:
        """The labelled pairs of the steps of one dispatch."""
        labels, size = self._labels, self.config.label_batch
        if labels is None:
            return None
        places = np.stack([labels.draw(self._seed, number, size) for number in range(step, step + self.steps_per_call)])
        pairs = self._clip(labels.first_N[places][..., None] + np.arange(2))
        return Labelled(pairs, jax.device_put(labels.classes_N[places], self._device))

    def _clip(self, indices: Int[np.ndarray, "*B T"]) -> Clip:
        return clip_of(self.config.model, self._corpus, self._w_FLD, self._features_FGGC, indices, self._device)


def clip_of(
    config: LatentActionConfig,
    corpus: Frames,
    w_FLD: Float[np.ndarray, "F L D"] | None,
    features_FGGC: Float16[np.ndarray, "F G G C"] | None,
    indices: Int[np.ndarray, "*B T"],
    device: jax.Device | None = None,
) -> Clip:
    """Frames and feature maps, or w, with these numbers, on the device: what the model reads and no more."""
    if config.reads_frames:
        maps = jax.device_put(np.asarray(features_FGGC[indices]), device) if config.reads_features else None
        return Clip(frames_BTHWC=jax.device_put(corpus.read(indices), device), features_BTGGC=maps)
    return Clip(w_BTLD=jax.device_put(np.asarray(w_FLD[indices], np.float32), device))


def load_action_model(
    tensors: Mapping[str, np.ndarray], config: LatentActionConfig
) -> tuple[LatentActionModel, Params, VQState]:
    """The model, its weights and its codebook from what `ActionsStage.result` returned.

    Raises:
        ValueError: a tensor is missing, left over, or does not fit the config; it is named.
    """
    model, key = LatentActionModel(config), jax.random.key(0)
    like = {"params": jax.eval_shape(model.init, key), "vq": jax.eval_shape(model.init_quantizer, key)}
    tree = unflatten_tree(tensors, like, what="the action model")
    return model, tree["params"], tree["vq"]


def infer_corpus_codes(
    model: LatentActionModel,
    params: Params,
    vq_state: VQState,
    corpus: Frames,
    *,
    w_FLD: Float[np.ndarray, "F L D"] | None = None,
    features_FGGC: Float16[np.ndarray, "F G G C"] | None = None,
) -> Int[np.ndarray, " F"]:
    """The code of every frame of the corpus to its next one, int32; -1 at the last frame of a shot.

    Held-out shots are included. `w_FLD` is normalised w, for the mlp form alone; `features_FGGC` as in `ActionsStage`.
    """
    shots = np.asarray(corpus.store.shots, np.int64)
    codes_F = np.full(int(shots[:, 1].max()), -1, np.int32)
    first_N = np.concatenate([np.arange(start, stop - 1) for start, stop in shots])
    infer = jax.jit(model.infer)
    for begin in range(0, len(first_N), INFER_PAIRS):
        chosen = first_N[begin : begin + INFER_PAIRS]
        # Padded to one size, so that one compilation serves all.
        padded = np.resize(chosen, INFER_PAIRS)
        clip = clip_of(model.config, corpus, w_FLD, features_FGGC, padded[:, None] + np.arange(2))
        codes_F[chosen] = np.asarray(infer(params, vq_state, clip))[: len(chosen), 0]
    return codes_F


def _exam_pairs(corpus: Frames) -> Int[np.ndarray, "N 2"]:
    """Up to 512 pairs, evenly spread: held-out ones where there are at least 16, else training ones."""
    for shots, least in ((corpus.heldout_shots, 16), (corpus.train_shots, 1)):
        first = [np.arange(start, stop - 1) for start, stop in np.asarray(shots, np.int64)]
        first_N = np.concatenate([np.zeros(0, np.int64), *first])
        if len(first_N) >= least:
            chosen = np.linspace(0, len(first_N) - 1, min(EXAM_PAIRS, len(first_N))).round().astype(int)
            return first_N[chosen][:, None] + np.arange(2)
    raise UserError("the corpus", "no shot has two consecutive frames", "prepare a video with longer shots")


def _check(config: ActionsConfig, w_FLD: np.ndarray | None, features_FGGC: np.ndarray | None) -> None:
    """Raise UserError where config and latents do not belong together."""
    if config.clip < 2:
        raise UserError("--actions.clip", f"{config.clip} frames hold no pair", "give at least 2")
    if config.model.reads_features:
        sizes = config.model.features
        expected = (sizes.grid, sizes.grid, sizes.channels)
        if features_FGGC is None or features_FGGC.shape[1:] != expected:
            found = "there are none" if features_FGGC is None else f"these are {features_FGGC.shape[1:]}"
            fault = f"it reads feature maps of shape {expected} and {found}"
            raise UserError(f"--actions.model.inputs {config.model.inputs}", fault, "encode the corpus again")
    if config.model.form != "mlp":
        return
    if w_FLD is None:
        raise UserError("--actions.model.form mlp", "it reads latents and there are none", "encode the corpus first")
    expected = (config.model.mlp.rows, config.model.mlp.style_dim)
    if w_FLD.shape[1:] != expected:
        fault = f"w has shape {w_FLD.shape[1:]} and the action model takes {expected}"
        raise UserError("latents", fault, "correct --actions.model.mlp.rows and style_dim")
