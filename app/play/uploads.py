"""Files that a page sends as prompts: judged by their first bytes, decoded in a process of bounded memory and time.

A file comes from anywhere, and decoders have faults. So nothing of it is opened in the server's own process, formats
that may name other files (playlists) are not taken, and a file that takes too long ends with its process.
"""

import asyncio
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

ROOT = Path(__file__).resolve().parents[2]
UPLOAD_BYTES = 32 * 2**20
UPLOAD_SECONDS = 10.0  # of a video, from its start
DECODE_SECONDS = 30.0  # on the clock

_KINDS = "an image (PNG, JPEG, WebP, GIF, BMP) or a short video (MP4, MOV, WebM, MKV, AVI)"


class UploadError(Exception):
    """The file cannot be a prompt; the text is a sentence for the person who sent it."""


def suffix_of(data: bytes) -> str:
    """The file's kind as a suffix, by its first bytes.

    Raises:
        UploadError: empty, too large, or none of the kinds that are taken.
    """
    if not data:
        raise UploadError("The file is empty.")
    if len(data) > UPLOAD_BYTES:
        raise UploadError(f"The file has {len(data) / 2**20:.0f} MB, and {UPLOAD_BYTES // 2**20} is the limit.")
    head, form = data[:4], data[8:12]
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return ".png"
    if data.startswith(b"\xff\xd8\xff"):
        return ".jpg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return ".gif"
    if data.startswith(b"BM"):
        return ".bmp"
    if head == b"RIFF" and form in (b"WEBP", b"AVI "):
        return ".webp" if form == b"WEBP" else ".avi"
    if head == b"\x1aE\xdf\xa3":
        return ".mkv"  # and WebM
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return ".mp4"
    raise UploadError(f"This is no file that can be a prompt: give {_KINDS}.")


async def decode_upload(data: bytes, *, size: int, fps: float) -> UInt8[np.ndarray, "T size size 3"]:
    """Frames of an image (one) or of the first seconds of a video, framed as `genie prepare` frames.

    Args:
        data: the file.
        size: side of the frames.
        fps: upper bound of their rate.

    Raises:
        UploadError: the file is none, or none that can be decoded within the limits.
    """
    suffix = suffix_of(data)
    frames = max(1, round(fps * UPLOAD_SECONDS))
    done = await asyncio.to_thread(_run_worker, data, suffix, (size, fps, frames))
    if done.returncode == 3:  # the worker's own refusal
        raise UploadError(done.stderr.decode(errors="replace").strip().splitlines()[-1])
    if done.returncode:
        raise UploadError("The file cannot be read: it is damaged, or larger than the memory that is given to it.")
    frames_THWC = np.load(io.BytesIO(done.stdout), allow_pickle=False)
    if frames_THWC.dtype != np.uint8 or frames_THWC.shape[1:] != (size, size, 3) or not len(frames_THWC):
        raise UploadError("The file holds no picture.")
    return frames_THWC


def _run_worker(data: bytes, suffix: str, numbers: tuple[float, ...]) -> subprocess.CompletedProcess[bytes]:
    with tempfile.TemporaryDirectory(prefix="genie-upload-") as folder:
        path = Path(folder, f"upload{suffix}")
        path.write_bytes(data)
        # -P and our own root: a folder that the command is started in may hold an app.py or train/ of its own.
        words = [sys.executable, "-P", "-m", "app.play.upload_worker", str(path), *map(str, numbers)]
        roots = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        try:
            # close_fds=False: spawned without a fork, which the frameworks' threads may not survive. No file is
            # inherited. (asyncio's own subprocesses fork under uvloop.)
            return subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=DECODE_SECONDS,
                close_fds=False,
                env={**os.environ, "PYTHONPATH": roots},
            )
        except subprocess.TimeoutExpired as error:
            raise UploadError(f"The file took longer than {DECODE_SECONDS:.0f} s to read.") from error
