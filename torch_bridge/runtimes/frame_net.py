"""w -> uint8 frame as one network: what every runtime computes."""

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from torch_bridge.images import to_levels
from torch_bridge.mobile_stylegan import PlayDecoder


class FrameNet(nn.Module):
    """A decoder, which is shared, and the conversion of its image."""

    def __init__(self, decoder: PlayDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, w_BLD: Float[Tensor, "B L D"]) -> UInt8[Tensor, "B H W C"]:
        pixels = to_levels(self.decoder.pixels(w_BLD[:, 0] if w_BLD.shape[1] == 1 else w_BLD))
        return self.decoder.head.spread(pixels).permute(0, 2, 3, 1).contiguous()  # bytes are moved, not floats
