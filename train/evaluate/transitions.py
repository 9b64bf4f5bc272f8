"""Steps from one frame to the next, with their codes and, where they are given, their true actions.

Train and score never share an episode; where there are too few episodes, blocks of consecutive frames stand in, and
the results say so.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from train.evaluate.context import Context, pieces

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
    """Infer the codes of the shots' transitions, in stretches of equal length so that one program serves all."""
    first, codes, shots = [], [], []
    spans = list(pieces(context.shots, _PIECE, context.profile.action_frames))
    for number, (shot, start, stop) in enumerate(spans):
        frames = context.store.read(list(range(start, stop)))
        codes.append(np.asarray(context.world.infer_actions(frames), np.int64))
        first.append(np.arange(start, stop - 1))
        shots.append(np.full(stop - start - 1, shot))
        if number % 16 == 15 or number == len(spans) - 1:
            context.log(f"  codes of stretch {number + 1}/{len(spans)}")
    first_N, shot_N = np.concatenate(first), np.concatenate(shots)
    training_N, split = _split(shot_N, context.rng("episodes"))
    actions_N = None if kept_actions is None else kept_actions[first_N]
    return Transitions(first_N, np.concatenate(codes), actions_N, training_N, split)


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
