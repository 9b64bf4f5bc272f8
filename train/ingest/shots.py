"""Which frames are kept and where shots begin: black frames, standing pictures, cuts.

Cuts are PySceneDetect's adaptive ones (a jump that stands out from the motion around it), computed on frames that
differ from the one before: a standing picture or a game that draws at a third of the rate would otherwise make every
small motion stand out. A jump from which the picture returns at once is a flash and no cut.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import cv2
import numpy as np
from jaxtyping import UInt8
from scenedetect import AdaptiveDetector, FrameTimecode

T = TypeVar("T")
ANALYSIS_SIZE = 64  # side at which frames are compared, so that no threshold depends on the frames' size
BLACK_LEVEL = 24  # brightness below which a pixel is black
BLACK_SHARE = 0.001  # of the pixels may be brighter
SAME_MEAN = 0.6  # mean brightness difference of equal pictures after a lossy codec
SAME_BLOCK = 2.5  # the same over any block of 8 x 8: one small thing that moves is no standing picture
WINDOW = 2  # frames on either side that a cut must stand out from; also the delay of a decision
FLASH_RETURN = 0.5  # of a jump's size: a picture nearer than this to the one before the jump has returned

Reason = Literal["black", "duplicate"]


@dataclass(frozen=True)
class Verdict(Generic[T]):
    """What becomes of one frame: `dropped` says why it is not kept, `starts_shot` whether a shot begins with it."""

    item: T
    dropped: Reason | None = None
    starts_shot: bool = False


class _Pending(NamedTuple):
    item: Any
    distinct: bool


class ShotSplitter(Generic[T]):
    """Judges a stream of frames, a few frames late and with memory for about a second of it."""

    def __init__(self, *, fps: float, duplicates_seconds: float, detect_cuts: bool) -> None:
        """
        Args:
            fps: rate of the frames.
            duplicates_seconds: of a standing picture that are kept.
            detect_cuts: without, only black frames and lost footage end a shot.
        """
        self._fps, self._detect_cuts = fps, detect_cuts
        self._longest_run = max(1, round(duplicates_seconds * fps))
        self._pending: deque[_Pending] = deque()
        self._detector = _CutDetector(fps)
        self._anchor: np.ndarray | None = None
        self._run = 0
        self._boundary = True

    def push(self, frame: UInt8[np.ndarray, "S S 3"], item: T, *, gap: bool = False) -> Iterator[Verdict[T]]:
        """Take one RGB frame; yields the verdicts that are now certain: kept frames in order, dropped ones at once.

        Args:
            frame: what is judged.
            item: what the verdict carries.
            gap: footage before it is lost.
        """
        small = cv2.resize(frame, (ANALYSIS_SIZE, ANALYSIS_SIZE), interpolation=cv2.INTER_AREA)
        luma = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        if is_black(luma):
            yield from self.flush()
            yield Verdict(item, "black")
            return
        if gap:
            yield from self.flush()
        if self._anchor is not None and is_same(luma, self._anchor):
            self._run += 1
            if self._run > self._longest_run:
                yield Verdict(item, "duplicate")
                return
            self._pending.append(_Pending(item, False))
            if not self._detector.waiting:
                yield from self._release([])
            return
        self._anchor, self._run = luma, 1
        self._pending.append(_Pending(item, True))
        yield from self._release(self._detector.push(small, luma) if self._detect_cuts else [False])

    def flush(self) -> Iterator[Verdict[T]]:
        """Yield what is undecided; the next frame begins a shot."""
        yield from self._release(self._detector.flush())
        self._anchor, self._run, self._boundary = None, 0, True

    def _release(self, cuts: list[bool]) -> Iterator[Verdict[T]]:
        """Let go of as many distinct frames as there are decisions, and of the standing ones behind each."""
        decisions = deque(cuts)
        while self._pending:
            head = self._pending[0]
            if head.distinct:
                if not decisions:
                    return
                self._boundary |= decisions.popleft()
            self._pending.popleft()
            yield Verdict(head.item, starts_shot=self._boundary)
            self._boundary = False


class _CutDetector:
    """Feeds PySceneDetect and answers, `WINDOW` frames late, whether each frame begins a shot."""

    def __init__(self, fps: float) -> None:
        self._fps = float(fps)  # PySceneDetect refuses whole numbers
        self._reset()

    def _reset(self) -> None:
        self._detector = AdaptiveDetector(window_width=WINDOW, min_scene_len=1)
        self._fed = 0
        self._lumas: deque[np.ndarray] = deque(maxlen=2 * WINDOW + 1)
        self._last: np.ndarray | None = None
        self.waiting = 0

    def push(self, small: np.ndarray, luma: np.ndarray) -> list[bool]:
        if self._last is None:
            # Repeats of the first and of the last frame let the detector judge the frames at both ends too.
            for _ in range(WINDOW):
                self._feed(small, luma)
        self._last = small
        self.waiting += 1
        cut = self._feed(small, luma)
        if self.waiting <= WINDOW:
            return []
        self.waiting -= 1
        return [cut]

    def flush(self) -> list[bool]:
        if self._last is None:
            return []
        luma = self._lumas[-1]
        late = [self._feed(self._last, luma) for _ in range(WINDOW)]
        decided = late[WINDOW - self.waiting :]
        self._reset()
        return decided

    def _feed(self, small: np.ndarray, luma: np.ndarray) -> bool:
        """Whether the frame fed `WINDOW` frames ago begins a shot."""
        self._lumas.append(luma)
        found = self._detector.process_frame(FrameTimecode(self._fed, self._fps), small[..., ::-1])
        self._fed += 1
        return bool(found) and not self._is_flash()

    def _is_flash(self) -> bool:
        lumas = [luma.astype(np.int16) for luma in self._lumas]
        before, after = lumas[:WINDOW], lumas[WINDOW:]
        jump = np.abs(after[0] - before[-1]).mean()
        return min(np.abs(a - b).mean() for a in after for b in before) < FLASH_RETURN * jump


def is_black(luma: UInt8[np.ndarray, "S S"]) -> bool:
    """Whether next to nothing of a picture is lit."""
    return float((luma > BLACK_LEVEL).mean()) <= BLACK_SHARE


def is_same(luma: UInt8[np.ndarray, "S S"], other: UInt8[np.ndarray, "S S"]) -> bool:
    """Whether two pictures differ by no more than a codec's noise."""
    difference = cv2.absdiff(luma, other)
    if cv2.mean(difference)[0] > SAME_MEAN:
        return False
    blocks = cv2.resize(difference.astype(np.float32), (8, 8), interpolation=cv2.INTER_AREA)
    return float(blocks.max()) <= SAME_BLOCK
