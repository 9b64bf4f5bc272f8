"""Twin of the dynamics' training loss, by PyTorch's own losses and without a cache.

What is random comes from `genie_jax.dynamics_loss.draw`: random numbers are inputs here, not arithmetic.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from genie_jax.dynamics_loss import LossConfig
from torch_bridge.reference.x_transformers import DynamicsTwin


def penalty(config: LossConfig, predicted: Tensor, truth: Tensor, weight_LD: Tensor) -> Float[Tensor, ""]:
    """Weighted mean squared error, or Huber's with the quadratic part equal to it."""
    weight = weight_LD.expand_as(truth)
    if config.kind == "mse":
        return (weight * F.mse_loss(predicted, truth, reduction="none")).mean()
    return 2 * (weight * F.huber_loss(predicted, truth, delta=config.huber_delta, reduction="none")).mean()


def clip_loss(
    twin: DynamicsTwin,
    config: LossConfig,
    w_BTLD: Float[Tensor, "B T L D"],
    codes_BTm1: Int[Tensor, "B Tm1"],
    context_BTLD: Float[Tensor, "B Tm1 L D"],
    level_BT: Float[Tensor, "B Tm1"] | None,
    starts_S: Int[Tensor, " S"],
    weight_LD: Float[Tensor, "L D"],
) -> Float[Tensor, ""]:
    """As `genie_jax.dynamics_loss.clip_loss` with the given draws."""
    predicted = twin(context_BTLD, codes_BTm1, level_BT)
    loss = penalty(config, predicted, w_BTLD[:, 1:], weight_LD)
    if not config.unroll:
        return loss
    made, truth = [], []
    for start in starts_S.tolist():
        stop = start + 1
        history, level = context_BTLD[:, :stop], None if level_BT is None else level_BT[:, :stop]
        following = predicted[:, start:stop]
        for step in range(stop, stop + config.unroll):
            history = torch.cat([history, following], 1)
            level = None if level is None else F.pad(level, (0, 1))  # its own predictions count as clean
            following = twin(history, codes_BTm1[:, : step + 1], level)[:, -1:]
            made.append(following)
            truth.append(w_BTLD[:, step + 1 : step + 2])
    return loss + config.unroll_weight * penalty(config, torch.cat(made, 1), torch.cat(truth, 1), weight_LD)
