"""What a person may get wrong when they play from Python: frames and codes, checked in plain words."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

Frames = UInt8[np.ndarray, "T H W C"]
CodeArray = Int[np.ndarray, "..."]
Codes = CodeArray | Sequence[Any]  # also nested lists


def check_frames(frames: Frames) -> Frames:
    """The frames, if they are uint8 RGB (T, H, W, 3) with T >= 1; ValueError otherwise."""
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise ValueError(
            f"Frames must be uint8 RGB of shape (T, height, width, 3), T >= 1, not {frames.dtype} of {frames.shape}."
        )
    return frames


def check_codes(codes: Codes, count: int, shape: tuple[int | None, ...]) -> CodeArray:
    """The codes as int32, if they have the shape (None for any length) and lie in [0, count); ValueError otherwise."""
    array = np.asarray(codes)
    if array.size == 0:  # an empty list has no integer type
        array = array.astype(np.int32)
    lengths = zip(shape, array.shape, strict=False)
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in lengths)
    if not fits or array.dtype.kind not in "iu":
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"Codes must be whole numbers of shape ({wanted}), not {array.dtype} of {array.shape}.")
    for code in (array.min(), array.max()) if array.size else ():
        check_code(code, count)
    return array.astype(np.int32)


def check_code(code: int, count: int) -> int:
    """The code as an int, if it is a whole number in [0, count); ValueError otherwise."""
    try:
        number = operator.index(code)
    except TypeError as error:
        raise ValueError(f"A code is a whole number, not {code!r}.") from error
    if not 0 <= number < count:
        raise ValueError(f"Code {number} is out of range: this world has the codes 0 to {count - 1}.")
    return number
