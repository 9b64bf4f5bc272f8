"""Steps from one frame to the next, with their codes and, where they are given, their true actions.

Train and score never share an episode; where there are too few episodes, blocks of consecutive frames stand in, and
the results say so.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from train.evaluate.context import Context, pieces
from train.evaluate.profile import Log
from train.evaluate.subject import EvaluatedFrames, EvaluatedWorld

_PIECE = 64
_BLOCKS = 20
_TRAINING_SHARE = 0.8


class Transitions(NamedTuple):
    """Transition n leads from frame `first_N[n]` to the next frame of the same shot."""

    first_N: Int[np.ndarray, " N"]
    codes_N: Int[np.ndarray, " N"]
    actions_N: Int[np.ndarray, " N"] | None
    training_N: Bool[np.ndarray, " N"]
    split: str


def gather(context: Context, kept_actions: Int[np.ndarray, " F"] | None) -> Transitions:
    """The codes of the shots' transitions, up to the profile's number of them."""
    limit = context.profile.action_frames
    first_N, codes_N, shot_N = infer_transitions(context.world, context.store, context.shots, limit, context.log)
    training_N, split = _split(shot_N, context.rng("episodes"))
    actions_N = None if kept_actions is None else kept_actions[first_N]
    return Transitions(first_N, codes_N, actions_N, training_N, split)


def infer_transitions(
    world: EvaluatedWorld, store: EvaluatedFrames, shots: Sequence[tuple[int, int]], limit: int, log: Log
) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """(first frame, code, shot) of at most `limit` transitions, inferred in stretches of equal length."""
    first, codes, shot_of = [], [], []
    spans = list(pieces(shots, _PIECE, limit))
    for number, (shot, start, stop) in enumerate(spans):
        frames = store.read(list(range(start, stop)))
        codes.append(np.asarray(world.infer_actions(frames), np.int64))
        first.append(np.arange(start, stop - 1))
        shot_of.append(np.full(stop - start - 1, shot))
        if number % 16 == 15 or number == len(spans) - 1:
            log(f"  codes of stretch {number + 1}/{len(spans)}")
    return np.concatenate(first), np.concatenate(codes), np.concatenate(shot_of)


def _split(shot_N: Int[np.ndarray, " N"], rng: np.random.Generator) -> tuple[Bool[np.ndarray, " N"], str]:
    """80% of the episodes for training; of blocks in time where there are fewer than five episodes."""
    names = np.unique(shot_N)
    if len(names) >= 5:
        unit, word = shot_N, "episodes"
    else:
        unit, word = np.arange(len(shot_N)) * _BLOCKS // max(len(shot_N), 1), "blocks of consecutive frames"
        names = np.unique(unit)
    chosen = rng.permutation(names)[: max(1, round(_TRAINING_SHARE * len(names)))]
    return np.isin(unit, chosen), f"{len(chosen)} of {len(names)} {word} for training, the rest scored"
