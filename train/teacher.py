"""Stage "teacher": StyleGAN2 on the corpus' frames, with adaptive augmentation and a moving average of the weights."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torch_bridge.augment import AdaptiveAugment, AugmentConfig
from torch_bridge.discriminator import Discriminator, DiscriminatorConfig
from torch_bridge.gan import Ema, discriminator_loss, generator_loss, path_length_penalty, r1_penalty, sample_w
from torch_bridge.stylegan2 import Generator, GeneratorConfig
from train.optim import Adam, AdamConfig
from train.stage import Pace
from train.torch_stage import Frames, Placement, Precision, evenly, picture, seeded, step_rng, to_arrays

PREVIEW_IMAGES = 8


@dataclass(frozen=True)
class TeacherStageConfig:
    """The teacher and its training; defaults are StyleGAN2's (arXiv 1912.04958, appendix B).

    Attributes:
        generator: architecture of G.
        discriminator: architecture of D.
        pace: length of the stage.
        batch: images a step; a multiple of 4 for the minibatch statistic.
        adam_g: optimiser of G, before the correction for its lazy regulariser.
        adam_d: optimiser of D, likewise.
        r1: gamma of the gradient penalty.
        r1_every: steps between its applications.
        path_length: weight of the path length regulariser; 0 turns it off.
        path_length_every: steps between its applications, each on half a batch.
        mixing: probability that a sample mixes two w.
        augment: adaptive augmentation; no groups turn it off, as a corpus of hours allows.
        ema_half_life: of the averaged weights, in images.
        precision: of the forward passes.
        channels_last: memory format of convolutions.
    """

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    pace: Pace = field(default_factory=lambda: Pace(steps=100_000))
    batch: int = 16
    adam_g: AdamConfig = field(default_factory=lambda: AdamConfig(decay="constant"))
    adam_d: AdamConfig = field(default_factory=lambda: AdamConfig(decay="constant"))
    r1: float = 10.0
    r1_every: int = 16
    path_length: float = 2.0
    path_length_every: int = 4
    mixing: float = 0.9
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    ema_half_life: float = 10_000.0
    precision: Precision = "float32"
    channels_last: bool = True


class TeacherStage:
    """z -> w -> frame, learned from the frames' distribution.

    Args:
        config: architecture and training.
        corpus: where real frames come from.
        seed: of everything random in the stage.
        device: where it computes.
    """

    name = "teacher"
    framework = "torch"
    steps_per_call = 1

    def __init__(self, config: TeacherStageConfig, corpus: Frames, *, seed: int, device: torch.device) -> None:
        self.config, self.pace, self._corpus, self._seed = config, config.pace, corpus, seed
        self._place = Placement(device, config.precision, config.channels_last)
        self.generator = self._place.put(seeded(seed, "generator", lambda: Generator(config.generator)))
        self.discriminator = self._place.put(seeded(seed, "discriminator", lambda: Discriminator(config.discriminator)))
        self.ema = Ema(self.generator, config.ema_half_life)
        adam_g = config.adam_g.lazy(config.path_length_every) if config.path_length > 0 else config.adam_g
        self._adam_g = Adam(self.generator.parameters(), adam_g)
        self._adam_d = Adam(self.discriminator.parameters(), config.adam_d.lazy(config.r1_every))
        self._augment = AdaptiveAugment(config.augment)
        self._mean_length = torch.zeros((), device=self._place.device)

    def advance(self, step: int, progress: float, lr_scale: float) -> dict[str, Any]:
        """One step of D and one of G on the same generated images, and the regularisers that are due."""
        config, rng = self.config, step_rng(self._seed, self.name, step)
        real = self._place.images(self._corpus.batch(step, config.batch, stream=self.name))
        with self._place.autocast():
            # Generated once for both networks: G has not moved when its turn comes, so its gradient is the right one.
            fake = self.generator.synthesis(self._sample_w(config.batch, rng), "random", rng).float()
        metrics = self._train_discriminator(real, fake.detach(), rng, progress, lr_scale)
        if step % config.r1_every == 0:
            metrics["r1"] = self._regularise_discriminator(real, rng, progress, lr_scale)
        with self._place.autocast():
            loss_g = generator_loss(self.discriminator(self._augment(fake, rng)))
        self._adam_g.step(loss_g, progress, lr_scale)
        if config.path_length > 0 and step % config.path_length_every == 0:
            metrics["path_length"] = self._regularise_generator(rng, progress, lr_scale)
        self.ema.update(self.generator, (step + 1) * config.batch, config.batch)
        return metrics | {
            "loss": loss_g.detach() + metrics["loss_d"],
            "loss_g": loss_g.detach(),
            "augment_p": self._augment.p,
        }

    def _sample_w(self, batch: int, rng: torch.Generator) -> Tensor:
        dim, device = self.config.generator.style_dim, self._place.device
        return sample_w(self.generator, batch, dim, mixing=self.config.mixing, rng=rng, device=device)

    def _train_discriminator(
        self, real: Tensor, fake: Tensor, rng: torch.Generator, progress: float, lr_scale: float
    ) -> dict[str, Any]:
        with self._place.autocast():
            real_logits = self.discriminator(self._augment(real, rng))
            fake_logits = self.discriminator(self._augment(fake, rng))
            loss = discriminator_loss(real_logits, fake_logits)
        self._adam_d.step(loss, progress, lr_scale)
        self._augment.update(real_logits)
        return {
            "loss_d": loss.detach(),
            "d_real": real_logits.detach().mean(),
            "d_fake": fake_logits.detach().mean(),
        }

    def _regularise_discriminator(self, real: Tensor, rng: torch.Generator, progress: float, lr_scale: float) -> Tensor:
        real = real.detach().requires_grad_()
        penalty = r1_penalty(self.discriminator(self._augment(real, rng)), real)
        self._adam_d.step(penalty * (self.config.r1 / 2 * self.config.r1_every), progress, lr_scale)
        return penalty.detach()

    def _regularise_generator(self, rng: torch.Generator, progress: float, lr_scale: float) -> Tensor:
        w_BLD = self._sample_w(max(self.config.batch // 2, 1), rng)
        images = self.generator.synthesis(w_BLD, "random", rng)
        penalty, self._mean_length = path_length_penalty(images, w_BLD, self._mean_length, rng=rng)
        self._adam_g.step(penalty * (self.config.path_length * self.config.path_length_every), progress, lr_scale)
        return self._mean_length

    def state(self) -> dict[str, Any]:
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "ema": self.ema.state_dict(),
            "adam_g": self._adam_g.state_dict(),
            "adam_d": self._adam_d.state_dict(),
            "augment": self._augment.state(),
            "mean_length": self._mean_length,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.ema.load_state_dict(state["ema"])
        self._adam_g.load_state_dict(state["adam_g"])
        self._adam_d.load_state_dict(state["adam_d"])
        self._augment.load_state(state["augment"])
        self._mean_length = state["mean_length"].to(self._place.device)

    @torch.no_grad()
    def preview(self) -> dict[str, np.ndarray]:
        """One row of real frames above two rows of samples of the averaged generator, always for the same z."""
        rng = step_rng(self._seed, "teacher preview", 0)
        real = self._place.images(self._corpus.read(evenly(self._corpus.train_indices, PREVIEW_IMAGES)))
        z = torch.randn((2 * len(real), self.config.generator.style_dim), generator=rng).to(self._place.device)
        fake = self.ema.module.synthesis(self.ema.module.mapping(z), "fixed")
        return {"samples": picture([real, *fake.chunk(2)])}

    def result(self) -> dict[str, dict[str, np.ndarray]]:
        return {"generator": to_arrays(self.ema.module), "discriminator": to_arrays(self.discriminator)}

    def health(self) -> list[str]:
        if self._augment.p >= self.config.augment.p_max:
            return [
                "the discriminator knows the frames by heart and augmentation is at its limit: use more video, "
                "or end the teacher sooner (teacher.pace.steps)"
            ]
        return []
