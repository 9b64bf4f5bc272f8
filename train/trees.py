"""A torch state (nested dicts, lists, scalars, tensors) as one safetensors file and one JSON file, and back.

The JSON file holds the structure, so that any key (`optimizer.state_dict()` has integers), None, tuples, exact floats
and the memory order of tensors survive; the tensors stand in the safetensors file under their path. No pickle.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

TENSORS, STRUCTURE = "state.safetensors", "state.json"
Scalar = bool | int | float | str | None


class _Writer:
    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._storages: set[int] = set()

    def node(self, value: Any, path: str) -> dict[str, Any]:
        match value:
            case torch.Tensor():
                kind = "channels_last" if _is_channels_last(value) else "tensor"
                return {kind: self._store(value, path)}
            case np.ndarray() | np.generic():
                return {"array": self._store(torch.from_numpy(np.array(value)), path)}
            case dict():
                return {
                    "dict": [[self._key(key, path), self.node(item, f"{path}/{key}")] for key, item in value.items()]
                }
            case list() | tuple():
                if hasattr(value, "_fields"):
                    raise TypeError(f"{path or 'state'} is a {type(value).__name__}: give named tuples as dicts")
                kind = "list" if isinstance(value, list) else "tuple"
                return {kind: [self.node(item, f"{path}/{index}") for index, item in enumerate(value)]}
            case None | bool() | int() | float() | str():
                return {"value": value}
        raise TypeError(f"{path or 'state'} is a {type(value).__name__}, which a checkpoint cannot hold")

    def _key(self, key: Any, path: str) -> Scalar:
        if key is not None and not isinstance(key, bool | int | float | str):
            raise TypeError(f"{path or 'state'} has the key {key!r}, which a checkpoint cannot hold")
        return key

    def _store(self, tensor: torch.Tensor, path: str) -> str:
        name = f"{len(self.tensors)}:{path}"  # the number keeps paths apart that read alike, as of keys 1 and "1"
        flat = tensor.detach().cpu().contiguous()
        storage = flat.untyped_storage().data_ptr()
        if storage in self._storages:
            flat = flat.clone()  # safetensors refuses tensors that share memory
        self._storages.add(storage)
        self.tensors[name] = flat
        return name


def _is_channels_last(tensor: torch.Tensor) -> bool:
    # A fused optimiser walks weights and moments in the order of their memory: a moment that came back in another
    # order than its weight would be paired with the wrong numbers.
    return tensor.ndim == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)


def _value(node: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
    ((kind, content),) = node.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "channels_last":
            return tensors[content].contiguous(memory_format=torch.channels_last)
        case "array":
            return tensors[content].numpy()
        case "dict":
            return {key: _value(item, tensors) for key, item in content}
        case "list":
            return [_value(item, tensors) for item in content]
        case "tuple":
            return tuple(_value(item, tensors) for item in content)
        case "value":
            return content
    raise ValueError(f"unknown kind {kind!r} in {STRUCTURE}")


def write_tree(folder: Path, state: dict[str, Any]) -> None:
    """Write a torch state into an existing folder.

    Raises:
        TypeError: something in the state is neither a container, a tensor, an array nor a plain scalar.
    """
    writer = _Writer()
    structure = writer.node(state, "")
    save_file(writer.tensors, str(folder / TENSORS))
    (folder / STRUCTURE).write_text(json.dumps(structure), encoding="utf-8")


def read_tree(folder: Path) -> dict[str, Any]:
    """Read what `write_tree` wrote; tensors come back on the CPU."""
    structure = json.loads((folder / STRUCTURE).read_text(encoding="utf-8"))
    return _value(structure, load_file(str(folder / TENSORS)))


def first_not_finite(value: Any, path: str = "") -> str | None:
    """Path of the first floating tensor or array that holds NaN or infinity, or None."""
    if isinstance(value, dict):
        items = [(f"{path}/{key}", item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        items = [(f"{path}/{index}", item) for index, item in enumerate(value)]
    elif isinstance(value, torch.Tensor):
        return None if not value.is_floating_point() or bool(torch.isfinite(value).all()) else path
    elif isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating):
        return None if np.isfinite(value).all() else path
    else:
        return None
    found = (first_not_finite(item, below) for below, item in items)
    return next((path for path in found if path is not None), None)
