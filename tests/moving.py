"""Footage whose motion is known: a bright square on dark texture that moves by one of four steps a frame."""

import numpy as np

SIDE, SQUARE = 16, 4
MOVES = ((-2, 0), (2, 0), (0, -2), (0, 2))  # down, right, in pixels
RED = 250


def moving_squares(batch: int, frames: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames (B, T, 16, 16, 3) uint8 and the number of the move (B, T-1) from each frame to the next."""
    rng = np.random.default_rng(seed)
    background = rng.integers(0, 60, (batch, SIDE, SIDE, 3))
    pictures = np.repeat(background[:, None], frames, axis=1)
    moves = np.zeros((batch, frames - 1), np.int64)
    for clip in range(batch):
        place = rng.integers(0, SIDE - SQUARE + 1, 2)
        for t in range(frames):
            y, x = place
            pictures[clip, t, y : y + SQUARE, x : x + SQUARE] = (RED, 200, 80)
            if t + 1 < frames:
                inside = [k for k in range(4) if (place + MOVES[k] >= 0).all() and (place + MOVES[k] <= 12).all()]
                moves[clip, t] = rng.choice(inside)
                place = place + MOVES[moves[clip, t]]
    return pictures.astype(np.uint8), moves


def positions(frames_BTHWC: np.ndarray) -> np.ndarray:
    """Place (down, right) of the square as shares of the side: a w of two rows of width 1, float32 (B, T, 2, 1)."""
    bright = frames_BTHWC[..., 0] == RED
    place = [(bright * axis).sum((2, 3)) / bright.sum((2, 3)) for axis in np.mgrid[:SIDE, :SIDE]]
    return (np.stack(place, -1) / SIDE)[..., None].astype(np.float32)
