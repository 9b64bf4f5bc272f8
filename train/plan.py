"""A plan: named steps that read one another's results, done in order, each only when it must, in a given time.

The fingerprint of a step hashes its settings and the identities of what it reads, so a changed setting reruns that
step and what depends on it. A time budget is divided over the steps that remain by their shares, anew before each;
given more time than before, a step that time had ended goes on where it stopped.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.progress import Log, duration
from train.run import Run, fingerprint

LEAST_SECONDS = 1.0  # a stage gets at least this much of a budget that the stages before used up


@dataclass(frozen=True)
class Task:
    """What a step is given.

    Attributes:
        folder: `RUN/NAME`, where its results go.
        budget_seconds: time for the step over all processes, None for as long as it takes.
        began: monotonic time at which this process began the step.
        log: takes lines.
    """

    folder: Path
    budget_seconds: float | None
    began: float
    log: Log

    def budget_left(self) -> float | None:
        """The budget less what this process already used, as for building models."""
        if self.budget_seconds is None:
            return None
        return max(self.budget_seconds - (time.monotonic() - self.began), LEAST_SECONDS)


@dataclass(frozen=True)
class Done:
    """What a step gives back.

    Attributes:
        steps: optimiser steps made, over all processes.
        earlier_seconds: time that earlier processes spent on it.
        alarms: warnings.
        identity: hash of what came out, where that is known and may stay the same though the settings changed.
        out_of_time: whether the budget ended it before all its steps were made.
    """

    steps: int = 0
    earlier_seconds: float = 0.0
    alarms: Sequence[str] = ()
    identity: str = ""
    out_of_time: bool = False


@dataclass(frozen=True)
class Step:
    """One step of a plan.

    Attributes:
        name: unique; names the folder.
        needs: names of the steps whose results it reads.
        settings: JSON values that its results depend on.
        work: does it, or continues it, and writes its results.
        share: part of the time budget, relative to the other steps'.
        device: where it runs, for the record.
        product: what it leaves; a step whose product was deleted is not done. None where nothing is looked at.
    """

    name: str
    needs: tuple[str, ...]
    settings: Any
    work: Callable[[Task], Done]
    share: float = 0.0
    device: str = ""
    product: Path | None = None


def execute(steps: Sequence[Step], run: Run, *, minutes: float | None, log: Log) -> list[str]:
    """Bring every step up to date.

    Args:
        steps: in an order in which each comes after what it needs.
        run: the record; locked by the caller.
        minutes: time for all steps over all processes; None for as long as they take.
        log: takes lines.

    Returns:
        Names of the steps that were done now.
    """
    identities: dict[str, str] = {}
    worked = []
    for position, step in enumerate(steps):
        wanted = fingerprint(step.name, step.settings, {need: identities[need] for need in step.needs})
        finished = run.done(step.name, wanted) and not run.may_go_on(step.name, minutes)
        if finished and (step.product is None or step.product.exists()):
            log(f"{step.name}: done before")
        else:
            spent = sum(run.stages[name].seconds for name in identities)
            _do(step, wanted, run, _budget(steps[position:], minutes, spent), minutes, log)
            worked.append(step.name)
        identities[step.name] = run.stages[step.name].identity
    return worked


def _budget(remaining: Sequence[Step], minutes: float | None, spent: float) -> float | None:
    """Seconds for the first of the remaining steps."""
    if minutes is None or remaining[0].share == 0:
        return None
    total = sum(step.share for step in remaining)
    return max((minutes * 60 - spent) * remaining[0].share / total, LEAST_SECONDS)


def _do(step: Step, wanted: str, run: Run, budget: float | None, minutes: float | None, log: Log) -> None:
    run.begin(step.name, wanted, step.device)
    began = time.monotonic()
    place = f" on {step.device}" if step.device else ""
    log(f"{step.name}: begins{place}" + (f", {duration(budget)} for it" if budget is not None else ""))
    done = step.work(Task(run.folder(step.name), budget, began, log))
    seconds = done.earlier_seconds + time.monotonic() - began
    stopped_at = minutes if done.out_of_time else None
    run.finish(step.name, seconds, steps=done.steps, alarms=done.alarms, identity=done.identity, stopped_at=stopped_at)
    made = f"{done.steps} steps in " if done.steps else ""
    log(f"{step.name}: done, {made}{duration(seconds)}")
    for alarm in done.alarms:
        log(f"{step.name}: WARNING: {alarm}")
