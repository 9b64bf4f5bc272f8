"""Codes of real frames, as a prompt needs them: the action model's encoder and codebook, without its decoder."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from genie_jax.clips import Clip
from genie_jax.latent_action import LatentActionConfig, LatentActionModel
from genie_jax.nn import Params
from genie_jax.trees import unflatten_tree
from genie_jax.vq import VQState
from torch_bridge.manifest import parse_config

# A code depends on its pair of frames alone, so sequences of any length are read in groups of clips of one length:
# two compiled shapes, one for a prompt and one for everything longer.
PAIRS = 16
GROUP = 8


class ActionReader:
    """Infers codes; jitted, with a bounded number of compiled shapes.

    Args:
        model: the latent action model.
        params: its parameters; the branch `encoder` is enough.
        vq_state: its codebook.
    """

    def __init__(self, model: LatentActionModel, params: Params, vq_state: VQState) -> None:
        self.model, self.params, self.vq_state = model, params, vq_state
        self._infer = jax.jit(lambda params, vq, clip: model.infer(params, vq, clip))

    @classmethod
    def from_tensors(
        cls, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], device: jax.Device
    ) -> "ActionReader":
        """The reader of a bundle: fields of `LatentActionConfig`, tensors `params/encoder/...` and `vq/...`.

        Tensors of the model's decoder, `params/decoder/...`, may be there and are left alone.

        Raises:
            ValueError: the config is none of `LatentActionConfig`, or a tensor does not fit it.
        """
        model = LatentActionModel(parse_config(LatentActionConfig, config))
        key = jax.random.key(0)
        like = {
            "params": {"encoder": jax.eval_shape(model.init, key)["encoder"]},
            "vq": jax.eval_shape(model.init_quantizer, key),
        }
        read = {name: array for name, array in tensors.items() if not name.startswith("params/decoder/")}
        tree = jax.device_put(unflatten_tree(read, like, what="the action model"), device)
        return cls(model, tree["params"], tree["vq"])

    @property
    def reads_frames(self) -> bool:
        """True for the form that reads pictures, False for the one that reads normalised w."""
        return self.model.config.reads_frames

    @property
    def reads_features(self) -> bool:
        """Whether the encoder's spatial feature maps are read too, or in the place of pictures."""
        return self.model.config.reads_features

    def infer(
        self,
        sequence_T: UInt8[np.ndarray, "T H W C"] | Float[np.ndarray, "T L D"],
        features_TGGC: Float[np.ndarray, "T G G C"] | None = None,
    ) -> Int[np.ndarray, " Tm1"]:
        """The code of each pair of consecutive frames of a sequence: frames or normalised w, as `reads_frames` says.

        Feature maps of the same frames are needed where `reads_features`.
        """
        pairs = len(sequence_T) - 1
        if pairs < 1:
            return np.zeros(0, np.int32)
        group = 1 if pairs <= PAIRS else GROUP
        codes = [self._infer_group(sequence_T, features_TGGC, first, group) for first in range(0, pairs, group * PAIRS)]
        return np.concatenate(codes)[:pairs]

    def _infer_group(
        self, sequence_T: np.ndarray, features_TGGC: np.ndarray | None, first: int, group: int
    ) -> Int[np.ndarray, " pairs"]:
        starts = first + PAIRS * np.arange(group)
        index = np.minimum(starts[:, None] + np.arange(PAIRS + 1), len(sequence_T) - 1)  # padded by the last frame
        clips = jnp.asarray(sequence_T[index])
        clip = Clip(frames_BTHWC=clips) if self.reads_frames else Clip(w_BTLD=clips)
        if features_TGGC is not None:
            clip = clip._replace(features_BTGGC=jnp.asarray(features_TGGC[index]))
        return np.asarray(self._infer(self.params, self.vq_state, clip)).reshape(-1)

    def parameters(self) -> int:
        """Numbers that `infer` reads."""
        return sum(leaf.size for leaf in jax.tree.leaves((self.params, self.vq_state.embed_KD)))
