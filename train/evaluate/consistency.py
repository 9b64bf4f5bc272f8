"""Whether a code does the same from wherever it is taken: `actions.consistency`."""

import numpy as np

from train.evaluate.bootstrap import mean_estimate
from train.evaluate.context import Context
from train.evaluate.flow import STEPS, consistency, respond
from train.evaluate.results import Results

_CLIPS = 32


def report_consistency(context: Context, results: Results) -> None:
    """Write `actions.consistency` and `actions.chance.consistency`, from the prompts of up to 32 clips."""
    picked = np.unique(np.linspace(0, len(context.clips) - 1, min(_CLIPS, len(context.clips))).round().astype(int))
    prompts = [context.clips.frames(slice(n, n + 1))[0, : context.clips.prompt] for n in picked]
    responses = respond(context.world, np.stack(prompts))
    found = consistency(responses.flow_KNGGF, responses.before_NHWC.shape[1])
    if found.by_code_KN is None or found.chance is None:
        reason = "it compares prompts and codes, and there is only one of them"
        results.missing("actions.consistency", reason)
        results.missing("actions.chance.consistency", reason)
        return
    said = context.said("autoregressive", steps=STEPS, flow="dense inverse search, mean of the steps")
    estimate = mean_estimate(found.by_code_KN.mean(0), groups=context.clips.groups_N[picked], seed=context.seed)
    by_code = found.by_code_K.round(4).tolist()
    results.number("actions.consistency", estimate, by_code=by_code, **said)
    results.number(
        "actions.chance.consistency", found.chance, n=len(picked), how="responses to different codes", **said
    )
