"""Files of published weights, read as networks.

stylegan2          a file of rosinality's trainer or converter, or a bare state_dict
mobile-stylegan    a Lightning file: student, teacher and discriminator; the two files of a teacher, mapping and
                   synthesis network; or a bare state_dict of the student
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch_bridge.checkpoint_files import read_checkpoint
from torch_bridge.discriminator import Discriminator
from torch_bridge.mobile_stylegan import Student
from torch_bridge.stylegan2 import Generator
from torch_bridge.upstream import load_mobile_stylegan, load_stylegan2, load_stylegan2_discriminator
from torch_bridge.upstream_teacher import lightning_parts, load_mobile_teacher, teacher_part
from train.errors import UserError
from train.torch_stage import seeded

REMEDY = "give the file as its program wrote it, or convert it again"
UNAVERAGED = "its converter takes the weights as they were trained, not their average, which makes better pictures"


@dataclass
class Weights:
    """What files hold.

    Attributes:
        what: in words.
        files: name -> sha256.
        generator, student, discriminator: the networks that there are.
        notes: what is worth saying of them.
    """

    what: str
    files: dict[str, str]
    generator: Generator | None = None
    student: Student | None = None
    discriminator: Discriminator | None = None
    notes: list[str] = field(default_factory=list)


def read_weights(kind: str, files: Sequence[Path]) -> Weights:
    """The networks in `files`, of "stylegan2" or "mobile-stylegan".

    Raises:
        UserError: a file is not what it should be; what is wrong is named, down to the tensor.
    """
    if kind not in READERS:
        raise UserError(kind, "is no kind of weights", f"choose one of {', '.join(READERS)}")
    return seeded(0, "import", lambda: READERS[kind](files))  # what a file leaves out, as noise images, is drawn


def _read_stylegan2(files: Sequence[Path]) -> Weights:
    if len(files) > 1:
        raise UserError(files[1], "one file is imported at a time", "give the StyleGAN2 file alone")
    (path,), content = files, _content(files[0])
    try:
        generator = load_stylegan2(content)
        critic = load_stylegan2_discriminator(content) if isinstance(content.get("d"), Mapping) else None
    except ValueError as error:
        raise weight_fault(path, error) from error
    notes = []
    if isinstance(content.get("g"), Mapping) and "g_ema" not in content:
        notes.append("the file has no averaged weights (g_ema): those of g are taken")
    return Weights(f"StyleGAN2 of {path.name}", _digests(files), generator, None, critic, notes)


def _read_mobile(files: Sequence[Path]) -> Weights:
    contents = {path: _content(path) for path in files}
    teacher = {path: part for path, content in contents.items() if (part := teacher_part(content)) is not None}
    if teacher:
        return _read_teacher_files(files, teacher)
    if len(files) > 1:
        raise UserError(files[1], "only mapping and synthesis network are two files", "give the student's file alone")
    ((path, content),) = contents.items()
    parts = lightning_parts(content)
    weights = Weights(f"MobileStyleGAN of {path.name}", _digests(files))
    try:
        weights.student = load_mobile_stylegan(content)
        if "mapping" not in parts or "synthesis" not in parts:
            return weights
        weights.generator = load_mobile_teacher(parts["mapping"], parts["synthesis"])
    except ValueError as error:
        raise weight_fault(path, error) from error
    check_sizes(path, weights.student, weights.generator)
    weights.notes.append(UNAVERAGED)
    if "discriminator" in parts:
        try:
            weights.discriminator = load_stylegan2_discriminator(parts["discriminator"])
        except ValueError as error:
            weights.notes.append(f"its discriminator is none of StyleGAN2 and is left out ({error})")
    return weights


def _read_teacher_files(files: Sequence[Path], parts: Mapping[Path, tuple[str, Mapping[str, Any]]]) -> Weights:
    by_role = dict(parts.values())
    if len(files) != 2 or set(by_role) != {"mapping", "synthesis"}:
        found = " and ".join(f"{role} network" for role, _ in parts.values())
        fault = f"a teacher is a mapping and a synthesis network, and {found} was given"
        raise UserError(", ".join(path.name for path in files), fault, "give both files together")
    names = " and ".join(path.name for path in files)
    try:
        generator = load_mobile_teacher(by_role["mapping"], by_role["synthesis"])
    except ValueError as error:
        raise weight_fault(names, error) from error
    return Weights(f"MobileStyleGAN's teacher of {names}", _digests(files), generator, notes=[UNAVERAGED])


READERS: dict[str, Callable[[Sequence[Path]], Weights]] = {
    "stylegan2": _read_stylegan2,
    "mobile-stylegan": _read_mobile,
}


def _content(path: Path) -> Mapping[str, Any]:
    try:
        return read_checkpoint(path)
    except ValueError as error:
        raise weight_fault(path, error) from error


def _digests(files: Sequence[Path]) -> dict[str, str]:
    found = {}
    for path in files:
        with path.open("rb") as file:
            found[path.name if path.name not in found else str(path)] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def weight_fault(subject: object, error: ValueError) -> UserError:
    """The error of a reader for the person who gave the file."""
    return UserError(subject, str(error).removeprefix(f"{subject} ").rstrip("."), REMEDY)


def check_sizes(subject: object, student: Student, generator: Generator) -> None:
    """Raise UserError unless the student makes the generator's images of the generator's w."""
    one, other = student.config, generator.config
    if (one.size, one.style_dim) != (other.size, other.style_dim):
        shapes = f"{one.size} px from {one.style_dim} numbers, its teacher {other.size} px from {other.style_dim}"
        raise UserError(subject, f"the student makes {shapes}", "give a student of this teacher")
