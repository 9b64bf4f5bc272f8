"""Pictures of latents: heat strips of w over time, and curves of an error by horizon."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

INK, GRID, PAPER = (40, 40, 40), (222, 222, 222), (255, 255, 255)
COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189))
SHOWN = 96


def diverging(value: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape 3"]:
    """Blue below 0, white at 0, red above; full colour at -1 and 1."""
    x = np.clip(value, -1, 1)[..., None]
    cold, warm = np.array([33, 102, 172]), np.array([178, 24, 43])
    colour = np.where(x < 0, 255 + (255 - cold) * x, 255 - (255 - warm) * x)
    return colour.round().astype(np.uint8)


def heat_strips(
    truth_SLD: Float[np.ndarray, "S L D"], predicted_SLD: Float[np.ndarray, "S L D"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Truth, prediction and error beside each other: one column a frame, one line a number of w.

    Shown are the 96 numbers that move most in the truth, the liveliest on top; full colour is 2 standard deviations.
    """
    truth, predicted = (x.reshape(len(x), -1) for x in (truth_SLD, predicted_SLD))
    lively = np.argsort(-truth.var(axis=0), kind="stable")[:SHOWN]
    parts = [("truth", truth), ("prediction", predicted), ("error", predicted - truth)]
    cell = max(4, 192 // len(truth))
    strips = [diverging(x[:, lively].T / 2).repeat(4, axis=0).repeat(cell, axis=1) for _, x in parts]
    height, width = strips[0].shape[:2]
    page = Image.new("RGB", (3 * width + 40, height + 30), PAPER)
    pen = ImageDraw.Draw(page)
    for number, ((title, _), strip) in enumerate(zip(parts, strips, strict=True)):
        left = 10 + number * (width + 10)
        pen.text((left, 6), title, fill=INK)
        page.paste(Image.fromarray(strip), (left, 22))
    return np.asarray(page)


def error_curves(
    curves: Mapping[str, Float[np.ndarray, " S"]], *, size: tuple[int, int] = (480, 300)
) -> UInt8[np.ndarray, "H W 3"]:
    """Curves over steps 1, 2, ... on one linear axis from 0, each with its name and last value."""
    width, height = size
    left, right, top, bottom = 46, width - 12, 12, height - 28
    # A diverged rollout may not hide the others: the axis ends at 4 times the smallest of the curves' largest values.
    peaks = [float(np.nanmax(np.where(np.isfinite(y), y, np.nan))) for y in curves.values() if np.isfinite(y).any()]
    limit = max(min(max(peaks), 4 * min(peaks)), 1e-6) * 1.05 if peaks else 1.0
    page = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(page)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = bottom - share * (bottom - top)
        pen.line([(left, y), (right, y)], fill=GRID)
        pen.text((4, y - 6), f"{share * limit:.2g}", fill=INK)
    for number, (name, values) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        shown = np.clip(np.nan_to_num(np.asarray(values, np.float64), nan=limit, posinf=limit), 0, limit)
        x = np.linspace(left, right, len(shown))
        points = list(zip(x.tolist(), (bottom - shown / limit * (bottom - top)).tolist(), strict=True))
        pen.line(points, fill=colour, width=2)
        pen.text((left + 10, top + 4 + 14 * number), f"{name}: {values[0]:.3g} to {values[-1]:.3g}", fill=colour)
    steps = max((len(values) for values in curves.values()), default=1)
    pen.text((left, bottom + 8), "step 1", fill=INK)
    pen.text((right - 50, bottom + 8), f"step {steps}", fill=INK)
    return np.asarray(page)
