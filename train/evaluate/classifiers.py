"""Small trained classifiers that bound what the codes could know.

`actions.supervised_accuracy`: true actions from pairs of frames, the ceiling of any action model. `latents.
code_recovery`: the codes from pairs of w, which says whether w still carries the motion that the codes were made of.
"""

import itertools

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from train.evaluate.actions import accuracy_of_majority, in_blocks
from train.evaluate.bootstrap import mean_estimate
from train.evaluate.context import Context
from train.evaluate.reconstruction import Reconstruction
from train.evaluate.results import Results
from train.evaluate.transitions import Transitions

_SIDE = 64
_EPOCHS = 12
_PAIRS = 20_000
_RECOVERY_PAIRS = 8_000


def report_supervised(context: Context, transitions: Transitions, results: Results) -> None:
    """Write `actions.supervised_accuracy` and its chance level; null without true actions or in a smaller profile."""
    key = "actions.supervised_accuracy"
    reason = None
    if transitions.actions_N is None:
        reason = "no true actions were given (--actions A.npz)"
    elif not context.profile.classifiers:
        reason = "trained only with --full"
    elif len(np.unique(transitions.actions_N[transitions.training_N])) < 2:
        reason = "the training episodes hold one true action only"
    if reason is not None:
        results.missing(key, reason)
        results.missing("actions.chance.supervised_accuracy", reason)
        return
    used = np.linspace(0, len(transitions.first_N) - 1, min(_PAIRS, len(transitions.first_N))).astype(int)
    names, labels = np.unique(transitions.actions_N[used], return_inverse=True)
    training = transitions.training_N[used]
    pairs = _frame_pairs(context, transitions.first_N[used])
    context.log(f"  supervised classifier on {int(training.sum())} pairs of frames")
    predicted = fit_and_predict(_PairNet(len(names)), pairs, labels, training, _EPOCHS, context.seed)
    said = {"seed": context.seed, "split": transitions.split, "model": "convolutional, frames t and t+1 at 64 px"}
    results.number(key, in_blocks(predicted == labels[~training], context.seed), **said)
    chance = accuracy_of_majority(labels[training], labels[~training])
    results.number("actions.chance.supervised_accuracy", chance, how="majority true action", **said)


def report_code_recovery(context: Context, scores: Reconstruction, results: Results) -> None:
    """Write `latents.code_recovery` and `latents.chance.code_recovery`, on the clips' own w and codes."""
    groups = context.clips.groups_N
    names = np.unique(groups)
    if scores.w_NSLD.shape[1] < 2 or len(names) < 2:
        reason = "there are too few clips to train on some and score others"
        results.missing("latents.code_recovery", reason)
        results.missing("latents.chance.code_recovery", reason)
        return
    chosen = context.rng("recovery").permutation(names)[: max(1, min(len(names) - 1, round(0.8 * len(names))))]
    w = scores.w_NSLD.reshape(*scores.w_NSLD.shape[:2], -1)
    pairs = np.concatenate([w[:, :-1], w[:, 1:] - w[:, :-1]], -1)
    codes = context.codes_NTm1[:, context.clips.prompt :]
    clip = np.repeat(np.arange(len(w)), pairs.shape[1])
    used = np.linspace(0, len(clip) - 1, min(_RECOVERY_PAIRS, len(clip))).astype(int)
    inputs, labels = pairs.reshape(len(clip), -1)[used], codes.reshape(-1)[used]
    # Clips of neighbouring groups share frames: no transition of a scored clip may be among those trained on.
    first = (context.clips.starts_N[:, None] + context.clips.prompt + np.arange(pairs.shape[1])).reshape(-1)
    inside = np.isin(groups[clip], chosen)
    unseen = ~np.isin(first[used], first[~inside])
    kept = ~inside[used] | unseen
    if not (inside[used] & unseen).any():
        reason = "the clips overlap so much that none is left to train on"
        results.missing("latents.code_recovery", reason)
        results.missing("latents.chance.code_recovery", reason)
        return
    used, inputs, labels = used[kept], inputs[kept], labels[kept]
    training = inside[used]
    mean, std = inputs[training].mean(0), inputs[training].std(0) + 1e-6
    net = _mlp(inputs.shape[1], context.code_count)
    predicted = fit_and_predict(net, torch.from_numpy((inputs - mean) / std), labels, training, _EPOCHS, context.seed)
    said = {"seed": context.seed, "split": f"{len(chosen)} of {len(names)} groups of clips for training"}
    correct = (predicted == labels[~training]).astype(np.float64)
    estimate = mean_estimate(correct, groups=clip[used][~training], seed=context.seed)
    results.number("latents.code_recovery", estimate, **said)
    chance = accuracy_of_majority(labels[training], labels[~training])
    results.number("latents.chance.code_recovery", chance, how="majority code", **said)


def fit_and_predict(
    net: nn.Module,
    inputs: Tensor,
    labels: Int[np.ndarray, " N"],
    training: Bool[np.ndarray, " N"],
    epochs: int,
    seed: int,
) -> Int[np.ndarray, " M"]:
    """Train on the marked examples (AdamW, cosine rate), name the class of the others. Deterministic on a CPU."""
    with torch.random.fork_rng(devices=[]):  # start, order and dropout from the seed alone, whatever ran before
        torch.manual_seed(seed)
        for module in net.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.reset_parameters()
        known = torch.from_numpy(np.flatnonzero(training))
        _train(net, inputs[known], torch.from_numpy(np.ascontiguousarray(labels)).long()[known], epochs)
    net.eval()
    with torch.no_grad():
        rest = inputs[torch.from_numpy(np.flatnonzero(~training))]
        return torch.cat([net(_prepared(part)).argmax(-1) for part in rest.split(256)]).numpy()


def _train(net: nn.Module, inputs: Tensor, targets: Int[Tensor, " N"], epochs: int) -> None:
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.05)
    batches = max(1, len(inputs) // 128)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * batches)
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs)).tensor_split(batches):
            loss = F.cross_entropy(net(_prepared(inputs[batch])), targets[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def _prepared(inputs: Tensor) -> Tensor:
    """uint8 frame pairs are scaled batch by batch, so that memory holds bytes and not floats."""
    return inputs.float() / 127.5 - 1 if inputs.dtype == torch.uint8 else inputs


def _mlp(features: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(features, 256), nn.SiLU(), nn.Dropout(0.2), nn.Linear(256, classes))


class _PairNet(nn.Module):
    """Five strided convolutions over both frames and their difference, pooled over 4x4 places."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        widths = (9, 32, 64, 96, 128)
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(widths[-1] * 16, classes))

    def forward(self, pairs: Float[Tensor, "B 6 H W"]) -> Float[Tensor, "B classes"]:
        first, second = pairs.chunk(2, dim=1)
        return self.head(self.body(torch.cat([first, second, second - first], 1)))


def _frame_pairs(context: Context, first_N: Int[np.ndarray, " N"]) -> Tensor:
    """uint8 (N, 6, 64, 64): both frames of each transition."""
    wanted = np.unique(np.concatenate([first_N, first_N + 1]))
    small = np.empty((len(wanted), _SIDE, _SIDE, 3), np.uint8)
    for start in range(0, len(wanted), 256):
        frames = context.store.read(wanted[start : start + 256].tolist())
        small[start : start + 256] = [cv2.resize(f, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for f in frames]
    a, b = (small[np.searchsorted(wanted, index)] for index in (first_N, first_N + 1))
    return torch.from_numpy(np.concatenate([a, b], -1)).permute(0, 3, 1, 2)
