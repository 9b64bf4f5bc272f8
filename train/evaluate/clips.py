"""Which clips are evaluated: evenly spaced starts inside shots, never across a cut, the same for the same seed.

A clip is a prompt and the frames that follow it. Where shots are short, fewer steps follow, so that there are enough
clips for a mean; the number of steps stands in the results.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from train.errors import UserError
from train.evaluate.subject import EvaluatedFrames

PROMPT = 16
STEPS = 64
_FEWER = (512, 256, 128, 64, 48, 32, 24, 16, 12, 8, 4, 2, 1)
_ENOUGH_WINDOWS = 4
_PASS_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Clips:
    """Clips of `prompt + steps` frames of a store.

    Attributes:
        starts_N: first frame of each clip, ascending.
        groups_N: clips with the same number overlap in time, or might: the bootstrap draws them together.
    """

    store: EvaluatedFrames
    starts_N: Int[np.ndarray, " N"]
    groups_N: Int[np.ndarray, " N"]
    prompt: int
    steps: int

    def __len__(self) -> int:
        return len(self.starts_N)

    @property
    def overlapping(self) -> bool:
        return bool(np.any(np.diff(self.starts_N) < self.prompt + self.steps))

    def frames(self, chosen: slice) -> UInt8[np.ndarray, "B T H W C"]:
        """Frames of some clips, T = prompt + steps."""
        indices_BT = self.starts_N[chosen, None] + np.arange(self.prompt + self.steps)
        frames = self.store.read(indices_BT.reshape(-1).tolist())
        return frames.reshape(*indices_BT.shape, *frames.shape[1:])

    def batches(self, *, steps: int | None = None, limit: int | None = None) -> Iterator[slice]:
        """Slices over the clips, all of one size but the last, so small that their frames fit into memory."""
        count = len(self) if limit is None else min(limit, len(self))
        frame_bytes = self.store.read([int(self.starts_N[0])]).nbytes
        length = self.prompt + (self.steps if steps is None else steps)
        size = int(np.clip(_PASS_BYTES // (frame_bytes * length), 1, 32))
        for start in range(0, count, size):
            yield slice(start, min(start + size, count))


def choose_clips(
    store: EvaluatedFrames,
    shots: Sequence[tuple[int, int]],
    count: int,
    *,
    prompt: int = PROMPT,
    longest: int = STEPS,
    subject: str = "video",
) -> Clips:
    """At most `count` clips, evenly spaced over all places where a clip fits into a shot.

    Args:
        store: the frames.
        shots: spans of the store that clips are taken from.
        count: how many are wanted.
        prompt: frames before the first step.
        longest: steps of a clip; fewer where the shots are too short for that.
        subject: what the frames are, for the error.

    Raises:
        UserError: no shot holds a prompt and one more frame, or `longest` is no number of steps.
    """
    if longest < 1:
        raise UserError("--steps", f"{longest} steps cannot be measured", "give at least 1")
    steps = _steps_that_fit(shots, prompt, (longest, *(fewer for fewer in _FEWER if fewer < longest)))
    if steps is None:
        longest = max((stop - start for start, stop in shots), default=0)
        raise UserError(
            subject,
            f"its longest shot has {longest} frames and a measure needs {prompt + 1}",
            "Give a longer video, or one with fewer cuts",
        )
    length = prompt + steps
    spans = [(start, stop - length + 1) for start, stop in shots if stop - start >= length]
    places = np.concatenate([np.arange(a, b) for a, b in spans])
    blocks = np.concatenate([(np.arange(b - a) // length) + 1_000_000 * i for i, (a, b) in enumerate(spans)])
    windows = sum((stop - start) // length for start, stop in shots)
    # Non-overlapping clips first; more than that only where the count asks for them, half a prompt apart at the least.
    count = min(count, max(windows, len(places) // max(prompt // 2, 1)), len(places))
    picked = np.unique(np.linspace(0, len(places) - 1, max(count, 1)).round().astype(int))
    return Clips(store, places[picked], blocks[picked], prompt, steps)


def _steps_that_fit(shots: Sequence[tuple[int, int]], prompt: int, known: Sequence[int]) -> int | None:
    """The most steps that still leave enough separate clips; else the most that leave one."""
    for needed in (_ENOUGH_WINDOWS, 1):
        for steps in known:
            if sum((stop - start) // (prompt + steps) for start, stop in shots) >= needed:
                return steps
    return None
