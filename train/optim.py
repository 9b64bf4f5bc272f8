"""Optimisers of the torch stages: Adam with a schedule over progress, lazy-interval correction and clipping."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class AdamConfig:
    """Adam and its learning rate over the stage.

    Attributes:
        rate: learning rate at its height.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        decay: shape of the way from `rate` to `final * rate` over progress 0..1.
        final: share of the rate that is left at the end.
        warmup: share of the stage's progress over which the rate rises linearly from 0.
        clip: largest global norm of the gradient; 0 for none.
    """

    rate: float = 2e-3
    beta1: float = 0.0
    beta2: float = 0.99
    decay: Literal["constant", "linear", "cosine"] = "cosine"
    final: float = 0.1
    warmup: float = 0.0
    clip: float = 0.0

    def lazy(self, interval: int) -> "AdamConfig":
        """For a network whose regulariser has a step of its own every `interval` steps (StyleGAN2, appendix B)."""
        share = interval / (interval + 1)
        return replace(self, rate=self.rate * share, beta1=self.beta1**share, beta2=self.beta2**share)


def rate_at(config: AdamConfig, progress: float) -> float:
    """Learning rate at progress in [0, 1]."""
    if config.warmup > 0 and progress < config.warmup:
        # Never exactly 0, so that the first step of a stage moves.
        return config.rate * max(progress / config.warmup, 1e-3)
    left = {
        "constant": 1.0,
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
    }[config.decay]
    return config.rate * (config.final + (1.0 - config.final) * left)


class Adam:
    """One optimiser of a stage.

    Args:
        parameters: what it trains.
        config: rate and clipping.
        faster: more parameters, and the factor on their rate. Networks whose weights have unit variance and are scaled
            at run time (StyleGAN2 and the student) learn at a several times higher rate than ordinary ones.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        config: AdamConfig,
        *,
        faster: tuple[Iterable[nn.Parameter], float] = ((), 1.0),
    ) -> None:
        self.config = config
        groups = [(parameters, 1.0), faster]
        groups = [([p for p in members if p.requires_grad], factor) for members, factor in groups]
        self._parameters = [parameter for members, _ in groups for parameter in members]
        device = self._parameters[0].device.type
        self._adam = torch.optim.Adam(
            [{"params": members, "factor": factor} for members, factor in groups if members],
            lr=config.rate,
            betas=(config.beta1, config.beta2),
            fused=device in ("cpu", "cuda"),
        )

    def step(self, loss: Tensor, progress: float, lr_scale: float) -> Tensor | None:
        """One step down `loss`. Returns the gradient's norm before clipping, or None where nothing is clipped."""
        gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = None if gradient is None else _laid_out_as(parameter, gradient)
        norm = None
        if self.config.clip > 0:
            norm = nn.utils.clip_grad_norm_(self._parameters, self.config.clip).detach()
        for group in self._adam.param_groups:
            group["lr"] = rate_at(self.config, progress) * lr_scale * group["factor"]
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        return norm

    def state_dict(self) -> dict[str, Any]:
        return self._adam.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._adam.load_state_dict(state)
        for parameter, moments in self._adam.state.items():
            for name, value in moments.items():
                if value.shape == parameter.shape:
                    moments[name] = _laid_out_as(parameter, value)


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """`value` with the strides of `parameter`: fused Adam walks through memory and would pair the wrong numbers.

    `autograd.grad` gives gradients of any layout, and moments come back from a file in the plain one.
    """
    return value if value.stride() == parameter.stride() else torch.empty_like(parameter).copy_(value)
