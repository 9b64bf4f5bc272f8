"""Films of frames: H.264 (mp4), GIF, or a sheet of stills (png), written one frame at a time.

Each writer puts its file beside its place and renames it, so that a film that exists is whole.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from train.errors import UserError

Frame = UInt8[np.ndarray, "H W 3"]
SHEET_STILLS = 24
SHEET_COLUMNS = 6


class Writer(Protocol):
    """One film under way: frames of one size come in order, `close` finishes the file."""

    def add(self, frame_HWC: Frame) -> None: ...
    def close(self) -> None: ...


class Mp4:
    """H.264 in yuv420p, which every browser and player shows. The sides must be even, as chroma is halved."""

    def __init__(self, path: Path, fps: float, *, crf: int = 18) -> None:
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._rate, self._crf = Fraction(fps).limit_denominator(1001), crf
        self._stream: av.VideoStream | None = None

    def add(self, frame_HWC: Frame) -> None:
        if self._stream is None:
            height, width = frame_HWC.shape[:2]
            if height % 2 or width % 2:
                raise ValueError(f"An mp4 film needs frames of even sides, not {width}x{height}; pad or crop them.")
            self._stream = self._container.add_stream("libx264", rate=self._rate, options={"crf": str(self._crf)})
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()


class Gif:
    """An endless GIF, each frame in 256 colours of its own.

    Frames are dropped above 50 a second: players slow a GIF down whose frames are shorter than 20 ms.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._period = path, 1000 / fps  # ms
        self._images: list[Image.Image] = []
        self._starts: list[int] = []  # ms, in the format's unit of 10 ms
        self._count = 0

    def add(self, frame_HWC: Frame) -> None:
        start = round(self._count * self._period / 10) * 10
        self._count += 1
        if not self._starts or start - self._starts[-1] >= 20:
            self._starts.append(start)
            self._images.append(Image.fromarray(frame_HWC).quantize(256, dither=Image.Dither.NONE))

    def close(self) -> None:
        if not self._images:
            raise ValueError("A GIF needs at least one frame.")
        ends = [*self._starts[1:], max(round(self._count * self._period / 10) * 10, self._starts[-1] + 20)]
        durations = [end - start for start, end in zip(self._starts, ends, strict=True)]
        first, *rest = self._images
        first.save(self._path, "GIF", save_all=True, append_images=rest, duration=durations, loop=0)


class Sheet:
    """A PNG of stills in rows: every n-th frame, n the smallest power of two with which at most `stills` remain."""

    def __init__(self, path: Path, *, stills: int = SHEET_STILLS, columns: int = SHEET_COLUMNS, gap: int = 8) -> None:
        self._path, self._limit, self._columns, self._gap = path, stills, columns, gap
        self._stills: list[Frame] = []
        self._every, self._count = 1, 0

    def add(self, frame_HWC: Frame) -> None:
        if self._count % self._every == 0:
            if len(self._stills) == self._limit:
                self._stills, self._every = self._stills[::2], self._every * 2
            if self._count % self._every == 0:
                self._stills.append(np.array(frame_HWC))
        self._count += 1

    def close(self) -> None:
        if not self._stills:
            raise ValueError("A sheet needs at least one frame.")
        height, width = self._stills[0].shape[:2]
        columns = min(self._columns, len(self._stills))
        rows = -(-len(self._stills) // columns)
        gap = self._gap
        sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 16, np.uint8)
        for index, still in enumerate(self._stills):
            row, column = divmod(index, columns)
            top, left = gap + row * (height + gap), gap + column * (width + gap)
            sheet[top : top + height, left : left + width] = still
        Image.fromarray(sheet).save(self._path, "PNG")


def check_film_path(path: str | os.PathLike[str]) -> Path:
    """The path, if a film can be written there.

    Raises:
        UserError: its ending is none of .mp4, .gif and .png, or it is a folder.
    """
    path = Path(path)
    if path.suffix.lower() not in (".mp4", ".gif", ".png"):
        raise UserError(path, "its ending names no kind of film", "Use .mp4, .gif or .png.")
    if path.is_dir():
        raise UserError(path, "it is a folder", "Give the name of a file.")
    return path


@contextmanager
def film_writers(paths: Sequence[str | os.PathLike[str]], fps: float) -> Iterator[list[Writer]]:
    """A writer for each path by its ending; the files appear when the block ends well, none when it fails."""
    with ExitStack() as stack:
        yield [stack.enter_context(_film_writer(check_film_path(path), fps)) for path in paths]


@contextmanager
def _film_writer(path: Path, fps: float) -> Iterator[Writer]:
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _removed_after(beside):
            kind = path.suffix.lower()
            writer = Mp4(beside, fps) if kind == ".mp4" else Gif(beside, fps) if kind == ".gif" else Sheet(beside)
            try:
                yield writer
            finally:
                writer.close()
            beside.replace(path)
    except OSError as error:
        raise UserError(path, f"it cannot be written ({error.strerror or error})", "Choose another place.") from error


@contextmanager
def _removed_after(file: Path) -> Iterator[None]:
    """Removes the file when the block ends, unless it was renamed."""
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
