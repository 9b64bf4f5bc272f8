"""The frames that a rollout starts from: one of the world's own prompts, a video, or an image of any size."""

import difflib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from torch_bridge.bundle import Prompts
from train.errors import UserError


def find_prompt(
    given: str | None, own: Prompts, *, size: int, fps: float, window: int, crop: str = "center"
) -> tuple[str, UInt8[np.ndarray, "T size size 3"]]:
    """The prompt's name and its frames.

    Args:
        given: a path of a video or an image, or the name of one of the world's own prompts (which a file of that
            name hides, unless it is written with its folder); None for the first of its own.
        own: the world's prompts.
        size, fps: of the world.
        window: frames of a video that are read, from its start.
        crop: how a video or an image is framed, as `genie prepare --crop`.

    Raises:
        UserError: there is no such file or name, it cannot be read, or the world has no prompt of its own.
    """
    if given is None:
        if not own:
            raise UserError("--prompt", "this world has no prompt of its own", "Give a video or an image.")
        return next(iter(own.items()))
    if given in own and not Path(given).exists():
        return given, own[given]
    if not Path(given).exists():
        near = difflib.get_close_matches(given, own, n=1)
        guess = f"Did you mean {near[0]}? " if near else ""
        names = f" or one of its own: {', '.join(own)}" if own else ""
        raise UserError(f"--prompt {given}", "no such file, and no prompt of this world", f"{guess}Give a file{names}.")
    from train.ingest.decode import decode_clip

    frames_THWC, _ = decode_clip(Path(given), size=size, fps=fps, crop=crop, max_frames=window)
    if not len(frames_THWC):
        raise UserError(f"--prompt {given}", "it holds no frame", "Give a video or an image that plays elsewhere.")
    return Path(given).stem, frames_THWC
