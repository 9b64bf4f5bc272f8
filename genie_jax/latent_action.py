"""Latent action model: which of a few codes leads from a frame to the next, learned without labels.

Genie (arXiv:2402.15391, section 2.1): an encoder sees both frames and has only a code to tell a decoder, which sees
the first frame alone, what the second will be. The few bits of the code then hold what the past cannot tell: the
action. Two forms behind one interface: "warp" on pictures (`genie_jax.warp`), "mlp" on w (`genie_jax.action_mlp`).

Convention: `codes_BTm1[:, t]` leads from frame t to frame t+1.
"""

from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genie_jax.action_labels import BRANCH, Labelled, init_classifier, label_loss
from genie_jax.action_mlp import ActionMLPConfig, MLPForm
from genie_jax.clips import Clip
from genie_jax.code_usage import perplexity
from genie_jax.nn import Params
from genie_jax.pair_features import FeatureConfig
from genie_jax.vq import VectorQuantizer, VQConfig, VQState, unit
from genie_jax.warp import Inputs, WarpConfig, WarpForm

MOST_CODES = 64


@dataclass(frozen=True)
class LatentActionConfig:
    """An action model.

    Attributes:
        form: "warp" learns from pictures, "mlp" from w.
        codes: number of actions, 2 to 64.
        dim: width of a code.
        decay: share of the codebook's averages that a batch leaves as it was.
        commitment: weight of the loss that draws vectors to their code.
        cosine: compare vectors to codes by direction.
        gradient: how gradients pass the quantiser.
        dead_code_share: a code used less often than this share of an even use is replaced; 0 replaces none.
        mask: share of its input that the decoder does not see in training, so that it cannot guess the next frame
            from the present one alone: patches in the picture form, entries of w in the latent form; 0 hides nothing.
        label_weight: weight of the classifier's loss where some true actions are given.
        warp: sizes of the picture form.
        mlp: sizes of the latent form.
        inputs: what the encoder of the form "warp" reads: frames, the frame encoder's feature maps, or both.
        features: sizes of the feature maps and of what reads them.
    """

    form: Literal["warp", "mlp"] = "warp"
    codes: int = 8
    dim: int = 32
    decay: float = 0.97
    commitment: float = 0.25
    cosine: bool = False
    gradient: Literal["ste", "rotation"] = "ste"
    dead_code_share: float = 0.1
    mask: float = 0.0
    label_weight: float = 1.0
    warp: WarpConfig = field(default_factory=WarpConfig)
    mlp: ActionMLPConfig = field(default_factory=ActionMLPConfig)
    inputs: Inputs = "frames"
    features: FeatureConfig = field(default_factory=FeatureConfig)

    @property
    def reads_frames(self) -> bool:
        """Whether a clip needs pictures; the picture form's decoder does, whatever the encoder reads."""
        return self.form == "warp"

    @property
    def reads_features(self) -> bool:
        """Whether a clip needs feature maps."""
        return self.form == "warp" and self.inputs != "frames"

    def __post_init__(self) -> None:
        if not 2 <= self.codes <= MOST_CODES:
            raise ValueError(f"{self.codes} codes cannot be had: give 2 to {MOST_CODES}")
        if not 0 <= self.mask < 1:
            raise ValueError(f"mask {self.mask} is no share that leaves something to see: give 0 or more, below 1")
        if not self.label_weight >= 0:
            raise ValueError(f"label_weight {self.label_weight} is no weight: give 0 or more")

    def quantizer(self, vectors: int | None = None) -> VectorQuantizer:
        """The quantiser, with dead-code replacement for training batches of that many vectors."""
        even = 0.0 if vectors is None else vectors / self.codes
        return VectorQuantizer(
            VQConfig(
                self.codes,
                self.dim,
                decay=self.decay,
                commitment=self.commitment,
                cosine=self.cosine,
                gradient=self.gradient,
                dead_code_threshold=self.dead_code_share * even,
                # A new code starts with an even share, so that it has time to find its vectors.
                reset_cluster_size=even,
            )
        )


@dataclass(frozen=True)
class LatentActionModel:
    """Both forms behind one interface, as pure functions of (parameters, codebook)."""

    config: LatentActionConfig

    @property
    def form(self) -> WarpForm | MLPForm:
        """The chosen form."""
        c = self.config
        return WarpForm(c.warp, c.dim, c.inputs, c.features) if c.form == "warp" else MLPForm(c.mlp, c.dim)

    def init(self, key: Array, label_classes: int = 0) -> Params:
        """Fresh parameters, a plain dict with the branches `encoder` and `decoder`.

        With true actions of so many classes it has the branch `labels` too, for training alone.
        """
        params = self.form.init(key)
        if label_classes:
            params[BRANCH] = init_classifier(self.config.dim, label_classes, jax.random.fold_in(key, 1))
        return params

    def init_quantizer(self, key: Array) -> VQState:
        """The codebook before training."""
        return self.config.quantizer().init(key)

    def loss(
        self, params: Params, vq_state: VQState, clip: Clip, *, key: Array, labelled: Labelled | None = None
    ) -> tuple[Float[Array, ""], tuple[VQState, dict[str, Float[Array, ""]]]]:
        """Training loss of a batch of clips, the codebook after it, and metrics.

        Metrics: `prediction` (error relative to "nothing changes", below 1 when the model helps), `commitment`,
        `perplexity` and `usage` of the batch's codes, and `next_over_current`: distance of the prediction to the next
        frame over its distance to the current one, which must fall below 1. With `labelled` pairs, for parameters that
        have the branch `labels`, also `label_loss` and `label_accuracy` of the classifier on them.
        """
        c = self.config
        before, after = self._pairs(clip)
        vectors_ND = self._vectors(params, clip, before, after)
        quantizer = c.quantizer(len(vectors_ND))
        coded = quantizer(vq_state, vectors_ND, train=True, key=key)
        seen = self.form.masked(before, c.mask, key=jax.random.fold_in(key, 2)) if c.mask > 0 else before
        predicted = self.form.decode(params, before, coded.quantized, seen)
        error = self.form.errors(predicted, before, after)
        counts_K = jnp.bincount(coded.indices, length=c.codes).astype(jnp.float32)
        metrics = {
            "prediction": error,
            "commitment": coded.loss,
            "perplexity": perplexity(counts_K),
            "usage": jnp.mean(counts_K >= 0.01 * counts_K.sum()) * c.codes,
            "next_over_current": jnp.mean(jnp.abs(predicted - after)) / (jnp.mean(jnp.abs(predicted - before)) + 1e-6),
        }
        loss = error + coded.loss
        if labelled is not None:
            vectors_BD = self.encode(params, labelled.clip)[:, 0]
            vectors_BD = unit(vectors_BD) if c.cosine else vectors_BD  # as the codes see them
            wrong, found = label_loss(params[BRANCH], vectors_BD, labelled.classes_B)
            metrics |= {"label_loss": wrong, "label_accuracy": found}
            loss = loss + c.label_weight * wrong
        return loss, (coded.state, metrics)

    def infer(self, params: Params, vq_state: VQState, clip: Clip) -> Int[Array, "B Tm1"]:
        """The code of each pair of consecutive frames; [:, t] leads from frame t to frame t+1.

        Needs the `encoder` branch of the parameters alone.
        """
        vectors_ND = self.encode(params, clip)
        coded = self.config.quantizer()(vq_state, vectors_ND, train=False)
        return coded.indices

    def encode(self, params: Params, clip: Clip) -> Float[Array, "B Tm1 D"]:
        """The vector of each pair of consecutive frames before it is quantised."""
        vectors_ND = self._vectors(params, clip, *self._pairs(clip))
        batch, frames = self._inputs(clip).shape[:2]
        return vectors_ND.reshape(batch, frames - 1, -1)

    def predict(self, params: Params, vq_state: VQState, clip: Clip, codes_BTm1: Int[Array, "B Tm1"]) -> Array:
        """The decoder's own next frames (B, T-1, S, S, 3 in about [0, 1]) or next w (B, T-1, L, D).

        Frame t+1 is predicted from frame t of the clip and codes_BTm1[:, t]; the last frame of the clip is not read.
        """
        inputs_BT = self._inputs(clip)
        before = inputs_BT[:, :-1].reshape(-1, *inputs_BT.shape[2:])
        code_ND = self.config.quantizer().lookup(vq_state, codes_BTm1.reshape(-1))
        predicted = self.form.decode(params, before, code_ND)
        shape = inputs_BT.shape[2:] if self.config.form == "warp" else clip.w_BTLD.shape[2:]
        return predicted.reshape(*codes_BTm1.shape, *shape)

    def next_over_current(self, params: Params, vq_state: VQState, clip: Clip) -> Float[Array, ""]:
        """Distance of the predictions to the next frames over their distance to the current ones; below 1 is well.

        The predictions are those under the inferred codes.
        """
        before, after = self._pairs(clip)
        coded = self.config.quantizer()(vq_state, self._vectors(params, clip, before, after), train=False)
        return _nearness(self.form.decode(params, before, coded.quantized), before, after)

    def _vectors(self, params: Params, clip: Clip, before: Array, after: Array) -> Float[Array, "N D"]:
        if self.config.form == "mlp":
            return self.form.encode(params, before, after)
        return self.form.encode(params, before, after, self.form.maps(clip))

    def _inputs(self, clip: Clip) -> Array:
        inputs_BT = self.form.inputs(clip)
        if inputs_BT.shape[1] < 2:
            raise ValueError("an action leads from one frame to the next: give clips of at least 2 frames")
        return inputs_BT

    def _pairs(self, clip: Clip) -> tuple[Array, Array]:
        """All (frame t, frame t+1) of the clips, each flattened to one leading axis."""
        inputs_BT = self._inputs(clip)
        shape = inputs_BT.shape[2:]
        return inputs_BT[:, :-1].reshape(-1, *shape), inputs_BT[:, 1:].reshape(-1, *shape)


def _nearness(predicted: Array, before: Array, after: Array) -> Float[Array, ""]:
    return jnp.mean(jnp.abs(predicted - after)) / (jnp.mean(jnp.abs(predicted - before)) + 1e-6)
