"""uint8 frame -> w as two networks of about the same work, so that no single step of play bears all of it."""

import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from torch_bridge.encoder import Encoder
from torch_bridge.images import to_float
from torch_bridge.runtimes.kinds import Stages

CUT = 11 / 16  # of the trunk's blocks come first: of b1 at 256 px, with what joins w to the dynamics, half of the time

Block = tuple[nn.Module, nn.Module | None]  # and what brings its features to the grid, where they are read


def encode_net(encoder: Encoder) -> Stages:
    """uint8 frames (B, H, W, 3) -> w (B, L, D), in two halves that share the encoder's weights."""
    blocks = _blocks(encoder)
    cut = round(CUT * len(blocks))
    first = FirstHalf(encoder, blocks[:cut])
    return Stages(first, SecondHalf(encoder, blocks[cut:], first.example())).eval()


class FirstHalf(nn.Module):
    """uint8 frames -> what their first blocks make, as one tensor: the maps on the grid, then the features."""

    def __init__(self, encoder: Encoder, blocks: list[Block]) -> None:
        super().__init__()
        self.encoder, self.blocks = encoder, blocks

    def forward(self, frames_BHWC: UInt8[Tensor, "B H W C"]) -> Float[Tensor, "B K"]:
        maps, features = self._run(frames_BHWC)
        channels_last = features.permute(0, 2, 3, 1)  # as runtimes have them
        return torch.cat([one.flatten(1) for one in (*maps, channels_last)], dim=1)

    @torch.no_grad()
    def example(self) -> Float[Tensor, "1 C h w"]:
        """Features of a black frame."""
        size, device = self.encoder.config.size, self.encoder.mean_w.device
        return self._run(torch.zeros(1, size, size, 3, dtype=torch.uint8, device=device))[1]

    def _run(self, frames_BHWC: Tensor) -> tuple[list[Tensor], Tensor]:
        return _run(self.blocks, self.encoder.standardised(to_float(frames_BHWC)))


class SecondHalf(nn.Module):
    """What `FirstHalf` makes -> w.

    Args:
        encoder: whose it is.
        blocks: those that are left.
        example: features of some frame, of which shape and order in memory count.
    """

    def __init__(self, encoder: Encoder, blocks: list[Block], example: Float[Tensor, "1 C h w"]) -> None:
        super().__init__()
        self.encoder, self.blocks, self.shape = encoder, blocks, tuple(example.shape[1:])
        self.order = torch.contiguous_format if example.is_contiguous() else torch.channels_last

    def forward(self, begun_BK: Float[Tensor, "B K"]) -> Float[Tensor, "B L D"]:
        grid, start = self.encoder.config.grid, begun_BK.shape[1] - math.prod(self.shape)
        known = [begun_BK[:, :start].unflatten(1, (-1, grid, grid))] if start else []
        channels, *sides = self.shape
        features = begun_BK[:, start:].unflatten(1, (*sides, channels)).permute(0, 3, 1, 2)
        features = features.contiguous(memory_format=self.order)  # sums depend on it
        maps, _ = _run(self.blocks, features)
        return self.encoder.project(torch.cat([*known, *maps], dim=1))


def _blocks(encoder: Encoder) -> list[Block]:
    """The blocks of the trunk, in turn."""
    to_grid = iter(encoder.to_grid)
    blocks: list[Block] = []
    for name, stage in encoder.trunk.items():
        *before, last = getattr(stage, "blocks", [stage])
        blocks += [(block, None) for block in before]
        blocks.append((last, next(to_grid) if name in encoder.trunk.return_layers else None))
    return blocks


def _run(blocks: list[Block], features: Tensor) -> tuple[list[Tensor], Tensor]:
    """The maps on the grid that blocks make of the features before them, and the features behind them."""
    maps = []
    for block, to_grid in blocks:
        features = block(features)
        if to_grid is not None:
            maps.append(to_grid(features))
    return maps, features
