"""The configuration of a whole run: the configs of the stages, each defined beside its stage, and what they share.

What several stages must agree on (the size of frames, the width of w, the number of codes) stands once, at the top;
`Config` writes it into the stages' configs whenever it is made, so that `--size 128` changes all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from genie_jax.latent_action import MOST_CODES
from torch_bridge.mobile_stylegan import StudentConfig
from train.actions import ActionsConfig
from train.drift import DriftStageConfig
from train.dynamics import DynamicsStageConfig
from train.encoder import EncoderStageConfig
from train.errors import UserError
from train.ingest.config import IngestConfig
from train.overrides import from_json, override
from train.student import StudentStageConfig
from train.teacher import TeacherStageConfig
from train.world import WorldConfig

# Fields that follow a shared one: naming either sets the shared one.
SHARED = {
    "ingest.size": "size",
    "teacher.generator.size": "size",
    "teacher.discriminator.size": "size",
    "student.model.size": "size",
    "encoder.model.size": "size",
    "teacher.generator.style_dim": "style_dim",
    "student.model.style_dim": "style_dim",
    "encoder.model.style_dim": "style_dim",
    "actions.model.mlp.style_dim": "style_dim",
    "dynamics.model.style_dim": "style_dim",
    "student.model.spatial": "spatial",
    "encoder.model.spatial": "spatial",
    "encoder.model.rows": "w_plus",
    "actions.model.mlp.rows": "w_plus",
    "dynamics.model.rows": "w_plus",
    "encoder.tune_student": "recipe",
    "actions.model.codes": "codes",
    "dynamics.model.codes": "codes",
}
# Fields that follow from several others, which alone can be given.
FOLLOWS = {
    "actions.model.features.grid": "--encoder.model.grid",
    "actions.model.features.channels": "--encoder.model.taps or --encoder.model.width",
}
Recipe = Literal["frozen", "tuned", "joint"]
ALIASES = {"fps": "ingest.fps", "crop": "ingest.crop", "pretrained": "encoder.model.pretrained", **SHARED}


@dataclass(frozen=True)
class Config:
    """Everything that decides what a run computes.

    Attributes:
        seed: of every random draw in every stage.
        size: side of the frames in pixels, a power of two.
        style_dim: D, width of w.
        w_plus: encode to a row of w for every layer of the decoder (W+) in place of one for all (W).
        spatial: channels of a 4x4 map that the encoder predicts beside w and the decoder adds to its constant;
            0 for none. It travels as 16 * spatial / style_dim more rows of w, which must come out even.
        recipe: of the decoder. "frozen": teacher, student, then the encoder through the student as it is. "tuned": the
            student is trained on with the encoder. "joint": neither teacher nor distillation; the encoder stage trains
            encoder, student and discriminator from random weights.
        codes: number of latent actions.
        holdout: share of the frames that no stage sees.
        memory_limit_mb: decoded frames are kept in memory where they fit into this.
        latents_batch: frames that are encoded at a time.
        ingest, teacher, student, encoder, drift, actions, dynamics: the stages.
        world: how the world is packed.
    """

    seed: int = 0
    size: int = 256
    style_dim: int = 512
    w_plus: bool = False
    spatial: int = 0
    recipe: Recipe = "tuned"
    codes: int = 8
    holdout: float = 0.05
    memory_limit_mb: int = 1024
    latents_batch: int = 64
    ingest: IngestConfig = field(default_factory=IngestConfig)
    teacher: TeacherStageConfig = field(default_factory=TeacherStageConfig)
    student: StudentStageConfig = field(default_factory=StudentStageConfig)
    encoder: EncoderStageConfig = field(default_factory=EncoderStageConfig)
    drift: DriftStageConfig = field(default_factory=DriftStageConfig)
    actions: ActionsConfig = field(default_factory=ActionsConfig)
    dynamics: DynamicsStageConfig = field(default_factory=DynamicsStageConfig)
    world: WorldConfig = field(default_factory=WorldConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.holdout <= 0.5:
            raise ValueError(f"holdout {self.holdout} must lie in [0, 0.5]")
        if not 2 <= self.codes <= MOST_CODES:
            raise ValueError(f"{self.codes} codes cannot be had: give 2 to {MOST_CODES}")
        for name, stage in _agreed(self).items():
            object.__setattr__(self, name, stage)  # how a frozen dataclass brings its own fields into order

    @property
    def rows(self) -> int:
        """L, rows of w: of styles, and those of the map behind them."""
        return self.encoder.model.rows

    @property
    def left_out(self) -> tuple[str, ...]:
        """Stages that the recipe does without."""
        return ("teacher", "student") if self.recipe == "joint" else ()


def _agreed(c: Config) -> dict[str, Any]:
    """The stages' configs with the shared values in them."""
    generator = replace(c.teacher.generator, size=c.size, style_dim=c.style_dim)
    widths = c.student.model.channels
    if 4 * 2 ** len(widths) != c.size:
        widths = StudentConfig.from_generator(generator).channels
    student = StudentConfig(c.size, c.style_dim, widths, c.spatial)
    rows = (student.rows if c.w_plus else 1) + student.map_rows
    discriminator = replace(c.teacher.discriminator, size=c.size)
    encoder = replace(c.encoder.model, size=c.size, style_dim=c.style_dim, rows=rows, spatial=c.spatial)
    mlp = replace(c.actions.model.mlp, rows=rows, style_dim=c.style_dim)
    features = replace(c.actions.model.features, grid=encoder.grid, channels=encoder.channels)
    dynamics = replace(c.dynamics.model, rows=rows, style_dim=c.style_dim, codes=c.codes)
    return {
        "ingest": replace(c.ingest, size=c.size),
        "teacher": replace(c.teacher, generator=generator, discriminator=discriminator),
        "student": replace(c.student, model=student),
        "encoder": replace(c.encoder, model=encoder, tune_student=c.recipe != "frozen"),
        "actions": replace(c.actions, model=replace(c.actions.model, codes=c.codes, mlp=mlp, features=features)),
        "dynamics": replace(c.dynamics, model=dynamics),
    }


def override_config(config: Config, changes: Mapping[str, str], others: Sequence[str] = ()) -> Config:
    """A copy of the config with fields set from text, by dotted path or short name; the size is set first.

    Args:
        config: what is changed.
        changes: "size" or "dynamics.model.layers" -> text.
        others: options of the command itself, for "did you mean".

    Raises:
        UserError: no such field, or a value that does not fit.
    """
    for key in changes:
        if (source := FOLLOWS.get(key.replace("-", "_"))) is not None:
            raise UserError(f"--{key}", "follows from other options", f"give {source}")
    # Widths of layers are checked against the size, a map against the width of w: what is checked against comes first.
    order = {"size": 0, "style_dim": 1}
    names = {key: SHARED.get(key.replace("-", "_"), key.replace("-", "_")) for key in changes}
    ordered = dict(sorted(changes.items(), key=lambda item: order.get(names[item[0]], 2)))
    if {"style_dim", "spatial"} <= set(names.values()):
        config = replace(config, spatial=0)  # else the new width would be checked against the old map
    changed = override(config, ordered, ALIASES, others)
    changed.ingest.check()
    return changed


def stored_config(values: Mapping[str, Any], source: object) -> Config:
    """The config that `overrides.to_json` made `values` of.

    Raises:
        UserError: it holds what this program does not know.
    """
    if "recipe" not in values:  # a run from before there were recipes
        tuned = values.get("encoder", {}).get("tune_student", True)
        values = {**values, "recipe": "tuned" if tuned else "frozen"}
    try:
        return from_json(Config, values, source)
    except ValueError as error:
        raise UserError(source, f"holds a config that does not fit ({error})", "give --preset to replace it") from error
