"""The presets: sizes and lengths of every stage for a purpose, all numbers in one place.

| preset | frames | for | play-time parameters |
|---|---|---|---|
| debug | 32 px | the tests: every real part in seconds, pictures of nothing | 0.2 M |
| tiny | 64 px | a CPU and a quarter of an hour | 1.5 M |
| laptop | 256 px | the budget of 36.7 M parameters; a GPU of a laptop, or days | 35.8 M |
| gpu | 256 px | one large GPU for hours | 73 M |
"""

from collections.abc import Callable
from dataclasses import replace

from genie_jax.action_mlp import ActionMLPConfig
from genie_jax.dynamics import DynamicsConfig
from genie_jax.dynamics_loss import LossConfig
from genie_jax.latent_action import LatentActionConfig
from genie_jax.training import OptimizerConfig
from genie_jax.warp import WarpConfig
from torch_bridge.discriminator import DiscriminatorConfig
from torch_bridge.encoder import EncoderConfig
from torch_bridge.mobile_stylegan import StudentConfig
from torch_bridge.stylegan2 import GeneratorConfig
from train.actions import ActionsConfig
from train.config import Config, stored_config
from train.drift import DriftStageConfig
from train.dynamics import DynamicsStageConfig
from train.encoder import EncoderStageConfig
from train.errors import UserError
from train.imported import read_imports, with_imports
from train.ingest.config import IngestConfig
from train.run import Run
from train.stage import Pace
from train.student import StudentStageConfig
from train.teacher import TeacherStageConfig

DEFAULT = "tiny"


def debug() -> Config:
    """Every real part as small as it gets."""
    pace = Pace(steps=2, preview_every=2, checkpoint_seconds=0.0)
    model = DynamicsConfig(width=16, layers=2, heads=2, head_dim=8, window=4)
    actions = LatentActionConfig(
        dim=8,
        warp=WarpConfig(size=16, encoder_channels=(4, 4, 8), decoder_channels=(4, 4, 8)),
        mlp=ActionMLPConfig(hidden=16, layers=1),
    )
    return Config(
        size=32,
        style_dim=16,
        ingest=IngestConfig(fps=10.0),
        teacher=TeacherStageConfig(
            generator=GeneratorConfig(n_mlp=2, channel_multiplier=1, channel_max=16),
            discriminator=DiscriminatorConfig(channel_multiplier=1, channel_max=16),
            pace=pace,
            batch=4,
        ),
        student=StudentStageConfig(
            model=StudentConfig(32, 16, (16, 16, 16)), pace=pace, batch=4, perceptual_kind="discriminator"
        ),
        encoder=EncoderStageConfig(
            model=EncoderConfig("b0", grid=2, width=8, taps=(1, 2)),
            pace=pace,
            batch=4,
            perceptual_kind="discriminator",
        ),
        drift=DriftStageConfig(pace=pace, batch=4),
        actions=ActionsConfig(model=actions, pace=pace, batch=4, steps_per_call=1),
        dynamics=DynamicsStageConfig(
            model=model, loss=LossConfig(unroll=1), pace=pace, batch=4, clip=8, steps_per_call=1
        ),
    )


def tiny() -> Config:
    """64 px on a CPU: steps in place of widths, and no teacher, whose minutes are worth more to student and encoder."""
    often = 20.0
    return Config(
        size=64,
        style_dim=128,
        recipe="joint",
        ingest=IngestConfig(fps=15.0),
        teacher=TeacherStageConfig(
            generator=GeneratorConfig(n_mlp=4, channel_multiplier=1 / 8, channel_max=64),
            discriminator=DiscriminatorConfig(channel_multiplier=1 / 16, channel_max=64),
            pace=Pace(steps=4_000, share=1.2, checkpoint_seconds=often),
            r1=1.0,
        ),
        student=StudentStageConfig(
            model=StudentConfig(64, 128, (128, 128, 96, 64)),
            pace=Pace(steps=2_000, share=0.8, checkpoint_seconds=often),
            perceptual_kind="discriminator",
        ),
        encoder=EncoderStageConfig(
            model=EncoderConfig("b0", taps=(0, 1, 2), width=32),
            pace=Pace(steps=20_000, share=6.0, checkpoint_seconds=often),
            perceptual=0.0,
            adversarial=0.0,
        ),
        drift=DriftStageConfig(pace=Pace(steps=2_000, share=0.8, checkpoint_seconds=often)),
        actions=ActionsConfig(pace=Pace(steps=6_000, share=2.0, checkpoint_seconds=often)),
        dynamics=DynamicsStageConfig(
            model=DynamicsConfig(width=128, layers=3, heads=4, head_dim=32),
            loss=LossConfig(unroll_starts=2),
            optimizer=OptimizerConfig(learning_rate=1e-3),
            pace=Pace(steps=15_000, share=2.2, checkpoint_seconds=often),
            batch=16,
            clip=24,
        ),
    )


def laptop() -> Config:
    """256 px within 36.7 M parameters at play: B1 trunk, student of width 1, seven layers of dynamics."""
    return Config(
        size=256,
        style_dim=512,
        teacher=TeacherStageConfig(
            generator=GeneratorConfig(channel_multiplier=1),
            discriminator=DiscriminatorConfig(channel_multiplier=1),
            pace=Pace(steps=100_000, share=5.0),
        ),
        student=StudentStageConfig(pace=Pace(steps=50_000, share=3.0)),
        encoder=EncoderStageConfig(model=EncoderConfig("b1"), pace=Pace(steps=60_000, share=4.0)),
        drift=DriftStageConfig(pace=Pace(steps=10_000, share=1.0)),
        actions=ActionsConfig(pace=Pace(steps=30_000, share=1.0)),
        dynamics=DynamicsStageConfig(model=DynamicsConfig(layers=7), pace=Pace(steps=60_000, share=2.0)),
    )


def gpu() -> Config:
    """256 px on one large GPU: L1 trunk, bfloat16, larger batches; twice the parameters of `laptop`."""
    base = laptop()
    dynamics = DynamicsConfig(layers=8, compute_dtype="bfloat16")
    return replace(
        base,
        memory_limit_mb=16_384,
        teacher=replace(
            base.teacher,
            generator=GeneratorConfig(),
            discriminator=DiscriminatorConfig(),
            pace=Pace(steps=400_000, share=5.0),
            batch=32,
            precision="bfloat16",
        ),
        student=replace(base.student, pace=Pace(steps=200_000, share=3.0), batch=32, precision="bfloat16"),
        encoder=replace(
            base.encoder,
            model=EncoderConfig("l1"),
            pace=Pace(steps=200_000, share=4.0),
            batch=32,
            precision="bfloat16",
        ),
        drift=replace(base.drift, pace=Pace(steps=40_000, share=1.0), batch=32, precision="bfloat16"),
        dynamics=DynamicsStageConfig(
            model=dynamics,
            optimizer=OptimizerConfig(warmup=1000),
            pace=Pace(steps=200_000, share=2.0),
            batch=128,
        ),
    )


PRESETS: dict[str, Callable[[], Config]] = {"debug": debug, "tiny": tiny, "laptop": laptop, "gpu": gpu}


def preset(name: str) -> Config:
    """The config of a preset.

    Raises:
        UserError: there is none of that name.
    """
    if name not in PRESETS:
        raise UserError(f"--preset {name}", "there is no such preset", f"choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()


def configured(run: Run, name: str | None) -> Config:
    """The config to go on with: the preset if one is named, else the run's own, else the default preset.

    A preset takes over the shapes of what was imported into the run.
    """
    if name is None and run.config is not None:
        return stored_config(run.config, run.path / "run.json")
    return with_imports(preset(name or DEFAULT), read_imports(run.settings, run.path / "run.json"))
