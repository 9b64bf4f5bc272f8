"""What the inputs are: which files make up a source, and what a video says about itself before it is decoded."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
from av.stream import Disposition

from train.errors import UserError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".wmv", ".flv", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".m2v"}
    | {".3gp", ".ogv", ".gif", ".apng", ".y4m", ".vob", ".mxf", ".asf", ".divx", ".ivf", ".f4v"}
    | {".h264", ".264", ".h265", ".265", ".hevc", ".av1", ".obu"}
)
DEFAULT_RATE = 25.0  # of raw elementary streams, which carry no rate at all
PLAUSIBLE_RATES = (0.1, 1000.0)


class MediaError(Exception):
    """One input cannot be used; the message says why, without the input's name."""


@dataclass(frozen=True)
class Source:
    """One video, or the images of one folder in their natural order.

    Attributes:
        name: how reports call it.
        kind: "video" (one path) or "images" (one path a frame).
        paths: the files.
    """

    name: str
    kind: Literal["video", "images"]
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class VideoInfo:
    """What the header of a video says. `rate` is in frames a second, `seconds` is None where it is not declared."""

    width: int
    height: int
    rate: float
    seconds: float | None


def natural_order(path: Path) -> tuple[list[tuple[int, int | str]], str]:
    """Sort key under which `2.png` comes before `10.png`."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(p)) if p.isdigit() else (1, p) for p in parts], str(path)


def find_sources(inputs: Sequence[Path], log: Callable[[str], None]) -> list[Source]:
    """Files and folders, as the user named them, to sources.

    A named file is always tried; in a folder (searched to any depth) only files with a known suffix are. All images
    of one folder are one source. Files named twice count once.

    Raises:
        UserError: an input does not exist, or none were given.
    """
    if not inputs:
        raise UserError("no input", "no video was given", "Name at least one video file or folder.")
    files: list[Path] = []
    for given in map(Path, inputs):
        if given.is_dir():
            found = sorted((p for p in given.rglob("*") if p.is_file() and not _hidden(p, given)), key=str)
            known = [p for p in found if p.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES]
            if not known:
                log(f"{given}: no video or image in this folder")
            elif len(known) < len(found):
                log(f"{given}: {len(found) - len(known)} files that are neither video nor image left out")
            files += known
        elif given.exists():
            files.append(given)
        else:
            raise UserError(given, "no such file or folder", "Check the path.")
    unique = list({p.resolve(): p for p in reversed(files)}.values())[::-1]
    return _group(unique)


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _group(files: Sequence[Path]) -> list[Source]:
    folders: dict[Path, list[Path]] = {}
    order: list[Path] = []  # a video by its path, images by their folder, both in order of first mention
    for path in files:
        is_image = path.suffix.lower() in IMAGE_SUFFIXES
        place = path.parent if is_image else path
        if place not in order:
            order.append(place)
        if is_image:
            folders.setdefault(place, []).append(path)
    sources = []
    for place in order:
        if place in folders:
            name = f"{place.resolve().name}/ ({len(folders[place])} images)"
            sources.append(Source(name, "images", tuple(sorted(folders[place], key=natural_order))))
        else:
            sources.append(Source(place.name, "video", (place,)))
    return _distinct_names(sources)


def _distinct_names(sources: list[Source]) -> list[Source]:
    names = [s.name for s in sources]
    return [
        Source(f"{s.paths[0].resolve().parent.name}/{s.name}", s.kind, s.paths) if names.count(s.name) > 1 else s
        for s in sources
    ]


# Damaged text of metadata is no reason to refuse a video. PyAV 19 takes it (as surrogates) and has no such option.
_LENIENT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def open_video(path: Path) -> av.container.InputContainer:
    """Open a video for reading.

    Raises:
        MediaError: empty or not a media file.
    """
    if path.stat().st_size == 0:
        raise MediaError("the file is empty")
    try:
        return av.open(str(path), **_LENIENT)
    except (av.FFmpegError, OSError) as error:
        raise MediaError(f"not a readable video ({_reason(error)})") from error


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The best video stream that is not a cover picture.

    Raises:
        MediaError: the file holds sound only, or nothing that can be decoded.
    """
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        has_sound = bool(container.streams.audio)
        raise MediaError("sound only, no video in it" if has_sound else "no video in it")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise MediaError("its video codec is not supported here")
    return stream


def stream_info(container: av.container.InputContainer, stream: av.VideoStream) -> VideoInfo:
    """Size, rate and length as declared, with a plausible rate where the file declares none."""
    low, high = PLAUSIBLE_RATES
    rates = (float(r) for r in (stream.average_rate, stream.guessed_rate, stream.base_rate) if r)
    rate = next((r for r in rates if low <= r <= high), DEFAULT_RATE)
    seconds = None
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        seconds = container.duration / av.time_base
    return VideoInfo(stream.width, stream.height, rate, seconds if seconds and seconds > 0 else None)


def probe(path: Path) -> VideoInfo:
    """What a video says about itself; decodes nothing but what the header needs.

    Raises:
        MediaError: the file cannot be used.
    """
    with open_video(path) as container:
        return stream_info(container, video_stream(container))


def digest(source: Source) -> str:
    """SHA-256 of the source's bytes, as hex: of the file, or of the list of the images' digests."""
    digests = []
    for path in source.paths:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if source.kind == "video" else hashlib.sha256("".join(digests).encode()).hexdigest()


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).split(":")[0].strip().lower()
