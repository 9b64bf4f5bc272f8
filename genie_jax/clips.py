"""The one form in which consecutive frames reach the action model."""

from typing import NamedTuple

from jaxtyping import Array, Float, UInt8


class Clip(NamedTuple):
    """Consecutive frames of one shot, as pictures, as w, as feature maps, or as several of them.

    `B` clips of `T` frames; pictures are channels-last uint8, w is float32 with `L` rows of width `D`, feature maps are
    float16 or float32 with `C` channels on a grid of side `G`. An action model that needs what is missing raises
    ValueError.
    """

    frames_BTHWC: UInt8[Array, "B T H W C"] | None = None
    w_BTLD: Float[Array, "B T L D"] | None = None
    features_BTGGC: Float[Array, "B T G G C"] | None = None
