"""What every benchmark gives: rows of a figure beside its limit or its peer, from the same process and the same rounds.

A script calls `arguments` for its options, `compare` and `figure` for its rows, and `finish` to print and write them.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from machine import describe
from timing import Times


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        case: what was measured, with its sizes.
        value, unit: the figure; times are medians in seconds ("s").
        low, high: quartiles of a time, None for other figures.
        against: what it is compared with, "" for nothing.
        other, other_low, other_high: the figure of that, in the same unit.
        ratio: other / value, how many times faster ours is; None where nothing is compared.
        goal: what must hold, in words, "" for nothing.
        holds: whether it does, None without a goal.
    """

    case: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    against: str = ""
    other: float | None = None
    other_low: float | None = None
    other_high: float | None = None
    ratio: float | None = None
    goal: str = ""
    holds: bool | None = None


def compare(case: str, ours: Times, against: str, theirs: Times, *, goal: float | None = None, per: int = 1) -> Row:
    """Our time beside a peer's.

    Args:
        case: see `Row`.
        ours, theirs: of one call each.
        against: the peer's name.
        goal: least ratio of medians (theirs to ours).
        per: pieces of work in a call; the row has the time of one.
    """
    ratio = theirs.median / ours.median
    seconds = [time / per for time in (ours.median, ours.low, ours.high, theirs.median, theirs.low, theirs.high)]
    value, low, high, other, other_low, other_high = seconds
    told = "" if goal is None else f"at least {goal:g}x"
    holds = None if goal is None else ratio >= goal
    return Row(case, value, "s", low, high, against, other, other_low, other_high, ratio, told, holds)


def figure(case: str, value: float, unit: str, *, most: float | None = None, least: float | None = None) -> Row:
    """A figure with an upper or lower limit, or none."""
    if most is not None:
        return Row(case, value, unit, goal=f"at most {most:g}", holds=value <= most)
    if least is not None:
        return Row(case, value, unit, goal=f"at least {least:g}", holds=value >= least)
    return Row(case, value, unit)


def arguments(doc: str | None, *, rounds: int, devices: Sequence[str] = ("cpu",)) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="write the result to this JSON file")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, few rounds: shows that it runs")
    parser.add_argument("--rounds", type=int, default=rounds, help="measured rounds (default %(default)s)")
    parser.add_argument("--device", choices=devices, default="cpu", help="where to measure (default %(default)s)")
    return parser


def finish(benchmark: str, title: str, rows: Sequence[Row], options: argparse.Namespace) -> None:
    """Print the rows and, where `-o` asks for it, write `{benchmark, title, quick, device, machine, rows}`."""
    print(f"{title}\n\n" + "\n".join(table([asdict(row) for row in rows])))
    if options.output:
        result = {
            "benchmark": benchmark,
            "title": title,
            "quick": options.quick,
            "device": options.device,
            "machine": describe(),
            "rows": [asdict(row) for row in rows],
        }
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of a Markdown table; without rows an empty list."""
    if not rows:
        return []
    lines = ["| | measured | against | ratio | goal |", "|---|---|---|---|---|"]
    for row in rows:
        against = f"{row['against']}: {shown(row, 'other')}" if row["against"] else ""
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}x"
        goal = row["goal"] and f"{row['goal']}: {'holds' if row['holds'] else 'does not hold'}"
        lines.append(f"| {row['case']} | {shown(row, 'value')} | {against} | {ratio} | {goal} |")
    return lines


def shown(row: dict[str, Any], name: str) -> str:
    """The figure `name` ("value" or "other") of a row with its quartiles, in a fitting unit."""
    prefix = "" if name == "value" else "other_"
    figures = [row[name], row[f"{prefix}low"], row[f"{prefix}high"]]
    if row["unit"] != "s":
        return f"{figures[0]:.3g} {row['unit']}".rstrip()
    scale, unit = next(((s, u) for s, u in ((1, "s"), (1e-3, "ms"), (1e-6, "us")) if figures[0] >= s), (1e-6, "us"))
    middle, *quartiles = (None if value is None else f"{value / scale:.3g}" for value in figures)
    return f"{middle} {unit}" + (f" ({quartiles[0]} .. {quartiles[1]})" if None not in quartiles else "")
