"""The one form in which consecutive frames reach the action model."""

from typing import NamedTuple

from jaxtyping import Array, Float, UInt8


class Clip(NamedTuple):
    """Consecutive frames of one shot, as pictures, as w, or as both.

    `B` clips of `T` frames; pictures are channels-last uint8, w is float32 with `L` rows of width `D`. A form of the
    action model that needs the missing half raises ValueError.
    """

    frames_BTHWC: UInt8[Array, "B T H W C"] | None = None
    w_BTLD: Float[Array, "B T L D"] | None = None
