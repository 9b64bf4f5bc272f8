"""How evenly codes are used, what they do, and the alarms for codes that fail."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


def perplexity(counts_K: Float[Array, "K"]) -> Float[Array, ""]:
    """Effective number of codes in use: exp of the entropy of the counts, between 1 and K."""
    share_K = counts_K / jnp.maximum(counts_K.sum(), 1)
    return jnp.exp(-jnp.sum(share_K * jnp.log(jnp.maximum(share_K, 1e-10))))


def usage_alarms(counts_K: Float[Array, "K"]) -> list[str]:
    """Alarms for a collapsed codebook and for codes that are hardly used, in plain words, each with what to do.

    Args:
        counts_K: how often each code was inferred, over at least a few hundred pairs of frames. A code below 1% of the
            pairs counts as unused; of more than ten codes, one below a tenth of an even share.
    """
    codes = len(counts_K)
    least_share, least_perplexity = min(0.01, 0.1 / codes), min(1.5, 1 + 0.1 * (codes - 1))
    total = float(counts_K.sum())
    if total == 0:
        return ["no code was inferred yet: train the action model before asking for its health"]
    effective = float(perplexity(counts_K))
    if effective < least_perplexity:
        return [
            f"the actions collapsed: nearly every pair of frames gets the same code (perplexity {effective:.2f} of "
            f"{codes}). Raise motion_weight, lower commitment, or train on a video in which more moves"
        ]
    unused = [str(k) for k, n in enumerate(counts_K) if float(n) < least_share * total]
    if not unused:
        return []
    names = f"code {unused[0]} is" if len(unused) == 1 else f"codes {', '.join(unused)} are"
    return [
        f"{names} hardly ever used (below {100 * least_share:.2g}% of the pairs): raise dead_code_share, train longer, "
        f"or set the number of codes to {codes - len(unused)}"
    ]


def effect_alarms(distance_KK: Float[np.ndarray, "K K"], *, least: float = 0.01) -> list[str]:
    """Alarms for codes without effect: a world that answers alike to all of them, or to some.

    Args:
        distance_KK: mean square between what each two codes lead to from the same frames, over the mean square of the
            change that they lead to.
        least: two codes nearer to each other than this count as the same.
    """
    distance_KK = np.asarray(distance_KK)
    codes = len(distance_KK)
    if codes < 2:
        return []
    mean = distance_KK.sum() / (codes * (codes - 1))
    if mean < least:
        return [
            f"the dynamics hardly answer to the code (another code changes the prediction by {mean:.2%} of the "
            "predicted change): see that several codes are in use, or train the action model and the dynamics longer"
        ]
    alarms = []
    for group in _groups(distance_KK < least):
        names = ", ".join(map(str, group[:-1])) + f" and {group[-1]}"
        alarms.append(
            f"codes {names} do the same (their predictions differ by less than {least:.0%} of the predicted change), "
            "so that choosing between them has no effect: train the dynamics longer, or set the number of codes to "
            f"{codes - len(group) + 1} and train anew"
        )
    return alarms


def _groups(alike_KK: Bool[np.ndarray, "K K"]) -> list[list[int]]:
    """Codes that are alike, or alike to a common third, together; groups of two and more."""
    reach_KK = alike_KK | np.eye(len(alike_KK), dtype=bool)
    for _ in alike_KK:
        reach_KK = reach_KK @ reach_KK
    groups = {tuple(np.flatnonzero(row).tolist()) for row in reach_KK}
    return [list(group) for group in sorted(groups) if len(group) > 1]
