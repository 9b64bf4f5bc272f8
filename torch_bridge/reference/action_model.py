"""The action model in plain PyTorch, channels-first: the twin of `genie_jax.warp` and `genie_jax.action_mlp`.

No published package has these modules, so they are written here a second time, from what they shall compute and with
PyTorch's own layers, in another layout and with other operators than the Flax ones: a mistake in either shows as a
difference. `torch_bridge.reference.action_weights` carries weights between the two.

`N` pairs of frames, `S` side of the working pictures, `D` width of a code.
"""

import itertools
from collections import OrderedDict

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from genie_jax.latent_action import LatentActionConfig
from genie_jax.pair_features import FeatureConfig
from genie_jax.warp import WarpConfig
from torch_bridge.reference.action_pixels import matching, warp

# Flax's default, which is not PyTorch's.
NORM_EPSILON = 1e-6


def _downs(inputs: int, channels: tuple[int, int, int]) -> list[nn.Conv2d]:
    """Three halvings of the side. "SAME" for 4 x 4 at stride 2 on an even side is one pixel of zeros all around."""
    return [nn.Conv2d(i, o, 4, stride=2, padding=1) for i, o in itertools.pairwise((inputs, *channels))]


class PairEncoder(nn.Module):
    """Two frames in [0, 1] to one vector: convolutions of what changed beside block matching of what moved.

    Args:
        config: sizes.
        dim: width of the vector.
    """

    def __init__(self, config: WarpConfig, dim: int) -> None:
        super().__init__()
        eighth = config.encoder_channels[-1]
        self.cells = config.size // 8
        self.down_half, self.down_quarter, self.down_eighth = _downs(9, config.encoder_channels)
        self.moved = nn.Linear(7 * 7 + 5 * 5, eighth)
        self.norm = nn.LayerNorm(2 * eighth, eps=NORM_EPSILON)
        self.local = nn.Linear(2 * eighth, 2 * eighth)
        self.out = nn.Linear(4 * eighth, dim)

    def forward(
        self, before_NCSS: Float[Tensor, "N 3 S S"], after_NCSS: Float[Tensor, "N 3 S S"]
    ) -> Float[Tensor, "N D"]:
        x = torch.cat([before_NCSS - 0.5, after_NCSS - 0.5, 4 * (after_NCSS - before_NCSS)], 1)
        for layer in (self.down_half, self.down_quarter, self.down_eighth):
            x = F.silu(layer(x))
        far = matching(before_NCSS, after_NCSS, shrink=4, radius=3, cells=self.cells)
        near = matching(before_NCSS, after_NCSS, shrink=2, radius=2, cells=self.cells)
        seen = x.flatten(2).mT  # N cells^2 eighth
        moved = F.silu(self.moved(4 * torch.cat([far, near], 1).flatten(2).mT))
        x = F.silu(self.local(self.norm(torch.cat([seen, moved], -1))))
        return self.out(torch.cat([x.mean(1), x.amax(1)], -1))


class FeatureEncoder(nn.Module):
    """Feature maps of two frames (N, 2, C, G, G) to one vector.

    Args:
        config: sizes.
        dim: width of the vector.
    """

    def __init__(self, config: FeatureConfig, dim: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(2 * config.channels, config.hidden, 3, padding=1)
        self.norm = nn.LayerNorm(config.hidden, eps=NORM_EPSILON)
        self.local = nn.Linear(config.hidden, config.hidden)
        self.out = nn.Linear(2 * config.hidden, dim)

    def forward(self, maps_N2CGG: Float[Tensor, "N 2 C G G"]) -> Float[Tensor, "N D"]:
        before, after = maps_N2CGG.unbind(1)
        x = F.silu(self.near(torch.cat([before, after - before], 1)))
        x = F.silu(self.local(self.norm(x.flatten(2).mT)))  # N G^2 hidden
        return self.out(torch.cat([x.mean(1), x.amax(1)], -1))


class BothEncoder(nn.Module):
    """Frames and feature maps to the sum of a vector of each."""

    def __init__(self, config: WarpConfig, features: FeatureConfig, dim: int) -> None:
        super().__init__()
        self.frames, self.features = PairEncoder(config, dim), FeatureEncoder(features, dim)

    def forward(self, before: Tensor, after: Tensor, maps_N2CGG: Tensor) -> Float[Tensor, "N D"]:
        return self.frames(before, after) + self.features(maps_N2CGG)


class Film(nn.Module):
    """Each channel times (1 + scale) plus shift, both linear in the code."""

    def __init__(self, dim: int, channels: int) -> None:
        super().__init__()
        self.scale_shift = nn.Linear(dim, 2 * channels)

    def forward(self, x_NCHW: Float[Tensor, "N C H W"], code_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N C H W"]:
        scale, shift = self.scale_shift(code_ND)[:, :, None, None].chunk(2, 1)
        return torch.addcmul(x_NCHW + shift, x_NCHW, scale)


class WarpDecoder(nn.Module):
    """Frame t in [0, 1] and a code to frame t+1: frame t warped by a flow, blended with painted colour.

    Args:
        config: sizes.
        dim: width of a code.
    """

    def __init__(self, config: WarpConfig, dim: int) -> None:
        super().__init__()
        half, quarter, eighth = config.decoder_channels
        self.max_flow = config.max_flow
        self.down_half, self.down_quarter, self.down_eighth = _downs(3, config.decoder_channels)
        self.deep_film = Film(dim, eighth)
        self.deep = nn.Conv2d(eighth, eighth, 3, padding=1)
        self.to_quarter = nn.Conv2d(eighth, 4 * quarter, 1)
        self.quarter_film = Film(dim, quarter)
        self.middle = nn.Conv2d(quarter, quarter, 3, padding=1)
        self.to_half = nn.Conv2d(quarter, 4 * half, 1)
        self.head = nn.Conv2d(half, 4 * 6, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, before_NCSS: Float[Tensor, "N 3 S S"], code_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N 3 S S"]:
        half = F.silu(self.down_half(before_NCSS - 0.5))
        quarter = F.silu(self.down_quarter(half))
        eighth = F.silu(self.down_eighth(quarter))
        deep = eighth + F.silu(self.deep(self.deep_film(eighth, code_ND)))
        middle = quarter + self.shuffle(self.to_quarter(deep))
        middle = middle + F.silu(self.middle(self.quarter_film(middle, code_ND)))
        fine = F.silu(half + self.shuffle(self.to_half(middle)))
        flow, colour, blend = self.shuffle(self.head(fine)).split([2, 3, 1], 1)
        moved = warp(before_NCSS, self.max_flow * torch.tanh(flow * (4 / self.max_flow)))
        return torch.lerp(moved, colour + 0.5, torch.sigmoid(4 * blend - 2))


class Perceptron(nn.Sequential):
    """Linear, normalisation, SiLU, `layers` times, and a last linear layer: (N, inputs) to (N, outputs)."""

    def __init__(self, inputs: int, hidden: int, layers: int, outputs: int) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for i in range(layers):
            parts[f"hidden_{i}"] = nn.Linear(hidden if i else inputs, hidden)
            parts[f"norm_{i}"] = nn.LayerNorm(hidden, eps=NORM_EPSILON)
            parts[f"silu_{i}"] = nn.SiLU()
        parts["out"] = nn.Linear(hidden if layers else inputs, outputs)
        super().__init__(parts)


class WarpTwin(nn.Module):
    """The form "warp": `encode` and `decode` on pictures (N, 3, S, S) in [0, 1]; `decoder=False` leaves that out."""

    def __init__(self, config: LatentActionConfig, *, decoder: bool = True) -> None:
        super().__init__()
        self.reads, dim = config.inputs, config.dim
        if self.reads == "both":
            self.encoder = BothEncoder(config.warp, config.features, dim)
        else:
            frames = self.reads == "frames"
            self.encoder = PairEncoder(config.warp, dim) if frames else FeatureEncoder(config.features, dim)
        self.decoder = WarpDecoder(config.warp, dim) if decoder else None

    def encode(
        self,
        before: Float[Tensor, "N 3 S S"],
        after: Float[Tensor, "N 3 S S"],
        maps_N2CGG: Float[Tensor, "N 2 C G G"] | None = None,
    ) -> Float[Tensor, "N D"]:
        """One vector for each pair of frames, of what the config has the encoder read."""
        given = {"frames": (before, after), "features": (maps_N2CGG,), "both": (before, after, maps_N2CGG)}
        return self.encoder(*given[self.reads])

    def decode(self, before: Float[Tensor, "N 3 S S"], code_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N 3 S S"]:
        """Frame t+1 from frame t and a code."""
        return self.decoder(before, code_ND)


class MLPTwin(nn.Module):
    """The form "mlp": `encode` and `decode` on w, rows side by side (N, LD); `decoder=False` leaves that out."""

    def __init__(self, config: LatentActionConfig, *, decoder: bool = True) -> None:
        super().__init__()
        sizes, dim = config.mlp, config.dim
        width = sizes.rows * sizes.style_dim
        self.encoder = Perceptron(2 * width, sizes.hidden, sizes.layers, dim)
        self.decoder = Perceptron(width + dim, sizes.hidden, sizes.layers, width) if decoder else None

    def encode(
        self, before: Float[Tensor, "N LD"], after: Float[Tensor, "N LD"], _: None = None
    ) -> Float[Tensor, "N D"]:
        """One vector for each pair of w."""
        return self.encoder(torch.cat([before, after - before], -1))

    def decode(self, before: Float[Tensor, "N LD"], code_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N LD"]:
        """w of frame t+1 from w of frame t and a code."""
        return before + self.decoder(torch.cat([before, code_ND], -1))
