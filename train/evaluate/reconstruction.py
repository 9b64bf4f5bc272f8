"""The tokenizer alone: frame against decode(encode(frame)), on the same frames that rollouts are compared with.

Floor: the mean frame, which a decoder that ignores its input would learn.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from train.evaluate.bootstrap import mean_estimate, ratio_estimate
from train.evaluate.context import Context, decode, encode
from train.evaluate.image import gradient_energy, psnr, ssim
from train.evaluate.results import Results


class Reconstruction(NamedTuple):
    """Scores of every frame after the prompts, `S` a clip, and a few examples to look at."""

    psnr_NS: Float[np.ndarray, "N S"]
    ssim_NS: Float[np.ndarray, "N S"]
    lpips_NS: Float[np.ndarray, "N S"] | None
    mean_frame_psnr_NS: Float[np.ndarray, "N S"]
    energy_NS: Float[np.ndarray, "N S"]
    true_energy_NS: Float[np.ndarray, "N S"]
    fixed_point_NS: Float[np.ndarray, "N S"]
    w_NSLD: Float[np.ndarray, "N S L D"]
    examples: tuple[UInt8[np.ndarray, "n H W C"], UInt8[np.ndarray, "n H W C"]]


def reconstruct(context: Context) -> Reconstruction:
    """Encode and decode every frame that a rollout will be compared with."""
    rows: list[dict[str, np.ndarray]] = []
    examples = []
    for chosen in context.clips.batches():
        truth = context.clips.frames(chosen)[:, context.clips.prompt :]
        lead = truth.shape[:2]
        w = encode(context.world, truth.reshape(-1, *truth.shape[2:]))
        other = decode(context.world, w)
        again = encode(context.world, other)
        other = other.reshape(truth.shape)
        row = {
            "psnr": psnr(truth, other),
            "ssim": ssim(truth, other),
            "mean": psnr(truth, context.mean_frame),
            "energy": gradient_energy(other),
            "true": gradient_energy(truth),
            "fixed": cosine_distance(w, again).reshape(lead),
            "w": w.reshape(*lead, *w.shape[1:]),
        }
        if callable(context.lpips):
            row["lpips"] = context.lpips(truth, other)
        rows.append(row)
        examples.append((truth[:, 0], other[:, 0]))
        context.log(f"  reconstruction of clip {chosen.stop}/{len(context.clips)}")
    whole = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    pictures = tuple(np.concatenate(side) for side in zip(*examples, strict=True))
    spread = np.linspace(0, len(pictures[0]) - 1, min(8, len(pictures[0]))).round().astype(int)
    return Reconstruction(
        *(whole.get(name) for name in ("psnr", "ssim", "lpips", "mean", "energy", "true", "fixed", "w")),
        (pictures[0][spread], pictures[1][spread]),
    )


def cosine_distance(a_NLD: Float[np.ndarray, "N L D"], b_NLD: Float[np.ndarray, "N L D"]) -> Float[np.ndarray, " N"]:
    """1 - cosine of every row of w, mean over rows: 0 where the directions agree, 1 at a right angle."""
    dot = np.sum(a_NLD * b_NLD, -1, dtype=np.float64)
    length = np.linalg.norm(a_NLD, axis=-1) * np.linalg.norm(b_NLD, axis=-1)
    return 1 - np.mean(np.minimum(dot / np.maximum(length, 1e-12), 1), -1)


def report_reconstruction(context: Context, scores: Reconstruction, results: Results) -> None:
    """Write `reconstruction.*`: means over clips of the mean over each clip's frames."""
    groups, seed = context.clips.groups_N, context.seed
    said = {"seed": seed, "mode": "single frames", "frames": int(scores.psnr_NS.size)}

    def put(key: str, values_NS: np.ndarray, **more: object) -> None:
        estimate = mean_estimate(values_NS.mean(1), groups=groups, seed=seed)
        results.number(f"reconstruction.{key}", estimate, **said, **more)

    put("psnr", scores.psnr_NS, unit="dB")
    put("ssim", scores.ssim_NS)
    if scores.lpips_NS is None:
        results.missing("reconstruction.lpips", str(context.lpips))
    else:
        put("lpips", scores.lpips_NS, backbone="alex")
    put("mean_frame_psnr", scores.mean_frame_psnr_NS, unit="dB", mean_frame_source=context.mean_frame_source)
    sharp = ratio_estimate(scores.energy_NS.sum(1), scores.true_energy_NS.sum(1), groups=groups, seed=seed)
    results.number("reconstruction.sharpness", sharp, **said)
    put("fixed_point", scores.fixed_point_NS, unit="1 - cosine of w")
