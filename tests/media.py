"""Small test videos, drawn frame by frame and encoded with PyAV."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition


def moving_square(
    frames: int, *, width: int = 96, height: int = 64, seed: int = 0, speed: float = 2.0
) -> list[np.ndarray]:
    """HWC uint8 pictures: a bright square that travels over a fixed texture; another seed, another texture."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 200, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    background = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    side = height // 4
    pictures = []
    for t in range(frames):
        picture = background.copy()
        x = int(t * speed) % (width - side)
        y = int(t * speed / 2) % (height - side)
        picture[y : y + side, x : x + side] = (250, 240, 20)
        pictures.append(picture)
    return pictures


def write_video(
    path: Path,
    pictures: Sequence[np.ndarray],
    *,
    fps: float = 30,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    times: Sequence[float] | None = None,
    rotation: int = 0,
    sound: bool = False,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encode pictures.

    Args:
        times: seconds of each picture, for a varying rate; by default number / fps.
        rotation: of the display matrix, degrees counterclockwise.
        sound: add a track of silence.
        options, container_options: of the encoder and of the file format.
    """
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options or {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixel_format
        if rotation:
            stream.set_display_rotation(rotation)
        track = container.add_stream("aac", rate=8000, layout="mono") if sound else None
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if track is not None:
            write_silence(container, track, len(pictures) / fps)
    return path


def write_silence(container: av.container.OutputContainer, track: av.AudioStream, seconds: float) -> None:
    """Encode a track of silence."""
    sound = av.AudioFrame.from_ndarray(np.zeros((1, int(8000 * seconds)), np.float32), format="fltp", layout="mono")
    sound.sample_rate = 8000
    for part in (*track.encode(sound), *track.encode()):
        container.mux(part)


def write_sound_file(path: Path, *, cover: np.ndarray | None = None) -> Path:
    """A media file with sound only, on request with a cover picture."""
    with av.open(str(path), "w") as container:
        track = container.add_stream("aac", rate=8000, layout="mono")
        if cover is not None:
            picture = container.add_stream("mjpeg", rate=1)
            picture.height, picture.width = cover.shape[:2]
            picture.pix_fmt = "yuvj420p"
            picture.disposition = Disposition.attached_pic
            container.mux(picture.encode(av.VideoFrame.from_ndarray(cover, format="rgb24")))
            container.mux(picture.encode())
        write_silence(container, track, 1.0)
    return path
