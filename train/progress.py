"""What a person sees of a running stage: a bar in a terminal, a line every quarter of a minute elsewhere."""

import sys
import time
from collections.abc import Callable, Mapping

from tqdm import tqdm

LINE_SECONDS = 15.0
Log = Callable[[str], None]


def duration(seconds: float) -> str:
    """Seconds as a person says them: "42 s", "3 min 05 s", "2 h 07 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Progress:
    """Bar or lines with steps, rate, time left and the loss.

    Args:
        name: the stage.
        steps: optimiser steps of the stage.
        start: share of the stage that earlier processes did, in [0, 1].
        start_step: steps that earlier processes made.
        log: where lines go; None for silence.
        terminal: whether to draw a bar; by default whether standard error is a terminal.
    """

    def __init__(
        self,
        name: str,
        steps: int,
        start: float,
        start_step: int,
        log: Log | None,
        terminal: bool | None = None,
    ) -> None:
        self._name, self._steps, self._log = name, steps, log
        self._start, self._start_step = start, start_step
        self._began = self._told = time.monotonic()
        wanted = sys.stderr.isatty() if terminal is None else terminal
        self._bar: tqdm | None = None
        if log is not None and wanted:
            form = "{desc} {percentage:3.0f}%|{bar:24}| {postfix}"
            self._bar = tqdm(total=1.0, initial=start, desc=name, bar_format=form, leave=False, file=sys.stderr)

    def describe(self, step: int, progress: float, metrics: Mapping[str, float]) -> str:
        """One line: steps, rate, time left, loss."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        words = [f"step {step}/{self._steps}", f"{(step - self._start_step) / seconds:.3g} steps/s"]
        if progress > self._start:
            words.append(f"{duration(seconds * (1 - progress) / (progress - self._start))} left")
        if "loss" in metrics:
            words.append(f"loss {metrics['loss']:.4g}")
        return ", ".join(words)

    def update(self, step: int, progress: float, metrics: Mapping[str, float]) -> None:
        """Show where the stage is; cheap enough for every call."""
        if self._log is None:
            return
        if self._bar is not None:
            self._bar.n = progress
            self._bar.set_postfix_str(self.describe(step, progress, metrics), refresh=False)
            self._bar.update(0)
        elif time.monotonic() - self._told >= LINE_SECONDS:
            self._told = time.monotonic()
            self._log(f"{self._name} {progress:4.0%}: {self.describe(step, progress, metrics)}")

    def say(self, text: str) -> None:
        """Tell one line without tearing the bar."""
        if self._log is None:
            return
        if self._bar is not None:
            self._bar.clear()
        self._log(f"{self._name}: {text}")

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
