"""A line chart of values by step, drawn with Pillow alone at twice its size and scaled down."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

_WIDTH, _HEIGHT, _SCALE = 760, 420, 2
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 190, 44, 54
_INK, _GRID, _PAPER = (40, 44, 52), (226, 228, 232), (255, 255, 255)


class Line(NamedTuple):
    """One line: name for the legend, value at each step from 1 on, colour, and the ends of an interval, if any."""

    name: str
    values: Sequence[float]
    colour: tuple[int, int, int]
    interval: tuple[Sequence[float], Sequence[float]] | None = None


def draw_curves(title: str, unit: str, lines: Sequence[Line]) -> UInt8[np.ndarray, "H W C"]:
    """The chart: steps 1, 2, ... to the right, values upward, a legend at the right."""
    canvas = Image.new("RGB", (_WIDTH * _SCALE, _HEIGHT * _SCALE), _PAPER)
    draw = ImageDraw.Draw(canvas, "RGBA")
    font, bold = ImageFont.load_default(13 * _SCALE), ImageFont.load_default(16 * _SCALE)
    every = np.concatenate([*(line.values for line in lines), *(v for line in lines for v in line.interval or ())])
    ticks = round_ticks(float(every.min()), float(every.max()))
    steps = max(len(line.values) for line in lines)

    def x(step: float) -> float:
        return _SCALE * (_LEFT + (step - 1) / max(steps - 1, 1) * (_WIDTH - _LEFT - _RIGHT))

    def y(value: float) -> float:
        return _SCALE * (_HEIGHT - _BOTTOM - (value - ticks[0]) / (ticks[-1] - ticks[0]) * (_HEIGHT - _TOP - _BOTTOM))

    draw.text((_SCALE * _LEFT, _SCALE * 12), f"{title} ({unit})", _INK, bold)
    for tick in ticks:
        draw.line([(x(1), y(tick)), (x(steps) if steps > 1 else _SCALE * (_WIDTH - _RIGHT), y(tick))], _GRID, _SCALE)
        draw.text((x(1) - 8 * _SCALE, y(tick)), f"{tick:g}", _INK, font, anchor="rm")
    for step in sorted({1, *(s for s in (8, 16, 24, 32, 48, 64, 128, 256) if s <= steps)}):
        draw.text((x(step), _SCALE * (_HEIGHT - _BOTTOM + 8)), str(step), _INK, font, anchor="ma")
    draw.text((x((1 + steps) / 2), _SCALE * (_HEIGHT - 10)), "step after the prompt", _INK, font, anchor="md")
    for number, line in enumerate(lines):
        if line.interval is not None:
            low, high = ([(x(i + 1), y(v)) for i, v in enumerate(side)] for side in line.interval)
            draw.polygon([*low, *reversed(high)], (*line.colour, 48))
        points = [(x(i + 1), y(v)) for i, v in enumerate(line.values)]
        if len(points) > 1:
            draw.line(points, line.colour, 2 * _SCALE, joint="curve")
        for px, py in points if len(points) < 3 else ():
            draw.ellipse([px - 6, py - 6, px + 6, py + 6], line.colour)
        top = _SCALE * (_TOP + 8 + 24 * number)
        left = _SCALE * (_WIDTH - _RIGHT + 18)
        draw.line([(left, top), (left + 22 * _SCALE, top)], line.colour, 3 * _SCALE)
        draw.text((left + 30 * _SCALE, top), line.name, _INK, font, anchor="lm")
    return np.asarray(canvas.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS))


def round_ticks(low: float, high: float) -> np.ndarray:
    """Round values that enclose all values, 4 to 9 of them."""
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / 5
    magnitude = 10 ** np.floor(np.log10(raw))
    step = magnitude * min(n for n in (1, 2, 5, 10) if n * magnitude >= raw)
    return np.arange(np.floor(low / step), np.ceil(high / step) + 1) * step
