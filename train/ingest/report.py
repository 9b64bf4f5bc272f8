"""What a person sees after `genie prepare`: what was kept, what was dropped and why, and a sheet of pictures."""

import os
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from train.ingest.store import FrameStore, Manifest

COLUMNS, MAX_ROWS, GAP = 10, 8, 2
CELL = 96  # pixels; larger frames are shrunk, smaller ones kept


def report_text(manifest: Manifest) -> str:
    """The table: one line a source, dropped frames by reason, inputs that gave nothing."""
    lines = [f"{'source':<40} {'frames':>8} {'shots':>6} {'minutes':>8} {'fps':>6}  dropped"]
    for source in manifest.sources:
        reasons = ", ".join(
            f"{count} {reason} ({count / source.fps / 60:.2f} min)"
            for reason, count in source.dropped_by_reason().items()
        )
        lines.append(
            f"{source.name[-40:]:<40} {source.frames:>8} {len(source.shots):>6} "
            f"{source.frames / source.fps / 60:>8.2f} {source.fps:>6.4g}  {reasons or 'nothing'}"
        )
        lines += [f"    note: {note}" for note in source.notes]
    lines += [f"{name[-40:]:<40} not used: {why}" for name, why in manifest.skipped]
    dropped = sum(sum(s.dropped_by_reason().values()) for s in manifest.sources)
    minutes = sum(s.frames / s.fps for s in manifest.sources) / 60
    lost = sum(sum(s.dropped_by_reason().values()) / s.fps for s in manifest.sources) / 60
    lines.append(
        f"kept {manifest.frames} frames in {len(manifest.shots)} shots, {minutes:.2f} minutes, "
        f"{manifest.size}x{manifest.size} pixels at {manifest.fps:.4g} fps; "
        f"dropped {dropped} frames, {lost:.2f} minutes"
    )
    return "\n".join(lines) + "\n"


def contact_sheet(store: FrameStore) -> UInt8[np.ndarray, "H W 3"]:
    """Frames spread evenly over the store, in order, on a grid; a white line marks where a shot begins."""
    count = min(len(store), COLUMNS * MAX_ROWS)
    chosen = np.linspace(0, len(store) - 1, count).round().astype(np.int64)
    side = min(store.size, CELL)
    rows = -(-count // COLUMNS)
    sheet = np.full((rows * (side + GAP) + GAP, COLUMNS * (side + GAP) + GAP, 3), 32, np.uint8)
    shot_of = np.searchsorted(store.shots[:, 0], chosen, side="right")
    for place, frame in enumerate(store.read(chosen)):
        y, x = (GAP + cell * (side + GAP) for cell in divmod(place, COLUMNS))
        sheet[y : y + side, x : x + side] = cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA)
        if place == 0 or shot_of[place] != shot_of[place - 1]:
            sheet[y : y + side, x - GAP : x] = 255
    return sheet


def write_report(folder: Path) -> str:
    """Write `report.txt` and `contact_sheet.png` of a prepared folder; returns the text."""
    store = FrameStore(folder)
    text = report_text(store.manifest)
    picture = cv2.imencode(".png", contact_sheet(store)[..., ::-1])[1].tobytes()
    for name, content in (("report.txt", text.encode()), ("contact_sheet.png", picture)):
        beside = folder / f".{name}.tmp"
        beside.write_bytes(content)
        os.replace(beside, folder / name)
    return text
