"""Losses between the student's wavelet pyramid and a target image (MobileStyleGAN, arXiv 2104.04767, section 3.3)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torch_bridge.wavelet import haar_dwt, haar_idwt


def pyramid(image: Float[Tensor, "B 3 H W"], levels: int) -> list[Float[Tensor, "B 3 h w"]]:
    """The image at every head's size, coarse to fine, the last being the image itself; bilinear, corners aligned."""
    sizes = [image.shape[-1] >> i for i in reversed(range(levels))]
    small = [F.interpolate(image, (s, s), mode="bilinear", align_corners=True) for s in sizes[:-1]]
    return [*small, image]


def pyramid_losses(heads: list[Float[Tensor, "B 12 R R"]], target: Float[Tensor, "B 3 H W"]) -> dict[str, Tensor]:
    """Distances of all levels to the target's pyramid, summed over levels.

    Args:
        heads: wavelet bands, 4 px to H/2 px, each an image of twice its size.
        target: image in [-1, 1].

    Returns:
        "l1": pixel plus wavelet mean absolute error; "l2": pixel plus wavelet mean squared error. The Haar transform
        is orthonormal, so its squared error equals that of the pixels and is not computed twice.
    """
    l1, l2 = target.new_zeros(()), target.new_zeros(())
    for bands, image in zip(heads, pyramid(target, len(heads)), strict=True):
        difference = bands - haar_dwt(image)
        l1 = l1 + difference.abs().mean() + haar_idwt(difference).abs().mean()
        l2 = l2 + 2.0 * difference.square().mean()
    return {"l1": l1, "l2": l2}


def detail_loss(bands: Float[Tensor, "B 12 R R"], target: Float[Tensor, "B 3 H W"]) -> Float[Tensor, ""]:
    """Mean absolute error of the nine high bands at the finest level: edges, which a squared error hardly sees."""
    return (bands[:, 3:] - haar_dwt(target)[:, 3:]).abs().mean()
