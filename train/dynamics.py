"""Stage "dynamics": the transformer of `genie_jax.dynamics` trained on the corpus's latents and codes.

The whole corpus of normalised w lies on the device; a batch is a gather inside jit at starts that were computed once,
so that no clip straddles a cut and the host does nothing between dispatches. Which clips a step sees is a function of
(seed, step) alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from genie_jax.code_usage import effect_alarms
from genie_jax.dynamics import DynamicsConfig, DynamicsModel
from genie_jax.dynamics_loss import LossConfig
from genie_jax.nn import Params
from genie_jax.training import OptimizerConfig, TrainState, TrainStep, init_state, make_optimizer, make_train_step
from genie_jax.trees import flatten_tree, unflatten_tree
from train.dynamics_exam import Exam, examine
from train.errors import UserError
from train.latent_plots import error_curves, heat_strips
from train.stage import Pace

EXAM_CLIPS = 64
EXAM_HORIZON = 16
LEAST_CHANGE = 0.02  # of a number of w from frame to frame, in standard deviations: a flow divides by it


@dataclass(frozen=True)
class DynamicsStageConfig:
    """The dynamics and its training.

    Attributes:
        model: architecture; rows and style_dim are the encoder's, codes the action model's.
        loss: kind of loss, self-generated steps.
        optimizer: AdamW; its `ema_decay` averages the weights that play uses.
        pace: length of the stage.
        batch: clips a step.
        clip: frames a clip, longer than the model's window where the corpus allows; see `clip_length`.
        steps_per_call: optimiser steps of one dispatch.
        std_floor: smallest standard deviation, as a share of the root mean square over all numbers of w, by which a
            number of w is divided; a number that hardly ever moves is not blown up to noise.
        seed: of this stage alone, to tell noise from effect; None for the run's.
    """

    model: DynamicsConfig = field(default_factory=DynamicsConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    pace: Pace = field(default_factory=lambda: Pace(steps=50_000))
    batch: int = 64
    clip: int = 32
    steps_per_call: int = 10
    std_floor: float = 0.05
    seed: int | None = None


class Latents(NamedTuple):
    """The corpus as this stage sees it.

    Attributes:
        w_FLD: w of every frame, float32, perhaps memory-mapped.
        codes_F: code from each frame to the next, -1 where there is none (the last frame of a shot).
        train_shots, heldout_shots: [start, stop) rows.
        mean_LD, std_LD: statistics of the training frames.
    """

    w_FLD: Float[np.ndarray, "F L D"]
    codes_F: Int[np.ndarray, " F"]
    train_shots: Int[np.ndarray, "S 2"]
    heldout_shots: Int[np.ndarray, "S 2"]
    mean_LD: Float[np.ndarray, "L D"]
    std_LD: Float[np.ndarray, "L D"]


class _OnDevice(NamedTuple):
    w_FLD: Float[Array, "F L D"]
    codes_F: Int[Array, " F"]
    starts_N: Int[Array, " N"]


def starts_of(shots: Int[np.ndarray, "S 2"], codes_F: Int[np.ndarray, " F"], length: int) -> Int[np.ndarray, " N"]:
    """Every frame with which `length` consecutive frames of one shot begin whose transitions all have a code."""
    found = [np.zeros(0, np.int64)]
    for start, stop in np.asarray(shots, np.int64).tolist():
        missing = np.concatenate([[0], np.cumsum(np.asarray(codes_F[start:stop]) < 0)])
        first = np.arange(0, max(0, stop - start - length + 1))
        found.append(start + first[missing[first + length - 1] == missing[first]])
    return np.concatenate(found)


def change_of(w_FLD: Float[np.ndarray, "F L D"], shots: Int[np.ndarray, "S 2"]) -> Float[np.ndarray, "L D"]:
    """Root mean square of each number's change from a frame to the next one of its shot."""
    total, count = np.zeros(w_FLD.shape[1:]), 0
    for start, stop in np.asarray(shots, np.int64).tolist():
        change = np.diff(np.asarray(w_FLD[start:stop], np.float32), axis=0)
        total, count = total + np.square(change).sum(axis=0, dtype=np.float64), count + len(change)
    return np.sqrt(total / max(count, 1)).astype(np.float32)


def clip_length(shots: Int[np.ndarray, "S 2"], codes_F: Int[np.ndarray, " F"], wanted: int, least: int) -> int:
    """Longest clip of at most `wanted` frames that leaves half of the transitions inside some clip.

    A video with short shots has few or no clips of the wanted length; training on those few alone would be worse than
    training on shorter clips of everything.

    Raises:
        UserError: there is not even one clip of `least` frames.
    """
    pairs = len(starts_of(shots, codes_F, 2))
    for length in range(max(wanted, least), least, -1):
        starts = starts_of(shots, codes_F, length)
        inside = np.zeros(len(codes_F) + 1, np.int64)
        np.add.at(inside, starts, 1)
        np.add.at(inside, starts + length - 1, -1)
        if 2 * int((np.cumsum(inside) > 0).sum()) >= pairs > 0:
            return length
    if len(starts_of(shots, codes_F, least)):
        return least
    fault = f"no shot has {least} consecutive frames with codes, which the dynamics need"
    raise UserError("the corpus", fault, "prepare a video with longer shots or lower --dynamics.loss.unroll")


def _of_each_tree(function: Callable[[Params], Params], state: TrainState) -> TrainState:
    """The state with `function` of each of its trees of parameters: weights, average, both moments."""

    def is_tree(node: Any) -> bool:
        return isinstance(node, dict) and "blocks" in node

    return jax.tree.map(lambda node: function(node) if is_tree(node) else node, state, is_leaf=is_tree)


def _not_shared(state: TrainState, other: TrainState) -> TrainState:
    """The state, with copies of what it shares with `other`, and of host arrays, whose memory a device may share."""
    theirs = {id(leaf) for leaf in jax.tree.leaves(other)}

    def own(leaf: Any) -> Array:
        return leaf if isinstance(leaf, jax.Array) and id(leaf) not in theirs else jnp.array(leaf, copy=True)

    return jax.tree.map(own, state)


class DynamicsStage:
    """(w, code) of the last frames -> next w.

    Args:
        config: architecture and training.
        latents: the corpus.
        seed: of everything random in the stage.
        device: where it computes; None for JAX's default.
        weight_LD: weight of each number of w in the loss, mean 1; None for ones.
    """

    name = "dynamics"
    framework = "jax"

    def __init__(
        self,
        config: DynamicsStageConfig,
        latents: Latents,
        *,
        seed: int,
        device: jax.Device | None = None,
        weight_LD: Float[np.ndarray, "L D"] | None = None,
    ) -> None:
        _check(config, latents)
        self.config, self.pace, self.steps_per_call = config, config.pace, config.steps_per_call
        self.model = DynamicsModel(config.model)
        rms = float(np.sqrt(np.mean(np.square(latents.std_LD))))
        self.mean_LD = np.asarray(latents.mean_LD, np.float32)
        self.std_LD = np.maximum(latents.std_LD, config.std_floor * rms).astype(np.float32)
        self.clip = clip_length(latents.train_shots, latents.codes_F, config.clip, config.loss.unroll + 2)
        self._device = device or jax.devices()[0]
        self._data = self._put(latents)
        self._weight_LD = None if weight_LD is None else jax.device_put(np.asarray(weight_LD, np.float32), self._device)
        self._optimizer = make_optimizer(config.optimizer)
        with jax.default_device(self._device):
            params = self.model.init(jax.random.key(seed))
            if config.model.head == "flow" and config.model.residual:
                change_LD = change_of(latents.w_FLD, latents.train_shots) / self.std_LD
                params = self.model.with_change_scale(params, np.maximum(change_LD, LEAST_CHANGE))
            fresh = init_state(params, self._optimizer)
        self._state = self._placed(fresh)
        self._seed = seed
        self._train: dict[int, TrainStep] = {}  # by the number of self-generated steps
        self._exam_w, self._exam_codes, self.exam_is_heldout = self._exam_clips(latents)
        self._examine = jax.jit(lambda params, w, codes: examine(self.model, self.model.joined(params), w, codes))

    @property
    def train_state(self) -> TrainState:
        """Weights, their average and the optimiser's state as they are stored: a copy."""
        return _not_shared(_of_each_tree(self.model.joined, self._state), self._state)

    def _placed(self, state: TrainState) -> TrainState:
        """The state that the step takes: the blocks apart, which spares it copies of all weights and gradients.

        Committed to the device as what the step returns will be: otherwise the second call compiles again.
        """
        return jax.device_put(_of_each_tree(self.model.apart, state), self._device)

    def _put(self, latents: Latents) -> _OnDevice:
        w_FLD = (np.asarray(latents.w_FLD, np.float32) - self.mean_LD) / self.std_LD
        starts = starts_of(latents.train_shots, latents.codes_F, self.clip)
        host = _OnDevice(w_FLD, np.asarray(latents.codes_F, np.int32), starts.astype(np.int32))
        return jax.device_put(host, self._device)

    def _batch(self, data: _OnDevice, step: Array, key: Array) -> tuple[Array, Array]:
        """Clips (B, T, L, D) and codes (B, T-1) at starts drawn with replacement."""
        del step  # the key is already a function of it
        start_B = data.starts_N[jax.random.randint(key, (self.config.batch,), 0, data.starts_N.shape[0])]
        frames_BT = start_B[:, None] + jnp.arange(self.clip, dtype=jnp.int32)
        return data.w_FLD[frames_BT], data.codes_F[frames_BT[:, :-1]]

    def _train_step(self, unroll: int) -> TrainStep:
        """The jitted step that trains through `unroll` self-generated steps: a loop's length is part of its program."""
        if unroll not in self._train:
            options = replace(self.config.loss, unroll=unroll)

            def loss_fn(params: Params, extra: tuple, batch: tuple[Array, Array], *, key: Array) -> tuple:
                w_BTLD, codes_BTm1 = batch
                loss, metrics = self.model.loss(
                    params, w_BTLD, codes_BTm1, key=key, weight_LD=self._weight_LD, config=options
                )
                return loss, (extra, metrics)

            self._train[unroll] = make_train_step(
                loss_fn,
                self._optimizer,
                self._batch,
                seed=self._seed,
                steps_per_call=self.steps_per_call,
                ema_decay=self.config.optimizer.ema_decay,
            )
        return self._train[unroll]

    def advance(self, step: int, progress: float, lr_scale: float) -> dict[str, Any]:
        """`steps_per_call` optimiser steps in one dispatch; metrics are unread device arrays."""
        rate = self.config.optimizer.rate(step, progress, lr_scale)
        unroll = self.config.loss.steps_at(progress)
        self._state, metrics = self._train_step(unroll)(self._state, self._data, step, rate)
        return {**metrics, "learning_rate": rate, "unroll": unroll}

    def state(self) -> dict[str, Any]:
        """The train state, as `train_state`."""
        return {"train": self.train_state}

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of `state`; nothing of the given arrays is kept, because the next `advance` donates its own."""
        apart = _of_each_tree(self.model.apart, state["train"])
        self._state = jax.device_put(_not_shared(apart, state["train"]), self._device)

    def _exam_clips(self, latents: Latents) -> tuple[np.ndarray, np.ndarray, bool]:
        """Up to 64 clips of a prompt and 16 frames to predict: held-out ones where any is long enough."""
        most = self.config.model.window + EXAM_HORIZON
        for shots, heldout in ((latents.heldout_shots, True), (latents.train_shots, False)):
            for length in range(most, 2, -1):
                starts = starts_of(shots, latents.codes_F, length)
                if len(starts):
                    chosen = starts[np.unique(np.linspace(0, len(starts) - 1, EXAM_CLIPS).round().astype(int))]
                    frames = chosen[:, None] + np.arange(length)
                    w_BTLD = (np.asarray(latents.w_FLD[frames], np.float32) - self.mean_LD) / self.std_LD
                    return w_BTLD, np.asarray(latents.codes_F[frames[:, :-1]], np.int32), heldout
        raise UserError("the corpus", "no shot has 3 consecutive frames with codes", "prepare a longer video")

    def exam(self) -> Exam:
        """The averaged weights on held-out clips: rollout error by horizon, response to the code (host arrays)."""
        placed = jax.device_put((self._exam_w, self._exam_codes), self._device)
        return jax.device_get(self._examine(self._state.ema, *placed))

    def preview(self) -> dict[str, np.ndarray]:
        """Heat strips of one held-out rollout (truth, prediction, error) and error curves by horizon."""
        exam = self.exam()
        curves = {"model": exam.error_S, "copy last": exam.copy_S}
        return {"strips": heat_strips(exam.truth_BSLD[0], exam.predicted_BSLD[0]), "error": error_curves(curves)}

    def result(self) -> dict[str, dict[str, np.ndarray]]:
        """`dynamics`: averaged weights as `params/...`, and `w_mean`, `w_std`; `load_dynamics` reads it."""
        params = self.model.joined(self._state.ema)
        return {"dynamics": flatten_tree({"params": params, "w_mean": self.mean_LD, "w_std": self.std_LD})}

    def health(self) -> list[str]:
        """Alarms: worse than copying, codes without effect, clips shorter than asked or than the window."""
        exam, alarms = self.exam(), []
        where = "held-out" if self.exam_is_heldout else "training (no held-out shot is long enough)"
        if float(exam.error_S[0]) >= float(exam.copy_S[0]):
            alarms.append(
                f"the next w of {where} frames is predicted no better than by copying the last one "
                f"(error {exam.error_S[0]:.3f}, copying {exam.copy_S[0]:.3f}): train longer or lower the learning rate"
            )
        alarms += effect_alarms(exam.distance_KK)
        if self.clip <= self.config.model.window and self.clip < self.config.clip:
            alarms.append(
                f"shots are short: clips have {self.clip} frames in place of {self.config.clip}, and the window of "
                f"{self.config.model.window} is never full in training: prepare footage with fewer cuts"
            )
        return alarms


def load_dynamics(
    tensors: Mapping[str, np.ndarray], config: DynamicsConfig
) -> tuple[DynamicsModel, Params, Float[Array, "L D"], Float[Array, "L D"]]:
    """The model, its weights, mean and standard deviation of w from what `DynamicsStage.result` returned.

    Raises:
        ValueError: a tensor is missing, left over, or does not fit the config; it is named.
    """
    model = DynamicsModel(config)
    row = jax.ShapeDtypeStruct((config.rows, config.style_dim), jnp.float32)
    like = {"params": jax.eval_shape(model.init, jax.random.key(0)), "w_mean": row, "w_std": row}
    tree = unflatten_tree(tensors, like, what="the dynamics")
    return model, tree["params"], tree["w_mean"], tree["w_std"]


def _check(config: DynamicsStageConfig, latents: Latents) -> None:
    """Raise UserError where latents, codes and config do not belong together."""
    frames, rows, dim = latents.w_FLD.shape
    model = config.model
    if (rows, dim) != (model.rows, model.style_dim):
        fault = f"w has shape ({rows}, {dim}) and the dynamics take ({model.rows}, {model.style_dim})"
        raise UserError("latents", fault, "encode the corpus again or correct --dynamics.model.rows and style_dim")
    if len(latents.codes_F) != frames:
        raise UserError("codes", f"{len(latents.codes_F)} for {frames} frames", "infer the codes of this corpus again")
    if int(np.max(latents.codes_F, initial=-1)) >= model.codes:
        fault = f"code {int(np.max(latents.codes_F))} is beyond the {model.codes} codes of the dynamics"
        raise UserError("codes", fault, "set --dynamics.model.codes to the action model's")
