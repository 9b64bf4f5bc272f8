"""Values that the published code returned for weights which anyone can rebuild: see reference/README.md."""

import functools
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_SHARED = Path(__file__).parents[2] / "shared" / "reference"
ROOT = _SHARED if _SHARED.is_dir() else Path(__file__).parent / "reference"


def _load_fill() -> object:
    spec = importlib.util.spec_from_file_location("reference_fill", ROOT / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FILL = _load_fill()
SHAPES: dict[str, dict[str, list[int]]] = json.loads((ROOT / "shapes.json").read_text())


@functools.cache
def expected() -> dict[str, np.ndarray]:
    with np.load(ROOT / "expected.npz") as arrays:
        return dict(arrays)


def normal(key: str, *shape: int) -> Tensor:
    return torch.from_numpy(FILL.normal(key, shape))


def _state_dict(name: str, fill: Callable[[str, tuple[int, ...]], np.ndarray | None]) -> dict[str, Tensor]:
    values = ((key, fill(key, tuple(shape))) for key, shape in SHAPES[name].items())
    return {key: torch.from_numpy(value) for key, value in values if value is not None}


def stylegan2_weights(name: str) -> dict[str, Tensor]:
    return _state_dict(f"stylegan2/{name}", FILL.stylegan2)


def mobile_weights(name: str) -> dict[str, Tensor]:
    return _state_dict(f"mobile_stylegan/{name}/student", FILL.mobile_stylegan)


def thin(image: Tensor) -> np.ndarray:
    """The pixels that the reference keeps: 32 rows and columns."""
    step = image.shape[-1] // 32
    return image[..., ::step, ::step].numpy()
