"""The networks of play that a runtime computes: what draws a frame, and what encodes it anew."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from torch_bridge.encoder import Encoder
from torch_bridge.images import to_float
from torch_bridge.mobile_stylegan import PlayDecoder
from torch_bridge.play_encoder import with_heads_apart, with_rounded_products
from torch_bridge.runtimes.encode_net import encode_net
from torch_bridge.runtimes.frame_net import FrameNet
from torch_bridge.runtimes.kinds import ROUNDED
from torch_bridge.runtimes.measured import checksum, fault_between, fault_of_rounding

OPENVINO = ("openvino", ROUNDED)  # compiles what is done to elements into few passes, and takes forms that suit this
W_TOLERANCE = 0.01  # standard deviations of the corpus, in any number of w

Pairs = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Part:
    """A network with one input and one output, at batch 1.

    Attributes:
        network: it, in the form that is best for the runtime of a name; `Stages` where play computes its parts at
            different times.
        probes: inputs (N, ...) as play has them, on the network's device; made when they are needed, once.
        fault: what is wrong with outputs of a runtime, by its name, beside those of "eager"; "" for nothing.
        makes: for a person, what it makes where there is a fault.
        key: all that a choice depends on besides the machine; likewise.
        compiled: whether it may be worth a minute of `torch.compile`.
    """

    network: Callable[[str], nn.Module]
    probes: Callable[[], Tensor]
    fault: Callable[[str, Pairs], str]
    makes: str
    key: Callable[[], dict[str, Any]]
    compiled: bool


def decoder_part(
    decoder: PlayDecoder,
    probes_NLD: Float[Tensor, "N L D"],
    seen: Callable[[], Float[Tensor, "M L D"]] | None = None,
) -> Part:
    """w (1, L, D) -> uint8 frame (1, H, W, 3). The decoder and its exact copies share their weights.

    Args:
        decoder, probes_NLD: on one device.
        seen: latents that the steps of rounded products are taken from, made when they are needed; None for the probes.
    """

    def network(runtime: str) -> nn.Module:  # `eval`: exporters leave all of it in the mode of the outer module
        form = decoder.bands_apart() if runtime in OPENVINO else decoder
        if runtime == ROUNDED:
            form = form.with_rounded_products(seen() if seen else probes_NLD)
        return FrameNet(form).eval()

    def fault(runtime: str, pairs: Pairs) -> str:
        return fault_of_rounding(pairs) if runtime == ROUNDED else fault_between(pairs)

    def key() -> dict[str, Any]:
        return {
            "part": "decoder",
            "config": asdict(decoder.config),
            "fixed_noise": decoder.fixed_noise,
            "rows": probes_NLD.shape[1],
            "weights": _weights(decoder),
            "compared": checksum([probes_NLD.cpu().numpy()]),
        }

    return Part(network, lambda: probes_NLD, fault, "other frames", key, compiled=True)


def encoder_part(
    encoder: Encoder,
    frames: Callable[[], UInt8[Tensor, "N H W C"]],
    std_LD: Float[Tensor, "L D"],
    decode: Callable[[Float[Tensor, "B L D"]], UInt8[Tensor, "B H W C"]],
    seen: Callable[[], UInt8[Tensor, "M H W C"]] | None = None,
) -> Part:
    """uint8 frame (1, H, W, 3) of the encoder's size -> w (1, L, D), in two stages: see `encode_net`.

    Args:
        encoder: on its device.
        frames: to compare with, called when they are needed.
        std_LD: standard deviation of w in the corpus, in which differences are counted.
        decode: by which rounded products are judged, as they give another w: its frame must look the same.
        seen: frames that the steps of rounded products are taken from, made when they are needed; None for `frames`.
    """
    probes = functools.cache(frames)

    def network(runtime: str) -> nn.Module:
        form = with_heads_apart(encoder) if runtime in OPENVINO else encoder
        if runtime == ROUNDED:
            frames_NHWC = seen() if seen else probes()
            form = with_rounded_products(form, to_float(frames_NHWC.to(encoder.mean_w.device)))
        return encode_net(form)

    def fault(runtime: str, pairs: Pairs) -> str:
        if runtime == ROUNDED:
            fault = fault_of_rounding((decode(ours), decode(theirs)) for ours, theirs in pairs)
            return fault and f"its frames have {fault}"
        apart = float(torch.stack([((ours - theirs).abs() / std_LD.to(ours)).max() for ours, theirs in pairs]).max())
        return "" if apart <= W_TOLERANCE else f"up to {apart:.3f} standard deviations apart"

    def key() -> dict[str, Any]:
        return {
            "part": "encoder",
            "config": asdict(encoder.config),
            "weights": _weights(encoder),
            "compared": checksum((probes().cpu().numpy(), std_LD.cpu().numpy())),
        }

    return Part(network, probes, fault, "another w", key, compiled=False)


def _weights(module: nn.Module) -> int:
    return checksum(tensor.detach().cpu().numpy() for tensor in module.state_dict().values())
