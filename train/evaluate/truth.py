"""True actions of a video, read from an `.npz` and mapped onto the frames that were kept.

`actions[t]` is the action taken at frame t of the source video: it leads from frame t to frame t+1, as `codes[t]` does.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Int

from train.errors import UserError
from train.evaluate.subject import EvaluatedFrames


@dataclass(frozen=True)
class TrueActions:
    """Actions of the source's frames, the source's frames at which a new episode begins, names of actions 0, 1, ..."""

    actions: Int[np.ndarray, " F"]
    cuts: Int[np.ndarray, " c"]
    subject: str = "actions"
    names: tuple[str, ...] = ()

    def name(self, action: int) -> str:
        """An action's name, or its number where it has none."""
        return self.names[action] if 0 <= action < len(self.names) else f"action {action}"


def load_actions(path: str | Path) -> TrueActions:
    """Read `actions` and, where present, `cuts` and `action_names`. Raises UserError for what is no such file."""
    path = Path(path)
    remedy = "Give an .npz with `actions`, one whole number for each frame of the video"
    if not path.is_file():
        raise UserError(path, "there is no such file", remedy)
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise ValueError("a single array, not an archive of named ones")
        with loaded as archive:
            arrays = {name: archive[name] for name in archive.files if name in ("actions", "cuts")}
            names = archive["action_names"] if "action_names" in archive.files else np.zeros(0, np.str_)
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise UserError(path, "it cannot be read as an .npz of plain arrays", remedy) from error
    if "actions" not in arrays:
        raise UserError(path, "it holds no array named `actions`", remedy)
    for name, array in arrays.items():
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
            raise UserError(path, f"`{name}` is {array.dtype} of shape {array.shape}", remedy)
    if names.ndim != 1 or names.dtype.kind != "U":
        raise UserError(path, f"`action_names` is {names.dtype} of shape {names.shape}", "Make it a row of texts")
    cuts = arrays.get("cuts", np.zeros(0, np.int64))
    return TrueActions(arrays["actions"].astype(np.int64), cuts.astype(np.int64), str(path), tuple(map(str, names)))


def actions_of_kept(store: EvaluatedFrames, truth: TrueActions) -> Int[np.ndarray, " F"]:
    """The action that leads from each kept frame to the next: the most frequent one over the source frames between.

    The last frame, and the last of every shot, gets the action at that frame; no code is compared with it.

    Raises:
        UserError: the video has more frames than actions are given for.
    """
    source = np.asarray(store.source_index, np.int64)
    if len(source) and source.max() >= len(truth.actions):
        raise UserError(
            truth.subject,
            f"it has {len(truth.actions)} actions, but frame {int(source.max())} of the video was evaluated",
            "Give the actions of this very video, one for each of its frames",
        )
    following = np.append(source[1:], source[-1:] + 1)
    stops = np.where(following > source, following, source + 1)
    return np.array([_majority(truth.actions[a:b]) for a, b in zip(source, stops, strict=True)], np.int64)


def _majority(actions: Int[np.ndarray, " n"]) -> int:
    """The most frequent action, the earliest of several; one below 0, unknown, only where none is known."""
    actions = actions[actions >= 0] if (actions >= 0).any() else actions
    values, first, counts = np.unique(actions, return_index=True, return_counts=True)
    return int(values[np.lexsort((first, -counts))[0]])


def split_at_cuts(
    store: EvaluatedFrames, shots: Sequence[tuple[int, int]], cuts: Int[np.ndarray, " c"]
) -> list[tuple[int, int]]:
    """Shots, cut again wherever an episode begins between two kept frames."""
    source = np.asarray(store.source_index, np.int64)
    pieces: list[tuple[int, int]] = []
    for start, stop in shots:
        inside = source[start:stop]
        begins = {int(np.searchsorted(inside, cut)) for cut in cuts if inside[0] < cut <= inside[-1]}
        edges = [start, *(start + b for b in sorted(begins)), stop]
        pieces += list(itertools.pairwise(edges))
    return pieces
