"""A small spatial latent that travels as rows of w: S channels at 4x4, added to the decoder's learned constant.

One w says the same to every place of the picture, so where things stand must be squeezed through the styles. A feature
map of the size of the constant says it directly. So that nothing else has to know of it (latents, dynamics, statistics,
worlds), the 16 S numbers are laid out as 16 S / D rows of width D behind the rows of styles: (B, L, D) with L = styles
+ map rows. Inside a map the order is channel, row, column.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 4  # of the map, and of the decoder's constant


def map_rows(spatial: int, style_dim: int) -> int:
    """Rows of width `style_dim` that a map of `spatial` channels takes; 0 for no map.

    Raises:
        ValueError: it fills no whole number of rows; the nearest numbers of channels that do are named.
    """
    unit = style_dim // math.gcd(SIDE * SIDE, style_dim)
    if spatial < 0 or spatial % unit:
        low = max(spatial, 0) // unit * unit
        raise ValueError(
            f"a map of {spatial} channels at {SIDE}x{SIDE} fills no whole rows of w of width {style_dim}: "
            f"give {low} or {low + unit} channels"
        )
    return SIDE * SIDE * spatial // style_dim


def join_map(styles_BRD: Float[Tensor, "B R D"], map_BSHW: Float[Tensor, "B S 4 4"]) -> Float[Tensor, "B L D"]:
    """w of its rows of styles and its map."""
    return torch.cat([styles_BRD, map_BSHW.flatten(1).unflatten(1, (-1, styles_BRD.shape[-1]))], 1)


def split_map(w_BLD: Float[Tensor, "B L D"], spatial: int) -> tuple[Float[Tensor, "B R D"], Float[Tensor, "B S 4 4"]]:
    """Inverse of `join_map`: rows of styles and the map of `spatial` channels."""
    styles = w_BLD.shape[1] - map_rows(spatial, w_BLD.shape[2])
    return w_BLD[:, :styles], w_BLD[:, styles:].reshape(len(w_BLD), spatial, SIDE, SIDE)


def with_zero_map(styles_BRD: Float[Tensor, "B R D"], spatial: int) -> Float[Tensor, "B L D"]:
    """w with a map of zeros, which a decoder treats as no map: for w of a teacher, which knows of none."""
    return join_map(styles_BRD, styles_BRD.new_zeros(len(styles_BRD), spatial, SIDE, SIDE))


class MapHead(nn.Module):
    """The encoder's grid of features to the map: a 1x1 convolution, then pooling or interpolation to 4x4."""

    def __init__(self, channels: int, spatial: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, spatial, 1)
        nn.init.zeros_(self.conv.bias)

    def forward(self, grids: Float[Tensor, "B C g g"]) -> Float[Tensor, "B S 4 4"]:
        features = self.conv(grids)
        if features.shape[-1] > SIDE:
            return F.adaptive_avg_pool2d(features, SIDE)
        if features.shape[-1] < SIDE:
            return F.interpolate(features, (SIDE, SIDE), mode="bilinear", align_corners=False)
        return features


class MapToConstant(nn.Module):
    """The map to the width of the decoder's constant: a 1x1 convolution without a bias, so that zeros add nothing."""

    def __init__(self, spatial: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(spatial, channels, 1, bias=False)
        nn.init.normal_(self.conv.weight, std=spatial**-0.5)

    def forward(self, map_BSHW: Float[Tensor, "B S 4 4"]) -> Float[Tensor, "B C 4 4"]:
        return self.conv(map_BSHW)
