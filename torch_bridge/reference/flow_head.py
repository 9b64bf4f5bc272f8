"""Twin of `genie_jax.flow_head.FlowHead` in plain PyTorch: the velocity network, and Euler's steps through it."""

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genie_jax.flow_head import HARMONICS, FlowConfig


class FlowHeadTwin:
    """The flow head in float32; it is run, not trained.

    Args:
        config: of the head.
        leaves: its weights, named as `flatten_tree` names those of `FlowHead.init`.
    """

    def __init__(self, config: FlowConfig, leaves: Mapping[str, np.ndarray]) -> None:
        self.config = config
        self.leaves = {name: torch.from_numpy(np.array(leaf, np.float32)) for name, leaf in leaves.items()}

    def _linear(self, x: Tensor, name: str, block: int | None = None) -> Tensor:
        kernel, bias = self.leaves[f"{name}/kernel"], self.leaves.get(f"{name}/bias")
        if block is not None:
            kernel, bias = kernel[block], None if bias is None else bias[block]
        return F.linear(x, kernel.T, bias)

    def _norm(self, x: Tensor, gain: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) * x.shape[-1] ** 0.5 * (gain + 1)

    def condition(self, out: Float[Tensor, "*batch M"]) -> Float[Tensor, "*batch M"]:
        """The final norm, which in the package is the last layer of the transformer."""
        return self._norm(out, self.leaves["enter/final_norm/gain"])

    def velocity(self, x: Tensor, time: Tensor, condition: Tensor) -> Float[Tensor, "*batch F"]:
        """As `FlowHead.velocity`, of a condition that is normed already."""
        angles = [math.pi * (k + 1) * time for k in range(HARMONICS)]
        harmonics = torch.stack([*map(torch.cos, angles), *map(torch.sin, angles)], -1)
        told = self._linear(condition, "enter/project_condition") + self._linear(harmonics, "enter/project_time")
        h = self._linear(x, "enter/project_in")
        for block in range(self.config.layers):
            shift, scale, gate = self._linear(F.silu(told), "blocks/modulation", block).chunk(3, -1)
            inner = self._norm(h, self.leaves["blocks/norm/gain"][block]) * (1 + scale) + shift
            inner = F.silu(self._linear(inner, "blocks/feed_forward/expand", block))
            h = h + gate * self._linear(inner, "blocks/feed_forward/contract", block)
        offset, gain = self._linear(self._norm(h, self.leaves["leave/norm/gain"]), "leave/project_out").chunk(2, -1)
        best = (2 * time - 1) / (1 - 2 * time + 2 * time.square())
        return (best[..., None] + gain) * x + offset

    def change(self, condition: Tensor, noise: Tensor, level: Tensor | None) -> Float[Tensor, "*batch F"]:
        """What `noise` becomes in the head's Euler steps, in units of w."""
        x, steps = noise, self.config.steps
        for step in range(steps):
            x = x + self.velocity(x, torch.full(x.shape[:-1], step / steps), condition) / steps
        square = self.leaves["scale"].square()
        noisy = torch.zeros(()) if level is None else level[..., None].square()
        return x * ((square + noisy) / (1 + noisy)).sqrt()
