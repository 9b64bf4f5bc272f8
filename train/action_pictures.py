"""Pictures of an action model: what each code does to a frame, and how often each code occurs."""

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw

INK, BAR, PAPER, FRAME = (40, 40, 40), (31, 119, 180), (255, 255, 255), (255, 200, 0)
MARGIN, HEADER, BORDER, ENLARGE = 6, 16, 2, 2
SLOT = 30  # pixels that a bar and its words need


def action_strips(
    real_N2SSC: Float[np.ndarray, "N 2 S S 3"],
    predicted_NKSSC: Float[np.ndarray, "N K S S 3"],
    codes_N: Int[np.ndarray, " N"],
) -> UInt8[np.ndarray, "H W 3"]:
    """One line a pair: frame t | prediction under each code | frame t+1; the inferred code is framed.

    Pictures are in [0, 1].
    """
    count, codes = predicted_NKSSC.shape[:2]
    cell = ENLARGE * real_N2SSC.shape[2] + MARGIN
    page = Image.new("RGB", ((codes + 2) * cell + MARGIN, count * cell + HEADER + MARGIN), PAPER)
    pen = ImageDraw.Draw(page)
    titles = ["frame t", *[f"code {k}" for k in range(codes)], "frame t+1"]
    for column, title in enumerate(titles):
        pen.text((MARGIN + column * cell, 2), title, fill=INK)
    for row in range(count):
        top = HEADER + row * cell
        cells = [real_N2SSC[row, 0], *predicted_NKSSC[row], real_N2SSC[row, 1]]
        for column, picture in enumerate(cells):
            pixels = (np.clip(picture, 0, 1) * 255).round().astype(np.uint8).repeat(ENLARGE, 0).repeat(ENLARGE, 1)
            left = MARGIN + column * cell
            if column == 1 + codes_N[row]:
                box = (left - BORDER, top - BORDER, left + len(pixels) + BORDER - 1, top + len(pixels) + BORDER - 1)
                pen.rectangle(box, fill=FRAME)
            page.paste(Image.fromarray(pixels), (left, top))
    return np.asarray(page)


def usage_bars(counts_K: Int[np.ndarray, " K"], *, size: tuple[int, int] = (320, 160)) -> UInt8[np.ndarray, "H W 3"]:
    """How often each code occurs: a bar for each, with its share of all; wider than `size` where it must be."""
    width, height = max(size[0], SLOT * len(counts_K)), size[1]
    page = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(page)
    share_K = counts_K / max(int(counts_K.sum()), 1)
    slot, bottom, room = width / len(counts_K), height - 18, height - 40
    for code, share in enumerate(share_K.tolist()):
        left, top = code * slot + 4, bottom - room * share / max(float(share_K.max()), 1e-9)
        pen.rectangle((left, top, left + slot - 8, bottom), fill=BAR)
        pen.text((left, bottom + 4), str(code), fill=INK)
        pen.text((left, top - 14), f"{share:.0%}", fill=INK)
    return np.asarray(page)
