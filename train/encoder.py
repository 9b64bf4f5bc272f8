"""Stage "encoder": inversion, frame -> w, through the student, which by default is tuned with it on real frames.

In the recipe "joint" there was no teacher: the student begins with random weights, and so does the discriminator.
A frozen student can only show what the teacher dreamt of; tuned together with the encoder it learns to show the frames
that there are. A squared error alone makes every frame a blur, so there are three terms against it: high wavelet bands,
a perceptual distance, and a discriminator that starts from the teacher's and trains on.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from torch_bridge.augment import AdaptiveAugment, AugmentConfig
from torch_bridge.discriminator import Discriminator
from torch_bridge.distill import detail_loss, pyramid_losses
from torch_bridge.encoder import Encoder, EncoderConfig
from torch_bridge.gan import Ema, discriminator_loss, generator_loss, r1_penalty
from torch_bridge.mobile_stylegan import Student
from torch_bridge.perceptual import PerceptualKind, make_perceptual
from train.code_prediction import PairCodes, predict_codes
from train.heldout import HeldOut
from train.optim import Adam, AdamConfig
from train.stage import Pace
from train.torch_stage import Frames, Placement, Precision, seeded, step_rng, to_arrays
from train.trunk_weights import load_trunk


@dataclass(frozen=True)
class EncoderStageConfig:
    """The encoder and the losses of its training.

    Attributes:
        model: architecture; size and style_dim are the student's, rows 1 (W) or the student's (W+).
        trunk_weights: file of published EfficientViT weights that the trunk starts from; None for none.
        pace: length of the stage.
        batch: frames a step; a multiple of 4 for D's minibatch statistic.
        adam: optimiser of encoder and student.
        student_rate: factor on the student's learning rate.
        adam_d: optimiser of D.
        tune_student: train the student too, on real frames; set by the run's `recipe`.
        mse: weight of the squared error of the image.
        l1: weight of its absolute error.
        pyramid: weight of absolute and squared errors of all wavelet levels, which train the student's heads.
        detail: weight of the absolute error of the finest high wavelet bands.
        perceptual: weight of the perceptual distance; 0 turns it off.
        perceptual_kind: "lpips", "discriminator", or "auto".
        adversarial: weight of the adversarial loss at full strength; 0 turns it off, and D does not train.
        adversarial_from: progress at which the adversarial loss sets in: from the start it keeps w from spreading out.
        adversarial_every: steps between adversarial steps (both networks).
        r1: gamma of D's gradient penalty.
        r1_every: adversarial steps between its applications.
        augment: adaptive augmentation of what D sees.
        moments: weight of the term that keeps mean and deviation of w near the teacher's, or near 0 and 1 without one.
        codes: weight of the prediction of the action model's codes from w of consecutive frames; a batch is then made
            of pairs of these, and the action model is trained before. 0 turns it off.
        ema_half_life: of the averaged weights, in images.
        precision: of the forward passes.
        channels_last: memory format of convolutions.
    """

    model: EncoderConfig = field(default_factory=EncoderConfig)
    trunk_weights: str | None = None
    pace: Pace = field(default_factory=lambda: Pace(steps=100_000))
    batch: int = 16
    adam: AdamConfig = field(default_factory=lambda: AdamConfig(rate=1e-3, beta1=0.9, beta2=0.99, clip=1.0))
    student_rate: float = 4.0
    adam_d: AdamConfig = field(default_factory=lambda: AdamConfig(rate=2e-3, beta1=0.0, beta2=0.99))
    tune_student: bool = True
    mse: float = 1.0
    l1: float = 1.0
    pyramid: float = 0.0
    detail: float = 1.0
    perceptual: float = 1.0
    perceptual_kind: PerceptualKind = "auto"
    adversarial: float = 0.02
    adversarial_from: float = 0.2
    adversarial_every: int = 1
    r1: float = 1.0
    r1_every: int = 16
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    moments: float = 0.01
    codes: float = 0.0
    ema_half_life: float = 5_000.0
    precision: Precision = "float32"
    channels_last: bool = True

    def __post_init__(self) -> None:
        if self.trunk_weights is not None and self.model.pretrained:
            raise ValueError("the trunk starts from trunk_weights or from pretrained ones: give one of the two")
        if not self.codes >= 0:
            raise ValueError(f"codes {self.codes} is no weight: give 0 or more")
        if self.codes > 0 and self.batch % 2:
            raise ValueError(f"a batch of {self.batch} frames is not made of pairs, which codes need: give an even one")


class Autoencoder(nn.Module):
    """Encoder and decoder as one module, so that they are optimised and averaged as one."""

    def __init__(self, encoder: Encoder, student: Student) -> None:
        super().__init__()
        self.encoder, self.student = encoder, student

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """w_BLD, image_BCHW and the wavelet bands of all levels."""
        w_BLD = self.encoder(images)
        image, heads = self.student.images(w_BLD[:, 0] if w_BLD.shape[1] == 1 else w_BLD)
        return w_BLD, image, heads


def moment_loss(
    w_BLD: Float[Tensor, "B L D"], mean_D: Float[Tensor, " D"], std_D: Float[Tensor, " D"]
) -> Float[Tensor, ""]:
    """Distance of the batch's mean and deviation to the teacher's, in units of the teacher's deviation."""
    shift = (w_BLD.mean((0, 1)) - mean_D) / std_D
    spread = w_BLD.std(0, unbiased=False).mean(0) / std_D - 1
    return shift.square().mean() + spread.square().mean()


class EncoderStage:
    """frame -> w -> frame.

    Args:
        config: architecture and training.
        corpus: real frames.
        student: the distilled student or a new one; trained when `config.tune_student`, else left as it is.
        discriminator: where D starts from: the student stage's, whose features the perceptual distance may use, or new.
        w_mean, w_std: statistics that w shall have: those of the teacher's w, (D,) each.
        codes: of the corpus's pairs of frames, for `config.codes` above 0.
        seed: of everything random in the stage.
        device: where it computes.
    """

    name = "encoder"
    framework = "torch"
    steps_per_call = 1

    def __init__(
        self,
        config: EncoderStageConfig,
        corpus: Frames,
        student: Student,
        discriminator: Discriminator,
        w_mean: Float[np.ndarray, " D"],
        w_std: Float[np.ndarray, " D"],
        *,
        codes: PairCodes | None = None,
        seed: int,
        device: torch.device,
    ) -> None:
        self.config, self.pace, self._corpus, self._seed = config, config.pace, corpus, seed
        self._place = Placement(device, config.precision, config.channels_last)
        self._w_mean = torch.from_numpy(np.array(w_mean)).to(device)
        self._w_std = torch.from_numpy(np.array(w_std)).to(device).clamp(min=1e-3)
        encoder = seeded(seed, self.name, lambda: Encoder(config.model))
        if config.trunk_weights is not None:
            load_trunk(encoder, config.trunk_weights)
        encoder.set_mean_w(self._w_mean.cpu())
        self.model = self._place.put(Autoencoder(encoder, student.requires_grad_(config.tune_student)))
        self.discriminator = self._place.put(discriminator).requires_grad_(True)
        if config.perceptual > 0:
            self._perceptual = self._place.put(make_perceptual(config.perceptual_kind, discriminator))
        self.ema = Ema(self.model, config.ema_half_life)
        self._codes = predict_codes(config, codes, corpus, encoder.mean_w, self._place, seed=seed, stage=self.name)
        tuned = (student.parameters(), config.student_rate)
        head = () if self._codes is None else self._codes.parameters()
        self._adam = Adam([*encoder.parameters(), *head], config.adam, faster=tuned)
        self._adam_d = Adam(self.discriminator.parameters(), config.adam_d.lazy(config.r1_every))
        self._augment = AdaptiveAugment(config.augment)
        self._heldout = HeldOut(corpus, self._place)

    def advance(self, step: int, progress: float, lr_scale: float) -> dict[str, Any]:
        """One step of encoder and student on one batch of frames, and one of D when it is due."""
        config, rng = self.config, step_rng(self._seed, self.name, step)
        frames_BHWC, first_P = self._batch(step)
        real = self._place.images(frames_BHWC)
        with self._place.autocast():
            w_BLD, image, heads = self.model.train()(real)
        w_BLD, image, heads = w_BLD.float(), image.float(), [head.float() for head in heads]
        loss, metrics = self._reconstruction(w_BLD, image, heads, real)
        if self._codes is not None:
            wrong, named = self._codes.loss(w_BLD.unflatten(0, (-1, 2)), first_P)
            loss, metrics = loss + config.codes * wrong, metrics | named
        adversarial = (
            config.adversarial > 0 and progress >= config.adversarial_from and step % config.adversarial_every == 0
        )
        if adversarial:
            with self._place.autocast():
                metrics["loss_g"] = generator_loss(self.discriminator(self._augment(image, rng)))
            loss = loss + config.adversarial * config.adversarial_every * metrics["loss_g"]
        norm = self._adam.step(loss, progress, lr_scale)
        if norm is not None:
            metrics["gradient_norm"] = norm
        if adversarial:
            metrics |= self._train_discriminator(real, image.detach(), rng, step, progress, lr_scale)
        self.ema.update(self.model, (step + 1) * config.batch, config.batch)
        if self._codes is not None:
            self._codes.update((step + 1) * config.batch, config.batch)
        values = {name: value.detach() for name, value in metrics.items()}
        return {"loss": loss.detach(), **values, "augment_p": self._augment.p, **self._measure(step)}

    def _batch(self, step: int) -> tuple[UInt8[np.ndarray, "B H W C"], Int[np.ndarray, " P"]]:
        """Frames of a step: any or, where codes are predicted, pairs of consecutive ones, and these' first numbers."""
        if self._codes is None:
            return self._corpus.batch(step, self.config.batch, stream=self.name), np.zeros(0, np.int64)
        pairs_P2 = self._corpus.clip_indices(step, self.config.batch // 2, 2, stream=self.name)
        return self._corpus.read(pairs_P2.reshape(-1)), pairs_P2[:, 0]

    def _reconstruction(
        self, w_BLD: Tensor, image: Tensor, heads: list[Tensor], real: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        config, difference = self.config, image - real
        metrics = {"mse": difference.square().mean(), "l1": difference.abs().mean()}
        terms = [config.mse * metrics["mse"], config.l1 * metrics["l1"]]
        if config.pyramid > 0:
            levels = pyramid_losses(heads, real)
            metrics["pyramid"] = levels["l1"] + levels["l2"]
            terms.append(config.pyramid * metrics["pyramid"])
        if config.detail > 0:
            metrics["detail"] = detail_loss(heads[-1], real)
            terms.append(config.detail * metrics["detail"])
        if config.moments > 0:
            styles_BRD = w_BLD[:, : w_BLD.shape[1] - config.model.map_rows]  # of a map nothing knows the statistics
            metrics["moments"] = moment_loss(styles_BRD, self._w_mean, self._w_std)
            terms.append(config.moments * metrics["moments"])
        if config.perceptual > 0:
            with self._place.autocast():
                metrics[self._perceptual.name] = self._perceptual(image, real).mean()
            terms.append(config.perceptual * metrics[self._perceptual.name])
        return torch.stack(terms).sum(), metrics

    def _train_discriminator(
        self, real: Tensor, fake: Tensor, rng: torch.Generator, step: int, progress: float, lr_scale: float
    ) -> dict[str, Tensor]:
        config = self.config
        with self._place.autocast():
            real_logits = self.discriminator(self._augment(real, rng))
            loss = discriminator_loss(real_logits, self.discriminator(self._augment(fake, rng)))
        self._adam_d.step(loss, progress, lr_scale)
        self._augment.update(real_logits)
        metrics = {"loss_d": loss, "d_real": real_logits.mean()}
        if step % (config.r1_every * config.adversarial_every) == 0:
            real = real.detach().requires_grad_()
            metrics["r1"] = r1_penalty(self.discriminator(self._augment(real, rng)), real)
            self._adam_d.step(metrics["r1"] * (config.r1 / 2 * config.r1_every), progress, lr_scale)
        return metrics

    def _measure(self, step: int) -> dict[str, float]:
        if (step + 1) % self.pace.preview_every != 0 and step + 1 != self.pace.steps:
            return {}
        measured = self._heldout.measure(self.ema.module.encoder, self.ema.module.student)
        return measured if self._codes is None else measured | self._codes.measure(self.ema.module.encoder)

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "ema": self.ema.state_dict(),
            "adam": self._adam.state_dict(),
            "adam_d": self._adam_d.state_dict(),
            "augment": self._augment.state(),
            **({} if self._codes is None else {"codes": self._codes.state()}),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.ema.load_state_dict(state["ema"])
        self._adam.load_state_dict(state["adam"])
        self._adam_d.load_state_dict(state["adam_d"])
        self._augment.load_state(state["augment"])
        if self._codes is not None:
            self._codes.load_state(state["codes"])

    def preview(self) -> dict[str, np.ndarray]:
        """Held-out frames: real, reconstruction, error."""
        return {"heldout": self._heldout.show(self.ema.module.encoder, self.ema.module.student)}

    def result(self) -> dict[str, dict[str, np.ndarray]]:
        return {
            "encoder": to_arrays(self.ema.module.encoder),
            "student": to_arrays(self.ema.module.student),
            "discriminator": to_arrays(self.discriminator),
        }

    def health(self) -> list[str]:
        measured = self._heldout.measure(self.ema.module.encoder, self.ema.module.student)
        alarms = [] if self._codes is None else self._codes.alarms(self.ema.module.encoder, self.name)
        if measured["heldout_psnr"] < measured["heldout_mean_frame_psnr"]:
            alarms.append("reconstructions are worse than the mean frame: train the encoder longer")
        if measured["heldout_sharpness"] < 0.5:
            alarms.append(
                f"reconstructions are blurred (sharpness {measured['heldout_sharpness']:.2f}): train longer, "
                "or raise encoder.adversarial"
            )
        return alarms
