"""w -> uint8 frame as one network, in float32 or with all levels but the smallest in float16: what runtimes compute."""

import copy

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from torch_bridge.images import to_levels
from torch_bridge.mobile_stylegan import PlayDecoder

HALF = torch.float16


class FrameNet(nn.Module):
    """A decoder, shared or (in `half`) copied, and the conversion of its image."""

    def __init__(self, decoder: PlayDecoder, *, half: bool = False) -> None:
        super().__init__()
        self.decoder = copy.deepcopy(decoder) if half else decoder
        if half:
            self.decoder.layers = nn.ModuleList(_HalfBlock(block) for block in self.decoder.layers)
            self.decoder.head = _HalfHead(self.decoder.head)

    def forward(self, w_BLD: Float[Tensor, "B L D"]) -> UInt8[Tensor, "B H W C"]:
        images_BCHW = self.decoder(w_BLD[:, 0] if w_BLD.shape[1] == 1 else w_BLD)
        return to_levels(images_BCHW).permute(0, 2, 3, 1).contiguous()


class _HalfBlock(nn.Module):
    """A block that computes in float16, whatever it is given."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block.to(HALF)

    def forward(self, x: Tensor, w1_BD: Tensor, w2_BD: Tensor, noise: list[Tensor | None]) -> Tensor:
        scaled = [None if image is None else image.to(HALF) for image in noise]
        return self.block(x.to(HALF), w1_BD.to(HALF), w2_BD.to(HALF), scaled)


class _HalfHead(nn.Module):
    """The head in float16; its bands are float32 again."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head.to(HALF)

    def forward(self, x: Tensor, w_BD: Tensor) -> Tensor:
        return self.head(x.to(HALF), w_BD.to(HALF)).float()
