"""Auxiliary task of the stages that train the encoder: w of two consecutive frames must name the code between them.

Reconstruction alone lets w drop what moves a little, and with it the motion that the codes are made of. So while the
encoder trains, a small head reads (w_t, w_t+1) and predicts the code that the action model gave to the pair; its cross
entropy joins the loss (features from which the action between two frames can be told: arXiv:1705.05363, section 2.2).
The head belongs to training alone: checkpoints hold it, results do not.

The codes come from frames, not from w, so the action model can be trained before the encoder.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from torch_bridge.gan import Ema
from train.errors import UserError
from train.torch_stage import Frames, Placement, evenly, seeded

HIDDEN = 256
HELDOUT_PAIRS = 256
BATCH = 16
LEAST_RATE = 0.01  # of the running mean of squares, once there were 100 batches
SLACK = 0.02  # a head that is better than the majority by less than this says nothing


class PairCodes(NamedTuple):
    """The code of every frame to its next one, -1 where there is none, and how many codes there are."""

    codes_F: Int[np.ndarray, " F"]
    count: int


class CodeHead(nn.Module):
    """(w_t, w_t+1) -> logits of the codes: two layers on w_t and on the change of w.

    Both are divided by their running root mean square, as a change is small against w. The last layer begins at zero:
    an untrained head pushes the encoder nowhere.

    Args:
        mean_w: (L, D), what w is told apart from.
        codes: K.
    """

    def __init__(self, mean_w: Float[Tensor, "L D"], codes: int) -> None:
        super().__init__()
        self.register_buffer("mean_w", mean_w.detach().clone(), persistent=False)
        self.register_buffer("square", torch.ones(2))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.hidden = nn.Linear(2 * mean_w.numel(), HIDDEN)
        self.out = nn.Linear(HIDDEN, codes)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, w_B2LD: Float[Tensor, "B 2 L D"]) -> Float[Tensor, "B K"]:
        """Logits; in training mode the running mean of squares moves too."""
        parts = [w_B2LD[:, 0] - self.mean_w, w_B2LD[:, 1] - w_B2LD[:, 0]]
        x_B2I = torch.stack([part.flatten(1) for part in parts], 1)
        if self.training:
            self._follow(x_B2I.detach())
        scaled = x_B2I / (self.square[:, None] + 1e-8).sqrt()
        return self.out(F.silu(self.hidden(scaled.flatten(1))))

    @torch.no_grad()
    def _follow(self, x_B2I: Float[Tensor, "B 2 I"]) -> None:
        self.batches += 1
        rate = (1 / self.batches).clamp(min=LEAST_RATE)
        self.square.lerp_(x_B2I.square().mean((0, 2)), rate)


class Weighted(Protocol):
    """The part of a stage's config that is read here; the weight of the loss is the stage's to apply."""

    codes: float
    ema_half_life: float


class CodePrediction:
    """The head, its average and its held-out pairs, for one stage.

    Args:
        codes: of the corpus's pairs of frames.
        corpus: the frames.
        mean_w: of the encoder.
        half_life: of the head's averaged weights, in images: the stage's own.
        place: where the stage computes.
        seed: of the run.
        stage: its name.
    """

    def __init__(
        self,
        codes: PairCodes,
        corpus: Frames,
        mean_w: Float[Tensor, "L D"],
        half_life: float,
        place: Placement,
        *,
        seed: int,
        stage: str,
    ) -> None:
        self._codes, self._corpus, self._place = codes, corpus, place
        self.head = place.put(seeded(seed, f"{stage} codes", lambda: CodeHead(mean_w, codes.count))).train()
        self.ema = Ema(self.head, half_life)
        self._first_N = heldout_pairs(corpus, codes.codes_F)

    def parameters(self) -> Iterator[nn.Parameter]:
        """What the stage's optimiser trains beside the encoder."""
        return self.head.parameters()

    def loss(
        self, w_B2LD: Float[Tensor, "B 2 L D"], first_B: Int[np.ndarray, " B"]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Mean cross entropy in nats, and metrics `code_loss` and `code_accuracy`.

        Args:
            w_B2LD: of pairs of consecutive frames; the gradient reaches it.
            first_B: number of the first frame of each pair.
        """
        target_B = torch.from_numpy(self._codes.codes_F[first_B].astype(np.int64)).to(w_B2LD.device)
        logits_BK = self.head(w_B2LD)
        wrong = F.cross_entropy(logits_BK, target_B)
        return wrong, {"code_loss": wrong, "code_accuracy": (logits_BK.argmax(-1) == target_B).float().mean()}

    def update(self, images_seen: int, images: int) -> None:
        """Move the average after a step; counted as `Ema.update` counts."""
        self.ema.update(self.head, images_seen, images)

    @torch.no_grad()
    def measure(self, encoder: nn.Module) -> dict[str, float]:
        """On held-out pairs, with the head's average: `heldout_code_accuracy`, and the majority code's share.

        A corpus without held-out pairs gives training pairs under the same names, as `train.heldout` does.

        Args:
            encoder: in evaluation mode.
        """
        found = []
        for start in range(0, len(self._first_N), BATCH):
            frames = self._corpus.read(self._first_N[start : start + BATCH, None] + np.arange(2))
            images = self._place.images(frames.reshape(-1, *frames.shape[2:]))
            logits = self.ema.module(encoder(images).float().unflatten(0, (-1, 2)))
            found.append(logits.argmax(-1).cpu().numpy())
        true_N = self._codes.codes_F[self._first_N]
        share = np.bincount(true_N, minlength=self._codes.count).max() / len(true_N)
        accuracy = float((np.concatenate(found) == true_N).mean())
        return {"heldout_code_accuracy": accuracy, "heldout_code_majority": float(share)}

    def alarms(self, encoder: nn.Module, stage: str) -> list[str]:
        """Whether w names no codes; in plain words, with what to do."""
        measured = self.measure(encoder)
        accuracy, majority = measured["heldout_code_accuracy"], measured["heldout_code_majority"]
        if majority == 1 or accuracy > majority + SLACK:
            return []
        return [
            f"w does not name the codes of held-out pairs (found {accuracy:.2f}, majority code {majority:.2f}): train "
            f"longer, or raise {stage}.codes"
        ]

    def state(self) -> dict[str, Any]:
        """Everything that resuming needs; the optimiser is the stage's."""
        return {"head": self.head.state_dict(), "ema": self.ema.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self.head.load_state_dict(state["head"])
        self.ema.load_state_dict(state["ema"])


def heldout_pairs(corpus: Frames, codes_F: Int[np.ndarray, " F"]) -> Int[np.ndarray, " N"]:
    """First frames of up to 256 held-out pairs that have a code, evenly spread; of training pairs where none is held.

    Raises:
        UserError: no two consecutive frames have a code.
    """
    for frames in (corpus.heldout_indices, corpus.train_indices):
        first_N = np.intersect1d(frames, np.asarray(frames) - 1)
        first_N = first_N[codes_F[first_N] >= 0]
        if len(first_N):
            return evenly(first_N, HELDOUT_PAIRS)
    raise UserError("the corpus", "no shot has two consecutive frames", "prepare a video with longer shots")


def predict_codes(
    config: Weighted,
    codes: PairCodes | None,
    corpus: Frames,
    mean_w: Float[Tensor, "L D"],
    place: Placement,
    *,
    seed: int,
    stage: str,
) -> CodePrediction | None:
    """The task of a stage, None where its config gives it no weight.

    Raises:
        UserError: there is a weight and there are no codes.
    """
    if config.codes == 0:
        return None
    if codes is None:
        raise UserError(f"--{stage}.codes", "there are no codes to predict", "train the action model before")
    return CodePrediction(codes, corpus, mean_w, config.ema_half_life, place, seed=seed, stage=stage)
