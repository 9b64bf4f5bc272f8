"""Recipes of the decoder: which stages there are, what they begin with, what they are fingerprinted by."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from media import moving_square, write_video

import train.parts
import train.pipeline
from app.cli import main
from torch_bridge.mobile_stylegan import StudentConfig
from train.config import Config, override_config, stored_config
from train.errors import UserError
from train.imported import Imported, check_imports, imports_setting, with_imports
from train.overrides import to_json
from train.plan import Step
from train.presets import preset
from train.run import Run, read_result
from train.source import Source

CPU = torch.device("cpu")
JOINT = {"recipe": "joint", "encoder.perceptual": "0"}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("recipe") / "clip.mp4", moving_square(60), fps=30)


def steps_of(folder: Path, changes: dict[str, str]) -> dict[str, Step]:
    """The plan of a new run, by name."""
    run, source = Run(folder), Source((folder / "clip.mp4",))
    run.settings = source.settings(run)
    config = override_config(preset("debug"), changes)
    parts = train.parts.Parts(run, config, folder, CPU, jax.devices("cpu")[0])
    return {step.name: step for step in train.pipeline.plan(parts, source)}


def test_joint_has_neither_teacher_nor_distillation(tmp_path: Path) -> None:
    tuned, joint = steps_of(tmp_path, {}), steps_of(tmp_path, JOINT)
    assert set(tuned) - set(joint) == {"teacher", "student"}
    assert list(joint) == [name for name in tuned if name in joint]
    assert joint["encoder"].needs == ("prepare",)
    assert tuned["encoder"].needs == ("prepare", "student")
    for step in joint.values():
        assert set(step.needs) <= set(joint)


def test_the_recipe_is_one_truth(tmp_path: Path) -> None:
    settings = {name: steps_of(tmp_path, {"recipe": name, "encoder.perceptual": "0"}) for name in ("frozen", "tuned")}
    changed = {name for name, step in settings["tuned"].items() if step.settings != settings["frozen"][name].settings}
    assert changed == {"encoder"}
    assert not settings["frozen"]["encoder"].settings["tune_student"]


@pytest.mark.parametrize("path", ["student.model.channels", "teacher.discriminator.channel_max"])
def test_joint_is_fingerprinted_by_the_networks_that_it_draws(path: str, tmp_path: Path) -> None:
    value = {"student.model.channels": "16,16,8", "teacher.discriminator.channel_max": "8"}[path]
    before, after = steps_of(tmp_path, JOINT)["encoder"], steps_of(tmp_path, JOINT | {path: value})["encoder"]
    assert before.settings != after.settings
    before, after = steps_of(tmp_path, {})["encoder"], steps_of(tmp_path, {path: value})["encoder"]
    assert before.settings == after.settings  # there it is the teacher or the student that is trained again


@pytest.mark.parametrize(("tuned", "recipe"), [(True, "tuned"), (False, "frozen")])
def test_a_run_from_before_there_were_recipes_goes_on_with_its_own(tuned: bool, recipe: str) -> None:
    values = to_json(preset("debug"))
    del values["recipe"]
    values["encoder"]["tune_student"] = tuned
    config = stored_config(values, "run.json")
    assert (config.recipe, config.encoder.tune_student) == (recipe, tuned)
    assert config == override_config(preset("debug"), {"recipe": recipe})


@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_joint_has_no_use_for_an_import(stage: str) -> None:
    config = override_config(preset("debug"), JOINT)
    found = {stage: Imported("weights.pt", {}, student=StudentConfig(32, 16, (16, 16, 16)))}
    with pytest.raises(UserError, match=rf"^--recipe joint: .*a {stage} was imported \(weights.pt\)"):
        check_imports(config, found)
    check_imports(override_config(config, {"recipe": "frozen"}), {})


@pytest.mark.parametrize("name", ["tiny", "laptop"])
def test_a_preset_takes_up_an_import_whatever_its_recipe(name: str) -> None:
    student = StudentConfig(32, 16, (16, 16, 16))
    found = {"student": Imported("weights.pt", {}, student=student, discriminator=preset(name).teacher.discriminator)}
    config = with_imports(preset(name), found)
    assert (config.recipe, config.student.model) == ("tuned", student)
    assert with_imports(preset(name), {}).recipe == preset(name).recipe == {"tiny": "joint", "laptop": "tuned"}[name]


def test_untrained_features_are_no_distance(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", str(video), "--run", str(tmp_path), "--preset", "debug", "--device", "cpu", "--recipe", "joint"]
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "--encoder.perceptual_kind discriminator: the recipe joint begins with a new discriminator" in lines[0]
    assert main([*words, "--recipe", "best"]) == 2
    assert "'frozen', 'tuned' or 'joint'" in capsys.readouterr().err


def train_until_drift(video: Path, folder: Path, changes: dict[str, str]) -> Run:
    """A run of two steps a stage, without dynamics and world."""
    config = override_config(preset("debug"), changes | {"encoder.perceptual": "0", "student.perceptual": "0"})
    train.pipeline.train_run(Source((video,)), Run(folder), config, device="cpu", until="drift", log=lambda _: None)
    return Run(folder)


def moved(run: Run, config: Config, stem: str) -> dict[str, float]:
    """How far the encoder stage brought a network from what the seed draws, by tensor."""
    parts = train.parts.Parts(run, config, run.folder("frames"), CPU, jax.devices("cpu")[0])
    stage = parts.encoder()
    network: dict[str, Any] = {"student": stage.model.student, "discriminator": stage.discriminator}
    found = read_result(run.folder("encoder"), stem)
    begun = {name: value.numpy() for name, value in network[stem].state_dict().items()}
    return {name: float(np.abs(found[name] - begun[name]).max()) for name in begun}


def test_joint_trains_encoder_student_and_discriminator_from_the_start(video: Path, tmp_path: Path) -> None:
    changes = JOINT | {"encoder.adversarial_from": "0"}
    run = train_until_drift(video, tmp_path, changes)
    assert list(run.stages) == ["prepare", "encoder", "drift"]
    config = override_config(preset("debug"), changes)
    for stem in ("student", "discriminator"):
        assert max(moved(run, config, stem).values()) > 1e-4, stem
    assert np.abs(read_result(run.folder("encoder"), "encoder")["mean_w"]).max() == 0  # no teacher's mean to start from
    run = train_until_drift(video, tmp_path, changes)  # nothing is done twice
    assert {record.steps for name, record in run.stages.items() if name != "prepare"} == {2}


def test_from_one_recipe_to_another_only_what_it_changes_is_trained(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train_until_drift(video, tmp_path, {"recipe": "frozen"})
    student = read_result(run.folder("student"), "student")
    kept = read_result(run.folder("encoder"), "student")
    # The averaged weights of a network that stands still, to rounding.
    assert all(np.allclose(kept[name], value, atol=1e-6) for name, value in student.items())
    before = {name: record.fingerprint for name, record in run.stages.items()}
    run = train_until_drift(video, tmp_path, {"recipe": "tuned"})
    after = {name: record.fingerprint for name, record in run.stages.items()}
    assert [name for name in before if before[name] != after[name]] == ["encoder", "drift"]
    tuned = read_result(run.folder("encoder"), "student")
    assert not all(np.allclose(tuned[name], value, atol=1e-6) for name, value in student.items())
    assert capsys.readouterr().err == ""


def test_a_recorded_import_and_joint_are_one_sentence(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path)
    config = override_config(preset("debug"), {"encoder.perceptual": "0"})
    student = Imported("MobileStyleGAN of a.ckpt", {}, student=config.student.model,
                       discriminator=config.teacher.discriminator)  # fmt: skip
    run.settings, run.config = imports_setting({"student": student}), to_json(config)
    run.save()
    assert main(["train", str(video), "--run", str(tmp_path), "--recipe", "joint", "--device", "cpu"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "a student was imported (MobileStyleGAN of a.ckpt)" in lines[0]
