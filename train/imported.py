"""What a run's record says of imported weights, and what follows from it for its config.

An imported stage is done and is never trained. The shapes of its networks are those of the file, so the config takes
them over, whatever the preset says, and an option that contradicts them is an error. Where a file brought no
discriminator a new one is drawn; features of an untrained network measure nothing, so the perceptual distance of the
stage that would read them is LPIPS, or its weight is 0. The same holds for the recipe "joint", which begins with a new
discriminator and has no use for an import.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch_bridge.discriminator import DiscriminatorConfig
from torch_bridge.mobile_stylegan import StudentConfig
from torch_bridge.stylegan2 import GeneratorConfig
from train.config import SHARED, Config
from train.errors import UserError
from train.overrides import fields, from_json, to_json

SETTING = "imports"  # in `Run.settings`


@dataclass(frozen=True)
class Imported:
    """The import of one stage.

    Attributes:
        what: in words, as "StyleGAN2 of weights.pt".
        files: name -> sha256 of what was read.
        generator: of an imported teacher.
        student: of an imported student.
        discriminator: its shape.
        discriminator_trained: whether it came with the weights; else it is drawn anew.
    """

    what: str
    files: dict[str, str]
    generator: GeneratorConfig | None = None
    student: StudentConfig | None = None
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    discriminator_trained: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """What the step of the imported stage is fingerprinted by."""
        return {"imported": sorted(self.files.values())}


Imports = Mapping[str, Imported]  # by stage


def read_imports(settings: Mapping[str, Any], source: Path) -> dict[str, Imported]:
    """The imports in a run's settings, by stage."""
    return {stage: from_json(Imported, found, source) for stage, found in settings.get(SETTING, {}).items()}


def imports_setting(imports: Imports) -> dict[str, Any]:
    """The part of a run's settings that `read_imports` reads."""
    return {SETTING: {stage: to_json(found) for stage, found in imports.items()}} if imports else {}


def untrained_for(imports: Imports, config: Config) -> list[str]:
    """The stages that begin with a discriminator that nothing has trained."""
    if config.recipe == "joint":
        return ["encoder"]
    teacher, student = imports.get("teacher"), imports.get("student")
    if student is not None:
        return [] if student.discriminator_trained else ["encoder"]
    if teacher is None or teacher.discriminator_trained:
        return []
    return ["student"] if config.student.adversarial > 0 else ["student", "encoder"]


def with_imports(config: Config, imports: Imports) -> Config:
    """The config with the shapes of the imported networks, a recipe that reads them, and distances that can be had.

    Raises:
        ValueError: a student of the imported teacher's widths cannot be.
    """
    for found in imports.values():
        generator = found.generator or config.teacher.generator
        student = found.student or StudentConfig.from_generator(generator)
        config = replace(
            config,
            recipe="tuned" if config.recipe == "joint" else config.recipe,
            size=student.size,
            style_dim=student.style_dim,
            teacher=replace(config.teacher, generator=generator, discriminator=found.discriminator),
            student=replace(config.student, model=student),
        )
    for name in untrained_for(imports, config):
        stage = getattr(config, name)
        if stage.perceptual > 0:
            config = replace(config, **{name: replace(stage, perceptual_kind="lpips")})
    return config


def check_imports(config: Config, imports: Imports) -> None:
    """Raise UserError where the config contradicts what was imported, or what nothing has trained."""
    for stage, found in imports.items():
        if config.recipe == "joint":
            fault = f"trains a student from random weights, with no teacher, and a {stage} was imported ({found.what})"
            raise UserError("--recipe joint", fault, "give --recipe tuned or --recipe frozen, or another --run")
        wanted: dict[str, Any] = {"teacher.discriminator": found.discriminator}
        if found.generator is not None:
            wanted["teacher.generator"] = found.generator
        if found.student is not None:
            wanted["student.model"] = found.student
        for path, part in wanted.items():
            owner, name = path.split(".")
            _compare(path, getattr(getattr(config, owner), name), part, f"the imported {stage} ({found.what})")
    for name in untrained_for(imports, config):
        stage_config = getattr(config, name)
        right = ("lpips", "auto") if config.recipe == "joint" else ("lpips",)
        if stage_config.perceptual > 0 and stage_config.perceptual_kind not in right:
            why = "the recipe joint begins with a new" if config.recipe == "joint" else "the imported file has no"
            raise UserError(
                f"--{name}.perceptual_kind {stage_config.perceptual_kind}",
                f"{why} discriminator, and features of an untrained one are no perceptual distance",
                f"give --{name}.perceptual_kind lpips, or --{name}.perceptual 0",
            )


def _compare(path: str, configured: Any, imported: Any, said: str) -> None:
    values = fields(imported)
    for name, value in fields(configured).items():
        if value != values[name]:
            option = SHARED.get(f"{path}.{name}", f"{path}.{name}")
            fault = f"contradicts {said}, whose value is {values[name]}"
            raise UserError(f"--{option} {value}", fault, "leave it out, or give another --run")


def describe(config: GeneratorConfig | StudentConfig) -> str:
    """A network's shape in words."""
    values = {name: value for name, value in asdict(config).items() if name != "size"}
    return f"{config.size} px, " + ", ".join(f"{name} {value}" for name, value in values.items())
