"""Times of several functions in one process, taken in turn, so that whatever slows the machine slows all of them.

A figure stands beside that of a limit or a peer from the same rounds: their ratio is what counts, and `Times` has the
spread. A function must return only when its work is done (`jax.block_until_ready`, `torch.cuda.synchronize`).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Times:
    """Seconds of one call over the rounds.

    Attributes:
        median: of the rounds.
        p95: 95th percentile of the rounds.
        low, high: quartiles.
        best: fastest round.
        rounds: how many there were.
    """

    median: float
    p95: float
    low: float
    high: float
    best: float
    rounds: int

    @classmethod
    def of(cls, seconds: list[float]) -> "Times":
        """Statistics of the seconds of at least one call."""
        low, median, high, p95 = np.percentile(seconds, (25, 50, 75, 95))
        return cls(float(median), float(p95), float(low), float(high), float(min(seconds)), len(seconds))

    def as_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 2,
    inner: int | Mapping[str, int] = 1,
    lead: int = 0,
) -> dict[str, Times]:
    """Times of the functions, each called once a round in turn, every second round in the opposite order.

    Args:
        functions: called without arguments; each blocks until its work is done.
        rounds: measured rounds, at least 1.
        warmup: calls of each function before, which are not measured.
        inner: calls that make one measurement (the mean of which counts), for functions of microseconds; for all, or by
            name (1 for names that are missing).
        lead: calls just before each measurement that are not measured, for functions that follow upon themselves in
            use: what ran before has filled the caches with its own.
    """
    repeats = {name: inner if isinstance(inner, int) else inner.get(name, 1) for name in functions}
    for function in functions.values():
        for _ in range(warmup):
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    order = list(functions.items())
    for number in range(rounds):
        for name, function in order if number % 2 == 0 else reversed(order):
            for _ in range(lead):
                function()
            began = time.perf_counter()
            for _ in range(repeats[name]):
                function()
            seconds[name].append((time.perf_counter() - began) / repeats[name])
    return {name: Times.of(taken) for name, taken in seconds.items()}
