"""From a source of frames to a world: the order of the stages, what each reads, and what it is fingerprinted by."""

import gc
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from torch_bridge.memory import keep_freed_memory
from train.action_labels import SETTING as TRUE_ACTIONS
from train.action_labels import fingerprinted
from train.code_names import names_setting, restore_names
from train.code_order import READERS, check_action_model, in_order, needs_of_codes, settings_of_actions
from train.config import Config
from train.devices import choose_devices
from train.errors import UserError
from train.imported import Imported, check_imports, imports_setting, read_imports, untrained_for
from train.ingest.config import ALGORITHM
from train.ingest.prepare import prepare
from train.ingest.store import Manifest
from train.loop import train_stage
from train.overrides import to_json
from train.pack import pack_world
from train.parts import Parts
from train.plan import Done, Step, Task, execute
from train.progress import Log, duration
from train.run import Run, result_hash, write_result
from train.source import Source, content_of
from train.stage import Stage
from train.trunk_weights import trunk_digest

NEEDS = {
    "prepare": (),
    "teacher": ("prepare",),
    "student": ("teacher",),
    "encoder": ("prepare", "student"),
    "drift": ("prepare", "encoder"),
    "latents": ("prepare", "drift"),
    "actions": ("prepare",),
    "dynamics": ("prepare", "latents", "actions"),
    "world": ("prepare", "encoder", "drift", "actions", "dynamics"),
}
# Raise a step's number when its code changes what it learns or the shape of its tensors: finished runs do it again.
VERSIONS = {
    "prepare": ALGORITHM,
    "teacher": 1,
    "student": 1,
    "encoder": 1,
    "drift": 1,
    "latents": 1,
    "actions": 1,
    "dynamics": 1,
    "world": 1,
}
UNTIMED_SHARE = 0.15  # of an average stage's share: what encoding the corpus and packing the world are counted as
PRODUCTS = {"teacher": "generator.safetensors", "student": "student.safetensors"}  # of stages that can be imported
# Of a pace only the steps decide what is learned; the rest says when to look and to save.
PACE_ASIDE = ("share", "preview_every", "checkpoint_seconds")


def train_run(
    source: Source,
    run: Run,
    config: Config,
    *,
    minutes: float | None = None,
    device: str = "auto",
    until: str = "world",
    log: Log = print,
) -> None:
    """Bring a run up to date: every stage that is not finished with this config, then the world.

    Args:
        source: of the frames.
        run: the folder; what is finished in it is kept.
        config: of all stages.
        minutes: time for everything over all processes, infinity to train every stage to its number of steps; None for
            what the run was given before, a new run without a limit. More than before continues what time had ended.
        device: "auto", "cpu", "cuda" or "mps".
        until: the last step to do, a name of `NEEDS`; the time is for it and those before it.
        log: takes lines.

    Raises:
        UserError: the source, the device or the run cannot be used.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the state has been saved.
    """
    keep_freed_memory()  # first: JAX's threads start with the choice of its device
    torch_device, jax_device = choose_devices(device)
    with run.lock():
        run.reload()
        if minutes is None:
            minutes = run.settings.get("minutes")
        elif math.isinf(minutes):
            minutes = None
        imports = read_imports(run.settings, run.path / "run.json")
        check_imports(config, imports)
        check_action_model(config)
        run.settings = (
            source.settings(run) | {"minutes": minutes} | imports_setting(imports) | names_setting(run.settings)
        )
        run.config = to_json(config)
        run.save()
        parts = Parts(run, config, source.folder(run), torch_device, jax_device)
        steps = plan(parts, source)
        last = [step.name for step in steps].index(until)
        worked = execute(steps[: last + 1], run, minutes=minutes, log=log)
    if until == "world":
        _farewell(run, config, worked, log)


def plan(parts: Parts, source: Source) -> list[Step]:
    """The steps of a run, in their order."""
    config, values, folder = parts.config, to_json(parts.config), parts.run.folder
    shared = {name: values[name] for name in ("seed", "holdout")}
    torch_kind = parts.torch_device.type
    jax_kind = parts.jax_device.platform
    stages: dict[str, tuple[Callable[[], Stage], str]] = {
        "teacher": (parts.teacher, torch_kind),
        "student": (parts.student, torch_kind),
        "encoder": (parts.encoder, torch_kind),
        "drift": (parts.drift, torch_kind),
        "actions": (parts.actions, jax_kind),
        "dynamics": (parts.dynamics, jax_kind),
    }
    trained = [name for name in stages if name not in parts.imports and name not in config.left_out]
    shares = {name: getattr(config, name).pace.share for name in trained}
    aside = UNTIMED_SHARE * sum(shares.values()) / len(shares)

    def latents(task: Task) -> Done:
        parts.encode_latents(task.folder, task.log)
        return Done()

    def world(task: Task) -> Done:
        pack_world(parts, task.folder)
        restore_names(parts.run, task.folder, task.log)
        return Done()

    needs, settings = dict(NEEDS), {name: {**shared, **_settings(values[name])} for name in stages}
    if config.recipe == "joint":  # the stage draws student and discriminator itself
        needs["encoder"] = ("prepare",)
        drawn = {"student": _network(values["student"]["model"]), "discriminator": values["teacher"]["discriminator"]}
        settings["encoder"] |= drawn
    needs = needs_of_codes(config, needs)
    settings["actions"] = settings_of_actions(config, settings["actions"])
    for name in READERS:
        if not settings[name]["codes"]:
            del settings[name]["codes"]  # runs from before there was this option stay finished
    true_actions = parts.run.settings.get(TRUE_ACTIONS)
    settings["actions"] = fingerprinted(settings["actions"], true_actions and true_actions["digest"])
    # The codes' names may change where the codes do not.
    named = {TRUE_ACTIONS: true_actions["digest"], "labels": config.actions.labels} if true_actions else {}
    # The file's content decides, wherever it lies; without one, runs from before there was this option stay finished.
    if (file := settings["encoder"].pop("trunk_weights")) is not None:
        settings["encoder"]["trunk_weights"] = trunk_digest(config.encoder.model, file)
    after = {"actions": parts.infer_codes}
    notes = {name: _note(name, config) for name in untrained_for(parts.imports, config)}
    steps = {
        name: Step(
            name,
            needs[name],
            settings[name],
            _trained(stages[name][0], after.get(name), notes.get(name)),
            shares[name],
            stages[name][1],
            folder(name),
        )
        for name in trained
    }
    steps["prepare"] = _preparation(parts, source, values["ingest"])
    encoding = {**shared, **({"features": True} if config.actions.model.reads_features else {})}
    steps["latents"] = Step("latents", NEEDS["latents"], encoding, latents, aside, torch_kind, folder("latents"))
    packing = {**shared, **values["world"], **named}
    steps["world"] = Step("world", NEEDS["world"], packing, world, aside, product=folder("world"))
    for name, step in steps.items():
        steps[name] = replace(step, settings={"version": VERSIONS[name], **step.settings})
    for name, found in parts.imports.items():
        steps[name] = _imported(name, found, parts.run)
    if "student" in parts.imports and "teacher" not in parts.imports:
        del steps["teacher"]  # nothing reads it any more
    return [steps[name] for name in in_order(NEEDS, config) if name in steps]


def _settings(stage: dict[str, Any]) -> dict[str, Any]:
    pace = {name: value for name, value in stage["pace"].items() if name not in PACE_ASIDE}
    return {**stage, **({"model": _network(stage["model"])} if "model" in stage else {}), "pace": pace}


def _network(model: dict[str, Any]) -> dict[str, Any]:
    """The shape of a network; without a map as it was before there were maps, so that finished runs stay finished."""
    return {name: value for name, value in model.items() if (name, value) != ("spatial", 0)}


def _note(stage: str, config: Config) -> str:
    distance = "its perceptual distance is LPIPS" if getattr(config, stage).perceptual > 0 else "no perceptual distance"
    what = "student and a new discriminator" if config.recipe == "joint" else "discriminator, as none was imported"
    return f"{stage}: begins with a new {what}; {distance}"


def _preparation(parts: Parts, source: Source, ingest: dict[str, Any]) -> Step:
    if source.frames is not None:
        found = content_of(Manifest.load(source.frames))

        def take(_: Task) -> Done:
            parts.check_labels()
            return Done(identity=found)

        return Step("prepare", (), {"frames": found}, take)
    inputs = parts.run.settings["inputs"]

    def work(task: Task) -> Done:
        manifest = prepare(source.inputs, parts.frames, parts.config.ingest, log=task.log, progress=sys.stderr.isatty())
        parts.check_labels()
        return Done(identity=content_of(manifest))

    return Step("prepare", (), {"ingest": ingest, "inputs": inputs}, work, device="cpu", product=parts.frames)


def _imported(name: str, found: Imported, run: Run) -> Step:
    """A stage that is never trained: its results were brought in."""

    def work(task: Task) -> Done:
        files = ", ".join(found.files)
        raise UserError(task.folder, f"the imported {name} is gone", f"import {files} again with --replace")

    return Step(name, (), found.settings, work, product=run.folder(name) / PRODUCTS[name])


def _trained(
    build: Callable[[], Stage], after: Callable[[], None] | None = None, note: str | None = None
) -> Callable[[Task], Done]:
    def work(task: Task) -> Done:
        if note is not None:
            task.log(note)
        stage = build()
        outcome = train_stage(stage, task.folder, budget_seconds=task.budget_left(), log=task.log)
        write_result(task.folder, stage.result())
        if after is not None:
            after()
        # Trained for a time and not for a number of steps, the same settings give another result: that is what counts.
        identity = result_hash(task.folder)
        out_of_time = outcome.ended_by == "time"
        done = Done(outcome.steps, outcome.earlier_seconds, outcome.alarms, identity, out_of_time)
        del stage  # before the next one is built
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return done

    return work


def _farewell(run: Run, config: Config, worked: list[str], log: Log) -> None:
    world = run.folder("world")
    stages = {name: record for name, record in run.stages.items() if name not in config.left_out}
    spent = sum(record.seconds for record in stages.values())
    if not worked:
        log("nothing to do: every stage is finished with this config")
    if stopped := [name for name, record in stages.items() if record.stopped_at is not None]:
        log(f"time ran out on {', '.join(stopped)}: more --minutes, or --minutes none, continue them")
    log(f"the world is in {world} ({duration(spent)} of training, previews in {run.path / 'previews'})")
    log(f"  play it:     genie play {world}")
    log(f"  a film:      genie rollout {world} --actions random --steps 100 -o rollout.mp4")
    log(f"  its actions: genie inspect {world}")
    log(f"  measure it:  genie evaluate {world} --video ANOTHER.mp4")
