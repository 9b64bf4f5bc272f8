"""The few figures that one looks at first, large, each beside what it is read against."""

from collections.abc import Mapping
from typing import NamedTuple

from train.evaluate.report.markup import Markup, tag
from train.evaluate.report.numbers import by_step, exact, interval_of, short
from train.evaluate.results import left_out, look_up
from train.evaluate.table import above, says


class Figure(NamedTuple):
    """One large figure: its name, the key of its value, its unit, what it stands against and the verdict."""

    name: str
    key: str
    unit: str
    against: str
    verdict: str


def headline(tree: Mapping) -> Markup:
    """The list of large figures."""
    return tag("ul", [_tile(tree, figure) for figure in main_figures(tree)], class_="tiles")


def main_figures(tree: Mapping) -> list[Figure]:
    """Reconstruction, rollout at steps 1, 8 and 64, horizon, control, codes, time of a step: what was asked for."""
    psnr, floor = look_up(tree, "reconstruction.psnr"), look_up(tree, "reconstruction.mean_frame_psnr")
    figures = [
        Figure(
            "Reconstruction", "reconstruction.psnr", "dB", _beside("mean frame", floor, "dB"), above(psnr, floor, "dB")
        )
    ]
    reached = list(by_step(tree, "rollout.psnr"))
    for step in dict.fromkeys(min(wanted, max(reached)) for wanted in (1, 8, 64) if reached):
        held = look_up(tree, f"rollout.copy_last_psnr.{step}")
        verdict = above(look_up(tree, f"rollout.psnr.{step}"), held, "dB", than="a held frame")
        against = _beside("last frame held", held, "dB")
        figures.append(Figure(f"Rollout, step {step}", f"rollout.psnr.{step}", "dB", against, verdict))
    horizon = look_up(tree, "rollout.horizon")
    figures.append(
        Figure(
            "Horizon", "rollout.horizon", "steps", f"of {max(reached, default=0)} measured",
            says(horizon, (horizon or 0) > 0, "beats a held frame so far", "never beats a held frame"),
        )
    )  # fmt: skip
    delta = look_up(tree, "control.delta_psnr.4")
    sure = (interval_of(tree, "control.delta_psnr", "4") or (0.0, 0.0))[0] > 0
    said = says(delta, sure, "the codes steer", "not shown that the codes steer")
    figures.append(Figure("Control, delta PSNR at step 4", "control.delta_psnr.4", "dB", "0 = codes ignored", said))
    usage, count = look_up(tree, "actions.usage"), look_up(tree, "details.actions.usage.best")
    said = says(usage, (usage or 0) >= 4, "at least 1% of the steps each", "few: the player has little choice")
    figures.append(Figure("Codes in use", "actions.usage", "", f"of {count}", said))
    step, fps = look_up(tree, "play.p50_ms"), look_up(tree, "data.fps")
    budget = 1000 / fps if isinstance(fps, int | float) and fps > 0 else None
    said = says(step, budget is not None and (step or 0) <= budget, "plays live", "slower than the video")
    figures.append(Figure("Time of a step", "play.p50_ms", "ms", _beside("video", budget, "ms a frame"), said))
    return [figure for figure in figures if not left_out(tree, figure.key.removesuffix(".4"))]


def _tile(tree: Mapping, figure: Figure) -> Markup:
    value = look_up(tree, figure.key)
    shown = "not measured" if value is None else exact(value, figure.unit)
    key, _, last = figure.key.rpartition(".")
    ends = interval_of(tree, key, last) if last.isdecimal() else interval_of(tree, figure.key)
    interval = None if ends is None else tag("p", f"95%: {short(ends[0])} to {short(ends[1])}", class_="interval")
    return tag(
        "li",
        tag("h3", figure.name),
        tag("p", shown, class_="value"),
        interval,
        tag("p", figure.against, class_="against"),
        tag("p", figure.verdict, class_="verdict"),
    )


def _beside(name: str, value: object, unit: str) -> str:
    return f"{name} {short(value, unit)}" if isinstance(value, int | float) else f"{name}: not measured"
