"""The inspection as a table and as files: inspect.json, inspect.png, inspect.html."""

import io
import json
import os
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from train.evaluate.flow import Responses
from train.inspection.findings import CodeFindings, Inspection
from train.inspection.page import html_page
from train.inspection.pictures import code_strip, number, sheet

FILES = ("inspect.json", "inspect.png", "inspect.html")
_HEAD = ("code", "name", "key", "usage", "movement", "consistency", "effect", "most like", "true action")


def format_table(found: Inspection) -> str:
    """The codes in lines, what the columns mean, and the alarms."""
    rows = [_HEAD, *(table_row(code) for code in found.codes)]
    shown = range(len(_HEAD) if found.nmi is not None else len(_HEAD) - 1)
    widths = [max(len(row[column]) for row in rows) for column in shown]
    lines = ["  ".join(row[column].ljust(widths[column]) for column in shown).rstrip() for row in rows]
    lines += ["", *explanations(found)]
    lines += [f"WARNING: {alarm}" for alarm in found.alarms] or [
        "no alarm: no collapse, no unused code, none without effect"
    ]
    return "\n".join(lines) + "\n"


def explanations(found: Inspection) -> list[str]:
    """How the columns are to be read, a line each."""
    lines = [
        f"Each code was held for {found.steps} steps from {found.prompts} prompts ({found.source}); "
        f"movement of the picture in pixels a step, of {found.size}.",
    ]
    if found.consistency is not None and found.chance is not None:
        lines.append(
            f"Consistency: likeness of the movement from different prompts, 1 = always the same; mean "
            f"{number(found.consistency)}, between different codes {number(found.chance)}."
        )
    lines.append("Effect: difference from the other codes' pictures, as a share of the change; 0 = no effect.")
    if found.nmi is not None:
        lines.append(f"Codes and true actions share information (NMI) of {number(found.nmi)}; 0 = none, 1 = the same.")
    return lines


def table_row(code: CodeFindings) -> tuple[str, ...]:
    """The cells of a code, in the order of the table's head."""
    key = "space" if code.key == " " else code.key
    like = "-" if code.nearest is None else f"{code.nearest} ({number(code.nearest_distance)})"
    action = "-"
    if code.true_actions:
        first = list(code.true_actions.items())[:2]
        action = ", ".join(f"{name} in {share:.0%}" for name, share in first)
    return (
        str(code.number), code.name, key, f"{code.usage:.1%}", code.movement, number(code.consistency),
        number(code.effect), like, action,
    )  # fmt: skip


def write_inspection(folder: Path, found: Inspection, responses: Responses) -> None:
    """Write `FILES` into a folder, each beside its place and renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    strips = [_webp(code_strip(responses, code.number, found.steps)) for code in found.codes]
    head = _HEAD if found.nmi is not None else _HEAD[:-1]
    page = html_page(found, head, [table_row(code)[: len(head)] for code in found.codes], explanations(found), strips)
    picture = io.BytesIO()
    Image.fromarray(sheet(found, responses)).save(picture, "PNG")
    contents = {
        "inspect.json": (json.dumps(found.to_json(), indent=1, allow_nan=False) + "\n").encode(),
        "inspect.png": picture.getvalue(),
        "inspect.html": page.encode(),
    }
    for name, data in contents.items():
        beside = folder / f".{name}.{os.getpid()}.tmp"
        beside.write_bytes(data)
        os.replace(beside, folder / name)


def _webp(picture_HWC: UInt8[np.ndarray, "h w 4"]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture_HWC).save(file, "WEBP", quality=90)
    return file.getvalue()
