"""How evenly codes are used, and the alarms for a codebook that fails."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def perplexity(counts_K: Float[Array, "K"]) -> Float[Array, ""]:
    """Effective number of codes in use: exp of the entropy of the counts, between 1 and K."""
    share_K = counts_K / jnp.maximum(counts_K.sum(), 1)
    return jnp.exp(-jnp.sum(share_K * jnp.log(jnp.maximum(share_K, 1e-10))))


def usage_alarms(counts_K: Float[Array, "K"], *, least_share: float = 0.01) -> list[str]:
    """Alarms for a collapsed codebook and for codes that are hardly used, in plain words, each with what to do.

    Args:
        counts_K: how often each code was inferred, over at least a few hundred pairs of frames.
        least_share: a code below this share of all pairs counts as unused.
    """
    total = float(counts_K.sum())
    if total == 0:
        return ["no code was inferred yet: train the action model before asking for its health"]
    effective = float(perplexity(counts_K))
    if effective < 1.5:
        return [
            f"the actions collapsed: nearly every pair of frames gets the same code (perplexity {effective:.2f} of "
            f"{len(counts_K)}). Raise motion_weight, lower commitment, or train on a video in which more moves"
        ]
    unused = [str(k) for k, n in enumerate(counts_K) if float(n) < least_share * total]
    if not unused:
        return []
    names = f"action {unused[0]} is" if len(unused) == 1 else f"actions {', '.join(unused)} are"
    return [
        f"{names} hardly ever used (below {least_share:.0%} of the pairs): raise dead_code_share, train longer, or set "
        f"the number of codes to {len(counts_K) - len(unused)}"
    ]
