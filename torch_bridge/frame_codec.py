"""The PyTorch half of a world: frames to w by the encoder, w to frames by the decoder in its form for play."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float16, UInt8
from torch import Tensor, nn

from torch_bridge.encoder import Encoder, EncoderConfig, to_store
from torch_bridge.images import to_float, to_uint8
from torch_bridge.manifest import parse_config
from torch_bridge.mobile_stylegan import Student, StudentConfig

Module = TypeVar("Module", bound=nn.Module)

BATCH_PIXELS = 64 * 128 * 128  # pixels that pass a network at once, so that a long clip does not fill the memory


class FrameCodec:
    """Frames <-> w on one device, without gradients, in batches of bounded size.

    Args:
        encoder: images (B, 3, H, W) in [-1, 1] -> w (B, L, D).
        decoder: w (B, D) or (B, L, D) -> images; see `Student.for_play`.
        size: side of the frames.
        device: where both shall be.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, size: int, device: torch.device) -> None:
        self.encoder = encoder.to(device).eval().requires_grad_(False)
        self.decoder = decoder.to(device).eval().requires_grad_(False)
        self.size, self.device = size, device

    @classmethod
    def from_tensors(
        cls,
        encoder: tuple[Mapping[str, Any], Mapping[str, np.ndarray]],
        student: tuple[Mapping[str, Any], Mapping[str, np.ndarray]],
        device: torch.device,
    ) -> "FrameCodec":
        """The codec of a bundle: config and state of `Encoder` and of `Student`, which is folded for play here.

        Raises:
            ValueError: a config is none of its class, a tensor does not fit it, or the two parts do not fit another.
        """
        encoder_config = dataclasses.replace(parse_config(EncoderConfig, encoder[0]), pretrained=False)
        student_config = parse_config(StudentConfig, student[0])
        seen = (encoder_config.size, encoder_config.style_dim)
        if seen != (student_config.size, student_config.style_dim):
            raise ValueError(f"The encoder's size and style_dim {seen} are not the student's {student_config}.")
        if encoder_config.spatial != student_config.spatial:
            maps = f"{encoder_config.spatial} channels, the student's {student_config.spatial}"
            raise ValueError(f"The encoder's map has {maps}.")
        trained = _filled(Student(student_config), student[1], "the decoder")
        return cls(_filled(Encoder(encoder_config), encoder[1], "the encoder"), trained.for_play(), seen[0], device)

    @torch.inference_mode()
    def encode(self, frames_NHWC: UInt8[Tensor, "N H W C"]) -> Float[Tensor, "N L D"]:
        """w of square frames of any size (see `fit`), on the codec's device."""
        return torch.cat([self.encoder(self.fit(frames)) for frames in self._batches(frames_NHWC)])

    @torch.inference_mode()
    def features(self, frames_NHWC: UInt8[Tensor, "N H W C"]) -> Float16[Tensor, "N G G F"]:
        """The encoder's spatial feature maps of square frames of any size, in the precision of the training's store."""
        maps = [self.encoder.maps(self.fit(frames)) for frames in self._batches(frames_NHWC)]
        return to_store(torch.cat(maps))

    @torch.inference_mode()
    def decode(self, w_NLD: Float[Tensor, "N L D"]) -> UInt8[Tensor, "N H W C"]:
        """Frames of w, on the codec's device."""
        return torch.cat([self._decode_batch(w) for w in self._batches(w_NLD)])

    def _decode_batch(self, w_BLD: Float[Tensor, "B L D"]) -> UInt8[Tensor, "B H W C"]:
        w = w_BLD.to(self.device)
        return to_uint8(self.decoder(w[:, 0] if w.shape[1] == 1 else w))

    @torch.inference_mode()
    def resize(self, frames_NHWC: UInt8[Tensor, "N H W C"]) -> UInt8[Tensor, "N H W C"]:
        """Frames of any size as frames of the world's, on the codec's device."""
        if frames_NHWC.shape[1:3] == (self.size, self.size):
            return frames_NHWC
        return torch.cat([to_uint8(self.fit(frames)) for frames in self._batches(frames_NHWC)])

    def fit(self, frames_BHWC: UInt8[Tensor, "B H W C"]) -> Float[Tensor, "B C H W"]:
        """Images in [-1, 1] of the world's size: the largest square in the middle, resized with a low-pass filter."""
        height, width = frames_BHWC.shape[1:3]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        images = to_float(frames_BHWC[:, top : top + side, left : left + side].to(self.device))
        if side == self.size:
            return images
        size = (self.size, self.size)
        return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)

    def _batches(self, items: Tensor) -> Iterator[Tensor]:
        yield from items.split(max(1, BATCH_PIXELS // self.size**2))


def as_tensor(array: np.ndarray) -> Tensor:
    """The array as a tensor; PyTorch wants memory that it could write, in an order that it knows."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _filled(module: Module, tensors: Mapping[str, np.ndarray], what: str) -> Module:
    try:
        module.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in tensors.items()})
    except RuntimeError as error:
        faults = " ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise ValueError(f"The tensors of {what} do not fit its config: {faults}") from error
    return module


def count_parameters(module: nn.Module) -> int:
    """Numbers that the module holds: parameters and saved buffers, each shared tensor once."""
    return sum(tensor.numel() for tensor in {id(t): t for t in module.state_dict(keep_vars=True).values()}.values())


def count_decoder_flops(codec: FrameCodec, rows: int, style_dim: int) -> int:
    """Floating-point operations of one frame's decoding."""
    return count_flops(codec._decode_batch, torch.zeros(1, rows, style_dim))


def count_encoder_flops(codec: FrameCodec) -> int:
    """Floating-point operations of encoding one frame of the world's size."""
    return count_flops(codec.encoder, torch.zeros(1, 3, codec.size, codec.size, device=codec.device))


def count_flops(function: Callable[..., object], *inputs: Tensor) -> int:
    """Floating-point operations (two a multiply-add) of matrix products and convolutions in one call."""
    from torch.utils.flop_counter import FlopCounterMode  # slow to import, and few need it

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        function(*inputs)
    return counter.get_total_flops()
