"""Several evaluations on one page: the curves of all in one plot, and the table of their values."""

from collections.abc import Sequence
from pathlib import Path

from train.evaluate.comparison import LEGEND, Cell, Row, Subject, cell_text, differences
from train.evaluate.meanings import MEANINGS
from train.evaluate.report.chart import Line, level, line_chart
from train.evaluate.report.curves import measured_line
from train.evaluate.report.markup import Markup, join, prose, table, tag
from train.evaluate.report.numbers import by_step, short
from train.evaluate.report.page import Section, definitions, page, write_page
from train.evaluate.results import look_up

_COLOURS = 6
_CURVES = (
    ("rollout.psnr", "Closeness of pixels by step", "PSNR, dB", False),
    ("rollout.ssim", "Likeness of structure by step", "SSIM, 1 = equal", False),
    ("rollout.sharpness", "Sharpness by step", "gradient energy over the truth's, 1 = as sharp", False),
    ("rollout.lpips", "Distance as people see it, by step", "LPIPS, 0 = equal", False),
    ("control.delta_psnr", "What random codes cost", "delta PSNR, dB", False),
    ("drift.frechet_w", "Drift of w, random codes", "Frechet distance, 1 = as the data", True),
    ("drift.colour", "Drift of colours, random codes", "grey levels", True),
)
_LEVELS = {"rollout.sharpness": ("the truth", 1.0), "drift.frechet_w": ("as the data", 1.0)}


def write_comparison(path: Path, subjects: Sequence[Subject], rows: Sequence[Row]) -> None:
    """Write the page, beside its place first."""
    write_page(path, comparison_page(subjects, rows))


def comparison_page(subjects: Sequence[Subject], rows: Sequence[Row]) -> str:
    """The page as text."""
    differ = differences(subjects)
    notice = tag("p", tag("strong", "Not comparable as they stand: "), _differ(differ), class_="notice")
    head = ["measure", *(subject.name for subject in subjects), "meaning"]
    cells = [[tag("code", row.key), *(_cell(cell, row.unit) for cell in row.cells), _meaning(row.key)] for row in rows]
    parts = [
        Section("curves", "Curves", tag("div", _charts(subjects, not differ), class_="charts")),
        Section("table", "Table", tag("p", LEGEND + "."), table("All measures", head, cells, class_="columns")),
        Section("what", "What is compared", [_about(subject) for subject in subjects]),
    ]
    title = f"Comparison of {len(subjects)} evaluations"
    return page(title, notice if differ else tag("p", "Same data, prompt, steps and seed.", class_="lead"), parts)


def _differ(differ: Sequence[str]) -> str:
    return f"the evaluations differ in {'; '.join(differ)}."


def _charts(subjects: Sequence[Subject], comparable: bool) -> list[Markup]:
    charts = []
    for key, title, unit, logarithmic in _CURVES:
        lines = [
            measured_line(subject.tree, key, subject.name, 1 + number % _COLOURS)
            for number, subject in enumerate(subjects)
        ]
        if not any(line.values for line in lines):
            continue
        lines = [line for line in lines if line.values]
        if key == "rollout.psnr" and comparable:
            held = by_step(subjects[0].tree, "rollout.copy_last_psnr")
            lines.append(Line("last frame held", held, 4 if len(subjects) < 4 else 6, baseline=True))
        elif key in _LEVELS:
            lines.append(level(*_LEVELS[key], lines, 4 if len(subjects) < 4 else 6))
        charts.append(line_chart(title, unit, lines, logarithmic=logarithmic))
    return charts


def _cell(cell: Cell, unit: str) -> Markup:
    ends = cell.interval
    interval = None if ends is None else tag("small", f"{short(ends[0])} to {short(ends[1])}", class_="interval")
    text = tag("span", cell_text(cell, unit), class_="best" if cell.best else None)
    return tag("td", join(text, tag("br"), interval) if interval else text)


def _meaning(key: str) -> Markup:
    while key not in MEANINGS:
        key = key.rpartition(".")[0]
    return tag("td", prose(MEANINGS[key].text), class_="meaning")


def _about(subject: Subject) -> Markup:
    said = {
        "Data": "data.subject",
        "Clips": "data.clips",
        "Held out": "data.heldout",
        "Date": "made.date",
        "Command": "made.command",
        "Machine": "made.machine",
    }
    return join(
        tag("h3", subject.name), definitions({name: look_up(subject.tree, key) or None for name, key in said.items()})
    )
