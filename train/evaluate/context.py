"""What every measure is given, and the few ways in which all of them ask the world."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from train.evaluate.clips import Clips
from train.evaluate.lpips_distance import Distance
from train.evaluate.profile import Log, Profile
from train.evaluate.subject import EvaluatedFrames, EvaluatedWorld

_FRAMES_AT_ONCE = 64


@dataclass(frozen=True)
class Context:
    """One evaluation: the world, the clips, the codes inferred from them, and how much is asked.

    Attributes:
        shots: spans [start, stop) of the store's frames inside which time runs on.
        codes_NTm1: codes of each clip as the world infers them from the true frames.
        mean_frame: uint8 floor of every picture measure; `mean_frame_source` says of which frames it is the mean.
        lpips: the distance, or why there is none.
    """

    world: EvaluatedWorld
    store: EvaluatedFrames
    shots: Sequence[tuple[int, int]]
    clips: Clips
    codes_NTm1: Int[np.ndarray, "N Tm1"]
    code_count: int
    mean_frame: UInt8[np.ndarray, "H W C"]
    mean_frame_source: str
    lpips: Distance | str
    profile: Profile
    seed: int
    log: Log

    def rng(self, name: str) -> np.random.Generator:
        """Random numbers of one measure, the same whichever other measures run."""
        return np.random.default_rng([self.seed, *name.encode()])

    def said(self, mode: str, **more: object) -> dict[str, object]:
        """Details that stand beside every number of the clips."""
        return {"seed": self.seed, "prompt": self.clips.prompt, "mode": mode, **more}


def encode(world: EvaluatedWorld, frames_NHWC: UInt8[np.ndarray, "N H W C"]) -> Float[np.ndarray, "N L D"]:
    """w of any number of frames, a bounded number at once."""
    parts = [
        np.asarray(world.encode(frames_NHWC[i : i + _FRAMES_AT_ONCE]), np.float32)
        for i in range(0, len(frames_NHWC), _FRAMES_AT_ONCE)
    ]
    return np.concatenate(parts)


def decode(world: EvaluatedWorld, w_NLD: Float[np.ndarray, "N L D"]) -> UInt8[np.ndarray, "N H W C"]:
    """Frames of any number of w, a bounded number at once."""
    parts = [np.asarray(world.decode(w_NLD[i : i + _FRAMES_AT_ONCE])) for i in range(0, len(w_NLD), _FRAMES_AT_ONCE)]
    return np.concatenate(parts)


def infer_codes(world: EvaluatedWorld, clips: Clips, log: Log) -> Int[np.ndarray, "N Tm1"]:
    """Codes of every clip, each from its own frames alone."""
    codes = []
    for chosen in clips.batches():
        codes += [np.asarray(world.infer_actions(frames), np.int64) for frames in clips.frames(chosen)]
        log(f"  codes of clip {chosen.stop}/{len(clips)}")
    return np.stack(codes)


def pieces(shots: Sequence[tuple[int, int]], frames: int, limit: int) -> Iterator[tuple[int, int, int]]:
    """(shot, start, stop) of stretches of at most `frames` frames that cover at most `limit` transitions.

    Consecutive stretches share a frame, so that no transition inside a shot is lost. Where the shots hold more than
    `limit` transitions, every shot gives its share from its beginning.
    """
    total = sum(max(stop - start - 1, 0) for start, stop in shots)
    share = min(1.0, limit / max(total, 1))
    for number, (start, stop) in enumerate(shots):
        end = min(stop, start + 1 + int(np.ceil((stop - start - 1) * share)))
        for a in range(start, end - 1, frames - 1):
            yield number, a, min(a + frames, end)
