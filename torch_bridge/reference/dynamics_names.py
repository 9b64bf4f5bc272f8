"""Where the parameters of the dynamics are in x-transformers, and the bits of the one as the other has them.

Needs no x-transformers: weights can be exported without it.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch

from genie_jax.dynamics import DynamicsConfig

WRAPPER = "transformer."  # prefix of what is the package's own; the rest are embeddings that the twin adds
_ROTARY_BASE = 10000


class Place(NamedTuple):
    """Where a tensor is in both trees.

    Attributes:
        ours: leaf of `DynamicsModel.init`, as "blocks/attention/to_q/kernel".
        layer: index on the leaf's leading axis; None for a leaf that is not stacked.
        theirs: name in the twin's state_dict.
    """

    ours: str
    layer: int | None
    theirs: str

    @property
    def is_kernel(self) -> bool:
        """Whether it is a matrix, (in, out) here and (out, in) there."""
        return self.ours.endswith("kernel")

    def part(self, leaf: np.ndarray) -> np.ndarray:
        """The layer's part of the leaf, a view."""
        return leaf if self.layer is None else leaf[self.layer]

    def to_theirs(self, part: np.ndarray) -> np.ndarray:
        """Kernels are transposed; a gain (heads, E) has one more axis there."""
        if self.is_kernel:
            return part.T
        return part[:, None] if self.theirs.endswith("gamma") else part

    def to_ours(self, theirs: np.ndarray) -> np.ndarray:
        """The way back."""
        if self.is_kernel:
            return theirs.T
        return theirs[:, 0] if self.theirs.endswith("gamma") else theirs


def places(config: DynamicsConfig) -> Iterator[Place]:
    """Every parameter of the dynamics and its name in the twin; of a flow head only the final norm is the package's."""
    yield Place("embed/project_in/kernel", None, f"{WRAPPER}project_in.weight")
    yield Place("embed/code", None, "code")
    if config.context_noise > 0:
        yield Place("embed/level", None, "level")
    for layer in range(config.layers):
        attention, forward = (f"{WRAPPER}attn_layers.layers.{2 * layer + half}" for half in (0, 1))
        inner = f"{forward}.1.ff.0.proj" if config.ff_glu else f"{forward}.1.ff.0.0"
        names = {
            "attention_norm/gain": f"{attention}.0.0.g",
            **{f"attention/to_{x}/kernel": f"{attention}.1.to_{x}.weight" for x in ("q", "k", "v", "out")},
            "feed_forward_norm/gain": f"{forward}.0.0.g",
            "feed_forward/expand/kernel": f"{inner}.weight",
            "feed_forward/expand/bias": f"{inner}.bias",
            "feed_forward/contract/kernel": f"{forward}.1.ff.2.weight",
            "feed_forward/contract/bias": f"{forward}.1.ff.2.bias",
        }
        if config.qk_rmsnorm:
            names |= {f"attention/{side}_norm/gain": f"{attention}.1.{side}_rmsnorm.gamma" for side in "qk"}
        for ours, theirs in names.items():
            yield Place(f"blocks/{ours}", layer, theirs)
    norm = "head/enter/final_norm/gain" if config.head == "flow" else "head/final_norm/gain"
    yield Place(norm, None, f"{WRAPPER}attn_layers.final_norm.g")
    if config.head == "regression":
        yield Place("head/project_out/kernel", None, f"{WRAPPER}project_out.weight")


def wrapper_state(config: DynamicsConfig, leaves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state_dict of the package's `ContinuousTransformerWrapper` for parameters named as `flatten_tree` does."""
    state = {
        place.theirs.removeprefix(WRAPPER): place.to_theirs(place.part(leaves[place.ours]))
        for place in places(config)
        if place.theirs.startswith(WRAPPER)
    }
    if config.rotary:  # a constant that the package stores; by PyTorch, so that its last bits are the same
        share = torch.arange(0, config.rotary, 2).float() / config.rotary
        state["attn_layers.rotary_pos_emb.inv_freq"] = (1.0 / _ROTARY_BASE**share).numpy()
    return state
