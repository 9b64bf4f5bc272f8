"""What encoder and decoder do to held-out frames, measured while they train, with the definitions of the evaluation."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from torch_bridge.images import to_uint8
from train.evaluate.image import gradient_energy, psnr
from train.torch_stage import Frames, Placement, evenly, picture

MEASURED_FRAMES = 64
SHOWN_FRAMES = 8
BATCH = 16


class HeldOut:
    """A fixed, evenly spread choice of held-out frames.

    Args:
        corpus: where they come from; a corpus without held-out frames gives training frames, under the same names,
            and `frames_are_heldout` is 0 in the metrics.
        place: where encoder and decoder are.
    """

    def __init__(self, corpus: Frames, place: Placement) -> None:
        self._heldout = len(corpus.heldout_indices) > 0
        indices = corpus.heldout_indices if self._heldout else corpus.train_indices
        self.frames: UInt8[np.ndarray, "N H W C"] = corpus.read(evenly(indices, MEASURED_FRAMES))
        self._mean_frame = np.asarray(corpus.mean_frame).round().clip(0, 255).astype(np.uint8)
        self._place = place

    @torch.no_grad()
    def _pass(self, encoder: nn.Module, decoder: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        parts = []
        for start in range(0, len(self.frames), BATCH):
            w_BLD = encoder(self._place.images(self.frames[start : start + BATCH]))
            images = decode(decoder, w_BLD)
            parts.append((w_BLD, images, encoder(images)))
        w_NLD, images, again_NLD = (torch.cat(column) for column in zip(*parts, strict=True))
        return w_NLD, images, again_NLD

    def measure(self, encoder: nn.Module, decoder: nn.Module) -> dict[str, float]:
        """Reconstruction and fixed point of two modules in evaluation mode."""
        w_NLD, images, again_NLD = self._pass(encoder, decoder)
        other = to_uint8(images.cpu()).numpy()
        distance = 1.0 - torch.cosine_similarity(w_NLD, again_NLD, dim=-1)
        return {
            "heldout_psnr": float(psnr(self.frames, other).mean()),
            "heldout_mean_frame_psnr": float(psnr(self.frames, self._mean_frame).mean()),
            "heldout_sharpness": float(gradient_energy(other).mean() / gradient_energy(self.frames).mean()),
            "heldout_fixed_point": float(distance.mean()),
            "frames_are_heldout": float(self._heldout),
        }

    @torch.no_grad()
    def show(self, encoder: nn.Module, decoder: nn.Module) -> np.ndarray:
        """Rows: frames, reconstructions, signed error around grey."""
        real = self._place.images(self.frames[evenly(np.arange(len(self.frames)), SHOWN_FRAMES)])
        made = decode(decoder, encoder(real)).clamp(-1, 1)
        return picture([real, made, (made - real) / 2])


def decode(decoder: nn.Module, w_BLD: Float[Tensor, "B L D"]) -> Float[Tensor, "B 3 H W"]:
    """Images of w; a single row serves all rows of the decoder."""
    return decoder(w_BLD[:, 0] if w_BLD.shape[1] == 1 else w_BLD)
