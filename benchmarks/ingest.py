"""`genie prepare` beside plain PyAV decoding of the same video, and reading the frames back beside plain decoding.

    python benchmarks/ingest.py [VIDEO ...] [-o ingest.json]

One video is one source, which `prepare` does in its own process; PyAV decodes it here, to RGB, with as many threads.
Reading draws random batches from the folder; beside it the same JPEGs are decoded from memory, one after another.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
from rows import Row, arguments, compare, figure, finish
from timing import interleaved

from train.ingest.config import IngestConfig
from train.ingest.prepare import prepare
from train.ingest.store import FrameStore, encode_frame

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "doom_room_heldout.mp4"
READ = 64  # frames a batch


def film(path: Path, *, width: int, height: int, frames: int) -> Path:
    """A film of a texture that moves, with noise: H.264 at 30 frames a second."""
    rng = np.random.default_rng(0)
    texture = cv2.resize(rng.integers(0, 255, (height // 8, width // 4, 3), np.uint8), (2 * width, height))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            left = number * 3 % width
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(texture[:, left : left + width]), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def decode(video: Path) -> int:
    """Decode all frames to RGB arrays; their number."""
    with av.open(str(video)) as container:
        container.streams.video[0].thread_type = "AUTO"
        return sum(frame.to_ndarray(format="rgb24") is not None for frame in container.decode(video=0))


def preparing(video: Path, config: IngestConfig) -> Callable[[], None]:
    """A call that prepares the video into a new folder and removes it."""

    def call() -> None:
        with tempfile.TemporaryDirectory() as folder:
            prepare([video], Path(folder) / "frames", config, log=lambda _: None, progress=False)

    return call


def measure(video: Path, config: IngestConfig, *, rounds: int) -> list[Row]:
    """Rows of one video at its own frame rate."""
    frames = decode(video)
    calls = {"prepare": preparing(video, config), "decode": lambda: decode(video)}
    taken = interleaved(calls, rounds=rounds, warmup=1)
    title = f"{video.name}, to {config.size} px"
    return [
        compare(f"prepare a frame of {title}", taken["prepare"], "plain PyAV decoding", taken["decode"], per=frames),
        figure(f"prepare {title}", frames / taken["prepare"].median, "frames/s"),
        *reading(video, config, rounds=rounds),
    ]


def reading(video: Path, config: IngestConfig, *, rounds: int) -> list[Row]:
    """Rows of reading random batches back."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "frames"
        prepare([video], out, config, log=lambda _: None, progress=False)
        store = FrameStore(out)
        rng = np.random.default_rng(0)
        batch = rng.integers(0, len(store), READ)
        plain = [np.frombuffer(encode_frame(frame, lossless=config.lossless), np.uint8) for frame in store.read(batch)]
        calls = {
            "store": lambda: store.read(rng.integers(0, len(store), READ)),
            "plain": lambda: [cv2.imdecode(octets, cv2.IMREAD_COLOR_RGB) for octets in plain],
        }
        taken = interleaved(calls, rounds=rounds, warmup=2, inner=5)
    title = f"{video.name}, {config.size} px"
    return [
        compare(f"read a frame of {title}", taken["store"], "decoding it from memory", taken["plain"], per=READ),
        figure(f"read {title}", READ / taken["store"].median, "frames/s"),
    ]


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument(
        "videos", nargs="*", type=Path, help="by default the bundled held-out clip and a made 720p film"
    )
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        if options.quick:
            jobs = [(film(Path(folder) / "made.mp4", width=64, height=48, frames=12), 32)]
        elif options.videos:
            jobs = [(video, 256) for video in options.videos]
        else:
            made = film(Path(folder) / "made_720p.mp4", width=1280, height=720, frames=240)
            jobs = [(EXAMPLE, 64), (made, 256)]
        for video, size in jobs:
            rows += measure(video, IngestConfig(fps=1000.0, size=size, detect_cuts=True), rounds=rounds)
    finish("ingest", "Ingest", rows, options)


if __name__ == "__main__":
    main()
