"""Stage "student": MobileStyleGAN distilled from the averaged teacher (arXiv 2104.04767, section 3.3)."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from torch_bridge.discriminator import Discriminator
from torch_bridge.distill import pyramid_losses
from torch_bridge.gan import Ema, discriminator_loss, generator_loss, r1_penalty, sample_w
from torch_bridge.mobile_stylegan import Student, StudentConfig
from torch_bridge.perceptual import PerceptualKind, make_perceptual
from torch_bridge.spatial import with_zero_map
from torch_bridge.stylegan2 import Generator
from torch_bridge.w_plus import student_noise, student_rows
from train.optim import Adam, AdamConfig
from train.stage import Pace
from train.torch_stage import Placement, Precision, picture, seeded, step_rng, to_arrays

PREVIEW_IMAGES = 8
STATISTICS_DRAWS = 4096


@dataclass(frozen=True)
class StudentStageConfig:
    """The student and its distillation.

    Attributes:
        model: architecture; size and style_dim are the teacher's.
        pace: length of the stage.
        batch: images a step; a multiple of 4 for D's minibatch statistic.
        adam: optimiser of the student; clipping keeps the loss from exploding.
        adam_d: optimiser of D.
        l1: weight of pixel plus wavelet absolute error over all levels.
        l2: weight of pixel plus wavelet squared error over all levels.
        perceptual: weight of the perceptual distance; 0 turns it off.
        perceptual_kind: "lpips", "discriminator", or "auto".
        adversarial: weight of the adversarial loss; 0 turns it off, and D does not train.
        adversarial_every: steps between adversarial steps (both networks).
        r1: gamma of D's gradient penalty.
        r1_every: adversarial steps between its applications.
        mixing: probability that a sample mixes two w, for worlds whose w has several rows.
        noise: "none": a frame is a function of w alone, as in play. "shared": fresh noise, the same tensors for both.
        ema_half_life: of the averaged weights, in images.
        precision: of the forward passes.
        channels_last: memory format of convolutions.
    """

    model: StudentConfig = field(default_factory=StudentConfig)
    pace: Pace = field(default_factory=lambda: Pace(steps=100_000))
    batch: int = 16
    adam: AdamConfig = field(default_factory=lambda: AdamConfig(rate=5e-4, beta1=0.9, beta2=0.999, clip=1.0))
    adam_d: AdamConfig = field(default_factory=lambda: AdamConfig(rate=5e-4, beta1=0.0, beta2=0.99))
    l1: float = 1.0
    l2: float = 1.0
    perceptual: float = 1.0
    perceptual_kind: PerceptualKind = "auto"
    adversarial: float = 0.5
    adversarial_every: int = 1
    r1: float = 10.0
    r1_every: int = 16
    mixing: float = 0.0
    noise: Literal["none", "shared"] = "none"
    ema_half_life: float = 10_000.0
    precision: Precision = "float32"
    channels_last: bool = True


@torch.no_grad()
def w_statistics(teacher: Generator, seed: int) -> dict[str, np.ndarray]:
    """ "mean" and "std" (D,) over the teacher's w, for the same draws of z whoever asks."""
    z = torch.randn((STATISTICS_DRAWS, teacher.config.style_dim), generator=step_rng(seed, "statistics", 0))
    w = teacher.mapping(z.to(teacher.input.input.device)).cpu().numpy()
    return {"mean": w.mean(0), "std": w.std(0)}


class StudentStage:
    """w -> frame by a tenth of the teacher's arithmetic.

    Args:
        config: architecture and training.
        teacher: the averaged generator.
        discriminator: the teacher's, where D starts from; the perceptual distance may use its features as they are.
        seed: of everything random in the stage.
        device: where it computes.
    """

    name = "student"
    framework = "torch"
    steps_per_call = 1

    def __init__(
        self,
        config: StudentStageConfig,
        teacher: Generator,
        discriminator: Discriminator,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self.config, self.pace, self._seed = config, config.pace, seed
        self._place = Placement(device, config.precision, config.channels_last)
        self.teacher = self._place.put(teacher).eval().requires_grad_(False)
        self.student = self._place.put(seeded(seed, self.name, lambda: Student(config.model)))
        self.discriminator = self._place.put(discriminator).requires_grad_(True)
        if config.perceptual > 0:
            self._perceptual = self._place.put(make_perceptual(config.perceptual_kind, discriminator))
        self.ema = Ema(self.student, config.ema_half_life)
        self._adam = Adam(self.student.parameters(), config.adam)
        self._adam_d = Adam(self.discriminator.parameters(), config.adam_d.lazy(config.r1_every))

    def advance(self, step: int, progress: float, lr_scale: float) -> dict[str, Any]:
        """One step of the student on one batch of the teacher's images, and one of D when it is due."""
        config, rng = self.config, step_rng(self._seed, self.name, step)
        target, w_BLD, noise = self._teach(rng)
        adversarial = config.adversarial > 0 and step % config.adversarial_every == 0
        with self._place.autocast():
            image, heads = self.student.images(w_BLD, noise)
        image, heads = image.float(), [head.float() for head in heads]
        metrics = pyramid_losses(heads, target)
        loss = config.l1 * metrics["l1"] + config.l2 * metrics["l2"]
        with self._place.autocast():
            if config.perceptual > 0:
                distance = self._perceptual(image, target).mean()
                loss = loss + config.perceptual * distance
                metrics[self._perceptual.name] = distance
            if adversarial:
                metrics["loss_g"] = generator_loss(self.discriminator(image))
                loss = loss + config.adversarial * config.adversarial_every * metrics["loss_g"]
        norm = self._adam.step(loss, progress, lr_scale)
        if norm is not None:
            metrics["gradient_norm"] = norm
        if adversarial:
            metrics |= self._train_discriminator(target, image.detach(), step, progress, lr_scale)
        self.ema.update(self.student, (step + 1) * config.batch, config.batch)
        return {"loss": loss.detach(), **{name: value.detach() for name, value in metrics.items()}}

    @torch.no_grad()
    def _teach(self, rng: torch.Generator) -> tuple[Tensor, Tensor, list[Tensor] | None]:
        config, dim = self.config, self.config.model.style_dim
        with self._place.autocast():
            w_BLD = sample_w(self.teacher, config.batch, dim, mixing=config.mixing, rng=rng, device=self._place.device)
            noise = self.teacher.draw_noise(config.batch, rng) if config.noise == "shared" else None
            target = self.teacher.synthesis(w_BLD, "none" if noise is None else noise).float()
        rows_BRD = with_zero_map(student_rows(w_BLD), config.model.spatial)  # the teacher knows of no map
        return target, rows_BRD, None if noise is None else student_noise(noise)

    def _train_discriminator(
        self, real: Tensor, fake: Tensor, step: int, progress: float, lr_scale: float
    ) -> dict[str, Tensor]:
        config = self.config
        with self._place.autocast():
            loss = discriminator_loss(self.discriminator(real), self.discriminator(fake))
        self._adam_d.step(loss, progress, lr_scale)
        metrics = {"loss_d": loss}
        if step % (config.r1_every * config.adversarial_every) == 0:
            real = real.detach().requires_grad_()
            metrics["r1"] = r1_penalty(self.discriminator(real), real)
            self._adam_d.step(metrics["r1"] * (config.r1 / 2 * config.r1_every), progress, lr_scale)
        return metrics

    def state(self) -> dict[str, Any]:
        return {
            "student": self.student.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "ema": self.ema.state_dict(),
            "adam": self._adam.state_dict(),
            "adam_d": self._adam_d.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.student.load_state_dict(state["student"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.ema.load_state_dict(state["ema"])
        self._adam.load_state_dict(state["adam"])
        self._adam_d.load_state_dict(state["adam_d"])

    @torch.no_grad()
    def preview(self) -> dict[str, np.ndarray]:
        """Teacher above student, for the same w."""
        z = torch.randn((PREVIEW_IMAGES, self.config.model.style_dim), generator=step_rng(self._seed, "preview", 0))
        w = self.teacher.mapping(z.to(self._place.device))
        return {"pairs": picture([self.teacher.synthesis(w, "none"), self.ema.module(w)])}

    @torch.no_grad()
    def result(self) -> dict[str, dict[str, np.ndarray]]:
        """ "student" and "discriminator", and "w": mean and std over the teacher's w, which the encoder starts from."""
        return {
            "student": to_arrays(self.ema.module),
            "discriminator": to_arrays(self.discriminator),
            "w": w_statistics(self.teacher, self._seed),
        }

    def health(self) -> list[str]:
        return []
