"""MobileStyleGAN student (Belousov 2021, arXiv 2104.04767): w -> frame with a tenth of StyleGAN2's arithmetic.

A dense convolution at 4 px, then blocks of: inverse Haar transform (doubles the resolution, quarters the channels) and
two depthwise-separable convolutions. Every level has a head of 12 wavelet bands; the image is the inverse transform of
the last head, the others exist for training. Rows of W+: 0 for the 4 px convolution and 1 for its head; for block i row
3i+1 for upsampling and first convolution, 3i+2 for the second, 3i+3 for the head; the last row is never read.
The state_dict has the names and shapes of the published checkpoints. With `spatial` channels, which no published one
has, a map in the last rows of w is added to the constant (`spatial.py`).
"""

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torch_bridge.channels import check_size
from torch_bridge.mobile_layers import StyledConv, WaveletHead, WaveletUpsample
from torch_bridge.play_layers import FoldedConv, FoldedUpsample, PixelHead
from torch_bridge.rounding import watched_peaks
from torch_bridge.spatial import MapToConstant, map_rows, split_map
from torch_bridge.stylegan2 import ConstantInput, GeneratorConfig
from torch_bridge.wavelet import haar_idwt

# What a level hands on: one tensor or, in play with `bands_apart`, a list of its four bands.
Level = Tensor | list[Tensor]


@dataclass(frozen=True)
class StudentConfig:
    """`channels[i]` is the width at 4 * 2^i px; the last level is at size/2, and the last doubling needs no layer.

    `spatial` is the number of channels of the map that is added to the constant, 0 for none.
    """

    size: int = 256
    style_dim: int = 512
    channels: tuple[int, ...] = (512, 512, 512, 512, 256, 128)
    spatial: int = 0

    def __post_init__(self) -> None:
        check_size(self.size)
        map_rows(self.spatial, self.style_dim)
        if 4 * 2 ** len(self.channels) != self.size:
            levels = self.size.bit_length() - 3
            wanted = f"{levels} widths (4 to {self.size // 2} px)"
            raise ValueError(f"A student of {self.size} px has {wanted}, and {self.channels} are given.")
        if len(self.channels) < 2:
            raise ValueError(f"The smallest student makes images of 16 px, not {self.size}.")
        if any(width % 4 for width in self.channels[:-1]):
            raise ValueError(f"All widths but the last must be multiples of 4 (wavelet bands), not {self.channels}.")

    @classmethod
    def from_generator(cls, config: GeneratorConfig) -> Self:
        """The student of the published recipe: the teacher's widths without the one at full resolution."""
        return cls(config.size, config.style_dim, tuple(config.widths.values())[:-1])

    @property
    def rows(self) -> int:
        """Rows of styles of a W+ latent: three for each block and two."""
        return 3 * len(self.channels) - 1

    @property
    def map_rows(self) -> int:
        """Rows of w behind those of styles: the map."""
        return map_rows(self.spatial, self.style_dim)


class MobileBlock(nn.Module):
    """Upsampling and two separable convolutions; `to_img` is the head, which in play only the last block has."""

    def __init__(
        self, up: nn.Module, widths: tuple[int, int], style_dim: int, conv: type[nn.Module], head: nn.Module | None
    ) -> None:
        super().__init__()
        self.up = up
        self.conv1 = conv(widths[0] // 4, widths[1], style_dim, depthwise=True)
        self.conv2 = conv(widths[1], widths[1], style_dim, depthwise=True)
        self.to_img = head

    def forward(self, x: Level, w1_BD: Tensor, w2_BD: Tensor, noise: Sequence[Tensor | None]) -> Level:
        """(B, I, H, W) or its bands to (B, O, 2H, 2W) or its bands."""
        x = self.conv1(self.up(x, w1_BD, self.conv1.style(w1_BD)), noise[0])
        return self.conv2(x * self.conv2.style(w2_BD), noise[1])


class _Synthesis(nn.Module):
    """What the student and its form for play share: the pass through the levels."""

    config: StudentConfig
    input: ConstantInput
    from_map: MapToConstant | None
    conv1: nn.Module
    layers: nn.ModuleList

    @property
    def rows(self) -> int:
        """Rows of styles of a W+ latent."""
        return self.config.rows

    @property
    def noise_shapes(self) -> list[tuple[int, int, int, int]]:
        """(1, 1, 4, 4), then (2, 1, r, r) for each block: one noise image for each of its convolutions."""
        return [(1, 1, 4, 4)] + [(2, 1, 8 * 2**i, 8 * 2**i) for i in range(len(self.layers))]

    def _split(self, w: Tensor) -> tuple[list[Float[Tensor, "B D"]], Float[Tensor, "B S 4 4"] | None]:
        """One (B, D) tensor for each row of styles, and the map; None for w_BD, which has none.

        Raises ValueError for another rank or another number of rows.
        """
        if w.ndim == 2:
            return [w] * self.rows, None
        extra = self.config.map_rows
        if w.ndim != 3 or w.shape[1] not in (1 + extra, self.rows + extra):
            behind = f", {extra} of them a map" if extra else ""
            raise ValueError(
                f"w must be (B, D), (B, {1 + extra}, D) or (B, {self.rows + extra}, D){behind}, not {tuple(w.shape)}."
            )
        styles_BRD, map_BSHW = split_map(w, self.config.spatial)
        rows = styles_BRD.expand(-1, self.rows, -1) if styles_BRD.shape[1] == 1 else styles_BRD
        return list(rows.unbind(1)), map_BSHW if extra else None

    def _levels(
        self, rows: list[Tensor], map_BSHW: Tensor | None, noise: Sequence[Sequence[Tensor | None]]
    ) -> list[Level]:
        x = self.input(rows[0].shape[0])
        if map_BSHW is not None:
            x = x + self.from_map(map_BSHW)
        levels = [self.conv1(x * self.conv1.style(rows[0]), noise[0][0])]
        for i, block in enumerate(self.layers):
            levels.append(block(levels[-1], rows[3 * i + 1], rows[3 * i + 2], noise[i + 1]))
        return levels

    def _noise_pairs(self, noise: Sequence[Tensor] | None) -> Sequence[Sequence[Tensor | None]]:
        if noise is None:
            return [(None, None)] * len(self.noise_shapes)
        if len(noise) != len(self.noise_shapes):
            raise ValueError(f"{len(noise)} noise tensors were given, the student takes {self.noise_shapes}.")
        return noise


class Student(_Synthesis):
    """MobileStyleGAN for training. Called with `w` (B, D) or (B, rows, D) it returns images (B, 3, size, size).

    With a spatial map `w` is (B, D), without one, or (B, 1 + map_rows, D) or (B, rows + map_rows, D).

    `noise` is None (no noise) or a list of tensors of `noise_shapes`, shared by the batch; (2, B, 1, r, r) gives each
    sample its own. New weights preserve the signal's variance, unlike the published initialisation.
    """

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        dim, widths = config.style_dim, config.channels
        self.input = ConstantInput(widths[0])
        self.from_map = MapToConstant(config.spatial, widths[0]) if config.spatial else None
        self.conv1 = StyledConv(widths[0], widths[0], dim, depthwise=False)
        self.to_img1 = WaveletHead(widths[0], dim)
        self.layers = nn.ModuleList(
            MobileBlock(WaveletUpsample(a, dim), (a, b), dim, StyledConv, WaveletHead(b, dim))
            for a, b in itertools.pairwise(widths)
        )

    def wavelet_heads(self, w: Tensor, noise: Sequence[Tensor] | None = None) -> list[Float[Tensor, "B 12 R R"]]:
        """Wavelet bands of the image at every level: 4, 8, ..., size/2 px. Each is an image of twice that size."""
        rows, map_BSHW = self._split(w)
        levels = self._levels(rows, map_BSHW, self._noise_pairs(noise))
        heads = [self.to_img1, *(block.to_img for block in self.layers)]
        return [head(x, rows[3 * i] if i else rows[1]) for i, (head, x) in enumerate(zip(heads, levels, strict=True))]

    def images(
        self, w: Tensor, noise: Sequence[Tensor] | None = None
    ) -> tuple[Float[Tensor, "B 3 H W"], list[Float[Tensor, "B 12 R R"]]]:
        """The image and the bands of all levels from one pass, for training."""
        heads = self.wavelet_heads(w, noise)
        return haar_idwt(heads[-1]), heads

    def forward(self, w: Tensor, noise: Sequence[Tensor] | None = None) -> Float[Tensor, "B 3 H W"]:
        rows, map_BSHW = self._split(w)
        last = self._levels(rows, map_BSHW, self._noise_pairs(noise))[-1]
        return haar_idwt(self.layers[-1].to_img(last, rows[-2]))

    def for_play(self, noise: Sequence[Tensor] | None = None) -> "PlayDecoder":
        """The same function for inference, with `noise` fixed: demodulation folded, training heads dropped."""
        play = PlayDecoder(self.config, fixed_noise=noise is not None)
        play.to(self.input.input.device)
        play.fold(self, noise)
        return play


class PlayDecoder(_Synthesis):
    """The student for play: `decoder(w) -> image_BCHW`; built by `Student.for_play` or from a config and a state_dict.

    Args:
        config: of the student.
        fixed_noise: whether there are noise images: buffers that hold the noise times its learned strength.
        bands_apart: the form of the doublings, see `play_layers`.
    """

    def __init__(self, config: StudentConfig, *, fixed_noise: bool = False, bands_apart: bool = False) -> None:
        super().__init__()
        self.config = config
        dim, widths = config.style_dim, config.channels
        self.input = ConstantInput(widths[0])
        self.from_map = MapToConstant(config.spatial, widths[0]) if config.spatial else None
        self.conv1 = FoldedConv(widths[0], widths[0], dim, depthwise=False)
        self.layers = nn.ModuleList(
            MobileBlock(FoldedUpsample(a, dim), (a, b), dim, FoldedConv, None) for a, b in itertools.pairwise(widths)
        )
        self.head = PixelHead(widths[-1], dim)
        for conv in (self.conv1, *(block.conv2 for block in self.layers[:-1])):  # those before a doubling
            conv.bands_apart = bands_apart
        self.fixed_noise = fixed_noise
        if fixed_noise:
            for i, shape in enumerate(self.noise_shapes):
                self.register_buffer(f"noise_{i}", torch.zeros(shape))
        self.requires_grad_(False)

    @torch.no_grad()
    def fold(self, student: Student, noise: Sequence[Tensor] | None) -> None:
        """Take over the function of `student` with the given noise."""
        self.input.load_state_dict(student.input.state_dict())
        if self.from_map is not None:
            self.from_map.load_state_dict(student.from_map.state_dict())
        self.conv1.fold(student.conv1, by_bands=True)
        for i, (block, trained) in enumerate(zip(self.layers, student.layers, strict=True), start=1):
            block.up.fold(trained.up)
            block.conv1.fold(trained.conv1)
            block.conv2.fold(trained.conv2, by_bands=i < len(self.layers))
        self.head.fold(student.layers[-1].to_img)
        if noise is None:
            return
        convs = [(student.conv1,), *((block.conv1, block.conv2) for block in student.layers)]
        for i, (level, images) in enumerate(zip(convs, student._noise_pairs(noise), strict=True)):
            scaled = [conv.noise.weight * image for conv, image in zip(level, images, strict=True)]
            getattr(self, f"noise_{i}").copy_(torch.stack(scaled))

    def bands_apart(self) -> "PlayDecoder":
        """The same decoder, tensors shared, in the form for runtimes that join operations to few passes."""
        if any(isinstance(one, FoldedConv) and one.input_step is not None for one in self.modules()):
            raise ValueError("Take the bands apart first, then round: steps are no tensors, and would be lost.")
        other = PlayDecoder(self.config, fixed_noise=self.fixed_noise, bands_apart=True)
        other.load_state_dict(self.state_dict(), assign=True)
        return other.train(self.training).requires_grad_(False)

    @torch.no_grad()
    def with_rounded_products(self, w_NLD: Float[Tensor, "N L D"]) -> "PlayDecoder":
        """A copy in which the dense products before the head are such as 8-bit integers compute.

        Steps are from a pass over examples: see `rounding`.

        Args:
            w_NLD: latents as they occur in play, on the decoder's device.
        """
        other = copy.deepcopy(self)
        convs = [one for one in other.modules() if isinstance(one, FoldedConv)]
        with watched_peaks(convs, FoldedConv.gather) as peaks:
            for w_LD in w_NLD:  # one by one: a batch of large frames would not fit into the caches
                other.pixels(w_LD[None])
        for conv in convs:
            conv.round_product(peaks[conv])
        return other

    def pixels(self, w: Tensor) -> Float[Tensor, "B 12 H2 W2"]:
        """The image before its last doubling: the 2x2 pixels of each place as channels, for `head.spread`."""
        rows, map_BSHW = self._split(w)
        noise = [getattr(self, f"noise_{i}") for i in range(len(self.noise_shapes))] if self.fixed_noise else None
        return self.head(self._levels(rows, map_BSHW, self._noise_pairs(noise))[-1], rows[-2])

    def forward(self, w: Tensor) -> Float[Tensor, "B 3 H W"]:
        return self.head.spread(self.pixels(w))
