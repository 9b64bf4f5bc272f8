"""Safe reading of published checkpoint files: tensors and plain containers only, no code of the file ever runs."""

import io
import pickletools
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

import safetensors.torch
import torch

# What trainers leave beside tensors: command line arguments, callbacks, containers of hyperparameters. None is needed.
_KNOWN = re.compile(
    r"argparse\.Namespace|((pytorch_lightning|lightning|lightning_fabric|omegaconf|addict)(\.\w+)+)"
    r"|collections\.\w+|pathlib\.(Pure)?(Posix|Windows)?Path|typing\.Any"
    r"|builtins\.(dict|list|tuple|set|frozenset|int|float|str|bool|bytes|bytearray|complex|object)"
)
_LEFT_TO_TORCH = re.compile(r"torch(\.\w+)+|_codecs\.encode")  # the restricted unpickler has its own list of these
_WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")  # of data-parallel and compiled modules
_LEGACY_PICKLES = 5  # magic number, version, system, content, storage keys: the format before PyTorch 1.6


class _Inert:
    """Stands for every class that a checkpoint may mention; its instances are plain dictionaries.

    A dictionary, because that is what the restricted unpickler agrees to fill with items and attributes.
    """

    def __new__(cls, *_: object) -> OrderedDict[str, Any]:
        return OrderedDict()


def read_checkpoint(path: str | Path) -> Mapping[str, Any]:
    """Contents of a `.safetensors` file or of a `.pt`/`.ckpt` file of tensors, on the CPU.

    Trainers store more than tensors (an `argparse.Namespace`, callbacks). The restricted unpickler of PyTorch reads the
    file with an inert class in the place of each of those names, so nothing is imported or executed; a file that
    mentions any other class or function is refused.
    Raises OSError for a file that cannot be opened, ValueError for one that is no checkpoint or is refused.
    """
    path = Path(path)
    with path.open("rb"):  # a folder or a file that may not be read is told as such, not as a damaged one
        pass
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path} is not a readable safetensors file ({error}): download it again.") from error
    names = [name for name in _mentioned_names(path) if not _LEFT_TO_TORCH.fullmatch(name)]
    for name in names:
        if not _KNOWN.fullmatch(name):
            raise _refusal(path, name)
    try:
        with torch.serialization.safe_globals([(_Inert, name) for name in names]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, TypeError, ValueError, LookupError) as error:
        if named := re.search(r"GLOBAL (\S+)", str(error)):
            raise _refusal(path, named[1]) from error
        raise ValueError(f"{path} is not a readable PyTorch checkpoint: it is damaged or something else.") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors: save its state_dict.")
    return content


def own_name(name: object) -> str:
    """A tensor's name without what wrapping modules put in front; a key that is no text becomes one."""
    return _WRAPPERS.sub("", str(name))


def _refusal(path: Path, name: str) -> ValueError:
    return ValueError(
        f"{path} holds {name} beside tensors, and loading such an object may run code of the file, so it is refused: "
        "save the state_dict alone."
    )


def _mentioned_names(path: Path) -> list[str]:
    """Every class and function that the pickles of the file mention, as far as they can be read."""
    names: dict[str, None] = {}
    with suppress(ValueError, LookupError, EOFError, zipfile.BadZipFile), path.open("rb") as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                pickles = [io.BytesIO(archive.read(n)) for n in archive.namelist() if n.split("/")[-1] == "data.pkl"]
        else:
            file.seek(0)
            pickles = [file] * _LEGACY_PICKLES
        for stream in pickles:
            for name in _names(stream):
                names[name] = None
    return list(names)  # where it could not be read to the end, loading it will fail


def _names(file: IO[bytes]) -> Iterator[str]:
    """Names in the pickle at which the file stands; it stands behind that afterwards."""
    texts = ["", ""]
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("GLOBAL", "INST"):
            yield re.sub(r"^__builtin__\.", "builtins.", argument.replace(" ", "."))  # its name in Python 2's pickles
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif isinstance(argument, str):
            texts.append(argument)
