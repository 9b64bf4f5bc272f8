"""Where long rollouts go: the colours and the w of generated frames against those of real frames.

Runaway colours are the first thing that a w-space model does wrong; neither PSNR nor a look at ten frames shows it.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int, UInt8

from train.evaluate.bootstrap import Estimate, jackknife_estimate
from train.evaluate.context import Context, encode
from train.evaluate.profile import DRIFT_STEPS
from train.evaluate.results import Results
from train.evaluate.rollout import predict

ACTIONS = ("random", "held")
_REAL_FRAMES = 4096
_FILM_BYTES = 512 * 2**20


def report_drift(context: Context, results: Results) -> None:
    """Write `drift.colour` and `drift.frechet_w` (random codes) and the same with `_held` (one code held)."""
    steps = context.profile.drift_steps
    real = _real_frames(context)
    real_w = _flat(encode(context.world, real)) if context.profile.frechet else None
    for how in ACTIONS:
        suffix = "" if how == "random" else "_held"
        generated, groups = _generate(context, how, steps)
        said = context.said("autoregressive", actions=how, n=len(generated[steps[0]]))
        skipped = {h: None for h in DRIFT_STEPS if h not in steps}
        if skipped:
            longer = ", ".join(map(str, skipped))
            said["reason"] = f"steps {longer} lie beyond the last that was measured, {max(steps)}; --full measures all"
        colour = {h: colour_estimate(frames, real, groups, context.seed) for h, frames in generated.items()}
        results.series(
            f"drift.colour{suffix}", {**colour, **skipped}, unit="grey levels", real_frames=len(real), **said
        )
        if real_w is None:
            results.missing(f"drift.frechet_w{suffix}", f"not part of the profile '{context.profile.name}'")
            continue
        generated_w = {h: _flat(encode(context.world, f)) for h, f in generated.items()}
        distances = relative_frechet(real_w, generated_w, groups, context.rng("halves"), context.seed)
        results.series(
            f"drift.frechet_w{suffix}", {**distances, **skipped}, unit="times half against half of the real data",
            **said,
        )  # fmt: skip


def colour_distance(generated: UInt8[np.ndarray, "N H W C"], real: UInt8[np.ndarray, "M H W C"]) -> float:
    """Mean over channels of |difference of means| + |difference of standard deviations|, in grey levels (0-255)."""
    moments = [(f.mean((0, 1, 2), np.float64), f.std((0, 1, 2), np.float64)) for f in (generated, real)]
    return float(sum(np.abs(a - b).mean() for a, b in zip(*moments, strict=True)))


def colour_estimate(
    generated: UInt8[np.ndarray, "N H W C"],
    real: UInt8[np.ndarray, "M H W C"],
    groups: Int[np.ndarray, " N"],
    seed: int,
) -> Estimate:
    """`colour_distance` with its interval over the generated frames."""
    moments_N2C = np.stack([[f.mean((0, 1)), np.square(f).mean((0, 1))] for f in map(np.float64, generated)])
    mean_C, std_C = real.mean((0, 1, 2), np.float64), real.std((0, 1, 2), np.float64)

    def distance(rows: np.ndarray) -> float:
        first_C, second_C = moments_N2C[rows].mean(0)
        spread_C = np.sqrt(np.maximum(second_C - np.square(first_C), 0))
        return float(np.abs(first_C - mean_C).mean() + np.abs(spread_C - std_C).mean())

    return jackknife_estimate(distance, groups, seed=seed)


def frechet(a_ND: Float[np.ndarray, "N D"], b_MD: Float[np.ndarray, "M D"]) -> float:
    """Squared Frechet distance of the Gaussians fitted to two sets (Dowson & Landau 1982):

    |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)). The trace of the root is the sum of the singular values of the
    product of both factors, so no matrix root is taken and sets smaller than D are no special case. The factors are
    reduced by QR to the smaller of N and D first.
    """
    a, b = a_ND.astype(np.float64), b_MD.astype(np.float64)
    mean = np.square(a.mean(0) - b.mean(0)).sum()
    a, b = ((x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (a, b))
    roots = [np.linalg.qr(x, mode="r") for x in (a, b)]
    cross = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return float(max(mean + np.square(a).sum() + np.square(b).sum() - 2 * cross, 0.0))


def relative_frechet(
    real_ND: Float[np.ndarray, "N D"],
    generated: dict[int, Float[np.ndarray, "M D"]],
    groups: Int[np.ndarray, " M"],
    rng: np.random.Generator,
    seed: int,
) -> dict[int, Estimate]:
    """Distance of each generated set to real frames over the distance of two random halves of the real frames.

    Every set has the same number of frames, since the distance of small sets is biased upward by their size.
    """
    count = min([len(real_ND) // 2, *(len(w) for w in generated.values())])
    rows = rng.permutation(len(real_ND))
    one, two = real_ND[rows[:count]], real_ND[rows[count : 2 * count]]
    unit = max(frechet(one, two), 1e-12)
    groups = groups[:count]
    return {h: jackknife_estimate(_distance(w[:count], one, unit), groups, seed=seed) for h, w in generated.items()}


def _distance(w_ND: np.ndarray, real_ND: np.ndarray, unit: float) -> Callable[[np.ndarray], float]:
    return lambda rows: frechet(w_ND[rows], real_ND) / unit


def _generate(
    context: Context, how: str, steps: tuple[int, ...]
) -> tuple[dict[int, UInt8[np.ndarray, "N H W C"]], Int[np.ndarray, " N"]]:
    """Frames at the measured steps of rollouts with random codes, or with one code held; the rollouts' groups.

    Rollouts whose prompts overlap, or might, are of one group.
    """
    count, length = min(context.profile.drift_clips, len(context.clips)), max(steps)
    rng = context.rng(f"drift {how}")
    codes = rng.integers(context.code_count, size=(count, length if how == "random" else 1))
    codes = np.broadcast_to(codes, (count, length))
    chosen = np.linspace(0, len(context.clips) - 1, count).round().astype(int)
    at_once = int(np.clip(_FILM_BYTES // (context.mean_frame.nbytes * len(steps)), 1, 32))
    kept: dict[int, list[np.ndarray]] = {h: [] for h in steps}
    for start in range(0, count, at_once):
        rows = chosen[start : start + at_once]
        prompts = np.stack([context.clips.frames(slice(i, i + 1))[0, : context.clips.prompt] for i in rows])
        prompt_codes = context.codes_NTm1[rows, : context.clips.prompt - 1]
        frames = predict(context, prompts, prompt_codes, np.ascontiguousarray(codes[start : start + at_once]), steps)
        for h, frames_NHWC in zip(steps, frames.swapaxes(0, 1), strict=True):
            kept[h].append(frames_NHWC)
        context.log(f"  {length} steps with {how} codes, rollout {start + len(rows)}/{count}")
    return {h: np.concatenate(parts) for h, parts in kept.items()}, context.clips.groups_N[chosen]


def _real_frames(context: Context) -> UInt8[np.ndarray, "N H W C"]:
    """Frames evenly spaced over the shots."""
    inside = np.concatenate([np.arange(start, stop) for start, stop in context.shots])
    budget = min(_REAL_FRAMES, _FILM_BYTES // context.mean_frame.nbytes) if context.profile.frechet else 512
    picked = np.linspace(0, len(inside) - 1, min(budget, len(inside))).round().astype(int)
    return context.store.read(inside[np.unique(picked)].tolist())


def _flat(w_NLD: Float[np.ndarray, "N L D"]) -> Float[np.ndarray, "N LD"]:
    return w_NLD.reshape(len(w_NLD), -1)
