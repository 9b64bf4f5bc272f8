"""Hold every code of a world from many prompts, and say what it does."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from genie_jax.code_usage import effect_alarms, usage_alarms
from torch_bridge.manifest import Code
from train.evaluate.flow import STEPS, Responses, consistency, respond
from train.evaluate.profile import Log
from train.evaluate.subject import EvaluatedWorld
from train.inspection.findings import CodeFindings, Inspection
from train.inspection.movement import movement_in_words
from train.inspection.truth import Coincidence

Clip = UInt8[np.ndarray, "T H W C"]


class Inspected(NamedTuple):
    """The findings, and the frames that they were found on."""

    findings: Inspection
    responses: Responses


def inspect_world(
    world: EvaluatedWorld,
    codes: Sequence[Code],
    prompts: Sequence[Clip],
    *,
    name: str,
    source: str,
    steps: int = STEPS,
    truth: Coincidence | None = None,
    log: Log = print,
) -> Inspected:
    """Roll out `steps` steps of each code from each prompt and measure.

    Args:
        codes: the world's, with their names, keys and usage.
        prompts: clips (T, H, W, 3) uint8 of the world's size, of any lengths.
        name, source: of the world, and where the prompts come from, for the report.
        truth: codes of a video beside its true actions, see `coincidence`.
        log: takes lines.
    """
    responses = _respond(world, prompts, steps, log)
    side = responses.before_NHWC.shape[1]
    alike = consistency(responses.flow_KNGGF, side)
    distance_KK = picture_distances(responses)
    found = []
    for number, code in enumerate(codes):
        others = np.delete(np.arange(len(codes)), number)
        nearest = int(others[distance_KK[number, others].argmin()]) if len(others) else None
        flow_NGGF = responses.flow_KNGGF[number]
        right, down = flow_NGGF.mean((0, 1, 2)).tolist()
        found.append(
            CodeFindings(
                number=number,
                name=code.name,
                key=code.key,
                usage=code.usage,
                flow=(round(right, 3), round(down, 3)),
                movement=movement_in_words(flow_NGGF, side),
                consistency=None if alike.by_code_K is None else round(float(alike.by_code_K[number]), 4),
                effect=round(float(distance_KK[number, others].mean()), 4) if len(others) else 0.0,
                nearest=nearest,
                nearest_distance=None if nearest is None else round(float(distance_KK[number, nearest]), 4),
                transitions=None if truth is None else truth.counts[number],
                true_actions=None if truth is None else truth.shares[number],
            )
        )
    findings = Inspection(
        world=name,
        size=side,
        prompts=len(prompts),
        steps=steps,
        source=source,
        codes=tuple(found),
        consistency=None if alike.by_code_K is None else round(float(alike.by_code_K.mean()), 4),
        chance=None if alike.chance is None else round(alike.chance, 4),
        nmi=None if truth is None else round(truth.nmi, 4),
        alarms=(*usage_alarms(np.array([code.usage for code in codes])), *effect_alarms(distance_KK)),
    )
    return Inspected(findings, responses)


def picture_distances(responses: Responses) -> Float[np.ndarray, "K K"]:
    """Mean square between the pictures of each two codes, over the mean square of their change from the prompt."""
    after = responses.after_KNHWC
    change = np.mean([_mean_square(pictures, responses.before_NHWC) for pictures in after])
    distance_KK = np.zeros((len(after), len(after)))
    for one in range(len(after)):
        for other in range(one):
            distance_KK[one, other] = distance_KK[other, one] = _mean_square(after[one], after[other])
    return distance_KK / (change + 1e-12)


def _mean_square(one: UInt8[np.ndarray, "N H W C"], other: UInt8[np.ndarray, "N H W C"]) -> float:
    return float(np.mean(np.square(one.astype(np.float32) - other)))


def _respond(world: EvaluatedWorld, prompts: Sequence[Clip], steps: int, log: Log) -> Responses:
    """Responses from prompts of any lengths, in their order: those of one length side by side."""
    lengths = np.array([len(clip) for clip in prompts])
    order, parts = [], []
    for length in np.unique(lengths):
        chosen = np.flatnonzero(lengths == length)
        log(f"holding each of {len(world.codes)} codes for {steps} steps from {len(chosen)} prompts")
        order.append(chosen)
        parts.append(respond(world, np.stack([prompts[n] for n in chosen]), steps))
    back = np.argsort(np.concatenate(order))
    before, after, flow = (
        np.concatenate([part[field] for part in parts], axis=axis) for field, axis in ((0, 0), (1, 1), (2, 1))
    )
    return Responses(before[back], after[:, back], flow[:, back])
