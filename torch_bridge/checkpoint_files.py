"""Safe reading of published checkpoint files: tensors and plain containers only, no code of the file ever runs."""

import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors.torch
import torch


class _Inert:
    """Stands for every class that a checkpoint mentions (arguments, callbacks); its instances are plain dictionaries.

    A dictionary, because that is what the restricted unpickler agrees to fill with items and attributes.
    """

    def __new__(cls, *_: object) -> OrderedDict[str, Any]:
        return OrderedDict()


def read_checkpoint(path: str | Path) -> Mapping[str, Any]:
    """Contents of a `.safetensors` file or of a `.pt`/`.ckpt` file of tensors, on the CPU.

    Trainers store more than tensors (an `argparse.Namespace`, callbacks). The restricted unpickler of PyTorch reads the
    file with an inert class in the place of each of those names, so nothing is imported or executed.
    Raises OSError for a file that cannot be opened, ValueError for one that is no checkpoint.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path} is not a readable safetensors file ({error}): download it again.") from error
    with path.open("rb"):  # an unreadable file is an OSError, whatever torch would make of it
        pass
    try:
        with torch.serialization.safe_globals([(_Inert, name) for name in _foreign_names(path)]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, TypeError) as error:
        raise ValueError(f"{path} is not a readable PyTorch checkpoint: it is damaged or something else.") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors: save its state_dict.")
    return content


def _foreign_names(path: Path) -> list[str]:
    """Classes and functions that the file mentions beyond those PyTorch allows."""
    if not zipfile.is_zipfile(path):  # the format before PyTorch 1.6, whose contents cannot be listed
        return ["argparse.Namespace"]
    return torch.serialization.get_unsafe_globals_in_checkpoint(path)
