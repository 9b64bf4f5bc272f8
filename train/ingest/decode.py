"""Videos and images as square frames: the one stream that both `prepare` and prompts read."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image, ImageOps

from train.errors import UserError
from train.ingest.crop import Box, Framing, find_content, make_framing
from train.ingest.probe import IMAGE_SUFFIXES, MediaError, open_video, stream_info, video_stream
from train.ingest.video import DecodeLog, Picture, decoded_frames, read_video, upright

LETTERBOX_SAMPLES = 16
CLIP_LIMIT = 10_000  # frames that a clip in memory may have


def read_image(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """An image file as RGB, turned upright by its EXIF tag, transparency over black.

    Raises:
        MediaError: not a readable image.
    """
    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith(("I", "F")):  # 16 bits a sample
                deep = np.asarray(image, np.float64)
                image = Image.fromarray((deep / max(deep.max(), 255) * 255).astype(np.uint8))
            if "A" in image.getbands() or "transparency" in image.info:
                image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaError("not a readable image") from error


def letterbox_content(path: Path) -> Box | None:
    """The region of a video without black bars (`crop.find_content`), from pictures spread over its length.

    Raises:
        MediaError: the file cannot be read.
    """
    samples = _spread_samples(path)
    if len(samples) < LETTERBOX_SAMPLES // 2:
        samples = _first_samples(path)
    shapes = [picture.shape for picture in samples]
    return find_content([picture for picture in samples if picture.shape == max(set(shapes), key=shapes.count)])


def _spread_samples(path: Path) -> list[np.ndarray]:
    """The key frames nearest to evenly spaced times; none of a short video, where they would be all the same."""
    samples: dict[int, np.ndarray] = {}
    with open_video(path) as container:
        stream = video_stream(container)
        info = stream_info(container, stream)
        if info.seconds is None or info.seconds < LETTERBOX_SAMPLES or stream.time_base is None:
            return []
        for place in range(LETTERBOX_SAMPLES):
            offset = int(info.seconds * (place + 0.5) / LETTERBOX_SAMPLES / stream.time_base)
            try:
                container.seek((stream.start_time or 0) + offset, stream=stream)
            except (av.FFmpegError, OSError):  # raw and damaged streams cannot be searched
                break
            frame = next((f for f, _ in decoded_frames(container, stream, DecodeLog())), None)
            if frame is not None and frame.pts is not None:
                samples[frame.pts] = upright(frame)
    return list(samples.values())


def _first_samples(path: Path) -> list[np.ndarray]:
    samples: list[np.ndarray] = []
    with open_video(path) as container:
        stream = video_stream(container)
        info = stream_info(container, stream)
        every = max(1, round(info.rate * min(info.seconds or 1.0, LETTERBOX_SAMPLES) / LETTERBOX_SAMPLES))
        for index, (frame, _) in enumerate(decoded_frames(container, stream, DecodeLog())):
            if index % every == 0:
                samples.append(upright(frame))
            if len(samples) >= LETTERBOX_SAMPLES:
                break
    return samples


def decode_clip(
    path: Path, *, size: int, fps: float, crop: str = "center", letterbox: bool = True, max_frames: int = CLIP_LIMIT
) -> tuple[UInt8[np.ndarray, "T size size 3"], Int64[np.ndarray, "T"]]:
    """A short video, or an image of any size as one frame, in memory, framed as `prepare` frames.

    Args:
        path: a video or an image.
        size: side of the frames.
        fps: upper bound of the rate.
        crop: see `crop.make_framing`.
        letterbox: remove black bars of a video.
        max_frames: reading stops after as many.

    Returns:
        Frames, and the number of each in the source.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(path, "no such file", "Check the path.")
    try:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            rgb = read_image(path)
            framing = make_framing(rgb.shape[1], rgb.shape[0], size=size, crop=crop, content=None)
            return framing.apply(rgb)[None], np.zeros(1, np.int64)
        frame_of = Framer(size=size, crop=crop, content=letterbox_content(path) if letterbox else None)
        frames, indices = [], []
        for picture, _ in read_video(path, fps=fps, log=DecodeLog()):
            frames.append(frame_of(picture))
            indices.append(picture.source_index)
            if len(frames) == max_frames:
                break
    except MediaError as error:
        raise UserError(path, str(error), "Give a video or an image that plays elsewhere.") from error
    return np.stack(frames), np.array(indices, np.int64)


class Framer:
    """From pictures to frames, with one framing for each size that the pictures have."""

    def __init__(self, *, size: int, crop: str, content: Box | None) -> None:
        """
        Args:
            size, crop: see `crop.make_framing`.
            content: region without bars, of those pictures whose size is that of the first.
        """
        self._size, self._crop, self._content = size, crop, content
        self._framings: dict[tuple[int, int, float], Framing] = {}

    def __call__(self, picture: Picture) -> UInt8[np.ndarray, "size size 3"]:
        height, width = picture.rgb.shape[:2]
        key = (width, height, picture.aspect)
        if key not in self._framings:
            like_first = not self._framings or next(iter(self._framings))[:2] == (width, height)
            content = self._content if like_first else None
            self._framings[key] = make_framing(
                width, height, size=self._size, crop=self._crop, content=content, aspect=picture.aspect
            )
        return self._framings[key].apply(picture.rgb)

    @property
    def region(self) -> Box:
        """The region of the first picture that was used."""
        return next(iter(self._framings.values())).box


def read_images(paths: Sequence[Path], log: DecodeLog) -> Iterator[tuple[Picture, bool]]:
    """Images as pictures; an unreadable one is noted in `log` and leaves a gap.

    Raises:
        MediaError: none is readable.
    """
    gap, read = False, 0
    for index, path in enumerate(paths):
        try:
            picture = Picture(read_image(path), index, 1.0, gap)
        except MediaError as error:
            log.notes.append(f"{path.name}: {error}")
            gap = True
            continue
        gap, read = False, read + 1
        yield picture, False
    if not read:
        raise MediaError("none of the images is readable")
