"""What is evaluated: the parts of a world and of a frame store that the measures need.

`torch_bridge.world.World` and `train.ingest.FrameStore` have these faces; so has any analytic world of the tests, which
is how every measure can be checked against a value known in advance.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int, UInt8


class EvaluatedWorld(Protocol):
    """A playable world. Frames are uint8 RGB, channels last; `codes[t]` leads from frame t to frame t+1."""

    @property
    def codes(self) -> Sequence[object]:
        """Its latent actions, one entry a code."""

    def encode(self, frames: UInt8[np.ndarray, "N H W C"]) -> Float[np.ndarray, "N L D"]: ...

    def decode(self, w: Float[np.ndarray, "N L D"]) -> UInt8[np.ndarray, "N H W C"]: ...

    def infer_actions(self, frames: UInt8[np.ndarray, "T H W C"]) -> Int[np.ndarray, " Tm1"]: ...

    def rollout_batch(
        self,
        frames: UInt8[np.ndarray, "B T H W C"],
        prompt_codes: Int[np.ndarray, "B Tm1"] | None,
        codes: Int[np.ndarray, "B S"],
        *,
        steps: Sequence[int] | None = None,
    ) -> UInt8[np.ndarray, "B S H W C"]:
        """The frames of all steps, or of those in `steps`, counted from 1."""

    def reset(self, frames: UInt8[np.ndarray, "T H W C"], codes: Int[np.ndarray, " Tm1"] | None = None) -> object: ...

    def step(self, code: int) -> UInt8[np.ndarray, "H W C"]: ...

    def parameters(self) -> Mapping[str, int]: ...


class EvaluatedFrames(Protocol):
    """Frames in order, cut into shots. `source_index[i]` is the frame of the source video that frame i was."""

    fps: float
    source_index: Sequence[int]

    @property
    def shots(self) -> Sequence[tuple[int, int]]: ...

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int]) -> UInt8[np.ndarray, "N H W C"]: ...
