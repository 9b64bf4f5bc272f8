"""The curves of one evaluation: rollout, control and drift against their baselines."""

from collections.abc import Mapping

from train.evaluate.meanings import MEANINGS
from train.evaluate.report.chart import Line, level, line_chart
from train.evaluate.report.markup import Markup, prose, tag
from train.evaluate.report.numbers import by_step, interval_of, reason_of
from train.evaluate.results import look_up


def measured_line(tree: Mapping, key: str, name: str, colour: int, *, baseline: bool = False) -> Line:
    """The values of a key by step with their intervals; a baseline is shown without them."""
    values = by_step(tree, key)
    ends = {} if baseline else {step: interval_of(tree, key, str(step)) for step in values}
    return Line(name, values, colour, {step: band for step, band in ends.items() if band}, baseline)


def rollout_curves(tree: Mapping) -> list[Markup]:
    """PSNR, SSIM, sharpness and LPIPS by step."""
    psnr = [
        measured_line(tree, "rollout.psnr", "rollout", 1),
        measured_line(tree, "rollout.reconstruction_psnr", "ceiling: decode(encode(truth))", 3, baseline=True),
        measured_line(tree, "rollout.copy_last_psnr", "last frame held", 2, baseline=True),
        measured_line(tree, "rollout.mean_frame_psnr", "mean frame", 4, baseline=True),
    ]
    charts = [_chart("Closeness of pixels by step", "PSNR, dB", psnr, tree, "rollout.psnr")]
    for key, title, unit in (
        ("ssim", "Likeness of structure by step", "SSIM, 1 = equal"),
        ("sharpness", "Sharpness by step", "gradient energy over the truth's, 1 = as sharp"),
        ("lpips", "Distance as people see it, by step", "LPIPS, 0 = equal"),
    ):
        lines = [measured_line(tree, f"rollout.{key}", "rollout", 1)]
        ceiling = look_up(tree, f"reconstruction.{key}")
        if lines[0].values and ceiling is not None:
            lines.append(level("encoder and decoder alone", ceiling, lines, 3))
        if lines[0].values and key == "sharpness":
            lines.append(level("the truth", 1.0, lines, 4))
        charts.append(_chart(title, unit, lines, tree, f"rollout.{key}"))
    return charts


def control_curves(tree: Mapping) -> list[Markup]:
    """What random codes cost, for both ways to draw them and both lengths of the prompt."""
    charts = []
    for suffix, prompt in (("", "whole prompt"), ("_prompt1", "prompt of one frame")):
        lines = [
            measured_line(tree, f"control.delta_psnr{suffix}", "uniformly random codes", 1),
            measured_line(tree, f"control.delta_psnr_empirical{suffix}", "codes as often as they occur", 5),
        ]
        if any(line.values for line in lines):
            lines.append(level("a world that ignores its codes", 0.0, lines, 4))
        key = f"control.delta_psnr{suffix}"
        charts.append(_chart(f"What wrong codes cost, {prompt}", "delta PSNR, dB", lines, tree, key))
    return charts


def drift_curves(tree: Mapping) -> list[Markup]:
    """Colours and w of long rollouts against those of the data."""
    charts = []
    for key, title, unit, ideal in (
        ("drift.frechet_w", "Drift of w", "Frechet distance, 1 = as the data", 1.0),
        ("drift.colour", "Drift of colours", MEANINGS["drift.colour"].unit, 0.0),
    ):
        lines = [
            measured_line(tree, key, "random codes", 1),
            measured_line(tree, f"{key}_held", "one code held", 5),
        ]
        if any(line.values for line in lines):
            lines.append(level("as the data", ideal, lines, 4))
        charts.append(_chart(title, unit, lines, tree, key, logarithmic=True))
    return charts


def _chart(title: str, unit: str, lines: list[Line], tree: Mapping, key: str, *, logarithmic: bool = False) -> Markup:
    """The chart, or its title and the reason why there is none."""
    if any(line.values for line in lines):
        return line_chart(title, unit, lines, logarithmic=logarithmic)
    reason = reason_of(tree, key) or "no step was measured"
    return tag("div", tag("h3", title), tag("p", "Not measured: ", prose(reason), ".", class_="missing"))
