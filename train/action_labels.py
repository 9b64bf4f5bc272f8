"""A few true actions of a run's training transitions: `genie train VIDEO --actions A.npz`.

The file is the one that evaluation takes; an action below 0 says that nobody knows it. A share of the labelled training
transitions, drawn by the run's seed, trains the action model's classifier and names its codes. Labels of held-out
frames are never looked at.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Int

from train.errors import UserError
from train.evaluate.truth import TrueActions, actions_of_kept, load_actions, split_at_cuts
from train.ingest.store import FrameStore

SETTING = "true_actions"
NONE = "none"


class TrainingShots(Protocol):
    """The part of `train.corpus.Corpus` that labels need."""

    store: FrameStore
    seed: int
    train_shots: np.ndarray


class Labels(NamedTuple):
    """Labelled transitions: number n leads from frame `first_N[n]` to the next by true action `actions_N[n]`."""

    first_N: Int[np.ndarray, " N"]
    actions_N: Int[np.ndarray, " N"]
    names: tuple[str, ...] = ()

    @property
    def classes_N(self) -> Int[np.ndarray, " N"]:
        """The true actions numbered without gaps, as the classifier counts them, int32."""
        return np.unique(self.actions_N, return_inverse=True)[1].astype(np.int32)

    @property
    def classes(self) -> int:
        """How many different true actions there are."""
        return len(np.unique(self.actions_N))

    def draw(self, seed: int, step: int, size: int) -> Int[np.ndarray, " size"]:
        """Places of the transitions of one batch, a function of (seed, step)."""
        return np.random.default_rng((seed, step)).integers(0, len(self.first_N), size)


def choose_labels(corpus: TrainingShots, truth: TrueActions, share: float) -> Labels:
    """A share of the training transitions whose true action is known, in the order of their frames.

    A transition over a cut, of the video or of the file, has none. More of a share adds transitions to those of less.

    Raises:
        UserError: the frames are of several videos, there are fewer actions than frames, or what is left does not hold
            two different actions.
    """
    check_labels(corpus.store, truth)
    kept_F = actions_of_kept(corpus.store, truth)
    spans = split_at_cuts(corpus.store, [(int(a), int(b)) for a, b in corpus.train_shots], truth.cuts)
    first_N = np.concatenate([np.zeros(0, np.int64), *(np.arange(start, stop - 1) for start, stop in spans)])
    first_N = first_N[kept_F[first_N] >= 0]
    order = np.random.default_rng((corpus.seed, len(first_N))).permutation(len(first_N))
    chosen = np.sort(first_N[order[: round(share * len(first_N))]])
    if len(np.unique(kept_F[chosen])) < 2:
        fault = f"{len(chosen)} of {len(first_N)} labelled training transitions hold no two different actions"
        raise UserError(truth.subject, fault, "Give more labels, or a larger --actions.labels")
    return Labels(chosen, kept_F[chosen], truth.names)


def check_labels(store: FrameStore, truth: TrueActions) -> None:
    """Raise UserError where the file cannot be that of these frames: asked before hours are spent on other stages."""
    if len(store.sources) > 1:
        raise UserError(truth.subject, "it belongs to one video, and several were given", "Train on that one alone")
    actions_of_kept(store, truth)


def majority_actions(codes_F: Int[np.ndarray, " F"], labels: Labels) -> dict[int, tuple[int, int]]:
    """Of every code that a labelled transition has: (the true action that most of them have, how many do)."""
    found = {}
    codes_N = codes_F[labels.first_N]
    for code in np.unique(codes_N).tolist():
        values, counts = np.unique(labels.actions_N[codes_N == code], return_counts=True)
        found[code] = int(values[counts.argmax()]), int(counts.max())
    return found


def stamp(path: Path, known: Mapping[str, Any] | None) -> dict[str, str]:
    """For `run.json`: where the file is and what it says. One that is gone counts as unchanged, as a video does.

    Raises:
        UserError: it is no such file, or it is gone and the run does not know it.
    """
    if known is not None and known["path"] == str(path) and not path.exists():
        return dict(known)
    truth = load_actions(path)
    digest = hashlib.sha256("\0".join(truth.names).encode())
    for array in (truth.actions, truth.cuts):
        digest.update(np.ascontiguousarray(array).tobytes() + b"|")
    return {"path": str(path), "digest": digest.hexdigest()[:20]}


def fingerprinted(actions: dict[str, Any], label_digest: str | None) -> dict[str, Any]:
    """The settings that the action stage is fingerprinted by.

    Options that have no effect are left out, so that runs from before there were any stay finished.

    Args:
        actions: the stage's config as JSON values.
        label_digest: of the true actions; None without.
    """
    model = dict(actions["model"])
    if model["mask"] == 0:
        del model["mask"]
    if label_digest is not None:
        return {**actions, "model": model, SETTING: label_digest}
    del model["label_weight"]
    return {**{name: value for name, value in actions.items() if not name.startswith("label")}, "model": model}
