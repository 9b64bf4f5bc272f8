"""Bringing published weights into a run, where they stand in the place of a stage's training.

A StyleGAN2 file gives the teacher; MobileStyleGAN's Lightning file teacher and student, its teacher files the teacher,
and a student alone joins the teacher that the run has. What is written are the results that the stage itself would
have left, so the stages after it read them as they are.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from torch_bridge.discriminator import DiscriminatorConfig
from torch_bridge.stylegan2 import GeneratorConfig
from torch_bridge.upstream import load_stylegan2, load_stylegan2_discriminator
from train.config import override_config
from train.errors import UserError
from train.imported import Imported, check_imports, describe, imports_setting, read_imports, with_imports
from train.overrides import to_json
from train.presets import configured
from train.progress import Log
from train.run import Run, fingerprint, read_result, result_hash, write_result
from train.student import w_statistics
from train.torch_stage import to_arrays
from train.weights import Weights, check_sizes, read_weights, weight_fault


def import_weights(
    kind: str,
    files: Sequence[Path],
    run: Run,
    *,
    preset: str | None = None,
    overrides: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    replace: bool = False,
    log: Log = print,
) -> None:
    """Put the weights of `files` in the place of the run's teacher, student, or both.

    Args:
        kind: "stylegan2" or "mobile-stylegan".
        files: one, or the two of a MobileStyleGAN teacher.
        run: where to; a new folder gets a config.
        preset: for everything that the weights do not decide; None for the run's own, or the default.
        overrides: options of the config, by dotted path.
        options: of the command itself, for "did you mean".
        replace: take the place of what the run already has.
        log: takes lines.

    Raises:
        UserError: a file is not what it should be (the tensor is named), or the run has such a stage already, or is a
            world.
    """
    weights = read_weights(kind, files)
    with run.lock():
        run.reload()
        stages = [name for name, part in (("teacher", weights.generator), ("student", weights.student)) if part]
        if not replace:
            _refuse_to_replace(run, stages)
        if weights.generator is None:
            _join_teacher(weights, run)
        imports = read_imports(run.settings, run.path / "run.json")
        if imports.pop("student", None) is not None:  # it was imported for another teacher and goes with that
            run.stages.pop("student", None)
            if "student" not in stages:
                log("note: the student that was imported before went with its teacher: it is trained anew")
        imports |= {name: _record(name, weights) for name in stages}
        try:
            before = configured(run, preset)
            config = with_imports(before, imports)
        except ValueError as error:
            raise weight_fault(files[0], error) from error
        if config.recipe != before.recipe:
            log(f"note: recipe {config.recipe} in the place of {before.recipe}, which reads no import")
        config = override_config(config, overrides or {}, options)
        check_imports(config, imports)
        results = {name: _result(name, weights, config.seed) for name in stages}
        for name, result in results.items():
            run.stages.pop(name, None)  # so that its folder is emptied
            run.begin(name, fingerprint(name, imports[name].settings, {}))
            write_result(run.folder(name), result)
        run.config = to_json(config)
        run.settings = {**run.settings, **imports_setting(imports)}
        for name in stages:
            run.finish(name, 0.0, identity=result_hash(run.folder(name)))
    _tell(weights, stages, log)


def _refuse_to_replace(run: Run, stages: Sequence[str]) -> None:
    imports = read_imports(run.settings, run.path / "run.json")
    for name in (*stages, *(["student"] if "student" in imports else [])):
        record = run.stages.get(name)
        if record is not None and record.state != "pending":
            how = f"imported, {imports[name].what}" if name in imports else f"trained for {record.steps} steps"
            fault = f"has a {name} already ({how})"
            raise UserError(run.path, fault, "give --replace to put the imported one in its place, or another --run")


def _join_teacher(weights: Weights, run: Run) -> None:
    """Give a student that came alone the run's teacher, whose w it reads, and its discriminator, if it has one."""
    record = run.stages.get("teacher")
    if record is None or record.state != "done":
        fault = f"holds a student without a teacher, and {run.path} has none: the statistics of w are unknown"
        remedy = "give a Lightning file, or import the teacher first (genie import stylegan2 FILE --run RUN)"
        raise UserError(next(iter(weights.files)), fault, remedy)
    folder = run.folder("teacher")
    weights.generator = load_stylegan2(_tensors(read_result(folder, "generator")))
    if (folder / "discriminator.safetensors").exists():
        weights.discriminator = load_stylegan2_discriminator(_tensors(read_result(folder, "discriminator")))
    check_sizes(next(iter(weights.files)), weights.student, weights.generator)


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _record(stage: str, weights: Weights) -> Imported:
    critic, generator = weights.discriminator, weights.generator
    return Imported(
        weights.what,
        weights.files,
        generator.config if stage == "teacher" else None,
        weights.student.config if stage == "student" else None,
        _same_widths(generator.config) if critic is None else critic.config,
        critic is not None,
    )


def _same_widths(config: GeneratorConfig) -> DiscriminatorConfig:
    return DiscriminatorConfig(config.size, config.channel_multiplier, config.channel_max)


def _result(stage: str, weights: Weights, seed: int) -> dict[str, dict[str, np.ndarray]]:
    critic = {} if weights.discriminator is None else {"discriminator": to_arrays(weights.discriminator)}
    if stage == "teacher":
        return {"generator": to_arrays(weights.generator), **critic}
    return {"student": to_arrays(weights.student), "w": w_statistics(weights.generator, seed), **critic}


def _tell(weights: Weights, stages: Sequence[str], log: Log) -> None:
    networks = {"teacher": weights.generator, "student": weights.student}
    for name in stages:
        log(f"{name}: {weights.what}; {describe(networks[name].config)}")
    for note in weights.notes:
        log(f"note: {note}")
    if weights.discriminator is None:
        log(
            f"note: no discriminator came with it, so the {'encoder' if weights.student else 'student'} stage draws a "
            "new one; untrained features measure nothing, so its perceptual distance is LPIPS, or its weight must be 0"
        )
