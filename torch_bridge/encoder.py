"""Frame -> w: an EfficientViT trunk (arXiv 2205.14756, the port of timm) with a head that keeps position.

A global pool would throw away where things are, and on a game screen that is most of what there is. So feature maps of
several strides are brought to one small grid (space to depth, not pooling), narrowed, flattened, and one linear layer
predicts the offset of w from the generator's mean w. The rows of a spatial map (`spatial.py`) come from the grid
itself, by a convolution that keeps every place where it is.
"""

from dataclasses import dataclass
from typing import Literal

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float16
from torch import Tensor, nn

from torch_bridge.spatial import MapHead, join_map, map_rows

NORM_EPS = {"b0": 1e-5, "b1": 1e-5, "l1": 1e-7}  # of the published batch norms; large trunks have a smaller one
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, what the trunk's weights expect


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of the encoder.

    Attributes:
        trunk: EfficientViT size.
        size: side of the frames in pixels, a multiple of 32.
        style_dim: D, width of w.
        rows: L, 1 for W, the student's number of rows for W+; and the rows of the map.
        spatial: channels of the map at 4x4 in the last rows, 0 for none.
        grid: side of the grid to which every feature map is brought.
        width: channels that each map is narrowed to.
        taps: stages of the trunk that are read; stage i has stride 4 * 2**i. A 64 px frame leaves a 2x2 map
            at the last stage, so position comes from the ones before it.
        pretrained: start the trunk from ImageNet weights, downloaded once by timm.
    """

    trunk: Literal["b0", "b1", "l1"] = "b1"
    size: int = 256
    style_dim: int = 512
    rows: int = 1
    grid: int = 4
    width: int = 64
    taps: tuple[int, ...] = (1, 2, 3)
    pretrained: bool = False
    spatial: int = 0

    def __post_init__(self) -> None:
        if self.map_rows >= self.rows:
            raise ValueError(f"{self.rows} rows of w leave none beside the {self.map_rows} of a map")

    @property
    def map_rows(self) -> int:
        """Rows of w, its last ones, that hold the map."""
        return map_rows(self.spatial, self.style_dim)

    @property
    def channels(self) -> int:
        """F, channels of the spatial feature maps."""
        return len(self.taps) * self.width


def _trunk(config: EncoderConfig) -> nn.Module:
    name = f"efficientvit_{config.trunk}"
    try:
        trunk = timm.create_model(name, pretrained=config.pretrained, features_only=True, out_indices=config.taps)
    except (OSError, RuntimeError) as error:
        if not config.pretrained:
            raise
        raise ValueError(
            f"the ImageNet weights of {name} cannot be downloaded here; connect to a network once, "
            "or train the trunk from scratch (pretrained = false)"
        ) from error
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = NORM_EPS[config.trunk]
    return trunk


def to_store(maps_BFGG: Float[Tensor, "B F G G"]) -> Float16[Tensor, "B G G F"]:
    """Feature maps as they are stored and as the action model reads them: channels-last, float16."""
    return maps_BFGG.permute(0, 2, 3, 1).to(torch.float16)


class _ToGrid(nn.Module):
    """A feature map to (width, grid, grid): a convolution as large as its stride keeps every place's own weight."""

    def __init__(self, channels: int, side: int, grid: int, width: int) -> None:
        super().__init__()
        self.grid = grid
        stride = max(side // grid, 1)
        self.reduce = nn.Conv2d(channels, width, stride, stride)
        self.norm = nn.GroupNorm(1, width)

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B width grid grid"]:
        features = F.silu(self.norm(self.reduce(features)))
        if features.shape[-1] != self.grid:
            features = F.interpolate(features, (self.grid, self.grid), mode="bilinear", align_corners=False)
        return features


class Encoder(nn.Module):
    """Inversion of the decoder: images in [-1, 1] -> w.

    Attributes:
        mean_w: buffer (rows, style_dim), the generator's mean w; set it with `set_mean_w` before training. The rows of
            a map have mean 0: no generator has one.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        if config.size % 32 != 0:
            raise ValueError(f"the encoder needs a size that is a multiple of 32; got {config.size}")
        self.config = config
        self.trunk = _trunk(config)
        info = self.trunk.feature_info
        self.to_grid = nn.ModuleList(
            _ToGrid(channels, config.size // reduction, config.grid, config.width)
            for channels, reduction in zip(info.channels(), info.reduction(), strict=True)
        )
        styles = config.rows - config.map_rows
        self.head = nn.Linear(config.channels * config.grid**2, styles * config.style_dim)
        nn.init.zeros_(self.head.bias)
        self.map_head = MapHead(config.channels, config.spatial) if config.spatial else None
        self.register_buffer("mean_w", torch.zeros(config.rows, config.style_dim))
        self.register_buffer("pixel_mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def set_mean_w(self, mean_w: Float[Tensor, " D"] | Float[Tensor, "R D"]) -> None:
        """Store the w that offsets start from, one for all rows of styles or one a row of them."""
        styles_RD = self.mean_w[: self.config.rows - self.config.map_rows]
        styles_RD.copy_(mean_w.expand_as(styles_RD))

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B L D"]:
        """Encode images in [-1, 1] of the config's size."""
        return self.project(self.maps(images))

    def project(self, maps_BFGG: Float[Tensor, "B F G G"]) -> Float[Tensor, "B L D"]:
        """w of the spatial feature maps: the second half of `forward`."""
        offset = self.head(maps_BFGG.flatten(1)).unflatten(1, (-1, self.config.style_dim))
        if self.map_head is not None:
            offset = join_map(offset, self.map_head(maps_BFGG))
        return self.mean_w + offset

    def maps(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B F G G"]:
        """Spatial feature maps, the first half of `forward`: `len(taps) * width` channels on the grid."""
        if images.shape[-2:] != (self.config.size, self.config.size):
            raise ValueError(
                f"the encoder was built for {self.config.size} px; got {tuple(images.shape)}; resize first"
            )
        maps = self.trunk(self.standardised(images))
        return torch.cat([to_grid(m) for to_grid, m in zip(self.to_grid, maps, strict=True)], dim=1)

    def standardised(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """Images in [-1, 1] as the trunk wants them."""
        return (images * 0.5 + 0.5 - self.pixel_mean) / self.pixel_std
