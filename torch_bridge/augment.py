"""Adaptive discriminator augmentation (ADA, arXiv 2006.06676) in native operations.

Every transformation is drawn per image and applied with probability p; p follows the discriminator's overfitting,
measured as r = mean sign(D(real)), towards the target 0.6 (section 3 of the paper). Geometry is one inverse affine
matrix a picture, sampled bilinearly; colour is one affine matrix on RGB. Both are linear in the image, and the sampling
is a gather, whose gradient has a gradient of its own on every device: R1 may go through the augmentation
(`F.grid_sample` has no double backward).

Which groups: an augmentation does not leak into the generated pictures while p stays below about 0.8, given enough
training. Short runs are not enough training, and a game screen has an up, a left and a score in its corner, so flips
and rotations are off by default.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Group = Literal[
    "flip", "rotate90", "translate", "scale", "rotate", "aniso", "fraction",
    "brightness", "contrast", "luma_flip", "hue", "saturation",
]  # fmt: skip
GROUPS: tuple[str, ...] = get_args(Group)


@dataclass(frozen=True)
class AugmentConfig:
    """Which transformations, and how p adapts.

    Attributes:
        groups: names out of `GROUPS`; none turns the augmentation off.
        p: probability at the start.
        target: wanted mean sign of D(real); 0.6 as in the paper.
        ramp_images: images in which p can go from 0 to 1.
        p_max: p never rises above this: beyond 0.8 augmentations leak.
        every: updates of statistics between two changes of p.
    """

    groups: tuple[str, ...] = ("translate", "scale", "fraction", "brightness", "contrast", "hue", "saturation")
    p: float = 0.0
    target: float = 0.6
    ramp_images: int = 500_000
    p_max: float = 0.8
    every: int = 8


def _identity(batch: int, size: int) -> Tensor:
    return torch.eye(size).repeat(batch, 1, 1)


class _Draws:
    """Random parameters of one batch, each replaced by its neutral value with probability 1 - p."""

    def __init__(self, batch: int, p: float, rng: torch.Generator) -> None:
        self.batch, self.p, self.rng = batch, p, rng

    def gate(self, value: Tensor, neutral: float) -> Tensor:
        return torch.where(torch.rand(self.batch, generator=self.rng) < self.p, value, neutral)

    def uniform(self, low: float, high: float) -> Tensor:
        return torch.rand(self.batch, generator=self.rng) * (high - low) + low

    def normal(self, std: float) -> Tensor:
        return torch.randn(self.batch, generator=self.rng) * std

    def integer(self, high: int) -> Tensor:
        return torch.randint(high, (self.batch,), generator=self.rng).float()


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    matrix = _identity(len(x), 3)
    matrix[:, 0, 0], matrix[:, 1, 1] = x, y
    return matrix


def _translation(x: Tensor, y: Tensor) -> Tensor:
    matrix = _identity(len(x), 3)
    matrix[:, 0, 2], matrix[:, 1, 2] = x, y
    return matrix


def _rotation(angle: Tensor) -> Tensor:
    matrix = _identity(len(angle), 3)
    matrix[:, 0, 0], matrix[:, 0, 1] = angle.cos(), -angle.sin()
    matrix[:, 1, 0], matrix[:, 1, 1] = angle.sin(), angle.cos()
    return matrix


def geometric_matrices(
    groups: Sequence[str], batch: int, size: tuple[int, int], p: float, rng: torch.Generator
) -> Float[Tensor, "B 3 3"]:
    """Matrices from output to input places, in pixels from the picture's centre (ADA, appendix B)."""
    draws, matrix = _Draws(batch, p, rng), _identity(batch, 3)
    height, width = size
    if "flip" in groups:
        matrix = matrix @ _scaling(1 - 2 * draws.gate(draws.integer(2), 0.0), torch.ones(batch))
    if "rotate90" in groups:
        matrix = matrix @ _rotation(draws.gate(draws.integer(4), 0.0) * (math.pi / 2))
    if "translate" in groups:
        shifts = [(draws.gate(draws.uniform(-0.125, 0.125), 0.0) * side).round() for side in (width, height)]
        matrix = matrix @ _translation(*shifts)
    if "scale" in groups:
        factor = draws.gate(torch.exp2(draws.normal(0.2)), 1.0)
        matrix = matrix @ _scaling(1 / factor, 1 / factor)
    # Two rotations around the anisotropic scale, each with 1 - sqrt(1 - p), make the chance of any rotation p.
    rotate = _Draws(batch, 1 - math.sqrt(max(1 - p, 0.0)), rng)
    if "rotate" in groups:
        matrix = matrix @ _rotation(-rotate.gate(rotate.uniform(-math.pi, math.pi), 0.0))
    if "aniso" in groups:
        factor = draws.gate(torch.exp2(draws.normal(0.2)), 1.0)
        matrix = matrix @ _scaling(1 / factor, factor)
    if "rotate" in groups:
        matrix = matrix @ _rotation(-rotate.gate(rotate.uniform(-math.pi, math.pi), 0.0))
    if "fraction" in groups:
        shifts = [draws.gate(draws.normal(0.125), 0.0) * side for side in (width, height)]
        matrix = matrix @ _translation(*shifts)
    return matrix


def colour_matrices(groups: Sequence[str], batch: int, p: float, rng: torch.Generator) -> Float[Tensor, "B 3 4"]:
    """Affine matrices on RGB in [-1, 1]; the grey axis stands still under hue, saturation and luma flip."""
    draws, matrix = _Draws(batch, p, rng), _identity(batch, 4)
    grey = torch.full((3, 1), 3**-0.5) @ torch.full((1, 3), 3**-0.5)  # projector on the grey axis
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) * 3**-0.5

    def linear(block: Tensor) -> Tensor:
        whole = _identity(batch, 4)
        whole[:, :3, :3] = block
        return whole

    if "brightness" in groups:
        shift = _identity(batch, 4)
        shift[:, :3, 3] = draws.gate(draws.normal(0.2), 0.0)[:, None]
        matrix = shift @ matrix
    if "contrast" in groups:
        factor = draws.gate(torch.exp2(draws.normal(0.5)), 1.0)
        matrix = linear(factor[:, None, None] * torch.eye(3)) @ matrix
    if "luma_flip" in groups:
        flip = draws.gate(draws.integer(2), 0.0)
        matrix = linear(torch.eye(3) - 2 * flip[:, None, None] * grey) @ matrix
    if "hue" in groups:
        angle = draws.gate(draws.uniform(-math.pi, math.pi), 0.0)[:, None, None]
        turn = angle.cos() * torch.eye(3) + angle.sin() * cross + (1 - angle.cos()) * grey  # Rodrigues' formula
        matrix = linear(turn) @ matrix
    if "saturation" in groups:
        factor = draws.gate(torch.exp2(draws.normal(1.0)), 1.0)[:, None, None]
        matrix = linear(grey + (torch.eye(3) - grey) * factor) @ matrix
    return matrix[:, :3]


def _reflect(place: Tensor, side: int) -> Tensor:
    """Fold any real coordinate into [0, side - 1], mirrored at the first and last pixel."""
    period = max(2 * (side - 1), 1)
    place = torch.remainder(place, period)
    return torch.minimum(place, period - place)


def warp(images: Float[Tensor, "B C H W"], matrices: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B C H W"]:
    """Sample `images` at matrix @ (x, y, 1), bilinearly, mirrored at the edges; x, y in pixels from the centre."""
    channels, height, width = images.shape[1:]
    ys, xs = torch.meshgrid(
        torch.arange(height, device=images.device) - (height - 1) / 2,
        torch.arange(width, device=images.device) - (width - 1) / 2,
        indexing="ij",
    )
    places = torch.stack([xs, ys, torch.ones_like(xs)]).flatten(1)
    source = matrices.to(images.device)[:, :2] @ places
    x = _reflect(source[:, 0] + (width - 1) / 2, width)
    y = _reflect(source[:, 1] + (height - 1) / 2, height)
    left, top = x.floor().clamp(max=width - 1), y.floor().clamp(max=height - 1)
    right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    across, down = (x - left).to(images.dtype), (y - top).to(images.dtype)
    flat = images.flatten(2)

    def corner(row: Tensor, column: Tensor, weight: Tensor) -> Tensor:
        index = (row * width + column).long()[:, None].expand(-1, channels, -1)
        return flat.gather(2, index) * weight[:, None]

    out = corner(top, left, (1 - across) * (1 - down)) + corner(top, right, across * (1 - down))
    out = out + corner(bottom, left, (1 - across) * down) + corner(bottom, right, across * down)
    return out.unflatten(2, (height, width))


def augment(
    images: Float[Tensor, "B 3 H W"], groups: Sequence[str], p: float, rng: torch.Generator
) -> Float[Tensor, "B 3 H W"]:
    """Augmented images in [-1, 1] and beyond; exactly the input where p is 0.

    Autocast is off here: places are pixel coordinates, and bfloat16 counts no further than 256 one by one.

    Args:
        images: in [-1, 1].
        groups: names out of `GROUPS`.
        p: probability of each transformation for each image.
        rng: CPU generator.
    """
    unknown = set(groups) - set(GROUPS)
    if unknown:
        raise ValueError(f"unknown augmentation {sorted(unknown)}; choose from {', '.join(GROUPS)}")
    if p <= 0 or not groups:
        return images
    batch, size = len(images), (images.shape[-2], images.shape[-1])
    with torch.autocast(images.device.type, enabled=False):
        moved = warp(images, geometric_matrices(groups, batch, size, p, rng))
        colour = colour_matrices(groups, batch, p, rng).to(images)
        tinted = torch.einsum("bij,bjhw->bihw", colour[:, :, :3], moved)
        return tinted + colour[:, :, 3, None, None]


class AdaptiveAugment:
    """`augment` with a probability that follows the discriminator's overfitting.

    Args:
        config: groups and speed of adaptation.
    """

    def __init__(self, config: AugmentConfig) -> None:
        self.config, self.p = config, config.p
        self._sign_sum: Tensor | float = 0.0  # a tensor between two changes of p: reading it would stall the device
        self._images, self._updates = 0, 0

    def __call__(self, images: Float[Tensor, "B 3 H W"], rng: torch.Generator) -> Float[Tensor, "B 3 H W"]:
        return augment(images, self.config.groups, self.p, rng)

    def update(self, real_logits: Tensor) -> None:
        """Take note of D(real); after every `every` calls move p by the images seen since, towards the target."""
        if not self.config.groups:
            return
        self._sign_sum = self._sign_sum + real_logits.detach().float().sign().sum()
        self._images += real_logits.numel()
        self._updates += 1
        if self._updates < self.config.every:
            return
        overfitting = float(self._sign_sum) / self._images
        step = math.copysign(self._images / self.config.ramp_images, overfitting - self.config.target)
        self.p = min(max(self.p + step, 0.0), self.config.p_max)
        self._sign_sum, self._images, self._updates = 0.0, 0, 0

    def state(self) -> dict[str, float]:
        return {"p": self.p, "sign_sum": float(self._sign_sum), "images": self._images, "updates": self._updates}

    def load_state(self, state: dict[str, float]) -> None:
        self.p, self._sign_sum = float(state["p"]), float(state["sign_sum"])
        self._images, self._updates = int(state["images"]), int(state["updates"])
