"""Seconds that JAX spent on tracing, lowering and compiling: on a small budget that may be most of a stage's time.

JAX reports each phase's length as it ends, and the phases of a function that is called inside another one lie within
that one's: time is therefore counted once, as the union of the intervals.
"""

import functools
import time

from jax import monitoring

PHASES = "/jax/core/compile/"


class CompileTime:
    """Adds up intervals that may contain one another.

    Attributes:
        seconds: in at least one of the intervals so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._apart: list[tuple[float, float]] = []  # (start, length), one after the other

    def add(self, start: float, length: float) -> None:
        """Count an interval that has just ended. Those inside it ended before it, and are counted with it alone."""
        while self._apart and self._apart[-1][0] >= start:
            self.seconds -= self._apart.pop()[1]
        self._apart.append((start, length))
        self.seconds += length


@functools.cache
def compile_time() -> CompileTime:
    """What this process spent on compiling since the first call of this function."""
    counted = CompileTime()

    def listen(event: str, seconds: float, **kwargs: object) -> None:
        del kwargs
        if event.startswith(PHASES):
            counted.add(time.monotonic() - seconds, seconds)

    monitoring.register_event_duration_secs_listener(listen)
    return counted
