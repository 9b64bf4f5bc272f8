"""One player's game: a session of the world, its history, and the ways back into it. Knows no network and no clock.

What has happened is prompt, seed, and for each step its code and the settings it was made under; from these every
moment can be made again, to the bit. Snapshots of the session at growing intervals make going back quick. The frames
of the last steps are kept as JPEG, for films and for the page.
"""

import io
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from app.play.gallery import Prompt
from app.play.protocol import CUT, PROMPT, SNAPPED, FrameMessage, Mark, Settings, runs_of
from torch_bridge.session import Snapshot
from torch_bridge.world import World

QUALITY = 92  # of JPEG, without chroma subsampling
FRAMES_KEPT = 3_000
SNAPSHOTS_KEPT = 64
FIRST_INTERVAL = 8  # steps between snapshots, doubled whenever they become too many


def to_jpeg(frame_HWC: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """A frame for the page."""
    out = io.BytesIO()
    Image.fromarray(frame_HWC).save(out, "JPEG", quality=QUALITY, subsampling=0)
    return out.getvalue()


@dataclass(frozen=True, slots=True)
class Moment:
    """One step of the history.

    Attributes:
        code: that led here.
        settings: it was made under.
        jpeg: its frame, None where that is no longer kept.
        snapped: whether the game went on from its encoded frame.
    """

    code: int
    settings: Settings
    jpeg: bytes | None
    snapped: bool = False


class Game:
    """A player's way through a world.

    Args:
        world: shared with other games; its steps must be taken by one thread.
    """

    def __init__(self, world: World) -> None:
        self._world, self._session = world, world.session()
        self.settings = self.first_settings = Settings()
        self.prompt: Prompt | None = None
        self.seed = 0
        self._first: bytes = b""
        self._moments: list[Moment] = []
        self._truth: list[bytes] = []
        self._snapshots: dict[int, Snapshot] = {}
        self._interval = FIRST_INTERVAL
        self._oldest = 0

    @property
    def step_number(self) -> int:
        """Steps since the prompt's last frame."""
        return len(self._moments)

    @property
    def oldest(self) -> int:
        """The first step whose frame is kept. Going back does not bring older ones back."""
        return self._oldest

    def codes(self, after: int = 0, last: int | None = None) -> list[list[int]]:
        """Codes of this branch after a step, up to `last` or the newest, as runs."""
        return runs_of(moment.code for moment in self._moments[after:last])

    def marks(self, first: int = 0, last: int | None = None) -> list[Mark]:
        """Snaps and changes of settings at the steps from `first` to `last` or the newest.

        With prompt, seed, first settings and codes all of them say everything that happened.
        """
        moments, found = self._moments, []
        before = moments[first - 1].settings if first else self.first_settings
        for step in range(first, (len(moments) if last is None else last) + 1):
            after = moments[step].settings if step < len(moments) else self.settings
            snapped = step > 0 and moments[step - 1].snapped
            changed = after is not before and after != before  # most are one object: models are slow to compare
            if snapped or changed:
                found.append(Mark(step=step, snap=snapped, settings=after if changed else None))
            before = after
        return found

    def start(self, prompt: Prompt, seed: int, settings: Settings, *, compare: bool = False) -> list[int]:
        """Begin from a prompt; with `compare` from its first half.

        Returns:
            The codes that the action model reads from the second half; none without `compare`.

        Raises:
            ValueError: a setting is out of range, or the prompt is too short to compare.
        """
        frames_THWC = prompt.frames_THWC
        if compare and len(frames_THWC) < 4:
            raise ValueError(f"This prompt has {len(frames_THWC)} frames, and 4 are the least to compare with.")
        half = max(len(frames_THWC) // 2, len(frames_THWC) - FRAMES_KEPT) if compare else len(frames_THWC)
        given = {name: value for name, value in settings.model_dump().items() if value is not None}
        self._session.reset(frames_THWC[:half], seed=seed, **given)  # raises before anything of the game has changed
        self.prompt, self.seed, self.settings, self.first_settings = prompt, seed, settings, settings
        self._first = to_jpeg(frames_THWC[half - 1])
        self._moments, self._snapshots, self._interval = [], {0: self._session.snapshot()}, FIRST_INTERVAL
        self._oldest = 0
        self._truth = [to_jpeg(frame) for frame in frames_THWC[half:]] if compare else []
        if not compare:
            return []
        return [int(code) for code in self._world.infer_actions(frames_THWC)[half - 1 :]]

    @property
    def frames_used(self) -> int:
        """Frames of the prompt that the game began from."""
        return len(self.prompt.frames_THWC) - len(self._truth) if self.prompt else 0

    @property
    def truth_frames(self) -> int:
        """Frames of the true continuation."""
        return len(self._truth)

    def newest(self, flags: int = 0) -> FrameMessage:
        """The frame where the game stands."""
        step = self.step_number
        truth = self._truth[step - 1] if 0 < step <= len(self._truth) else None
        if not self._moments:
            return FrameMessage(0, None, flags | PROMPT, self._first)
        moment = self._moments[-1]
        flags |= SNAPPED if moment.snapped else 0
        return FrameMessage(step, moment.code, flags, moment.jpeg or b"", truth)

    def step(self, code: int) -> FrameMessage:
        """Take a code."""
        began = time.perf_counter()
        frame_HWC = self._session.step(code)
        spent = time.perf_counter() - began
        self._moments.append(Moment(code, self.settings, to_jpeg(frame_HWC)))
        self._forget()
        self._take_snapshot()
        frame = self.newest()
        return FrameMessage(frame.step, code, frame.flags, frame.jpeg, frame.truth, step_us=round(spent * 1e6))

    def check(self, marks: Iterable[Mark]) -> None:
        """Raises ValueError where the settings of a replay's marks are out of range."""
        for mark in marks:
            if mark.settings is not None:
                knobs = mark.settings.model_dump()
                self._world.reencode_every(knobs.pop("reencode_every"))
                self._world.knobs(**knobs)

    def change(self, settings: Settings) -> None:
        """Settings of the steps to come.

        Raises:
            ValueError: out of range, or of no use in this world; nothing has changed.
        """
        self._session.set_knobs(**settings.model_dump())
        self.settings = settings

    def snap(self) -> FrameMessage:
        """Encode the newest frame and go on from that.

        Raises:
            ValueError: nothing was generated yet: the prompt's frames are encoded ones already.
        """
        if not self._moments:
            raise ValueError("The world stands at its prompt, which is encoded already. Take a step first.")
        self._session.snap()
        last = self._moments[-1]
        self._moments[-1] = Moment(last.code, last.settings, last.jpeg, snapped=True)
        if self.step_number in self._snapshots:
            self._snapshots[self.step_number] = self._session.snapshot()
        return self.newest()

    def rewind(self, step: int) -> Iterator[FrameMessage | None]:
        """Go back to a step, in parts: yields None after every step on the way, at last the frame there.

        What came after is forgotten at once; the parts must all be taken before anything else is done.

        Raises:
            ValueError: the game has no such step, or keeps it no longer.
        """
        if self.prompt is None:
            raise ValueError("The world stands nowhere yet: choose a prompt.")
        if not self.oldest <= step <= self.step_number:
            kept = f"from {self.oldest} to {self.step_number}"
            raise ValueError(f"There is no step {step} to go back to: this branch is kept {kept}.")
        now = self.settings
        way, self._moments = self._moments[:step], self._moments[:step]
        near = max(number for number in self._snapshots if number <= step)
        self._snapshots = {number: one for number, one in self._snapshots.items() if number <= step}
        self._session.restore(self._snapshots[near])
        for moment in way[near:]:
            self._session.set_knobs(**moment.settings.model_dump())
            self._session.step(moment.code)
            if moment.snapped:
                self._session.snap()
            yield None
        self._session.set_knobs(**now.model_dump())
        yield self.newest(CUT)

    def stretch(self, first: int, last: int) -> list[tuple[int, int | None, bytes]]:
        """Step, code and JPEG of the frames `first` to `last`, as far as they are kept.

        Raises:
            ValueError: there is none.
        """
        first, last = max(first, self.oldest), min(last, self.step_number)
        if first > last or self.prompt is None:
            raise ValueError("There is no frame in this stretch.")
        frames: list[tuple[int, int | None, bytes]] = [(0, None, self._first)] if first == 0 else []
        for number, moment in enumerate(self._moments[max(first, 1) - 1 : last], start=max(first, 1)):
            frames.append((number, moment.code, moment.jpeg or b""))
        return frames

    def _forget(self) -> None:
        """Drop the frame that has become older than `oldest`."""
        self._oldest = max(self._oldest, len(self._moments) - FRAMES_KEPT)
        if (place := self.oldest - 2) >= 0:
            old = self._moments[place]
            self._moments[place] = Moment(old.code, old.settings, None, old.snapped)

    def _take_snapshot(self) -> None:
        if self.step_number % self._interval:
            return
        self._snapshots[self.step_number] = self._session.snapshot()
        before = [number for number in self._snapshots if number <= self.oldest]
        for number in sorted(before)[:-1]:  # the nearest before the oldest frame is still of use
            del self._snapshots[number]
        if len(self._snapshots) > SNAPSHOTS_KEPT:
            self._interval *= 2
            least = min(self._snapshots)
            self._snapshots = {n: one for n, one in self._snapshots.items() if n % self._interval == 0 or n == least}
