"""Several evaluations beside each other: rows of values, which is the best, and where the intervals lie apart."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from train.evaluate.meanings import MEANINGS, Better
from train.evaluate.report.numbers import interval_of, short
from train.evaluate.results import look_up

STEPS = {
    "rollout": (1, 4, 8, 16, 32, 64, 128, 256, 512)
}  # of what is measured at every step, the steps that have a row
LEGEND = "* the best of its row; ! its 95% interval lies apart from that of the best"
# What must be equal for two evaluations to be compared, and its name in words.
_CONDITIONS = {
    "subject": "data", "frames": "frames", "shots": "shots", "fps": "frames a second", "seed": "seed",
    "prompt": "prompt", "steps": "steps", "clips": "clips", "profile": "profile", "mean_frame_source": "mean frame",
}  # fmt: skip


class Subject(NamedTuple):
    """One evaluation, under the name that the reader gave it."""

    name: str
    tree: Mapping


class Cell(NamedTuple):
    """A value with its interval; whether it is the best of its row, and whether it is surely not."""

    value: float | None
    interval: tuple[float, float] | None = None
    best: bool = False
    apart: bool = False


class Row(NamedTuple):
    """One measure, or one step of it, with a cell for each evaluation."""

    key: str
    unit: str
    cells: list[Cell]


def compare(subjects: Sequence[Subject]) -> list[Row]:
    """The rows of all keys that at least one evaluation has a value for, in the order of docs/metrics.md."""
    rows = []
    for key, meaning in MEANINGS.items():
        for full in _rows_of(subjects, key):
            last = full[len(key) + 1 :]
            values = [look_up(subject.tree, full) for subject in subjects]
            ends = [interval_of(subject.tree, key, last or None) for subject in subjects]
            if any(value is not None for value in values):
                rows.append(Row(full, meaning.unit, _marked(values, ends, meaning.better)))
    return rows


def differences(subjects: Sequence[Subject]) -> list[str]:
    """What makes the evaluations hard to compare, in words: "seed (0, 1)"."""
    found = []
    for key, name in _CONDITIONS.items():
        values = [str(look_up(subject.tree, f"data.{key}")) for subject in subjects]
        if len(set(values)) > 1:
            found.append(f"{name} ({', '.join(values)})")
    machines = {look_up(subject.tree, "details.play.fps.machine") for subject in subjects}
    if len(machines - {None}) > 1:
        found.append("machine of play")
    return found


def format_comparison(subjects: Sequence[Subject], rows: Sequence[Row]) -> str:
    """The table as text."""
    lines = [["", *(subject.name for subject in subjects)]]
    lines += [[row.key, *(cell_text(cell, row.unit) for cell in row.cells)] for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*text, "", LEGEND]) + "\n"


def cell_text(cell: Cell, unit: str) -> str:
    """A value with its marks."""
    if cell.value is None:
        return "-"
    return short(cell.value, unit) + " *" * cell.best + " !" * cell.apart


def to_json(subjects: Sequence[Subject], rows: Sequence[Row]) -> dict[str, object]:
    """The comparison for programs."""
    return {
        "subjects": [subject.name for subject in subjects],
        "differences": differences(subjects),
        "rows": [{"key": row.key, "unit": row.unit, "cells": [cell._asdict() for cell in row.cells]} for row in rows],
    }


def _rows_of(subjects: Sequence[Subject], key: str) -> list[str]:
    """The key itself, or the key with each of its steps; of what has parts, the total alone."""
    names: dict[str, None] = {}
    for subject in subjects:
        node = look_up(subject.tree, key)
        names |= dict.fromkeys(node) if isinstance(node, Mapping) else {"": None}
    if len(names) > 1:  # some have steps or parts of it: those that left it out have no row of their own
        names.pop("", None)
    wanted = [str(step) for step in STEPS.get(key.split(".")[0], ())]
    steps = sorted((h for h in names if h.isdecimal() and (not wanted or h in wanted)), key=int)
    kept = steps + [name for name in ("", "total") if name in names]
    return [f"{key}.{name}" if name else key for name in kept]


def _marked(values: Sequence[object], ends: Sequence[tuple[float, float] | None], better: Better) -> list[Cell]:
    known = [value for value in values if isinstance(value, int | float)]
    best = _best(known, better) if len(set(known)) > 1 else None
    widest = next((e for v, e in zip(values, ends, strict=True) if best is not None and v == best and e), None)
    return [
        Cell(
            value,
            interval,
            best=best is not None and value == best,
            apart=bool(widest and interval and value != best and not _overlap(interval, widest)),
        )
        for value, interval in zip((v if isinstance(v, int | float) else None for v in values), ends, strict=True)
    ]


def _best(values: Sequence[float], better: Better) -> float | None:
    if better == "":
        return None
    return min(values, key={"more": lambda v: -v, "less": lambda v: v, "one": lambda v: abs(v - 1)}[better])


def _overlap(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]
