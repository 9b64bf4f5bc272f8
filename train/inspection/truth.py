"""What real actions a code coincides with."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from sklearn.metrics import normalized_mutual_info_score


class Coincidence(NamedTuple):
    """Codes beside true actions, over the same transitions.

    Attributes:
        shares: for each code, the share of each true action among its transitions, the most frequent first.
        counts: transitions of each code.
        nmi: normalised mutual information, 0 for none, 1 where each says the other.
    """

    shares: list[dict[int, float]]
    counts: list[int]
    nmi: float


def coincidence(codes_N: Int[np.ndarray, " N"], actions_N: Int[np.ndarray, " N"], count: int) -> Coincidence:
    """Set the codes of N transitions beside their true actions; `count` is the number of codes."""
    shares = []
    for code in range(count):
        actions, numbers = np.unique(actions_N[codes_N == code], return_counts=True)
        order = np.argsort(-numbers, kind="stable")
        total = max(int(numbers.sum()), 1)
        shares.append({int(actions[i]): round(float(numbers[i]) / total, 4) for i in order})
    counts = np.bincount(codes_N, minlength=count).tolist()
    return Coincidence(shares, counts, float(normalized_mutual_info_score(actions_N, codes_N)))
