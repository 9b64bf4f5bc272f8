"""The action model's loss in plain PyTorch: quantise, decode, compare; the twin of `LatentActionModel.loss`.

The codebook is given and stays as it is: how it follows the data is checked with the quantiser.
`N` pairs, `K` codes, `D` width of a code.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from genie_jax.latent_action import LatentActionConfig
from torch_bridge.reference.action_model import MLPTwin, WarpTwin

FLOOR = 1e-6


class ActionLoss(NamedTuple):
    """The loss and what it is made of: scalars."""

    loss: Float[Tensor, ""]
    prediction: Float[Tensor, ""]
    commitment: Float[Tensor, ""]
    next_over_current: Float[Tensor, ""]


def action_loss(
    twin: WarpTwin | MLPTwin,
    config: LatentActionConfig,
    codes_KD: Float[Tensor, "K D"],
    before: Tensor,
    after: Tensor,
    indices_N: Int[Tensor, " N"] | None = None,
    maps_N2CGG: Float[Tensor, "N 2 C G G"] | None = None,
) -> ActionLoss:
    """The loss of a batch of pairs, differentiable in the twin's parameters.

    Args:
        twin: the model.
        config: how vectors are compared and how gradients pass the quantiser.
        codes_KD: the codebook.
        before: frames t, (N, 3, S, S) in [0, 1], or w, (N, LD).
        after: frames t+1.
        indices_N: the code of each pair; None takes the nearest.
        maps_N2CGG: feature maps of both frames, for a twin that reads them.
    """
    vectors_ND = twin.encode(before, after, maps_N2CGG)
    if config.cosine:
        vectors_ND = F.normalize(vectors_ND, dim=-1, eps=FLOOR)
    if indices_N is None:
        indices_N = nearest(vectors_ND, codes_KD, cosine=config.cosine)
    chosen_ND = codes_KD[indices_N]
    carry = straight_through if config.gradient == "ste" else rotated
    predicted = twin.decode(before, carry(vectors_ND, chosen_ND))
    if config.form == "warp":
        prediction = picture_error(predicted, before, after, config.warp.motion_weight)
    else:
        prediction = F.mse_loss(predicted, after) / (F.mse_loss(before, after) + 1e-6)
    commitment = config.commitment * F.mse_loss(vectors_ND, chosen_ND)
    nearness = F.l1_loss(predicted, after) / (F.l1_loss(predicted, before) + 1e-6)
    return ActionLoss(prediction + commitment, prediction, commitment, nearness)


def picture_error(predicted: Tensor, before: Tensor, after: Tensor, motion_weight: float) -> Float[Tensor, ""]:
    """Absolute error relative to that of an unchanged frame, pixels weighed by how much they changed; (N, 3, S, S)."""
    change = F.l1_loss(before, after, reduction="none").mean(1, keepdim=True)
    weight = 1 + motion_weight * change / (change.mean() + 1e-4)
    wrong = (weight * F.l1_loss(predicted, after, reduction="none")).mean()
    return wrong / ((weight * change).mean() + 1e-4)


def nearest(vectors_ND: Float[Tensor, "N D"], codes_KD: Float[Tensor, "K D"], *, cosine: bool) -> Int[Tensor, " N"]:
    """The number of the code nearest to each vector, by distance or by the cosine of unit vectors."""
    if cosine:
        return (vectors_ND @ codes_KD.T).argmax(-1)
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(vectors_ND.detach(), codes_KD, compute_mode=exact).argmin(-1)


def straight_through(vectors_ND: Float[Tensor, "N D"], codes_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """The value of the codes with the gradient of the vectors."""
    return codes_ND + (vectors_ND - vectors_ND.detach())


def rotated(vectors_ND: Float[Tensor, "N D"], codes_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Each vector times the constant matrix that turns and stretches it into its code (arXiv 2410.06424, section 4.2).

    With unit vectors s of the vector, t of the code and r of s + t the turn is I - 2 r r' + 2 t s'.
    """
    with torch.no_grad():
        s, t = (F.normalize(a, dim=-1, eps=FLOOR) for a in (vectors_ND, codes_ND))
        r = F.normalize(s + t, dim=-1, eps=FLOOR)
        turn_NDD = torch.eye(s.shape[-1]) - 2 * torch.einsum("ni,nj->nij", r, r) + 2 * torch.einsum("ni,nj->nij", t, s)
        stretch_N1 = codes_ND.norm(dim=-1, keepdim=True) / vectors_ND.norm(dim=-1, keepdim=True).clamp(min=FLOOR)
    return stretch_N1 * torch.einsum("nij,nj->ni", turn_NDD, vectors_ND)
