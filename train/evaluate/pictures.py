"""The evaluation to look at: reconstruction grid and film strips, each truth | prediction | error."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from train.evaluate.reconstruction import Reconstruction
from train.evaluate.rollout import Rollouts

Picture = UInt8[np.ndarray, "H W C"]
STRIP_STEPS = (1, 2, 4, 8, 16, 32, 64)
ERROR_GAIN = 2
_GAP = 4
_LEFT, _TOP = 76, 20
_INK, _PAPER = (40, 44, 52), (255, 255, 255)


def error_picture(truth: UInt8[np.ndarray, "*n H W C"], other: UInt8[np.ndarray, "*n H W C"]) -> np.ndarray:
    """Absolute difference of every channel, `ERROR_GAIN` times as bright."""
    difference = np.abs(truth.astype(np.int16) - other.astype(np.int16))
    return np.minimum(ERROR_GAIN * difference, 255).astype(np.uint8)


def reconstruction_grid(scores: Reconstruction) -> Picture:
    """Three rows: frames, decode(encode(frames)), their difference."""
    truth, other = scores.examples
    rows = {"truth": truth, "reconstr.": other, "error": error_picture(truth, other)}
    return captioned_rows(rows, [""] * len(truth))


def film_strips(rollouts: Rollouts) -> Picture:
    """For a few clips: truth, prediction, error at growing steps after the prompt."""
    length = len(rollouts.films[0][0])
    steps = [h for h in STRIP_STEPS if h <= length]
    strips = []
    for truth, other in rollouts.films:
        chosen = [h - 1 for h in steps]
        rows = {
            "truth": truth[chosen],
            "rollout": other[chosen],
            "error": error_picture(truth[chosen], other[chosen]),
        }
        strips.append(captioned_rows(rows, [f"step {h}" for h in steps]))
    return np.concatenate(strips)


def captioned_rows(rows: dict[str, UInt8[np.ndarray, "n H W C"]], captions: Sequence[str]) -> Picture:
    """Frames in rows, the row's name at the left, a caption over each column. Small frames are shown larger."""
    side = next(iter(rows.values())).shape[1:3]
    scale = max(1, round(96 / side[0]))
    height, width = side[0] * scale, side[1] * scale
    columns = len(captions)
    canvas = Image.new(
        "RGB", (_LEFT + columns * (width + _GAP), _TOP + len(rows) * (height + _GAP)), _PAPER
    )  # fmt: skip
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for column, caption in enumerate(captions):
        draw.text((_LEFT + column * (width + _GAP), 2), caption, _INK, font)
    for row, (name, frames) in enumerate(rows.items()):
        top = _TOP + row * (height + _GAP)
        draw.text((6, top + height // 2 - 8), name, _INK, font)
        for column, frame in enumerate(frames):
            picture = Image.fromarray(frame).resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(picture, (_LEFT + column * (width + _GAP), top))
    return np.asarray(canvas)
