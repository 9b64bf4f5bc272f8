"""Decodes one uploaded file: frames as .npy on standard output, or exit 3 with a sentence on standard error.

    python -m app.play.upload_worker PATH SIZE FPS FRAMES

A process of its own, which imports neither torch nor jax, with limits on memory and CPU time.
"""

import sys
from pathlib import Path

MEMORY = 4 * 2**30  # bytes of address space
CPU_SECONDS = 25
MOST_PIXELS = 64 * 10**6


def limit() -> None:
    """Bound this process, where the system can."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    for what, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, CPU_SECONDS), (resource.RLIMIT_CORE, 0)):
        try:
            resource.setrlimit(what, (most, most))
        except (ValueError, OSError):  # macOS knows RLIMIT_AS and refuses it
            continue


def main() -> int:
    """Decode; returns the exit code."""
    path, size, fps, frames = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    limit()
    import numpy as np

    from train.errors import UserError
    from train.ingest.decode import decode_clip
    from train.ingest.probe import MediaError

    try:
        check_pixels(path)
        frames_THWC, _ = decode_clip(path, size=size, fps=fps, max_frames=frames)
    except (UserError, MediaError) as error:
        fault = error.fault if isinstance(error, UserError) else str(error)
        print(f"The file cannot be a prompt: {fault}.", file=sys.stderr)
        return 3
    np.save(sys.stdout.buffer, frames_THWC, allow_pickle=False)
    return 0


def check_pixels(path: Path) -> None:
    """Raises MediaError where the header says more pixels than will be decoded."""
    from PIL import Image

    from train.ingest.probe import IMAGE_SUFFIXES, MediaError, probe

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    if path.suffix in IMAGE_SUFFIXES:
        try:
            with Image.open(path) as image:  # reads the header alone
                width, height = image.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            bomb = isinstance(error, Image.DecompressionBombError)
            raise MediaError("it has too many pixels" if bomb else "not a readable image") from error
    else:
        info = probe(path)
        width, height = info.width, info.height
    if width * height > MOST_PIXELS:
        raise MediaError(f"{width}x{height} are more pixels than the {MOST_PIXELS // 10**6} million that are read")


if __name__ == "__main__":
    sys.exit(main())
