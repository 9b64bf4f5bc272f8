"""The world's folder: everything that play needs and nothing else, in formats that no reader has to trust.

    WORLD/world.json            `WorldManifest`: sizes, codes, the configs of the parts, provenance, metrics
    WORLD/<part>.safetensors    named tensors of each of `PARTS`
    WORLD/prompts/<name>.png    clips to start from: T square frames side by side, a strip of H x TW

A bundle is written beside its place and renamed into it, so that a reader sees a whole one or none.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import ml_dtypes
import numpy as np
from jaxtyping import UInt8
from PIL import Image
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save_file

from torch_bridge.manifest import SCHEMA, WorldManifest

PARTS = ("encoder", "decoder", "actions", "dynamics")
MANIFEST = "world.json"
# NumPy's names of the dtypes of a safetensors file; the package's own reader for NumPy lacks bfloat16.
_DTYPES = {
    **{f"F{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    **{f"I{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{"BF16": np.dtype(ml_dtypes.bfloat16), "BOOL": np.dtype(bool)},
}

Tensors = dict[str, dict[str, np.ndarray]]
Prompts = dict[str, UInt8[np.ndarray, "T H W C"]]


def locate_world(path: str | os.PathLike[str]) -> Path:
    """The world's folder that a path means: itself, or the `world` folder of a run.

    Raises:
        ValueError: neither holds a manifest.
    """
    for folder in (Path(path), Path(path) / "world"):
        if (folder / MANIFEST).is_file():
            return folder
    if not Path(path).exists():
        raise ValueError(f"{path}: there is no such folder. Give the path of a world, or of a run that made one.")
    raise ValueError(
        f"{path}: neither it nor its folder 'world' holds a {MANIFEST}. Give the path of a world, "
        "or finish the run with 'genie train'."
    )


def write_world(
    path: str | os.PathLike[str],
    manifest: WorldManifest,
    tensors: Mapping[str, Mapping[str, np.ndarray]],
    prompts: Prompts,
) -> None:
    """Write a bundle, in place of the one that is there, if any.

    Args:
        path: the folder to make. An existing one is replaced only if it is empty or a world.
        tensors: for each of `PARTS` its named tensors, of any dtype and shape.
        prompts: name -> (T, H, W, 3) uint8 clip with H = W = `manifest.size`; names of letters, digits, `-` and `_`.

    Raises:
        ValueError: a part is missing or unknown, a prompt has a wrong name or shape, or the folder is something else.
    """
    path = Path(path)
    if set(tensors) != set(PARTS):
        raise ValueError(f"A world consists of the parts {sorted(PARTS)}, not of {sorted(tensors)}.")
    for name, frames_THWC in prompts.items():
        _check_prompt(name, frames_THWC, manifest.size)
    if path.exists() and not (path / MANIFEST).is_file() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path}: it exists and is not a world. Choose another path, or remove it.")
    with _replacing(path) as beside:
        digests = {}
        for part in PARTS:
            file = beside / f"{part}.safetensors"
            # safetensors writes the memory as it lies, so it must lie in C order
            save_file({name: np.asarray(array, order="C") for name, array in tensors[part].items()}, file)
            digests[part] = hashlib.sha256(file.read_bytes()).hexdigest()
        (beside / "prompts").mkdir()
        for name, frames_THWC in prompts.items():
            Image.fromarray(np.concatenate(list(frames_THWC), axis=1)).save(beside / "prompts" / f"{name}.png")
        stamped = dataclasses.replace(manifest, sha256=digests, schema=SCHEMA)
        (beside / MANIFEST).write_text(stamped.to_json(), encoding="utf-8")


def read_world(path: str | os.PathLike[str]) -> tuple[WorldManifest, Tensors, Prompts]:
    """Read a bundle whole: manifest, tensors of each part, prompts in the order of their names.

    Raises:
        ValueError: names the file that is missing, damaged or newer than this program, and what to do.
    """
    folder = locate_world(path)
    manifest = read_manifest(folder)
    tensors = {part: _read_part(folder / f"{part}.safetensors", manifest.sha256.get(part)) for part in PARTS}
    prompts = {file.stem: _read_prompt(file, manifest.size) for file in sorted((folder / "prompts").glob("*.png"))}
    return manifest, tensors, prompts


def read_manifest(path: str | os.PathLike[str]) -> WorldManifest:
    """The manifest of a world's folder, or of the world in a run's folder. Raises ValueError as `read_world`."""
    file = locate_world(path) / MANIFEST
    try:
        return WorldManifest.from_json(file.read_bytes())
    except ValueError as error:
        remedy = "Update this program." if "newer program" in str(error) else "Pack the world anew with 'genie train'."
        raise ValueError(f"{file}: {error}. {remedy}") from error


def write_manifest(path: str | os.PathLike[str], manifest: WorldManifest) -> None:
    """Put a manifest in the place of a world's own, in one rename; tensors, prompts and digests stay as they are.

    Raises:
        ValueError: there is no such world, or the manifest has other digests than its own.
    """
    folder = locate_world(path)
    if manifest.sha256 != read_manifest(folder).sha256:
        raise ValueError(f"{folder}: the manifest is that of other tensors. Write the whole world with write_world.")
    beside = folder / f".{MANIFEST}.{os.getpid()}.new"
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(dataclasses.replace(manifest, schema=SCHEMA).to_json())
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, folder / MANIFEST)
    finally:
        beside.unlink(missing_ok=True)


def _read_part(file: Path, sha256: str | None) -> dict[str, np.ndarray]:
    if not file.is_file():
        raise ValueError(f"{file}: it is missing. Copy the world's whole folder again, or pack it anew.")
    data = file.read_bytes()
    damaged = f"{file}: it is damaged (%s). Copy the world's whole folder again, or pack it anew."
    try:
        entries = deserialize(data)
    except SafetensorError as error:
        raise ValueError(damaged % error) from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(damaged % f"its digest is not the one in {MANIFEST}")
    if unknown := {entry["dtype"] for _, entry in entries} - set(_DTYPES):
        raise ValueError(damaged % f"it holds tensors of the unknown dtype {', '.join(sorted(unknown))}")
    return {
        name: np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"]) for name, entry in entries
    }


def _read_prompt(file: Path, size: int) -> UInt8[np.ndarray, "T H W C"]:
    try:
        with Image.open(file) as image:
            strip_HWC = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # PIL's PNG reader raises SyntaxError too
        raise ValueError(f"{file}: it is not a readable picture ({error}). Remove it, or copy it again.") from error
    height, width = strip_HWC.shape[:2]
    if height != size or width % size:
        raise ValueError(
            f"{file}: a prompt is a strip of frames of {size}x{size}, but this one is {width}x{height}. "
            "Remove it, or write it with write_world."
        )
    return np.ascontiguousarray(strip_HWC.reshape(size, -1, size, 3).swapaxes(0, 1))


def _check_prompt(name: str, frames_THWC: np.ndarray, size: int) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"A prompt's name is made of letters, digits, '-' and '_', unlike {name!r}.")
    if frames_THWC.dtype != np.uint8 or frames_THWC.ndim != 4 or frames_THWC.shape[1:] != (size, size, 3):
        raise ValueError(
            f"Prompt {name!r} must be uint8 of (T, {size}, {size}, 3), not {frames_THWC.dtype} of {frames_THWC.shape}."
        )
    if not len(frames_THWC):
        raise ValueError(f"Prompt {name!r} holds no frame; give at least one.")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A new folder beside `path` that takes its place when the block succeeds, and vanishes when it fails."""
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    beside, old = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("new", "old"))
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        yield beside
        for file in beside.rglob("*"):
            if file.is_file():
                with file.open("rb") as stream:
                    os.fsync(stream.fileno())
        if path.exists():
            path.rename(old)
        beside.rename(path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
