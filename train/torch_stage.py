"""What the torch stages share: random numbers as a function of (seed, stage, step), placement, tensors to files."""

import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from torch_bridge.images import to_float, to_uint8

Precision = Literal["float32", "bfloat16"]
Module = TypeVar("Module", bound=nn.Module)


class Frames(Protocol):
    """The part of `train.corpus.Corpus` that the torch stages use."""

    train_indices: np.ndarray
    heldout_indices: np.ndarray
    mean_frame: np.ndarray

    def batch(self, step: int, size: int, *, stream: str) -> np.ndarray: ...

    def clip_indices(self, step: int, size: int, length: int, *, stream: str) -> np.ndarray: ...

    def read(self, indices: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Placement:
    """Where and how a stage computes.

    Attributes:
        device: of models and batches.
        precision: "bfloat16" runs the forward passes under autocast; weights and regularisers stay float32.
        channels_last: memory format of convolutions.
    """

    device: torch.device
    precision: Precision = "float32"
    channels_last: bool = True

    def put(self, module: Module) -> Module:
        """The module on the device, in the memory format."""
        module = module.to(self.device)
        for parameter in module.parameters() if self.channels_last else ():
            if parameter.dim() == 4:  # `Module.to` would refuse StyleGAN2's weights, which have five dimensions
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return module

    def images(self, frames_BHWC: UInt8[np.ndarray, "B H W C"]) -> Float[Tensor, "B C H W"]:
        """Frames as images in [-1, 1] on the device."""
        images = to_float(torch.from_numpy(frames_BHWC).to(self.device))
        return images if self.channels_last else images.contiguous()

    def autocast(self) -> AbstractContextManager[Any]:
        """Context of a forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")


def step_rng(seed: int, stage: str, step: int) -> torch.Generator:
    """CPU generator of one step of one stage, the same in every process."""
    state = np.random.SeedSequence([seed, zlib.crc32(stage.encode()), step]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def seeded(seed: int, name: str, build: Callable[[], Module]) -> Module:
    """Build a module whose initial weights depend on (seed, name) alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed * 1_000_003 + zlib.crc32(name.encode()))
        return build()


def to_arrays(module: nn.Module) -> dict[str, np.ndarray]:
    """The module's state as flat named arrays."""
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in module.state_dict().items()}


def load_arrays(module: Module, arrays: dict[str, np.ndarray]) -> Module:
    """Inverse of `to_arrays`: fill `module` with the named arrays, all of them and no other."""
    module.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
    return module


def evenly(indices: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the indices, evenly spread."""
    return indices[np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int)]


def picture(rows: Sequence[Float[Tensor, "B C H W"]]) -> UInt8[np.ndarray, "RH BW C"]:
    """Rows of images in [-1, 1] under each other, images of a row side by side."""
    frames = [to_uint8(row.detach().float().cpu()).numpy() for row in rows]
    return np.concatenate([np.concatenate(list(row), axis=1) for row in frames], axis=0)
