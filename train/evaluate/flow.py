"""What holding a code does to the picture, as optical flow, and how alike that is from different prompts.

Dense inverse search (Kroeger et al., arXiv 1603.03590) from each frame to the next: over several steps at once a small
picture moves further than any flow can follow. Vectors are (right, down) in pixels of the frame.
"""

import itertools
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from train.evaluate.subject import EvaluatedWorld

STEPS = 4  # for which a code is held
GRID = 8  # responses are compared as means over GRID x GRID tiles
STILL = 1 / 128  # of the frame's side a step: below it a picture counts as standing
_SIDE = 128  # smaller frames are enlarged to at least this


class Responses(NamedTuple):
    """What each of K codes, held for S steps, did from each of N prompts.

    Attributes:
        before_NHWC: the prompts' last frames as the world draws them, decode(encode(frame)).
        after_KNHWC: the frames after S steps.
        flow_KNGGF: mean flow a step in GRID x GRID tiles, pixels to the right and down.
    """

    before_NHWC: UInt8[np.ndarray, "N H W C"]
    after_KNHWC: UInt8[np.ndarray, "K N H W C"]
    flow_KNGGF: Float[np.ndarray, "K N G G 2"]


class Consistency(NamedTuple):
    """Mean cosine of two responses from different prompts: to the same code (by code), and to different codes.

    None where there are too few prompts or codes to compare.
    """

    by_code_K: Float[np.ndarray, " K"] | None
    by_code_KN: Float[np.ndarray, "K N"] | None
    chance: float | None


def dense_flow(
    before_HWC: UInt8[np.ndarray, "H W C"], after_HWC: UInt8[np.ndarray, "H W C"]
) -> Float[np.ndarray, "h w 2"]:
    """Where each pixel of the first frame went, in pixels of the frame; at the size at which it was computed."""
    factor = max(1, -(-_SIDE // min(before_HWC.shape[:2])))
    greys = [
        cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        for f in (before_HWC, after_HWC)
    ]
    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*greys, None) / factor


def mean_flow(frames_THWC: UInt8[np.ndarray, "T H W C"]) -> Float[np.ndarray, "G G 2"]:
    """Mean flow a step along a film of T >= 2 frames, in GRID x GRID tiles."""
    fields = [dense_flow(a, b) for a, b in itertools.pairwise(frames_THWC)]
    return cv2.resize(np.mean(fields, axis=0), (GRID, GRID), interpolation=cv2.INTER_AREA)


def respond(world: EvaluatedWorld, prompts_NTHWC: UInt8[np.ndarray, "N T H W C"], steps: int = STEPS) -> Responses:
    """Hold each code for `steps` steps from each of N prompts of one length.

    Each prompt keeps the codes that the world infers from its frames.
    """
    prompt_codes = np.stack([np.asarray(world.infer_actions(frames), np.int64) for frames in prompts_NTHWC])
    before = np.asarray(world.decode(world.encode(np.ascontiguousarray(prompts_NTHWC[:, -1]))))
    after, flow = [], []
    for code in range(len(world.codes)):
        held = np.full((len(prompts_NTHWC), steps), code)
        frames_NSHWC = np.asarray(world.rollout_batch(prompts_NTHWC, prompt_codes, held))
        after.append(frames_NSHWC[:, -1])
        flow.append([mean_flow(np.concatenate([a[None], film])) for a, film in zip(before, frames_NSHWC, strict=True)])
    return Responses(before, np.stack(after), np.asarray(flow, np.float32))


def consistency(flow_KNGGF: Float[np.ndarray, "K N G G 2"], side: int) -> Consistency:
    """How alike the responses to a code are over prompts, beside how alike those to different codes are.

    Responses in which the picture stands (`STILL`) are alike, cosine 1, and unlike any movement, cosine 0.

    Args:
        flow_KNGGF: responses of K codes from N prompts.
        side: of the frames in pixels.
    """
    codes, prompts = flow_KNGGF.shape[:2]
    if prompts < 2:
        return Consistency(None, None, None)
    flat_KNF = flow_KNGGF.reshape(codes, prompts, -1).astype(np.float64)
    length_KN1 = np.linalg.norm(flat_KNF, axis=-1, keepdims=True)
    still_KN1 = length_KN1 < STILL * side * GRID  # the root mean square over the tiles is length / GRID
    # One more coordinate for standing pictures makes the rule above a plain scalar product.
    unit_KNF = np.concatenate([np.where(still_KN1, 0, flat_KNF / np.maximum(length_KN1, 1e-12)), still_KN1], axis=-1)
    sum_K1F = unit_KNF.sum(1, keepdims=True)
    by_code_KN = ((unit_KNF * sum_K1F).sum(-1) - 1) / (prompts - 1)
    chance = None
    if codes > 1:
        every, same_code, same_prompt = (float((unit_KNF.sum(axis) ** 2).sum()) for axis in ((0, 1), 1, 0))
        pairs = codes * (codes - 1) * prompts * (prompts - 1)
        chance = (every - same_code - same_prompt + codes * prompts) / pairs
    return Consistency(by_code_KN.mean(1), by_code_KN, chance)
