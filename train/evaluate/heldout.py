"""Which shots no stage of a run has seen, and whether frames come from videos that a world was trained on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from train.corpus import split_shots
from train.errors import UserError
from train.evaluate.suite import mean_of_frames
from train.ingest.store import FrameStore


class HeldOut(NamedTuple):
    """Spans to evaluate, the mean training frame where the training frames are at hand, and what to tell about both."""

    shots: Sequence[tuple[int, int]] | None
    mean_frame: UInt8[np.ndarray, "H W C"] | None
    said: str


def choose_shots(store: FrameStore, training: FrameStore | None, holdout: float, *, all_shots: bool) -> HeldOut:
    """Shots of `store` that a run has not seen.

    Args:
        training: the frames of the run, None where they are not at hand.
        holdout: share of them that the run kept from training.
        all_shots: evaluate every shot, also those trained on.

    Raises:
        UserError: every frame of `store` was trained on.
    """
    if training is None:
        return HeldOut(None, None, "unknown: the frames that the world was trained on are not at hand")
    train_shots, heldout_shots = split_shots(training.shots, holdout)
    mean = mean_of_frames(training, _spans(train_shots))
    seen = {source.sha256 for source in training.sources}
    if not seen & {source.sha256 for source in store.sources}:
        return HeldOut(None, mean, "yes: none of these videos was trained on")
    if all_shots:
        return HeldOut(None, mean, "no: the world was trained on most of these frames")
    if not same_frames(store, training):
        raise UserError(
            store.path,
            "the world was trained on this video",
            "Evaluate on another one, on the run's own frames (only the shots held out are used), or pass --all-shots",
        )
    if not len(heldout_shots):
        raise UserError(store.path, "the run held nothing out", "Evaluate on another video, or pass --all-shots")
    return HeldOut(_spans(heldout_shots), mean, "yes: the shots that the run held out")


def same_frames(one: FrameStore, other: FrameStore) -> bool:
    """Whether two folders hold the same frames in the same order."""
    key = [(source.sha256, source.shots) for source in one.sources]
    return one.size == other.size and key == [(source.sha256, source.shots) for source in other.sources]


def _spans(shots: np.ndarray) -> list[tuple[int, int]]:
    return [(int(start), int(stop)) for start, stop in shots]
