"""The corpus as w: every frame encoded once, in batches, into a memory-mapped array.

    FOLDER/w.npy        float32 (frames, L, D), numbered like the frames
    FOLDER/features.npy float16 (frames, G, G, F), the encoder's spatial feature maps, where an action model reads them
    FOLDER/stats.json   frames, mean and std (L, D) over the training frames alone

Written as `w.npy.part` (and `features.npy.part`) and renamed when complete. A process that was killed continues at the
last whole block, if the encoder is still the same (`part.json` holds its fingerprint).

Feature maps are computed in float32, whatever the precision of the training: a world computes its own so, and codes are
to be the same in both.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float16

from torch_bridge.encoder import Encoder, to_store
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
    features: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Float[np.ndarray, "N L D"]:
    """Encode frames 0..frames of the corpus.

    Args:
        encoder: put into evaluation mode.
        corpus: read by frame number.
        frames: number of frames in all, held-out ones included.
        folder: made where missing.
        place: where to compute, and how where no feature maps are stored.
        batch: frames at a time.
        features: store the spatial feature maps too.
        progress: called with (frames done, frames in all) after every block.

    Returns:
        The finished array, memory-mapped for reading.
    """
    place = replace(place, precision="float32") if features else place
    encoder = place.put(encoder).eval()
    folder.mkdir(parents=True, exist_ok=True)
    note, names = folder / "part.json", ["w.npy", *(["features.npy"] if features else [])]
    (folder / "features.npy").unlink(missing_ok=True)  # of an earlier encoder
    shape = (frames, encoder.config.rows, encoder.config.style_dim)
    grid, channels = encoder.config.grid, encoder.config.channels
    maps_shape = (frames, grid, grid, channels) if features else None
    key = _fingerprint(encoder, (*shape, maps_shape))
    done = _resume(folder, names, note, key)
    w_NLD = _part(folder / "w.npy.part", np.float32, shape, done)
    maps_NGGF = _part(folder / "features.npy.part", np.float16, maps_shape, done) if features else None
    block = batch * BLOCK_BATCHES
    for start in range(done, frames, block):
        stop = min(start + block, frames)
        _encode(encoder, corpus, slice(start, stop), batch, place, w_NLD, maps_NGGF)
        for array in (w_NLD, maps_NGGF):
            if array is not None:
                array.flush()
        _write_json(note, {"encoder": key, "frames": stop})
        if progress is not None:
            progress(stop, frames)
    _write_json(folder / "stats.json", _statistics(w_NLD, corpus.train_indices))
    del w_NLD, maps_NGGF
    for name in names[::-1]:  # w.npy last: where it is, everything is
        os.replace(folder / f"{name}.part", folder / name)
    note.unlink()
    return np.load(folder / "w.npy", mmap_mode="r")


@torch.no_grad()
def _encode(
    encoder: Encoder,
    corpus: Frames,
    block: slice,
    batch: int,
    place: Placement,
    w_NLD: Float[np.ndarray, "N L D"],
    maps_NGGF: Float16[np.ndarray, "N G G F"] | None,
) -> None:
    """Fill in the frames of a block."""
    for first in range(block.start, block.stop, batch):
        here = slice(first, min(first + batch, block.stop))
        images = place.images(corpus.read(np.arange(here.start, here.stop)))
        with place.autocast():
            maps = encoder.maps(images)
            w_NLD[here] = encoder.project(maps).float().cpu().numpy()
        if maps_NGGF is not None:
            maps_NGGF[here] = to_store(maps).cpu().numpy()


def _part(path: Path, dtype: type, shape: tuple[int, ...], done: int) -> np.ndarray:
    """A file that grows whole at once: made anew, or opened where frames of it are done."""
    mode = "r+" if done else "w+"
    return np.lib.format.open_memmap(path, mode=mode, dtype=dtype, shape=None if done else shape)


def _fingerprint(encoder: Encoder, shape: tuple[object, ...]) -> str:
    digest = hashlib.sha256(repr(shape).encode())
    for name, array in sorted(to_arrays(encoder).items()):
        digest.update(name.encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _resume(folder: Path, names: list[str], note: Path, key: str) -> int:
    """Frames that an earlier process finished with the same encoder."""
    if not (note.exists() and all((folder / f"{name}.part").exists() for name in names)):
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
