"""Pictures of what codes do: pairs before | after with the arrow of the movement, a row a code."""

import math
import textwrap

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from train.evaluate.flow import STILL, Responses
from train.inspection.findings import CodeFindings, Inspection

COLUMNS = 8
_INK, _DIM, _PAPER = (28, 32, 40), (108, 114, 126), (255, 255, 255)
_ARROW, _EDGE = (255, 196, 46), (20, 20, 20)
_GAP, _LABEL, _TOP, _ALARM = 16, 250, 62, 24  # pixels
_LEAST, _MOST = 96, 160  # sides of a shown frame


def code_strip(responses: Responses, code: int, steps: int, columns: int = COLUMNS) -> UInt8[np.ndarray, "h w 4"]:
    """Pairs before | after of one code from the first prompts, side by side.

    The arrow on the second frame says how far the picture moved from this prompt, over all steps. Red, green, blue and
    opacity: the gaps let the ground through.
    """
    count = min(columns, len(responses.before_NHWC))
    side, shown = responses.before_NHWC.shape[1], _shown_side(responses.before_NHWC.shape[1])
    strip = Image.new("RGBA", (count * (2 * shown + 2 + _GAP) - _GAP, shown), (0, 0, 0, 0))
    for n in range(count):
        left = n * (2 * shown + 2 + _GAP)
        strip.paste(_enlarge(responses.before_NHWC[n], shown), (left, 0))
        after = _enlarge(responses.after_KNHWC[code, n], shown)
        flow = responses.flow_KNGGF[code, n].mean((0, 1))
        if np.hypot(*flow) >= STILL * side:
            _draw_arrow(after, (shown / 2, shown / 2), flow * steps * shown / side)
        strip.paste(after, (left + shown + 2, 0))
    return np.asarray(strip)


def sheet(found: Inspection, responses: Responses) -> UInt8[np.ndarray, "h w 3"]:
    """All codes: a row each, its words at the left, its pairs at the right, the alarms below the title."""
    strips = [code_strip(responses, code.number, found.steps) for code in found.codes]
    height, width = strips[0].shape[:2]
    pitch = max(height, 112) + _GAP
    lines = [line for alarm in found.alarms for line in textwrap.wrap(f"! {alarm}", max(60, (width + _LABEL) // 8))]
    top = _TOP + _ALARM * len(lines)
    page = Image.new("RGB", (_LABEL + width + 2 * _GAP, top + len(strips) * pitch + _GAP), _PAPER)
    pen, font, title = ImageDraw.Draw(page), ImageFont.load_default(14), ImageFont.load_default(20)
    pen.text((_GAP, 10), f"{found.world}: what each code does", _INK, title)
    said = (
        f"prompt | after {found.steps} steps of the code, the arrow is the movement; {found.prompts} prompts measured"
    )
    pen.text((_GAP, 36), said, _DIM, font)
    for number, line in enumerate(lines):
        pen.text((_GAP, _TOP + number * _ALARM), line, (176, 32, 24), font)
    for row, (code, strip) in enumerate(zip(found.codes, strips, strict=True)):
        above = top + row * pitch
        _draw_words(pen, code, above)
        _draw_mean_arrow(page, code, found.size, above)
        pairs = Image.fromarray(strip)
        page.paste(pairs, (_GAP + _LABEL, above), pairs)
    return np.asarray(page)


def _draw_words(pen: ImageDraw.ImageDraw, code: CodeFindings, top: int) -> None:
    name, text = ImageFont.load_default(18), ImageFont.load_default(13)
    title = f"{code.number}  {code.name}"
    while pen.textlength(title, name) > _LABEL - 2 * _GAP:
        title = title[:-3] + ".."
    pen.text((_GAP, top), title, _INK, name)
    key = "space" if code.key == " " else code.key
    lines = [f"key {key}, used {code.usage:.0%}", f"picture: {code.movement}"]
    lines.append(f"consistency {number(code.consistency)}, effect {number(code.effect)}")
    if code.true_actions:
        action, share = next(iter(code.true_actions.items()))
        lines.append(f"true action {action} in {share:.0%}")
    for place, line in enumerate(lines):
        pen.text((_GAP, top + 26 + 20 * place), line, _INK if place < 2 else _DIM, text)


def _draw_mean_arrow(page: Image.Image, code: CodeFindings, side: int, top: int) -> None:
    """The mean movement of a step, eight times as long as in the frames; a dot for a picture that stands."""
    middle, reach = (_LABEL - 34, top + 40), 26
    vector = np.array(code.flow) * 8 * _LEAST / side
    length = float(np.hypot(*vector))
    pen = ImageDraw.Draw(page)
    if np.hypot(*code.flow) < STILL * side:
        pen.ellipse((middle[0] - 3, middle[1] - 3, middle[0] + 3, middle[1] + 3), _DIM)
        return
    vector *= min(1.0, 2 * reach / length)
    _draw_arrow(page, (middle[0] - vector[0] / 2, middle[1] - vector[1] / 2), vector)


def _draw_arrow(picture: Image.Image, start: tuple[float, float], vector: np.ndarray) -> None:
    """An arrow with a dark edge, which shows on every ground; a short one is drawn as long as its head."""
    pen, length = ImageDraw.Draw(picture), float(np.hypot(*vector))
    along = np.asarray(vector) / length
    length = max(length, 14.0)
    across, begin = np.array([-along[1], along[0]]), np.asarray(start, float)
    for colour, grow in ((_EDGE, 1.5), (_ARROW, 0.0)):
        neck, tip = begin + along * (length - 9), begin + along * (length + 1.6 * grow)
        pen.line((*(begin - along * grow), *neck), colour, round(3 + 2 * grow))
        half = 5.5 + 1.4 * grow
        pen.polygon(
            [tuple(tip), tuple(neck - along * grow + across * half), tuple(neck - along * grow - across * half)], colour
        )


def number(value: float | None) -> str:
    """A number of the tables; a dash where there is none."""
    return "-" if value is None else f"{round(value, 2) + 0.0:.2f}"  # no minus before a zero


def _shown_side(side: int) -> int:
    return side * math.ceil(_LEAST / side) if side <= _MOST else _MOST


def _enlarge(frame_HWC: UInt8[np.ndarray, "H W 3"], shown: int) -> Image.Image:
    how = Image.Resampling.NEAREST if shown >= len(frame_HWC) else Image.Resampling.LANCZOS
    return Image.fromarray(frame_HWC).resize((shown, shown), how)
