"""Checkpoints of a stage: one folder a step, complete or absent, the last two kept.

    RUN/STAGE/checkpoints/00001200/meta.json          step, seconds, rewinds of the guard, the stage's framework
                                   state.safetensors  torch: tensors by path, beside state.json with the structure
                                   state/             JAX: an Orbax folder, restored against the fresh stage's tree

A folder is written under a temporary name and renamed, and the newest is told by the step in its name, never by a
file's time: copying or touching a run changes nothing.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from train.errors import UserError
from train.progress import Log
from train.stage import Stage

KEPT = 2
UNREADABLE = (OSError, ValueError, KeyError, TypeError, SafetensorError)
MISFIT = (RuntimeError, ValueError, KeyError, TypeError)  # what frameworks raise on a state of other names or shapes


@dataclass(frozen=True)
class Meta:
    """What the loop itself has to remember.

    Attributes:
        step: optimiser steps made.
        seconds: time that they took, over all processes.
        rewinds: how often the divergence guard went back.
        framework: which of the two formats the state has.
    """

    step: int
    seconds: float
    rewinds: int
    framework: str


def complete(folder: Path) -> list[Path]:
    """The complete checkpoints in `folder`, oldest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.name.isdigit() and (path / "meta.json").is_file()]
    return sorted(found, key=lambda path: int(path.name))


def latest(folder: Path) -> Path | None:
    """The checkpoint with the highest step, or None."""
    return next(reversed(complete(folder)), None)


def save(folder: Path, state: dict[str, Any], meta: Meta) -> Path:
    """Write a checkpoint beside its place, rename it, and delete all but the last two."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{meta.step:08d}"
    beside = folder / f"{place.name}.tmp"
    for torn in folder.glob("*.tmp"):  # of processes that were killed while they wrote
        shutil.rmtree(torn, ignore_errors=True)
    beside.mkdir()
    _write_state(beside, state, meta.framework)
    (beside / "meta.json").write_text(json.dumps(asdict(meta)), encoding="utf-8")
    if place.exists():
        shutil.rmtree(place)
    os.replace(beside, place)
    for old in complete(folder)[:-KEPT]:
        shutil.rmtree(old)
    return place


def load(path: Path, template: dict[str, Any]) -> tuple[dict[str, Any], Meta]:
    """Read one checkpoint.

    Args:
        path: a complete checkpoint folder.
        template: the state of the freshly built stage; a JAX state is restored against its shapes and structure.
    """
    meta = Meta(**json.loads((path / "meta.json").read_text(encoding="utf-8")))
    return _read_state(path, template, meta.framework), meta


def restore(folder: Path, stage: Stage, say: Log) -> Meta | None:
    """Load the newest readable checkpoint into the stage; None when there is none at all.

    Raises:
        UserError: there are checkpoints, and none of them can be read, or the newest that can does not fit the stage.
    """
    paths = complete(folder)
    for path in reversed(paths):
        try:
            state, meta = load(path, stage.state())
        except UNREADABLE as error:
            say(f"checkpoint {path.name} cannot be read ({_short(error)}), trying the one before")
            continue
        try:
            stage.load_state(state)
        except MISFIT as error:
            if isinstance(error, RuntimeError) and type(error) is not RuntimeError:
                raise  # a device that is out of memory, say: no fault of the checkpoint
            fault = f"does not fit the stage, whose code or settings changed ({_short(error)})"
            raise UserError(path, fault, f"delete {folder} to train the stage anew") from error
        return meta
    if paths:
        raise UserError(folder, "no checkpoint in it can be read", "delete this folder to train the stage anew")
    return None


def drop_after(folder: Path, step: int) -> None:
    """Delete checkpoints beyond `step`: unreadable ones that a resumed stage will write again."""
    for path in complete(folder):
        if int(path.name) > step:
            shutil.rmtree(path)


def first_not_finite(state: dict[str, Any], framework: str) -> str | None:
    """Path of the first array of the state that is not finite, or None."""
    if framework == "torch":
        from train.trees import first_not_finite as in_torch

        return in_torch(state)
    import jax
    import jax.numpy as jnp

    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = jnp.asarray(leaf)
        if jnp.issubdtype(array.dtype, jnp.floating) and not bool(jnp.isfinite(array).all()):
            return jax.tree_util.keystr(path)
    return None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _write_state(folder: Path, state: dict[str, Any], framework: str) -> None:
    if framework == "jax":
        from genie_jax.training import Checkpointer

        Checkpointer().save(folder / "state", state)
    else:
        from train.trees import write_tree

        write_tree(folder, state)


def _read_state(folder: Path, template: dict[str, Any], framework: str) -> dict[str, Any]:
    if framework == "jax":
        from genie_jax.training import Checkpointer

        return Checkpointer().restore(folder / "state", template)
    from train.trees import read_tree

    return read_tree(folder)
