"""The corpus as w: every frame encoded once, in batches, into a memory-mapped array.

    FOLDER/w.npy        float32 (frames, L, D), numbered like the frames
    FOLDER/stats.json   frames, mean and std (L, D) over the training frames alone

Written as `w.npy.part` and renamed when complete. A process that was killed continues at the last whole block, if the
encoder is still the same (`part.json` holds its fingerprint).
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from torch_bridge.encoder import Encoder
from train.torch_stage import Frames, Placement, to_arrays

BLOCK_BATCHES = 16  # batches between two notes of how far the work is


def encode_corpus(
    encoder: Encoder,
    corpus: Frames,
    frames: int,
    folder: Path,
    *,
    place: Placement,
    batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Float[np.ndarray, "N L D"]:
    """Encode frames 0..frames of the corpus.

    Args:
        encoder: put into evaluation mode.
        corpus: read by frame number.
        frames: number of frames in all, held-out ones included.
        folder: made where missing.
        place: where to compute.
        batch: frames at a time.
        progress: called with (frames done, frames in all) after every block.

    Returns:
        The finished array, memory-mapped for reading.
    """
    encoder = place.put(encoder).eval()
    folder.mkdir(parents=True, exist_ok=True)
    part, note = folder / "w.npy.part", folder / "part.json"
    shape = (frames, encoder.config.rows, encoder.config.style_dim)
    key = _fingerprint(encoder, shape)
    done = _resume(part, note, key)
    mode = "r+" if done else "w+"
    w_NLD = np.lib.format.open_memmap(part, mode=mode, dtype=np.float32, shape=None if done else shape)
    block = batch * BLOCK_BATCHES
    for start in range(done, frames, block):
        stop = min(start + block, frames)
        w_NLD[start:stop] = _encode(encoder, corpus, start, stop, batch, place)
        w_NLD.flush()
        _write_json(note, {"encoder": key, "frames": stop})
        if progress is not None:
            progress(stop, frames)
    _write_json(folder / "stats.json", _statistics(w_NLD, corpus.train_indices))
    del w_NLD
    os.replace(part, folder / "w.npy")
    note.unlink()
    return np.load(folder / "w.npy", mmap_mode="r")


@torch.no_grad()
def _encode(
    encoder: Encoder, corpus: Frames, start: int, stop: int, batch: int, place: Placement
) -> Float[np.ndarray, "n L D"]:
    parts = []
    for first in range(start, stop, batch):
        images = place.images(corpus.read(np.arange(first, min(first + batch, stop))))
        with place.autocast():
            parts.append(encoder(images).float().cpu().numpy())
    return np.concatenate(parts)


def _fingerprint(encoder: Encoder, shape: tuple[int, ...]) -> str:
    digest = hashlib.sha256(repr(shape).encode())
    for name, array in sorted(to_arrays(encoder).items()):
        digest.update(name.encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _resume(part: Path, note: Path, key: str) -> int:
    """Frames that an earlier process finished with the same encoder."""
    if not (part.exists() and note.exists()):
        return 0
    earlier = json.loads(note.read_text(encoding="utf-8"))
    return int(earlier["frames"]) if earlier["encoder"] == key else 0


def _statistics(w_NLD: Float[np.ndarray, "N L D"], train: np.ndarray) -> dict[str, object]:
    """Mean and deviation in two passes over blocks, so that memory does not grow with the corpus."""
    blocks = np.array_split(train, max(len(train) // 4096, 1))
    mean_LD = sum(w_NLD[block].sum(0, dtype=np.float64) for block in blocks) / len(train)
    variance_LD = sum(np.square(w_NLD[block] - mean_LD).sum(0) for block in blocks) / len(train)
    return {"frames": len(w_NLD), "mean": mean_LD.tolist(), "std": np.sqrt(variance_LD).tolist()}


def _write_json(path: Path, content: dict[str, object]) -> None:
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(json.dumps(content), encoding="utf-8")
    os.replace(beside, path)
