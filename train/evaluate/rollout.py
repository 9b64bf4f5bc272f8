"""Rollouts against the truth: from a prompt, with the codes inferred from the true future, step by step.

Baselines at every step: the prompt's last frame held, the mean frame, and the tokenizer's own ceiling.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from train.evaluate.bootstrap import Estimate, group_weights, mean_estimate, ratio_estimate
from train.evaluate.context import Context
from train.evaluate.image import gradient_energy, psnr, ssim
from train.evaluate.reconstruction import Reconstruction
from train.evaluate.results import Results

FILMS = 4


class Rollouts(NamedTuple):
    """Scores of every step of every clip (index s is step h = s + 1), and a few films (truth, prediction)."""

    psnr_NS: Float[np.ndarray, "N S"]
    ssim_NS: Float[np.ndarray, "N S"]
    lpips_NS: Float[np.ndarray, "N S"] | None
    copy_last_psnr_NS: Float[np.ndarray, "N S"]
    energy_NS: Float[np.ndarray, "N S"]
    films: list[tuple[UInt8[np.ndarray, "S H W C"], UInt8[np.ndarray, "S H W C"]]]


def roll_out(context: Context) -> Rollouts:
    """Roll every clip out from its prompt with the codes of its true future."""
    clips, rows, films = context.clips, [], []
    wanted = set(np.linspace(0, len(clips) - 1, min(FILMS, len(clips))).round().astype(int).tolist())
    for chosen in clips.batches():
        frames = clips.frames(chosen)
        prompt, truth = frames[:, : clips.prompt], frames[:, clips.prompt :]
        codes = context.codes_NTm1[chosen]
        other = predict(context, prompt, codes[:, : clips.prompt - 1], codes[:, clips.prompt - 1 :])
        row = {
            "psnr": psnr(truth, other),
            "ssim": ssim(truth, other),
            "copy": psnr(truth, prompt[:, -1:]),
            "energy": gradient_energy(other),
        }
        if callable(context.lpips):
            row["lpips"] = context.lpips(truth, other)
        rows.append(row)
        films += [(truth[i - chosen.start], other[i - chosen.start]) for i in sorted(wanted) if i in _range(chosen)]
        context.log(f"  rollout of clip {chosen.stop}/{len(clips)}")
    whole = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    return Rollouts(*(whole.get(name) for name in ("psnr", "ssim", "lpips", "copy", "energy")), films)


def predict(
    context: Context,
    prompt_BTHWC: UInt8[np.ndarray, "B T H W C"],
    prompt_codes_BTm1: Int[np.ndarray, "B Tm1"],
    codes_BS: Int[np.ndarray, "B S"],
    steps: Sequence[int] | None = None,
) -> UInt8[np.ndarray, "B S H W C"]:
    """The world's frames, of all steps or of `steps` (from 1); `codes_BS[:, 0]` leads from the prompt to step 1."""
    frames = np.asarray(context.world.rollout_batch(prompt_BTHWC, prompt_codes_BTm1, codes_BS, steps=steps))
    expected = (len(codes_BS), codes_BS.shape[1] if steps is None else len(steps), *prompt_BTHWC.shape[2:])
    if frames.shape != expected or frames.dtype != np.uint8:
        raise ValueError(f"rollout_batch must give uint8 frames {expected}; it gave {frames.dtype} {frames.shape}")
    return frames


def horizon(psnr_S: Float[np.ndarray, " S"], copy_last_psnr_S: Float[np.ndarray, " S"]) -> int:
    """The last step, counted from 1, at which the mean PSNR is above the held last frame; 0 if never."""
    above = np.flatnonzero(psnr_S > copy_last_psnr_S)
    return int(above[-1]) + 1 if len(above) else 0


def horizon_estimate(
    psnr_NS: Float[np.ndarray, "N S"],
    copy_last_psnr_NS: Float[np.ndarray, "N S"],
    *,
    groups: Int[np.ndarray, " N"],
    seed: int,
) -> Estimate:
    """The horizon of the means over clips, and its interval over resampled clips: whole numbers all three."""
    weights_RN = group_weights(groups, seed)
    weights_RN /= np.maximum(weights_RN.sum(1, keepdims=True), 1)
    resampled = [horizon(a, b) for a, b in zip(weights_RN @ psnr_NS, weights_RN @ copy_last_psnr_NS, strict=True)]
    low, high = np.percentile(resampled, [2.5, 97.5], method="closest_observation")
    value = horizon(psnr_NS.mean(0), copy_last_psnr_NS.mean(0))
    return Estimate(value, int(low), int(high), len(psnr_NS))


def report_rollout(context: Context, scores: Rollouts, ceiling: Reconstruction, results: Results) -> None:
    """Write `rollout.*`, values by step."""
    clips, seed = context.clips, context.seed
    said = context.said("autoregressive", codes="inferred from the truth", overlapping_clips=clips.overlapping)

    def put(key: str, values_NS: np.ndarray, **more: object) -> None:
        steps = {h + 1: mean_estimate(v, groups=clips.groups_N, seed=seed) for h, v in enumerate(values_NS.T)}
        results.series(f"rollout.{key}", steps, **{**said, **more})

    put("psnr", scores.psnr_NS, unit="dB")
    put("ssim", scores.ssim_NS)
    if scores.lpips_NS is None:
        results.missing("rollout.lpips", str(context.lpips))
    else:
        put("lpips", scores.lpips_NS, backbone="alex")
    pairs = zip(scores.energy_NS.T, ceiling.true_energy_NS.T, strict=True)
    sharp = {h + 1: ratio_estimate(a, b, groups=clips.groups_N, seed=seed) for h, (a, b) in enumerate(pairs)}
    results.series("rollout.sharpness", sharp, **said)
    put("copy_last_psnr", scores.copy_last_psnr_NS, unit="dB", mode="the prompt's last frame held", codes="none")
    put(
        "mean_frame_psnr", ceiling.mean_frame_psnr_NS, unit="dB", mode="one frame for all", codes="none",
        mean_frame_source=context.mean_frame_source,
    )  # fmt: skip
    put("reconstruction_psnr", ceiling.psnr_NS, unit="dB", mode="decode(encode(truth))", codes="none")
    last = horizon_estimate(scores.psnr_NS, scores.copy_last_psnr_NS, groups=clips.groups_N, seed=seed)
    results.number("rollout.horizon", last, longest_measured=clips.steps, **said)


def _range(chosen: slice) -> range:
    return range(chosen.start, chosen.stop)
