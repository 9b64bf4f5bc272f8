"""Means with a 95% bootstrap interval (Efron 1979, percentile method), resampled by group; other statistics with a
95% interval by the jackknife.

Clips that overlap in time are not independent, so whole groups of them are drawn together. Without that the interval
of a short video would be far too narrow.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import t as student_t

RESAMPLES = 1000
JACKKNIFE_PARTS = 16


class Estimate(NamedTuple):
    """A mean, the ends of its 95% interval, and the number of values behind it."""

    value: float
    low: float
    high: float
    n: int


def group_weights(groups: Int[np.ndarray, " n"], seed: int, resamples: int = RESAMPLES) -> Float[np.ndarray, "r n"]:
    """How often each value takes part in each resample, groups drawn with replacement."""
    names, member = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return counts[:, member].astype(np.float64)


def mean_estimate(
    values: Float[np.ndarray, " n"], *, groups: Int[np.ndarray, " n"] | None = None, seed: int = 0
) -> Estimate:
    """Mean of `values` with its interval. With a single group the interval is the mean itself."""
    return ratio_estimate(values, np.ones(len(values)), groups=groups, seed=seed)


def ratio_estimate(
    top: Float[np.ndarray, " n"],
    bottom: Float[np.ndarray, " n"],
    *,
    groups: Int[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> Estimate:
    """sum(top) / sum(bottom) with its interval; `bottom` must be positive in the sum."""
    top, bottom = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    if top.ndim != 1 or top.shape != bottom.shape or len(top) == 0:
        raise ValueError(f"an estimate needs two equal rows of numbers, not empty; got {top.shape}, {bottom.shape}")
    weights = group_weights(np.arange(len(top)) if groups is None else np.asarray(groups), seed)
    low, high = np.percentile((weights @ top) / np.maximum(weights @ bottom, 1e-12), [2.5, 97.5])
    return Estimate(float(top.sum() / max(bottom.sum(), 1e-12)), float(low), float(high), len(top))


def jackknife_estimate(
    statistic: Callable[[Int[np.ndarray, " m"]], float], groups: Int[np.ndarray, " n"], *, seed: int = 0
) -> Estimate:
    """A statistic of n values with its 95% interval, by Student's t with one degree fewer than there are parts.

    The error is that of the delete-a-group jackknife (Kott 2001): the bootstrap draws values twice, which makes every
    spread smaller and would bias a distance between spreads; leaving some out hardly does.

    Args:
        statistic: of the values at these rows; not negative.
        groups: the group of each value; values of one group depend on each other and are left out together. With one
            group the interval is the statistic itself.
        seed: of how the groups are dealt out to at most 16 parts.
    """
    names, member = np.unique(groups, return_inverse=True)
    count, parts = len(member), min(JACKKNIFE_PARTS, len(names))
    value = statistic(np.arange(count))
    if parts < 2:
        return Estimate(value, value, value, count)
    part = (np.random.default_rng(seed).permutation(len(names)) % parts)[member]
    without = np.array([statistic(np.flatnonzero(part != left_out)) for left_out in range(parts)])
    error = np.sqrt((parts - 1) / parts * np.square(without - without.mean()).sum())
    reach = float(student_t.ppf(0.975, parts - 1) * error)
    return Estimate(value, max(value - reach, 0.0), value + reach, count)
