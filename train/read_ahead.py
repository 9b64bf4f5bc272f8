"""The batches after the one in use, read in the background, so that a step never waits for the disk."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

DEPTH = 2  # batches that are read ahead


class ReadAhead:
    """Calls `read(step, size, stream)` for the steps that follow, in one thread, while the caller computes.

    What a caller gets is a function of its arguments alone, as without it: steps that were not foreseen (the first
    one, one after a rewind) are read when they are asked for.

    Args:
        read: safe to call from another thread.
        depth: steps read ahead of the last one asked for; each holds a batch in memory.
    """

    def __init__(self, read: Callable[[int, int, str], np.ndarray], depth: int = DEPTH) -> None:
        self._read, self._depth = read, depth
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._waiting: dict[tuple[int, int, str], Future[np.ndarray]] = {}

    def take(self, step: int, size: int, stream: str) -> np.ndarray:
        """What `read` gives for these arguments; whatever it raises is raised here."""
        foreseen = self._waiting.pop((step, size, stream), None)
        found = self._read(step, size, stream) if foreseen is None else foreseen.result()
        wanted = [(step + ahead, size, stream) for ahead in range(1, self._depth + 1)]
        for key in [key for key in self._waiting if key[1:] == (size, stream) and key not in wanted]:
            self._waiting.pop(key).cancel()
        for key in wanted:
            if key not in self._waiting:
                self._waiting[key] = self._pool.submit(self._read, *key)
        return found
