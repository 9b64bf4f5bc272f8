"""Whether the codes steer: Genie's delta PSNR (arXiv 2402.15391, section 3, "Controllability").

    PSNR(x_t, x^_t) - PSNR(x_t, x'_t)

x^ is rolled out with the codes inferred from the truth, x' with codes drawn at random. Zero means that the world does
not listen to its codes.
"""

import numpy as np
from jaxtyping import Float, Int

from train.evaluate.bootstrap import mean_estimate
from train.evaluate.context import Context
from train.evaluate.image import psnr
from train.evaluate.results import Results
from train.evaluate.rollout import Rollouts, predict

STEPS = (1, 4, 8, 16)
MARGINALS = ("uniform", "empirical")


def report_control(context: Context, rollouts: Rollouts, results: Results) -> None:
    """Write `control.delta_psnr` (prompt 16, uniform) and its three variants, all on the same future frames."""
    for prompt in (context.clips.prompt, 1):
        drawn = {name: _draw(context, name) for name in MARGINALS}
        if prompt == 1:
            inferred = context.codes_NTm1[:, context.clips.prompt - 1 :]
            drawn["inferred"] = inferred[:, : drawn["uniform"].shape[1]]
        scores = _score(context, prompt, drawn)
        base_NS = scores.get("inferred", rollouts.psnr_NS)
        for name in MARGINALS:
            delta_NS = base_NS[:, : scores[name].shape[1]] - scores[name]
            key = "delta_psnr" + ("" if name == "uniform" else "_empirical") + ("_prompt1" if prompt == 1 else "")
            _put(context, results, f"control.{key}", delta_NS, prompt=prompt, marginal=name)


def _score(
    context: Context, prompt: int, drawn: dict[str, Int[np.ndarray, "N S"]]
) -> dict[str, Float[np.ndarray, "N S"]]:
    """PSNR of every step with each set of codes, from the last `prompt` frames of the clips' prompts."""
    scores: dict[str, list[np.ndarray]] = {name: [] for name in drawn}
    first = context.clips.prompt - prompt
    steps = next(iter(drawn.values())).shape[1]
    for chosen in context.clips.batches():
        frames = context.clips.frames(chosen)
        seen = frames[:, first : context.clips.prompt]
        truth = frames[:, context.clips.prompt : context.clips.prompt + steps]
        prompt_codes = context.codes_NTm1[chosen, first : context.clips.prompt - 1]
        for name, codes in drawn.items():
            scores[name].append(psnr(truth, predict(context, seen, prompt_codes, codes[chosen])))
        context.log(f"  control with a prompt of {prompt}, clip {chosen.stop}/{len(context.clips)}")
    return {name: np.concatenate(parts) for name, parts in scores.items()}


def _draw(context: Context, marginal: str) -> Int[np.ndarray, "N S"]:
    """Random codes for every step up to the last that is measured."""
    shape = (len(context.clips), min(max(STEPS), context.clips.steps))
    rng = context.rng(f"control {marginal}")
    if marginal == "uniform":
        return rng.integers(context.code_count, size=shape)
    share = np.bincount(context.codes_NTm1.reshape(-1), minlength=context.code_count) / context.codes_NTm1.size
    return rng.choice(context.code_count, size=shape, p=share)


def _put(context: Context, results: Results, key: str, delta_NS: Float[np.ndarray, "N S"], **said: object) -> None:
    steps = {
        t: mean_estimate(delta_NS[:, t - 1], groups=context.clips.groups_N, seed=context.seed)
        if t <= delta_NS.shape[1]
        else None
        for t in STEPS
    }
    if None in steps.values():
        said["reason"] = f"the shots allow {context.clips.steps} steps after the prompt"
    results.series(key, steps, **{**context.said("autoregressive"), "unit": "dB", "chance": 0.0, **said})
