"""Which part of a picture becomes the square frame: letterbox removal, the crop modes, the resampling."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from train.errors import UserError

BAR_LEVEL = 24  # a bar's brightest pixel; studio black after a lossy codec stays below it
MIN_BAR = 0.01  # of the side; thinner ones are codec edges
MIN_CONTENT = 0.3  # of either side; less than this is no letterbox but a dark scene
SHARP_EDGE = 0.5  # share of a line beside a bar that must be lit: a bar ends in a straight edge, a dark scene does not
EDGE_LINES = 4  # lines over which a codec or a scaler may smear that edge

Box = tuple[int, int, int, int]  # x, y, width, height in pixels of the upright picture


@dataclass(frozen=True)
class Framing:
    """How a picture of one size becomes a square frame.

    Attributes:
        box: the region that is used.
        inner: width and height that the region gets inside the frame; smaller than the frame only for `fit`.
        size: side of the frame in pixels.
    """

    box: Box
    inner: tuple[int, int]
    size: int

    def apply(self, picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "size size 3"]:
        """Crop, resample (area average down, cubic up), pad with black."""
        x, y, width, height = self.box
        region = picture[y : y + height, x : x + width]
        # Halving has a fast path in OpenCV; done first it makes the exact area average three times cheaper.
        while width % 2 == height % 2 == 0 and width >= 4 * self.inner[0] and height >= 4 * self.inner[1]:
            width, height = width // 2, height // 2
            region = cv2.resize(region, (width, height), interpolation=cv2.INTER_AREA)
        shrinks = self.inner[0] <= width and self.inner[1] <= height
        inner = cv2.resize(region, self.inner, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        if self.inner == (self.size, self.size):
            return inner
        frame = np.zeros((self.size, self.size, 3), np.uint8)
        left, top = (self.size - self.inner[0]) // 2, (self.size - self.inner[1]) // 2
        frame[top : top + self.inner[1], left : left + self.inner[0]] = inner
        return frame


def parse_crop(crop: str) -> str | Box:
    """`center`, `fit`, or `x,y,w,h` as four integers.

    Raises:
        UserError: anything else.
    """
    if crop in ("center", "fit"):
        return crop
    try:
        x, y, width, height = (int(part) for part in crop.split(","))
    except ValueError:
        raise UserError("--crop", f"{crop!r} is no crop", "Use center, fit or x,y,w,h in pixels.") from None
    if x < 0 or y < 0 or width < 1 or height < 1:
        raise UserError("--crop", f"{crop!r} lies outside any picture", "Use x,y >= 0 and w,h >= 1.")
    return x, y, width, height


def make_framing(width: int, height: int, *, size: int, crop: str, content: Box | None, aspect: float = 1.0) -> Framing:
    """Framing of pictures of one size.

    Args:
        width, height: of the upright picture in pixels.
        size: side of the frame.
        crop: `center` takes the largest square, `fit` everything with black around it, `x,y,w,h` that region,
            squeezed into the square.
        content: the region without letterbox bars, or None for the whole picture; an explicit region overrides it.
        aspect: width of a pixel over its height.

    Raises:
        UserError: `crop` is not understood, or the region leaves the picture.
    """
    mode = parse_crop(crop)
    if not isinstance(mode, str):
        x, y, w, h = mode
        if x + w > width or y + h > height:
            fault = f"{crop!r} leaves a picture of {width}x{height} pixels"
            raise UserError("--crop", fault, "Choose a region inside it.")
        return Framing(mode, (size, size), size)
    x, y, w, h = content or (0, 0, width, height)
    if mode == "center":
        side = min(w * aspect, h)  # in units of a pixel's height
        cut_w, cut_h = max(1, round(side / aspect)), max(1, round(side))
        return Framing((x + (w - cut_w) // 2, y + (h - cut_h) // 2, cut_w, cut_h), (size, size), size)
    scale = size / max(w * aspect, h)
    return Framing((x, y, w, h), (max(1, round(w * aspect * scale)), max(1, round(h * scale))), size)


def find_content(pictures: Sequence[UInt8[np.ndarray, "H W 3"]]) -> Box | None:
    """The region without black bars, or None where there are none.

    A bar is a border that stays black in every picture and ends in a straight edge. Pictures that are black
    altogether say nothing and are left out.

    Args:
        pictures: of one size, from different moments of the video.
    """
    lit = [p for p in pictures if p.max() > 2 * BAR_LEVEL]
    if not lit:
        return None
    brightest = np.max([p.max(axis=2) for p in lit], axis=0) > BAR_LEVEL
    top, bottom = _bars(brightest)
    left, right = _bars(brightest[top : brightest.shape[0] - bottom].T)
    height, width = brightest.shape
    content = (left, top, width - left - right, height - top - bottom)
    if not (left or right or top or bottom) or content[2] < MIN_CONTENT * width or content[3] < MIN_CONTENT * height:
        return None
    return content


def _bars(lit: np.ndarray) -> tuple[int, int]:
    """Thickness of the bars before the first and after the last line (axis 0) of a lit/unlit map."""
    # A few stray pixels of codec noise do not end a bar.
    share = lit.mean(axis=1)
    return _bar(share), _bar(share[::-1])


def _bar(share: np.ndarray) -> int:
    thick = int(np.argmax(share > 0.02)) if (share > 0.02).any() else 0
    if thick < max(2, MIN_BAR * len(share)):
        return 0
    edge = share[thick : thick + EDGE_LINES]
    if edge.max() < SHARP_EDGE:
        return 0
    return thick + int(np.argmax(edge >= SHARP_EDGE))
