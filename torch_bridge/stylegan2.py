"""StyleGAN2 generator with skip connections (Karras et al. 2020, arXiv 1912.04958), with native operations only.

z_BD --mapping--> w_BD --synthesis--> image_BCHW. A `w` of rank 3 (w_BLD, "W+") gives each layer a row of its own:
row 0 the 4 px convolution, row 1 its RGB head; the i-th block (8 * 2^i px) uses row 2i+1 for the upsampling
convolution, 2i+2 for the second one and 2i+3 for its RGB head.
The state_dict has the names and shapes of the published checkpoints.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torch_bridge.channels import check_size, resolutions, width_at
from torch_bridge.layers import EqualLinear, PixelNorm
from torch_bridge.modulated import StyledConv, ToRGB

Noise = Literal["fixed", "random", "none"] | Sequence[Tensor]
MAPPING_LR_MUL = 0.01


@dataclass(frozen=True)
class GeneratorConfig:
    """Size of a generator. `channel_max` caps all widths: 64 px with 64 channels is half a million parameters."""

    size: int = 256
    style_dim: int = 512
    n_mlp: int = 8
    channel_multiplier: float = 2
    channel_max: int = 512

    def __post_init__(self) -> None:
        check_size(self.size)

    @property
    def widths(self) -> dict[int, int]:
        """Resolution -> channels, from 4 px to the image size."""
        return {r: width_at(r, self.channel_multiplier, self.channel_max) for r in resolutions(self.size)}


class ConstantInput(nn.Module):
    """The learned 4x4 picture that every image grows from."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))

    def forward(self, batch: int) -> Float[Tensor, "B C 4 4"]:
        # The layout of what enters the first convolution is that of all activations; channels-last is the faster one.
        return self.input.expand(batch, -1, -1, -1).contiguous(memory_format=torch.channels_last)


class Generator(nn.Module):
    """StyleGAN2: `mapping` and `synthesis`; `forward(z)` is one after the other."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.style_dim
        layers = [EqualLinear(dim, dim, lr_mul=MAPPING_LR_MUL, activate=True) for _ in range(config.n_mlp)]
        self.style = nn.Sequential(PixelNorm(), *layers)
        (_, width), *finer = config.widths.items()
        self.input = ConstantInput(width)
        self.conv1 = StyledConv(width, width, dim)
        self.to_rgb1 = ToRGB(width, dim, upsample=False)
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        for _, next_width in finer:
            self.convs.append(StyledConv(width, next_width, dim, upsample=True))
            self.convs.append(StyledConv(next_width, next_width, dim))
            self.to_rgbs.append(ToRGB(next_width, dim))
            width = next_width
        self.noises = nn.Module()
        for i, shape in enumerate(self.noise_shapes):
            self.noises.register_buffer(f"noise_{i}", torch.randn(shape))

    @property
    def rows(self) -> int:
        """Rows of a W+ latent: 2 * log2(size) - 2."""
        return 2 * len(self.to_rgbs) + 2

    @property
    def noise_shapes(self) -> list[tuple[int, int, int, int]]:
        """Shapes (1, 1, r, r) of the noise images in the order of use: 4, 8, 8, 16, 16, ... px."""
        sizes = [r for r in resolutions(self.config.size) for _ in range(2)][1:]
        return [(1, 1, r, r) for r in sizes]

    def mapping(self, z_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """w of standard normal z, both (B, style_dim)."""
        return self.style(z_BD)

    @torch.no_grad()
    def mean_w(self, n: int = 4096, seed: int = 0) -> Float[Tensor, "D"]:
        """Mean of w over `n` draws of z; a function of the weights, `n` and `seed` alone."""
        z_BD = torch.randn(n, self.config.style_dim, generator=torch.Generator().manual_seed(seed))
        return self.mapping(z_BD.to(self.input.input)).mean(0)

    def draw_noise(self, batch: int, generator: torch.Generator | None = None) -> list[Float[Tensor, "B 1 R R"]]:
        """Fresh noise images for `batch` samples; a generator of another device is drawn from there, then moved."""
        like = self.input.input
        device = like.device if generator is None else generator.device
        shapes = [(batch, *shape[1:]) for shape in self.noise_shapes]
        return [torch.randn(s, generator=generator, device=device, dtype=like.dtype).to(like.device) for s in shapes]

    def noise_images(
        self, noise: Noise, batch: int, generator: torch.Generator | None = None
    ) -> list[Tensor] | list[None]:
        """The noise of each layer for a mode: the stored buffers, fresh draws, none, or the given tensors."""
        count = len(self.noise_shapes)
        if noise == "fixed":
            return [getattr(self.noises, f"noise_{i}") for i in range(count)]
        if noise == "random":
            return self.draw_noise(batch, generator)
        if noise == "none":
            return [None] * count
        if isinstance(noise, str):
            raise ValueError(f"Unknown noise mode {noise!r}: use 'fixed', 'random', 'none' or a list of tensors.")
        if len(noise) != count:
            raise ValueError(
                f"{len(noise)} noise images were given, the generator takes {count} of {self.noise_shapes}."
            )
        return list(noise)

    def synthesis(
        self,
        w: Float[Tensor, "B D"] | Float[Tensor, "B L D"],
        noise: Noise = "fixed",
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "B 3 H W"]:
        """Images, nominally in [-1, 1], of `w` (B, style_dim) or (B, rows, style_dim).

        `noise`: "fixed" uses the stored noise images, "random" draws new ones for every sample (from `generator` if
        given), "none" adds no noise; a list of tensors that broadcast to (B, 1, r, r) is used as it is.
        Raises ValueError for a `w` or a noise list of the wrong length.
        """
        rows = split_rows(w, self.rows)
        noises = self.noise_images(noise, w.shape[0], generator)
        x = self.conv1(self.input(w.shape[0]), rows[0], noises[0])
        image = self.to_rgb1(x, rows[1])
        for i, to_rgb in enumerate(self.to_rgbs):
            x = self.convs[2 * i](x, rows[2 * i + 1], noises[2 * i + 1])
            x = self.convs[2 * i + 1](x, rows[2 * i + 2], noises[2 * i + 2])
            image = to_rgb(x, rows[2 * i + 3], image)
        return image

    def forward(self, z_BD: Float[Tensor, "B D"], noise: Noise = "random") -> Float[Tensor, "B 3 H W"]:
        return self.synthesis(self.mapping(z_BD), noise)


def split_rows(w: Tensor, rows: int) -> list[Float[Tensor, "B D"]]:
    """One (B, D) tensor for each row of w: of w_BD the same for every row, of w_BLD its rows.

    Raises ValueError for another rank or another number of rows.
    """
    if w.ndim == 2:
        return [w] * rows
    if w.ndim != 3 or w.shape[1] != rows:
        raise ValueError(f"w must be (B, D) or (B, {rows}, D), not {tuple(w.shape)}.")
    return list(w.unbind(1))
