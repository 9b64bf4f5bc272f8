"""Forms of the encoder for play: copies of a trained one that runtimes compute faster.

`with_heads_apart` is the same function; `with_rounded_products` is one of 8-bit integers.
"""

import copy

import torch
from jaxtyping import Float
from timm.models.efficientvit_mit import ConvNormAct, LiteMLA
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from torch_bridge.encoder import Encoder
from torch_bridge.rounding import RoundedConv, watched_peaks


class HeadsApart(nn.Module):
    """EfficientViT's linear attention over several scales (arXiv 2205.14756, section 3.1), with less to rearrange.

    Channels are all queries, all keys, all values, and within each the heads, so that all three are cut out in one
    piece; places come last, as products want them, so nothing is transposed and no row of ones appended.

    Args:
        layer: the same function with the three of each head side by side; it is used up.
    """

    def __init__(self, layer: LiteMLA) -> None:
        super().__init__()
        self.qkv, self.aggreg, self.proj = layer.qkv, layer.aggreg, layer.proj
        self.kernel_func, self.width, self.eps = layer.kernel_func, layer.dim, layer.eps
        channels = self.qkv.conv.out_channels
        self.heads = channels // (3 * self.width)
        order = torch.arange(channels).view(self.heads, 3, self.width).transpose(0, 1).flatten()
        for conv in (self.qkv.conv, *(conv for scale in self.aggreg for conv in scale)):  # these keep groups together
            for tensor in conv.parameters():
                tensor.data = tensor.data[order.to(tensor.device)]

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        qkv = self.qkv(x)
        return self.proj(torch.cat([self._attend(one) for one in (qkv, *(scale(qkv) for scale in self.aggreg))], dim=1))

    def _attend(self, qkv: Float[Tensor, "B 3ND H W"]) -> Float[Tensor, "B ND H W"]:
        q_BNDP, k_BNDP, v_BNDP = qkv.reshape(len(qkv), 3, self.heads, self.width, -1).unbind(1)
        q_BNDP, k_BNDP = self.kernel_func(q_BNDP), self.kernel_func(k_BNDP)
        weighted = (v_BNDP @ k_BNDP.transpose(-1, -2)) @ q_BNDP
        weights = k_BNDP.sum(-1)[:, :, None] @ q_BNDP
        return (weighted / (weights + self.eps)).reshape(len(qkv), -1, *qkv.shape[2:])


@torch.no_grad()
def with_heads_apart(encoder: Encoder) -> Encoder:
    """A copy that computes attention as `HeadsApart` does."""
    other = copy.deepcopy(encoder).eval()
    for module in list(other.trunk.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, LiteMLA):
                setattr(module, name, HeadsApart(layer))
    return other


@torch.no_grad()
def with_rounded_products(encoder: Encoder, images_NCHW: Float[Tensor, "N 3 H W"]) -> Encoder:
    """A copy in which the trunk's convolutions are such as 8-bit integers compute.

    All but the first, which reads pixels, and those that widen what attention sees (`aggreg`). Norms are inside the
    weights. Steps are from a pass over examples: see `rounding`.

    Args:
        encoder: as it is, or `with_heads_apart`.
        images_NCHW: in [-1, 1], as they occur in play, on the encoder's device.
    """
    other = copy.deepcopy(encoder).eval()
    layers = [layer for layer in other.trunk.modules() if isinstance(layer, ConvNormAct)]
    for layer in layers:
        if isinstance(layer.norm, nn.BatchNorm2d):
            layer.conv, layer.norm = fuse_conv_bn_eval(layer.conv, layer.norm), nn.Identity()
    rounded = [layer for layer in layers if layer.conv.in_channels > 3]
    with watched_peaks(layer.conv for layer in rounded) as peaks:
        for image_CHW in images_NCHW:  # one by one, as in play
            other(image_CHW[None])
    for layer in rounded:
        layer.conv = RoundedConv(layer.conv, peaks[layer.conv])
    return other
