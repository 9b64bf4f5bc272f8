"""A line chart as inline SVG: values by step, 95% intervals as bands, baselines dashed, axes with their units.

Colours are classes (`c1` to `c6`) that the page's style gives a value for light, dark and print.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from train.evaluate.curve import round_ticks
from train.evaluate.report.markup import Markup, tag
from train.evaluate.report.numbers import short

Place = Callable[[float], float]

WIDTH, HEIGHT = 560, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 34, 50
_STEPS = (1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64, 128, 256, 512, 1000)
_LEAST_GAP = 42  # between two labels of the horizontal axis
_DASHES = ("2 4", "8 4", "12 3 2 3", "5 3")


class Line(NamedTuple):
    """One line.

    Attributes:
        name: for the legend.
        values: value at each step, steps from 1 on, in ascending order.
        colour: 1 to 6, a class of the page's style.
        bands: ends of the interval at the steps that have one.
        baseline: drawn dashed, as something to compare with.
    """

    name: str
    values: Mapping[int, float]
    colour: int
    bands: Mapping[int, tuple[float, float]] | None = None
    baseline: bool = False


def level(name: str, value: float, like: Sequence[Line], colour: int) -> Line:
    """A baseline that is the same at every step that the other lines reach."""
    steps = [step for line in like for step in line.values]
    return Line(name, dict.fromkeys(sorted({min(steps), max(steps)}), value), colour, baseline=True)


def line_chart(title: str, unit: str, lines: Sequence[Line], *, logarithmic: bool = False) -> Markup:
    """A figure: the title, the plot, the legend. Lines without values are left out.

    Raises:
        ValueError: no line has a value.
    """
    lines = [line for line in lines if line.values]
    if not lines:
        raise ValueError(f"the chart '{title}' has no values")
    steps = sorted({step for line in lines for step in line.values})
    heights = [v for line in lines for v in line.values.values()]
    heights += [end for line in lines for ends in (line.bands or {}).values() for end in ends]
    ticks = [float(tick) for tick in round_ticks(min(heights), max(heights))]
    first, last = (_place(step, logarithmic) for step in (steps[0], steps[-1]))

    def x(step: float) -> float:
        share = (_place(step, logarithmic) - first) / (last - first) if last > first else 0.5
        return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        share = (value - ticks[0]) / (ticks[-1] - ticks[0])
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)

    axes = []
    for tick in ticks:
        axes.append(tag("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y(tick), y2=y(tick), class_="grid"))
        axes.append(tag("text", f"{tick + 0.0:.6g}", x=_LEFT - 8, y=y(tick) + 5, text_anchor="end"))
    shown: list[int] = []
    for step in steps if len(steps) < 8 else [s for s in _STEPS if s in steps]:
        if not shown or x(step) - x(shown[-1]) >= _LEAST_GAP:
            shown.append(step)
    axes += [tag("text", step, x=x(step), y=HEIGHT - _BOTTOM + 20, text_anchor="middle") for step in shown]
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    axes.append(tag("text", "step after the prompt", x=middle, y=HEIGHT - 8, text_anchor="middle"))
    axes.append(tag("text", unit, x=4, y=14))
    bands = [_band(line, x, y) for line in lines if line.bands]
    drawn = [_drawn(line, _dash(line, lines), x, y) for line in lines]
    plot = tag(
        "svg", axes, bands, drawn,
        viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=f"{title}, {unit}. {_in_words(lines)}",
    )  # fmt: skip
    legend = [tag("li", _swatch(line, _dash(line, lines)), line.name) for line in lines]
    return tag("figure", tag("figcaption", title), plot, tag("ul", legend, class_="legend"), class_="chart")


def _place(step: float, logarithmic: bool) -> float:
    return math.log(step) if logarithmic else step


def _dash(line: Line, lines: Sequence[Line]) -> str | None:
    """Baselines differ by their dashes too, for readers who do not see the colours."""
    if not line.baseline:
        return None
    return _DASHES[[other for other in lines if other.baseline].index(line) % len(_DASHES)]


def _drawn(line: Line, dash: str | None, x: Place, y: Place) -> list[Markup]:
    points = [(x(step), y(value)) for step, value in line.values.items()]
    path = " ".join(f"{px:g},{py:g}" for px, py in points)
    marks = [tag("circle", cx=px, cy=py, r=3.5, class_=f"c{line.colour} mark") for px, py in points]
    stroke = tag("polyline", points=path, class_=f"c{line.colour} line", stroke_dasharray=dash)
    return [stroke, *(marks if len(points) < 8 and not line.baseline else [])]


def _band(line: Line, x: Place, y: Place) -> Markup:
    low = [f"{x(step):g},{y(ends[0]):g}" for step, ends in line.bands.items()]
    high = [f"{x(step):g},{y(ends[1]):g}" for step, ends in line.bands.items()]
    return tag("polygon", points=" ".join([*low, *reversed(high)]), class_=f"c{line.colour} band")


def _swatch(line: Line, dash: str | None) -> Markup:
    stroke = tag("line", x1=0, x2=28, y1=6, y2=6, class_=f"c{line.colour} line", stroke_dasharray=dash)
    return tag("svg", stroke, viewBox="0 0 28 12", class_="swatch", aria_hidden="true")


def _in_words(lines: Sequence[Line]) -> str:
    said = []
    for line in lines:
        steps = list(line.values)
        ends = (f"{short(line.values[step])} at step {step}" for step in dict.fromkeys((steps[0], steps[-1])))
        said.append(f"{line.name}: {', '.join(ends)}")
    return "; ".join(said) + "."
