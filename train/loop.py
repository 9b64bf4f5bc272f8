"""The one training loop: every stage of every framework is advanced, watched, saved and resumed here.

The metrics of a call are read after the next call has been dispatched, so that logging never makes the device wait.
Without a time budget and without divergence nothing here depends on the clock but *when* a state is saved: a run is a
function of its config and seed, and one that was interrupted ends in the same bits as one that was not.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genie_jax.compile_time import compile_time
from train.checkpoint import Meta, complete, drop_after, first_not_finite, latest, restore, save
from train.clock import Clock
from train.guard import DivergenceGuard, finite_loss, scalar
from train.interrupt import Interruption
from train.progress import Log, Progress
from train.record import Recorder, write_picture
from train.stage import Stage

COMPILE_SHARE = 0.5  # of a stage's time: above it, more was compiled than trained
SAVE_COST = 10  # a checkpoint is due at the earliest after this many times what the last one cost


@dataclass(frozen=True)
class StageOutcome:
    """How a stage ended.

    Attributes:
        steps: optimiser steps made over all processes.
        seconds: time they took over all processes.
        ended_by: "steps" or "time".
        resumed_at: step of the checkpoint that this process started from, None for a fresh start.
        earlier_seconds: the part of `seconds` that earlier processes spent.
        rewinds: how often the divergence guard went back.
        metrics: those of the last row.
        alarms: the stage's own warnings.
    """

    steps: int
    seconds: float
    ended_by: str
    resumed_at: int | None = None
    earlier_seconds: float = 0.0
    rewinds: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    alarms: list[str] = field(default_factory=list)


def train_stage(
    stage: Stage,
    folder: Path,
    *,
    budget_seconds: float | None = None,
    previews: Path | None = None,
    log: Log | None = print,
    record: bool = True,
    now: Callable[[], float] = time.monotonic,
) -> StageOutcome:
    """Train a stage to its end, from its newest checkpoint if there is one.

    Args:
        stage: freshly built; a checkpoint in `folder` overwrites its state.
        folder: `RUN/STAGE`; holds checkpoints, `metrics.jsonl`, TensorBoard events.
        budget_seconds: time for the stage over all processes; None trains `stage.pace.steps` steps.
        previews: folder of the preview pictures, by default `RUN/previews`.
        log: takes lines of progress; None for silence.
        record: False writes no metrics, events or previews. Checkpoints are written all the same.
        now: the clock, in seconds.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the state has been saved.
        UserError: the stage diverged twice, or its checkpoints cannot be read.
    """
    loop = _Loop(stage, folder, previews or folder.parent / "previews", budget_seconds, log, record, now)
    try:
        return loop.run()
    finally:
        loop.close()


class _Loop:
    def __init__(
        self,
        stage: Stage,
        folder: Path,
        previews: Path,
        budget_seconds: float | None,
        log: Log | None,
        record: bool,
        now: Callable[[], float],
    ) -> None:
        self._stage, self._folder, self._previews, self._record = stage, folder, previews, record
        self._checkpoints = folder / "checkpoints"
        self._pending: tuple[int, dict[str, Any]] | None = None
        self._metrics: dict[str, float] = {}
        folder.mkdir(parents=True, exist_ok=True)

        def early(text: str) -> None:
            if log is not None:
                log(f"{stage.name}: {text}")

        meta = restore(self._checkpoints, stage, early)
        self._resumed_at = meta.step if meta else None
        self._earlier_seconds = meta.seconds if meta else 0.0
        self._step = meta.step if meta else 0
        drop_after(self._checkpoints, self._step)
        self._compiled_before = compile_time().seconds
        self._guard = DivergenceGuard(stage.name, meta.rewinds if meta else 0)
        self._clock = Clock(stage.pace.steps, budget_seconds, self._earlier_seconds, now)
        self._recorder = Recorder(folder, self._step, stage.pace.steps, record)
        start = self._clock.progress(self._step)
        self._progress = Progress(stage.name, stage.pace.steps, start, self._step, log)
        self._save_after = stage.pace.checkpoint_seconds
        self._saved = time.monotonic()
        if meta:
            self._progress.say(f"continues at step {meta.step} of {stage.pace.steps}")

    def run(self) -> StageOutcome:
        with Interruption() as interruption:
            if self._resumed_at is None:
                self._save()  # the guard needs a way back from the first step on
            while not self._finished():
                self._advance()
                if interruption.requested:
                    self._save()
                    self._stop()
            if interruption.requested:  # it came during the last save
                self._stop()
        self._picture()
        ended_by = "steps" if self._step >= self._stage.pace.steps else "time"
        return StageOutcome(
            self._step,
            self._clock.elapsed(),
            ended_by,
            self._resumed_at,
            self._earlier_seconds,
            self._guard.rewinds,
            self._metrics,
            self._stage.health() + self._compiling(ended_by),
        )

    def _compiling(self, ended_by: str) -> list[str]:
        """An alarm where a stage that ran out of time had compiled for most of it."""
        spent = self._clock.elapsed() - self._earlier_seconds
        compiled = compile_time().seconds - self._compiled_before
        if ended_by != "time" or compiled <= COMPILE_SHARE * spent:
            return []
        return [
            f"compiling took {compiled:.0f} of the {spent:.0f} seconds that it had: "
            f"give more --minutes or a larger --{self._stage.name}.pace.share"
        ]

    def _stop(self) -> None:
        self._progress.say(f"stopped at step {self._step}, state saved; the same command continues")
        raise KeyboardInterrupt

    def close(self) -> None:
        self._progress.close()
        self._recorder.close()

    def _finished(self) -> bool:
        return self._clock.over(self._step) and self._save()

    def _advance(self) -> None:
        """One call of the stage, then what is due after it."""
        before = self._step
        share = self._clock.progress(before)
        metrics = self._stage.advance(before, share, self._guard.lr_scale)
        earlier, self._pending = self._pending, (before + self._stage.steps_per_call, metrics)
        self._step = before + self._stage.steps_per_call
        if earlier is not None and not self._read(earlier):
            return
        self._progress.update(self._step, self._clock.progress(self._step), self._metrics)
        if time.monotonic() - self._saved >= self._save_after and not self._save():
            return
        every = self._stage.pace.preview_every
        if before // every != self._step // every and self._settle():
            self._picture()

    def _read(self, pending: tuple[int, dict[str, Any]]) -> bool:
        """Read the metrics of a call; False when they made the guard go back."""
        step, arrays = pending
        metrics = {name: scalar(value) for name, value in arrays.items()}
        if not finite_loss(metrics):
            self._rewind(step, "the loss is not finite")
            return False
        self._metrics = metrics
        self._recorder.add(metrics)
        self._recorder.row(step, self._context(step))
        return True

    def _context(self, step: int) -> dict[str, float]:
        context = {"seconds": self._clock.elapsed(), "progress": self._clock.progress(step)}
        return context | {"lr_scale": self._guard.lr_scale}

    def _settle(self) -> bool:
        """Read what is pending; False when it made the guard go back."""
        pending, self._pending = self._pending, None
        return pending is None or self._read(pending)

    def _save(self) -> bool:
        """Save the state if it is sound; False when the guard went back instead."""
        if not self._settle():
            return False
        newest = latest(self._checkpoints)
        if newest is not None and int(newest.name) == self._step:
            return True
        began = time.monotonic()
        state = self._stage.state()
        fault = first_not_finite(state, self._stage.framework)
        if fault is not None:
            self._rewind(self._step, f"the state ({fault}) is not finite")
            return False
        self._recorder.row(self._step, self._context(self._step), force=True)
        meta = Meta(self._step, self._clock.elapsed(), self._guard.rewinds, self._stage.framework)
        save(self._checkpoints, state, meta)
        self._saved = time.monotonic()
        self._save_after = max(self._stage.pace.checkpoint_seconds, SAVE_COST * (self._saved - began))
        return True

    def _rewind(self, step: int, fault: str) -> None:
        paths = complete(self._checkpoints)
        back_to = int(paths[-1].name) if paths else 0
        line = self._guard.trip(step, back_to, fault)
        meta = restore(self._checkpoints, self._stage, self._progress.say)
        self._step = meta.step if meta else 0
        self._pending = None
        self._recorder.rewind(self._step)
        self._progress.say(line)

    def _picture(self) -> None:
        if not self._record:
            return
        for stem, picture in self._stage.preview().items():
            write_picture(self._previews / f"{self._stage.name}_{stem}.png", picture)
