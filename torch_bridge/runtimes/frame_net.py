"""w -> uint8 frame as one network, in float32 or with its large levels in bfloat16: what every runtime computes."""

import copy

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from torch_bridge.images import to_levels
from torch_bridge.mobile_stylegan import PlayDecoder

HALF = torch.bfloat16


class FrameNet(nn.Module):
    """A decoder of its own (a copy, in channels-last memory) and the conversion of its image.

    Args:
        decoder: for play.
        half_levels: how many blocks, counted from the largest one, compute in bfloat16, with the head; 0 for none.

    Raises:
        ValueError: the decoder has no such number of blocks.
    """

    def __init__(self, decoder: PlayDecoder, half_levels: int = 0) -> None:
        super().__init__()
        if not 0 <= half_levels <= len(decoder.layers):
            raise ValueError(f"{half_levels} levels in bfloat16, and the decoder has {len(decoder.layers)}.")
        self.decoder = copy.deepcopy(decoder).eval().requires_grad_(False)
        if half_levels:
            blocks = list(self.decoder.layers)
            whole, half = blocks[: len(blocks) - half_levels], blocks[len(blocks) - half_levels :]
            self.decoder.layers = nn.ModuleList([*whole, *(_HalfBlock(block) for block in half)])
            self.decoder.head = _HalfHead(self.decoder.head)
        self.to(memory_format=torch.channels_last)

    def forward(self, w_BLD: Float[Tensor, "B L D"]) -> UInt8[Tensor, "B H W C"]:
        images_BCHW = self.decoder(w_BLD[:, 0] if w_BLD.shape[1] == 1 else w_BLD)
        return to_levels(images_BCHW).permute(0, 2, 3, 1).contiguous()


class _HalfBlock(nn.Module):
    """A block that computes in bfloat16, whatever it is given."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block.to(HALF)

    def forward(self, x: Tensor, w1_BD: Tensor, w2_BD: Tensor, noise: list[Tensor | None]) -> Tensor:
        scaled = [None if image is None else image.to(HALF) for image in noise]
        return self.block(x.to(HALF), w1_BD.to(HALF), w2_BD.to(HALF), scaled)


class _HalfHead(nn.Module):
    """The head in bfloat16; its bands are float32 again."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head.to(HALF)

    def forward(self, x: Tensor, w_BD: Tensor) -> Tensor:
        return self.head(x.to(HALF), w_BD.to(HALF)).float()
