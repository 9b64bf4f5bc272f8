"""Stage "drift": the encoder tuned on generated frames, so that decode and encode are each other's inverse.

A rollout feeds the model's own frames back. What the decoder shows for w must be read as w again, or the small error of
every pass adds up. Targets are w of real frames, moved between consecutive frames and by noise, as a dynamics model
would move them; the loss is the cosine distance plus the squared error in w. The image loss on real frames stays, so
that the reconstruction is not paid for it. The decoder stands still.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torch_bridge.distill import detail_loss
from torch_bridge.encoder import Encoder
from torch_bridge.gan import Ema
from torch_bridge.mobile_stylegan import Student
from torch_bridge.wavelet import haar_idwt
from train.code_prediction import PairCodes, predict_codes
from train.heldout import HeldOut, decode
from train.optim import Adam, AdamConfig
from train.stage import Pace
from train.torch_stage import Frames, Placement, Precision, evenly, step_rng, to_arrays

STATISTICS_FRAMES = 512


@dataclass(frozen=True)
class DriftStageConfig:
    """Tuning on generated frames.

    Attributes:
        pace: length of the stage.
        batch: generated frames a step; as many pairs of consecutive real frames are read.
        adam: optimiser of the encoder.
        cosine: weight of 1 - cos between the offsets from the mean w.
        mse: weight of the squared error of w in units of its deviation over the corpus.
        image: weight of absolute error plus finest wavelet bands on real frames.
        noise: largest deviation of the noise on target w, in units of w's deviation; drawn from [0, noise] for each.
        codes: weight of the prediction of the action model's codes from w of the pairs, so that tuning does not undo
            what `encoder.codes` did; the action model is then trained before. 0 turns it off.
        ema_half_life: of the averaged weights, in images.
        precision: of the forward passes.
        channels_last: memory format of convolutions.
    """

    pace: Pace = field(default_factory=lambda: Pace(steps=10_000))
    batch: int = 16
    adam: AdamConfig = field(default_factory=lambda: AdamConfig(rate=2e-4, beta1=0.9, beta2=0.99, clip=1.0))
    cosine: float = 1.0
    mse: float = 0.5
    image: float = 2.0
    noise: float = 0.3
    codes: float = 0.0
    ema_half_life: float = 2_000.0
    precision: Precision = "float32"
    channels_last: bool = True

    def __post_init__(self) -> None:
        if not self.codes >= 0:
            raise ValueError(f"codes {self.codes} is no weight: give 0 or more")


def perturb(
    w_BTLD: Float[Tensor, "B 2 L D"], std_LD: Float[Tensor, "L D"], noise: float, rng: torch.Generator
) -> Float[Tensor, "B L D"]:
    """One w for each pair of consecutive frames: a point of the line between them, plus noise of a drawn size."""
    batch = len(w_BTLD)
    share = torch.rand((batch, 1, 1), generator=rng).to(w_BTLD)
    level = torch.rand((batch, 1, 1), generator=rng).to(w_BTLD) * noise
    draws = torch.randn((batch, *w_BTLD.shape[2:]), generator=rng).to(w_BTLD)
    return torch.lerp(w_BTLD[:, 0], w_BTLD[:, 1], share) + level * std_LD * draws


class DriftStage:
    """encode(decode(w)) -> w.

    Args:
        config: the tuning.
        corpus: real frames.
        encoder: the encoder stage's; trained on from there.
        student: the decoder, frozen.
        codes: of the corpus's pairs of frames, for `config.codes` above 0.
        seed: of everything random in the stage.
        device: where it computes.
    """

    name = "drift"
    framework = "torch"
    steps_per_call = 1

    def __init__(
        self,
        config: DriftStageConfig,
        corpus: Frames,
        encoder: Encoder,
        student: Student,
        *,
        codes: PairCodes | None = None,
        seed: int,
        device: torch.device,
    ) -> None:
        self.config, self.pace, self._corpus, self._seed = config, config.pace, corpus, seed
        self._place = Placement(device, config.precision, config.channels_last)
        # Evaluation mode throughout: real and generated batches would pull the running statistics to and fro.
        self.encoder = self._place.put(encoder).eval().requires_grad_(True)
        self.student = self._place.put(student).eval().requires_grad_(False)
        self.ema = Ema(self.encoder, config.ema_half_life)
        self._codes = predict_codes(config, codes, corpus, self.encoder.mean_w, self._place, seed=seed, stage=self.name)
        head = () if self._codes is None else self._codes.parameters()
        self._adam = Adam([*self.encoder.parameters(), *head], config.adam)
        self._std_LD = self._deviation()
        self._heldout = HeldOut(corpus, self._place)
        self.before = self._heldout.measure(self.encoder, self.student)

    @torch.no_grad()
    def _deviation(self) -> Float[Tensor, "L D"]:
        frames = self._corpus.read(evenly(self._corpus.train_indices, STATISTICS_FRAMES))
        w_NLD = torch.cat([self.encoder(self._place.images(part)) for part in np.array_split(frames, 8) if len(part)])
        return w_NLD.std(0, unbiased=False).clamp(min=1e-3)

    def advance(self, step: int, progress: float, lr_scale: float) -> dict[str, Any]:
        """One step on pairs of real frames and as many generated frames."""
        config, rng = self.config, step_rng(self._seed, self.name, step)
        indices_BT = self._corpus.clip_indices(step, config.batch, 2, stream=self.name)
        frames_BTHWC = self._corpus.read(indices_BT)
        real = self._place.images(frames_BTHWC.reshape(-1, *frames_BTHWC.shape[2:]))  # [B*2 C H W]
        with self._place.autocast():
            w_real = self.encoder(real)
            target = perturb(w_real.detach().float().unflatten(0, (-1, 2)), self._std_LD, config.noise, rng)
            with torch.no_grad():
                generated = decode(self.student, target)
            again = self.encoder(generated.float()).float()
            heads = self.student.wavelet_heads(w_real[::2, 0] if w_real.shape[1] == 1 else w_real[::2])
        metrics = self._consistency(again, target)
        metrics["image"] = self._image_loss(heads[-1].float(), real[::2])
        loss = config.cosine * metrics["cosine"] + config.mse * metrics["mse_w"] + config.image * metrics["image"]
        if self._codes is not None:
            wrong, named = self._codes.loss(w_real.float().unflatten(0, (-1, 2)), indices_BT[:, 0])
            loss, metrics = loss + config.codes * wrong, metrics | named
        norm = self._adam.step(loss, progress, lr_scale)
        if norm is not None:
            metrics["gradient_norm"] = norm
        self.ema.update(self.encoder, (step + 1) * config.batch, config.batch)
        if self._codes is not None:
            self._codes.update((step + 1) * config.batch, config.batch)
        values = {name: value.detach() for name, value in metrics.items()}
        return {"loss": loss.detach(), **values, **self._measure(step)}

    def _consistency(self, again: Tensor, target: Tensor) -> dict[str, Tensor]:
        # Without the mean, which all w share, a cosine says something about the frame.
        mean_w = self.encoder.mean_w
        cosine = F.cosine_similarity((again - mean_w).flatten(1), (target - mean_w).flatten(1))
        return {"cosine": (1 - cosine).mean(), "mse_w": ((again - target) / self._std_LD).square().mean()}

    def _image_loss(self, bands: Tensor, real: Tensor) -> Tensor:
        return (haar_idwt(bands) - real).abs().mean() + detail_loss(bands, real)

    def _measure(self, step: int) -> dict[str, float]:
        if (step + 1) % self.pace.preview_every != 0 and step + 1 != self.pace.steps:
            return {}
        after = self._heldout.measure(self.ema.module, self.student)
        if self._codes is not None:
            after |= self._codes.measure(self.ema.module)
        return after | {"heldout_fixed_point_before": self.before["heldout_fixed_point"]}

    def state(self) -> dict[str, Any]:
        return {
            "encoder": self.encoder.state_dict(),
            "ema": self.ema.state_dict(),
            "adam": self._adam.state_dict(),
            **({} if self._codes is None else {"codes": self._codes.state()}),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.encoder.load_state_dict(state["encoder"])
        self.ema.load_state_dict(state["ema"])
        self._adam.load_state_dict(state["adam"])
        if self._codes is not None:
            self._codes.load_state(state["codes"])

    def preview(self) -> dict[str, np.ndarray]:
        """Held-out frames: real, reconstruction, error."""
        return {"heldout": self._heldout.show(self.ema.module, self.student)}

    def result(self) -> dict[str, dict[str, np.ndarray]]:
        return {"encoder": to_arrays(self.ema.module)}

    def health(self) -> list[str]:
        after = self._heldout.measure(self.ema.module, self.student)
        alarms = [] if self._codes is None else self._codes.alarms(self.ema.module, self.name)
        lost = self.before["heldout_psnr"] - after["heldout_psnr"]
        if lost > 1.0:
            alarms.append(f"tuning on generated frames cost {lost:.1f} dB of reconstruction: raise drift.image")
        return alarms
