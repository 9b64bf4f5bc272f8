"""What the adversarial stages share: losses, lazy regularisers, style mixing and the moving average of weights.

StyleGAN2 (arXiv 1912.04958): non-saturating logistic loss (section 2), lazy R1 (appendix B), path length (section 3.2);
style mixing from arXiv 1812.04948, section 3.1; the ramp of the moving average from StyleGAN2-ADA (arXiv 2006.06676).
"""

import copy
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class _Mapped(Protocol):
    rows: int

    def mapping(self, z: Tensor) -> Tensor: ...


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Float[Tensor, ""]:
    """mean softplus(-D(real)) + mean softplus(D(fake))."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def generator_loss(fake_logits: Tensor) -> Float[Tensor, ""]:
    """mean softplus(-D(fake)): non-saturating, so that a losing generator still gets a gradient."""
    return F.softplus(-fake_logits).mean()


def r1_penalty(real_logits: Tensor, real_images: Float[Tensor, "B C H W"]) -> Float[Tensor, ""]:
    """Mean over the batch of |d D(real) / d real|^2; multiply it by gamma / 2 times the interval when it is lazy.

    Args:
        real_logits: D's output for `real_images`, through the augmentation where there is one.
        real_images: raw images with `requires_grad`; D must be twice differentiable along the way.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), real_images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def path_length_penalty(
    images: Float[Tensor, "B C H W"],
    w_BLD: Float[Tensor, "B L D"],
    mean_length: Float[Tensor, ""],
    *,
    rng: torch.Generator,
    decay: float = 0.01,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean over the batch of (|J^T y| - a)^2 for y ~ N(0, 1/(H W)), a the running mean of |J^T y|.

    Args:
        images: G.synthesis(w_BLD), with its graph.
        w_BLD: one w a row, so that |J^T y| is the root of the mean over rows of the sum over dimensions.
        mean_length: the running mean before this step (0 at the start).
        rng: source of y, a CPU generator.
        decay: share of the new mean that this batch gives.

    Returns:
        penalty, and the new running mean without a graph.
    """
    height, width = images.shape[-2:]
    y = torch.randn(images.shape, generator=rng).to(images) / (height * width) ** 0.5
    (gradient,) = torch.autograd.grad((images * y).sum(), w_BLD, create_graph=True)
    lengths_B = gradient.square().sum(2).mean(1).sqrt()
    new_mean = torch.lerp(mean_length, lengths_B.detach().mean(), decay)
    return (lengths_B - new_mean).square().mean(), new_mean


def sample_w(
    generator: _Mapped, batch: int, style_dim: int, *, mixing: float, rng: torch.Generator, device: torch.device
) -> Float[Tensor, "B L D"]:
    """w for every row from fresh z; with probability `mixing` a sample's rows come from two z, cut at a random row.

    The cut is drawn for each sample, which costs nothing because w is per row anyway.
    """
    z = torch.randn((2, batch, style_dim), generator=rng)
    cut_B = torch.randint(1, max(generator.rows, 2), (batch,), generator=rng)
    mixed_B = torch.rand((batch,), generator=rng) < mixing
    cut_B = torch.where(mixed_B, cut_B, generator.rows).to(device)
    if mixing == 0:
        return generator.mapping(z[0].to(device))[:, None].expand(-1, generator.rows, -1)
    first, second = generator.mapping(z.flatten(0, 1).to(device)).unflatten(0, (2, batch))
    use_first_BL = torch.arange(generator.rows, device=device) < cut_B[:, None]
    return torch.where(use_first_BL[..., None], first[:, None], second[:, None])


class Ema:
    """Exponential moving average of a module's weights and buffers with a half-life counted in images.

    Args:
        module: the module to follow; the average starts as its copy.
        half_life: images after which an old weight counts half.
        ramp: early on the half-life is at most `ramp` times the images seen, so that the start is forgotten soon.
    """

    def __init__(self, module: nn.Module, half_life: float, ramp: float = 0.05) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.half_life, self.ramp = half_life, ramp

    def decay(self, images_seen: int, batch: int) -> float:
        """Weight of the old average in an update after `images_seen` images in all."""
        return 0.5 ** (batch / max(min(self.half_life, images_seen * self.ramp), 1e-8))

    @torch.no_grad()
    def update(self, module: nn.Module, images_seen: int, batch: int) -> None:
        """Move towards `module` after a step on `batch` images, `images_seen` of them in all."""
        mine, theirs = self.module.state_dict(), module.state_dict()
        floating = [name for name, tensor in mine.items() if tensor.is_floating_point()]
        weight = 1.0 - self.decay(images_seen, batch)
        torch._foreach_lerp_([mine[name] for name in floating], [theirs[name] for name in floating], weight)
        for name in mine.keys() - set(floating):
            mine[name].copy_(theirs[name])

    def state_dict(self) -> dict[str, Any]:
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state)
