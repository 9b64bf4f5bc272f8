"""A run: the folder that one training owns, and `run.json`, which says what was done with which config.

    RUN/run.json       schema version, config, seed, source, versions, the state and fingerprint of every stage
    RUN/lock           held by the process that trains; the kernel frees it when that process dies
    RUN/STAGE/         checkpoints, metrics.jsonl, TensorBoard events, results as safetensors
    RUN/previews/      pictures

A stage is finished when it is marked done *and* its fingerprint still is the one wanted: a hash of its config, of the
version of its code and of the identities of what it reads. A change therefore reruns that stage and what depends on it,
nothing else.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from torch_bridge.bundle import MANIFEST
from train.errors import UserError

SCHEMA = 1
PACKAGES = ("efficient-genie", "jax", "flax", "torch", "timm", "numpy")


def fingerprint(name: str, settings: Any, inputs: Mapping[str, str]) -> str:
    """Hash of what a stage computes from: its name, its settings (JSON values), its inputs' fingerprints by name."""
    text = json.dumps([name, settings, dict(inputs)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def write_json(path: Path, value: Any) -> None:
    """Write JSON beside its place and rename it into it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, path)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


@dataclass
class StageRecord:
    """What `run.json` says of one stage.

    Attributes:
        state: "pending" (nothing of it may be used), "running" (its folder can be continued) or "done".
        fingerprint: of config and inputs that the folder's content was computed from.
        seconds: time it took over all processes.
        device: where it ran.
        steps: optimiser steps made, 0 for a stage without a loop.
        alarms: its warnings when it ended.
        identity: what the stages that read it hash: its fingerprint, or a hash of what came out where that is known.
        stopped_at: minutes given to the whole run, where these ended the stage before all its steps were made.
    """

    state: Literal["pending", "running", "done"] = "pending"
    fingerprint: str = ""
    seconds: float = 0.0
    device: str = ""
    steps: int = 0
    alarms: list[str] = field(default_factory=list)
    identity: str = ""
    stopped_at: float | None = None


class Run:
    """The folder of a run; made when it is not there.

    Args:
        path: the folder.

    Attributes:
        config: the config as JSON values, None in a new run.
        settings: what else a restart needs (preset, source, minutes), JSON values.
        stages: records by stage name, in the order of their first start.

    Raises:
        UserError: `run.json` is of a newer schema or is not one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config: dict[str, Any] | None = None
        self.settings: dict[str, Any] = {}
        self.stages: dict[str, StageRecord] = {}
        self.reload()

    def reload(self) -> None:
        """Read `run.json` again: another process may have written it before this one had the lock."""
        if self._file.exists():
            self._read()

    @property
    def _file(self) -> Path:
        return self.path / "run.json"

    def _read(self) -> None:
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
            schema = int(found["schema"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(self._file, f"is not the record of a run ({error})", "give another --run") from error
        if schema > SCHEMA:
            fault = f"was written by a newer version of this program (schema {schema}, this one knows {SCHEMA})"
            raise UserError(self._file, fault, "update the program, or give another --run")
        self.config, self.settings = found["config"], found["settings"]
        self.stages = {name: StageRecord(**record) for name, record in found["stages"].items()}

    def save(self) -> None:
        """Write `run.json`."""
        stages = {name: asdict(record) for name, record in self.stages.items()}
        seed = (self.config or {}).get("seed")
        head = {"schema": SCHEMA, "seed": seed, "versions": versions(), "settings": self.settings}
        write_json(self._file, {**head, "stages": stages, "config": self.config})

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Own the run while the context lasts.

        Raises:
            UserError: another living process owns it, or the folder is a world, in which nothing is trained. The lock
                of a killed process is free.
        """
        if (self.path / MANIFEST).is_file():
            raise UserError(
                self.path, "is a world, which nothing can be trained in", "give the folder of a run, or a new one"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("a+", encoding="utf-8") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.seek(0)
                owner = file.read().strip() or "unknown"
                fault = f"another process trains in this run (process {owner})"
                raise UserError(self.path, fault, "wait for it, stop it, or give another --run") from error
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def folder(self, name: str) -> Path:
        """The folder of a stage."""
        return self.path / name

    def done(self, name: str, wanted: str) -> bool:
        """Whether the stage is finished with the fingerprint `wanted`."""
        record = self.stages.get(name)
        return record is not None and record.state == "done" and record.fingerprint == wanted

    def begin(self, name: str, wanted: str, device: str = "") -> StageRecord:
        """Mark a stage as running; what it computed from another config or other inputs is deleted first."""
        record = self.stages.get(name, StageRecord())
        if record.state == "pending" or record.fingerprint != wanted:
            # Marked before the folder is emptied: killed in between, the record must not vouch for what is gone.
            record = self.stages[name] = StageRecord()
            self.save()
            if self.folder(name).exists():
                shutil.rmtree(self.folder(name))
            record.fingerprint = wanted
        record.state, record.device = "running", device
        self.save()
        return record

    def may_go_on(self, name: str, minutes: float | None) -> bool:
        """Whether time ended the stage, and a run of `minutes` (None: without a limit) has more of it."""
        stopped_at = self.stages[name].stopped_at
        return stopped_at is not None and (minutes is None or minutes > stopped_at)

    def finish(
        self,
        name: str,
        seconds: float,
        *,
        steps: int = 0,
        alarms: Sequence[str] = (),
        identity: str = "",
        stopped_at: float | None = None,
    ) -> None:
        """Mark a stage as done. Its results must be in place."""
        record = self.stages[name]
        record.state, record.seconds, record.steps, record.alarms = "done", seconds, steps, list(alarms)
        record.identity, record.stopped_at = identity or record.fingerprint, stopped_at
        self.save()


def write_result(folder: Path, result: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Write a stage's result as `folder/<stem>.safetensors`, each beside its place and renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, tensors in result.items():
        place = folder / f"{stem}.safetensors"
        beside = place.with_name(place.name + ".tmp")
        save_file({name: np.asarray(value, order="C") for name, value in tensors.items()}, str(beside))
        os.replace(beside, place)


def result_hash(folder: Path) -> str:
    """Hash of all files that `write_result` wrote into the folder."""
    digest = hashlib.sha256()
    for place in sorted(folder.glob("*.safetensors")):
        digest.update(place.name.encode())
        with place.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:20]


def read_result(folder: Path, stem: str) -> dict[str, np.ndarray]:
    """Read one file that `write_result` wrote.

    Raises:
        UserError: it is missing or damaged.
    """
    place = folder / f"{stem}.safetensors"
    try:
        return load_file(str(place))
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(place, f"cannot be read ({error})", f"delete {folder} and start the same command") from error
