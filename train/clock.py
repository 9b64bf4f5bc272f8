"""How far a stage is: by its steps, by its share of the wall clock, whichever is further."""

import time
from collections.abc import Callable


class Clock:
    """Elapsed time and progress of one stage over all the processes that worked on it.

    Without a budget `progress` is a function of the step alone, so a run is a pure function of its config and seed.

    Args:
        steps: optimiser steps of the whole stage.
        budget_seconds: seconds after which the stage ends early, over all processes; None for no limit.
        spent: seconds that earlier processes used up to the checkpoint this one starts from.
        now: the clock that is read, in seconds.
    """

    def __init__(
        self,
        steps: int,
        budget_seconds: float | None = None,
        spent: float = 0.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._steps, self._budget, self._now = steps, budget_seconds, now
        self._origin = now() - spent

    def elapsed(self) -> float:
        """Seconds of this stage so far."""
        return self._now() - self._origin

    def progress(self, step: int) -> float:
        """Share of the stage that is done after `step` steps, in [0, 1]."""
        by_steps = step / self._steps if self._steps > 0 else 1.0
        if self._budget is None:
            return min(by_steps, 1.0)
        by_time = self.elapsed() / self._budget if self._budget > 0 else 1.0
        return min(max(by_steps, by_time), 1.0)

    def over(self, step: int) -> bool:
        """Whether the stage ends after `step` steps. Even with no time left a stage makes its first call."""
        if step >= self._steps:
            return True
        return self._budget is not None and step > 0 and self.elapsed() >= self._budget
