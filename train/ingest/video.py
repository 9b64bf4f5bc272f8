"""A video as a stream of upright RGB pictures on an even time grid; memory does not grow with its length."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import av
import numpy as np
from jaxtyping import UInt8

from train.ingest.probe import MediaError, VideoInfo, open_video, stream_info, video_stream

T = TypeVar("T")
SLACK = 0.3  # of a source frame: timestamps rounded to milliseconds must not make the grid miss its frame
MAX_BAD_PACKETS = 200  # in a row; beyond this the rest of the file is noise


class Picture(NamedTuple):
    """One upright picture. `aspect` is a pixel's width over its height; `broken`: footage before it is lost."""

    rgb: UInt8[np.ndarray, "H W 3"]
    source_index: int
    aspect: float
    broken: bool


class _Frame(NamedTuple):
    """A decoded frame, its number in the source, and whether footage before it is lost."""

    frame: av.VideoFrame
    index: int
    gap: bool


@dataclass
class DecodeLog:
    """What went wrong while a video was read, and how far reading came."""

    damaged: int = 0
    seconds: float = 0.0
    truncated: bool = False
    notes: list[str] = field(default_factory=list)


def output_rate(source_rate: float, fps: float) -> float:
    """Rate of the kept frames: `fps` bounds it, a slower source keeps its own."""
    return source_rate if source_rate <= fps * 1.001 else fps


def resample(
    timed: Iterable[tuple[float, T]], *, rate: float, source_rate: float, max_hold: float = math.inf
) -> Iterator[tuple[T, bool]]:
    """What is on the screen at the times 0, 1/rate, 2/rate, ... after the first item.

    Args:
        timed: (seconds, item) in order of time, at any, also varying, distances.
        rate: grid points a second.
        source_rate: items a second, about; sets how far a timestamp may be off.
        max_hold: seconds for which an item is repeated at most where the next is late; the grid then jumps.

    Yields:
        (item, whether it is the same item as before).
    """
    slack, longest = SLACK / source_rate, max_hold * rate
    start = current = None
    tick = emitted = 0
    now = 0.0
    for now, item in timed:
        if start is None:
            start, current = now, item
            continue
        while start + tick / rate + slack < now:
            if emitted >= longest:
                tick = max(tick + 1, math.ceil((now - slack - start) * rate))
                break
            yield current, emitted > 0
            tick, emitted = tick + 1, emitted + 1
        current, emitted = item, 0
    if start is not None and start + tick / rate < now + 1 / source_rate - slack:
        yield current, emitted > 0


def read_video(
    path: Path, *, fps: float, log: DecodeLog, threads: int = 0, max_hold: float = math.inf
) -> Iterator[tuple[Picture, bool]]:
    """Pictures of a video at `output_rate`, each with whether it repeats the one before.

    Args:
        path: any container and codec that FFmpeg reads.
        fps: upper bound of the rate.
        log: filled while reading.
        threads: of the decoder; 0 for one a core.
        max_hold: see `resample`.

    Raises:
        MediaError: not a single frame could be decoded.
    """
    picture = None
    with open_video(path) as container:
        stream = video_stream(container)
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        info = stream_info(container, stream)
        aspect = float(stream.sample_aspect_ratio or 1)
        frames = _timed_frames(container, stream, info, log)
        # Frames that the grid passes over are decoded, because others need them, but never become RGB.
        for frame, repeats in resample(
            frames, rate=output_rate(info.rate, fps), source_rate=info.rate, max_hold=max_hold
        ):
            if not repeats or picture is None:
                picture = _picture(frame, aspect)
            yield picture, repeats
    if picture is None:
        raise MediaError("no frame of it can be decoded")
    _note_damage(log, info)


def _timed_frames(
    container: av.container.InputContainer, stream: av.VideoStream, info: VideoInfo, log: DecodeLog
) -> Iterator[tuple[float, "_Frame"]]:
    """Frames with their seconds, which never fall."""
    period = 1 / info.rate
    shift, last, first = 0.0, -math.inf, None
    for index, (frame, broken) in enumerate(decoded_frames(container, stream, log)):
        stamp = frame.time
        if stamp is None:
            now = 0.0 if first is None else last + period
        else:
            now = stamp + shift
            if now < last - 1.0:  # two recordings behind one another: time starts again
                shift += last + period - now
                now, broken = last + period, True
            now = max(now, last)
        first = now if first is None else first
        last, log.seconds = now, now - first + period
        yield now, _Frame(frame, index, broken)


def decoded_frames(
    container: av.container.InputContainer, stream: av.VideoStream, log: DecodeLog
) -> Iterator[tuple[av.VideoFrame, bool]]:
    """Every frame that can be decoded, and whether footage before it is lost; what cannot is counted in `log`."""
    packets = container.demux(stream)
    bad, broken = 0, False
    while bad <= MAX_BAD_PACKETS:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError):  # the container ends in the middle of a packet
            log.truncated = True
            return
        if packet is None:
            return
        try:
            frames = packet.decode()
        except av.EOFError:
            return
        except av.FFmpegError:
            frames = None
        sound = [f for f in frames or () if not f.is_corrupt]
        if frames is None or len(sound) < len(frames):
            bad, broken = bad + 1, True
            log.damaged += 1
        for frame in sound:
            yield frame, broken
            bad, broken = 0, False
    log.truncated = True


def _note_damage(log: DecodeLog, info: VideoInfo) -> None:
    missing = (info.seconds or 0.0) - log.seconds
    if missing > max(1.0, 0.02 * (info.seconds or 0.0)):
        log.truncated = True
        log.notes.append(
            f"truncated: ends at {log.seconds:.1f} s of {info.seconds:.1f} s; what could be decoded is kept"
        )
    elif log.truncated:
        log.notes.append(f"truncated: unreadable after {log.seconds:.1f} s; what could be decoded is kept")
    if log.damaged:
        log.notes.append(f"damaged in {log.damaged} places; the rest is kept")


def upright(frame: av.VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
    """RGB as a viewer shows it: the display matrix's rotation, in quarter turns, is applied."""
    rgb = frame.to_ndarray(format="rgb24")
    return np.rot90(rgb, round(frame.rotation / 90) % 4)


def _picture(timed: "_Frame", aspect: float) -> Picture:
    turned = round(timed.frame.rotation / 90) % 2
    return Picture(upright(timed.frame), timed.index, 1 / aspect if turned else aspect, timed.gap)
