"""The movement of a picture in words."""

import numpy as np
from jaxtyping import Float

from train.evaluate.flow import STILL

_DIRECTIONS = ("right", "down-right", "down", "down-left", "left", "up-left", "up", "up-right")


def movement_in_words(flow_NGGF: Float[np.ndarray, "N G G 2"], side: int) -> str:
    """ "left 3.1 px": where the picture moves, on average over the prompts, and how far a step.

    "outward" is the movement of a step forward, "inward" of one back; "mixed" moves, and to no common side.

    Args:
        flow_NGGF: flow from N prompts in tiles, pixels a step to the right and down.
        side: of the frames in pixels.
    """
    least = STILL * side
    field_GGF = flow_NGGF.mean(0)
    right, down = field_GGF.mean((0, 1))
    length = float(np.hypot(right, down))
    if length >= least:
        sector = round(float(np.arctan2(down, right)) / (np.pi / 4)) % 8
        return f"{_DIRECTIONS[sector]} {length:.1f} px"
    places = np.arange(len(field_GGF)) - (len(field_GGF) - 1) / 2
    away_GGF = np.stack(np.meshgrid(places, places), axis=-1)
    away_GGF /= np.linalg.norm(away_GGF, axis=-1, keepdims=True)
    outward = float((field_GGF * away_GGF).sum(-1).mean())
    if abs(outward) >= least:
        return f"{'outward' if outward > 0 else 'inward'} {abs(outward):.1f} px"
    speed = float(np.sqrt((flow_NGGF**2).sum(-1)).mean())
    return f"mixed {speed:.1f} px" if speed >= least else "still"
