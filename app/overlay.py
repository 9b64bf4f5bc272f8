"""The panel under a frame that shows which latent action is held: a row of keys, the lit one, its name."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from torch_bridge.manifest import Code

SHORTEST_SIDE = 256  # pixels of the picture, so that small worlds can be seen and the panel read
KEYS_A_ROW = 8

_PAPER, _CELL, _DIM, _INK = (16, 18, 23), (38, 42, 52), (126, 134, 150), (236, 239, 244)
_LIT, _ON_LIT = (255, 176, 60), (28, 18, 2)
# The default font has no arrows, so they are drawn: corners of a triangle, in units of `_ARROW` pixels.
_ARROW = 5
_ARROWS = {
    "ArrowLeft": ((-1, 0), (0.7, -1), (0.7, 1)),
    "ArrowRight": ((1, 0), (-0.7, -1), (-0.7, 1)),
    "ArrowUp": ((0, -1), (-1, 0.7), (1, 0.7)),
    "ArrowDown": ((0, 1), (-1, -0.7), (1, -0.7)),
}
_CAPS = {" ": "SP", "Enter": "RET", "Shift": "SH", "Control": "CT", "Tab": "TAB", "Escape": "ESC"}
_MARGIN, _GAP, _LINE, _KEY = 10, 4, 22, 24  # pixels


class Overlay:
    """Draws frames of one size, enlarged by a whole factor, with the panel below. The result has even sides.

    Args:
        codes: the world's codes; each has a key in the panel, in rows of eight.
        size: side of the frames in pixels.
    """

    def __init__(self, codes: Sequence[Code], size: int) -> None:
        self.codes = tuple(codes)
        self.factor = max(1, -(-SHORTEST_SIDE // size))
        self.side = size * self.factor
        rows = -(-len(self.codes) // KEYS_A_ROW)
        height = self.side + _MARGIN // 2 + _LINE + rows * (_KEY + _GAP) + _MARGIN
        self.width, self.height = self.side + self.side % 2, height + height % 2
        self._text = ImageFont.load_default(14)
        self._small = ImageFont.load_default(12)

    def enlarge(self, frame_HWC: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The frame alone, enlarged like those with a panel, of even sides."""
        large = frame_HWC.repeat(self.factor, axis=0).repeat(self.factor, axis=1)
        return np.pad(large, ((0, self.side % 2), (0, self.side % 2), (0, 0)), mode="edge")

    def draw(
        self, frame_HWC: UInt8[np.ndarray, "H W 3"], held: int | None, note: str = ""
    ) -> UInt8[np.ndarray, "h w 3"]:
        """The frame with its panel.

        Args:
            frame_HWC: uint8 frame of the size given before.
            held: the code that led to this frame; None where none did, as for the frames of a prompt.
            note: a few characters for the panel's right end, such as the step's number.
        """
        picture = Image.new("RGB", (self.width, self.height), _PAPER)
        picture.paste(Image.fromarray(self.enlarge(frame_HWC)), (0, 0))
        pen = ImageDraw.Draw(picture)
        top = self.side + _MARGIN // 2
        middle = top + _LINE // 2
        note_width = pen.textlength(note, self._small) + _MARGIN if note else 0
        title, ink = ("prompt", _DIM) if held is None else (self.codes[held].name, _INK)
        title = _shorten(pen, title, self._text, self.side - 2 * _MARGIN - note_width)
        pen.text((_MARGIN, middle), title, ink, self._text, anchor="lm")
        pen.text((self.side - _MARGIN, middle), note, _DIM, self._small, anchor="rm")
        for index, code in enumerate(self.codes):
            self._draw_key(pen, index, code, top + _LINE, lit=index == held)
        return np.asarray(picture)

    def _draw_key(self, pen: ImageDraw.ImageDraw, index: int, code: Code, top: int, *, lit: bool) -> None:
        row, column = divmod(index, KEYS_A_ROW)
        pitch = (self.side - 2 * _MARGIN + _GAP) / min(len(self.codes), KEYS_A_ROW)
        left, above = round(_MARGIN + column * pitch), top + row * (_KEY + _GAP)
        right = round(_MARGIN + (column + 1) * pitch) - _GAP
        pen.rounded_rectangle((left, above, right - 1, above + _KEY - 1), 5, _LIT if lit else _CELL)
        x, y, ink = (left + right) / 2, above + _KEY / 2, _ON_LIT if lit else _DIM
        if code.key in _ARROWS:
            pen.polygon([(x + dx * _ARROW, y + dy * _ARROW) for dx, dy in _ARROWS[code.key]], ink)
        else:
            label = _shorten(pen, _symbol(code.key), self._small, right - left - 2)
            pen.text((x, y), label, ink, self._small, anchor="mm")


def _symbol(key: str) -> str:
    """A key's cap as people write it, short enough for the panel."""
    return _CAPS.get(key, key.upper() if len(key) == 1 else key)


def _shorten(pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, or as much of its beginning as fits the width."""
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength(text + "..", font) > width:
        text = text[:-1]
    return f"{text}.." if len(text) > 1 else text
