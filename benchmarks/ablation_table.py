"""The ablation's evaluations as a table (Markdown and JSON) and as curves."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from train.evaluate.curve import Line, draw_curves
from train.evaluate.results import look_up

TRAINED = "trained.json"  # beside metrics.json: steps and seconds of the dynamics
Column = tuple[str, str, str]  # heading, dotted key, format
COLUMNS = (
    ("steps of training", "trained.steps", "{:.0f}"),
    ("PSNR 1", "rollout.psnr.1", "{:.2f}"),
    ("PSNR 16", "rollout.psnr.16", "{:.2f}"),
    ("PSNR 64", "rollout.psnr.64", "{:.2f}"),
    ("PSNR 256", "rollout.psnr.256", "{:.2f}"),
    ("horizon", "rollout.horizon", "{:.0f}"),
    ("sharpness 64", "rollout.sharpness.64", "{:.2f}"),
    ("delta PSNR 4", "control.delta_psnr.4", "{:.2f}"),
    ("delta PSNR 16", "control.delta_psnr.16", "{:.2f}"),
    ("Frechet 16", "drift.frechet_w.16", "{:.2f}"),
    ("Frechet 1000", "drift.frechet_w.1000", "{:.2f}"),
    ("held, 1000", "drift.frechet_w_held.1000", "{:.2f}"),
    ("colour 1000", "drift.colour.1000", "{:.1f}"),
    ("held, 1000", "drift.colour_held.1000", "{:.1f}"),
)
DRAWN = ("default", "seed", "plain", "no-noise", "unroll-0", "flow")
COLOURS = ((31, 119, 180), (214, 39, 40), (255, 127, 14), (148, 103, 189), (44, 160, 44), (140, 86, 75))
GREY = (150, 150, 150)


def write_table(out: Path, what: Mapping[str, str]) -> None:
    """OUT/table.md, OUT/table.json and OUT/curves.png of what is evaluated so far.

    Args:
        out: holds `evaluations/VARIANT-SEED/metrics.json`.
        what: the variants in words, in the table's order.
    """
    found = {name: metrics_of(out, name) for name in what}
    found = {name: several for name, several in found.items() if several}
    write(out / "table.md", markdown(COLUMNS, what, found))
    values = {
        name: {key: [look_up(tree, key) for tree in several] for _, key, _ in COLUMNS}
        for name, several in found.items()
    }
    write(out / "table.json", json.dumps(values, indent=1) + "\n")
    if drawn := {name: found[name] for name in DRAWN if name in found}:
        Image.fromarray(curves(drawn)).save(out / "curves.png")


def markdown(columns: Sequence[Column], what: Mapping[str, str], found: Mapping[str, Sequence[Mapping]]) -> str:
    """A table: a row for each variant, of the medians and ranges of what was found for its seeds.

    Args:
        columns: heading, dotted key, format.
        what: the variants in words.
        found: of each variant a tree of values for every seed, in the table's order.
    """
    lines = [
        f"| variant | | seeds | {' | '.join(heading for heading, _, _ in columns)} |",
        f"|---|---|---{'|---' * len(columns)}|",
    ]
    for name, several in found.items():
        cells = [cell([look_up(tree, key) for tree in several], form) for _, key, form in columns]
        lines.append(f"| {name} | {what[name]} | {len(several)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def metrics_of(out: Path, name: str) -> list[dict]:
    """What was measured of a variant, a tree for each seed; how long it was trained is `trained` in it."""
    found = []
    for path in sorted((out / "evaluations").glob(f"{name}-[0-9]*/metrics.json")):
        beside = path.with_name(TRAINED)
        trained = json.loads(beside.read_text()) if beside.exists() else None
        found.append({**json.loads(path.read_text()), "trained": trained})
    return found


def cell(values: Sequence[float | None], form: str) -> str:
    """The median, and the range where there are several seeds."""
    known = [value for value in values if value is not None]
    if not known:
        return "not measured"
    middle = form.format(statistics.median(known))
    low, high = form.format(min(known)), form.format(max(known))
    return middle if low == high else f"{middle} ({low} to {high})"


def curves(found: Mapping[str, Sequence[dict]]) -> np.ndarray:
    """PSNR by step: the median over seeds and their range, the held frame and the ceiling."""
    lines = []
    for (name, several), colour in zip(found.items(), COLOURS, strict=False):
        rows = np.array([list(metrics["rollout"]["psnr"].values()) for metrics in several])
        lines.append(Line(name, np.median(rows, 0), colour, (rows.min(0), rows.max(0)) if len(rows) > 1 else None))
    any_of = next(iter(found.values()))[0]["rollout"]
    lines.append(Line("frame held", list(any_of["copy_last_psnr"].values()), GREY))
    lines.append(Line("decode(encode)", list(any_of["reconstruction_psnr"].values()), (60, 60, 60)))
    return draw_curves("Rollouts against the truth", "PSNR, dB", lines)


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
