"""`genie import`: published files take the place of a stage's training, and nothing else changes."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.torch
import torch
from media import moving_square, write_video
from published import CRITIC, GENERATOR, STUDENT, hostile_files, lightning_state, networks, save_lightning
from published import teacher_files as write_teacher_files
from worlds import world_parts

import torch_bridge.perceptual
import train.parts
from app.cli import main
from torch_bridge.bundle import read_world
from torch_bridge.discriminator import Discriminator, DiscriminatorConfig
from torch_bridge.stylegan2 import Generator
from train.errors import UserError
from train.imported import read_imports
from train.pipeline import plan
from train.presets import configured
from train.run import Run, read_result
from train.source import Source
from train.stage import Pace
from train.torch_stage import load_arrays

G, D, S = networks()


class Drawn:
    """A stage that learns nothing and leaves what it was given: imports do not concern it."""

    framework, steps_per_call, pace = "torch", 1, Pace(steps=1)

    def __init__(self, name: str, result: dict[str, np.ndarray]) -> None:
        self.name, self._result = name, result

    def advance(self, step: int, progress: float, lr_scale: float) -> dict[str, Any]:
        return {"loss": 0.0 * step * progress * lr_scale}

    def state(self) -> dict[str, Any]:
        return {"nothing": 0}

    def load_state(self, state: dict[str, Any]) -> None:
        pass

    def preview(self) -> dict[str, np.ndarray]:
        return {}

    def result(self) -> dict[str, dict[str, np.ndarray]]:
        return {self.name: self._result}

    def health(self) -> list[str]:
        return []


@pytest.fixture(scope="module")
def tensors() -> dict[str, dict[str, np.ndarray]]:
    return world_parts()[1]


@pytest.fixture
def quick(tensors: dict[str, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Actions and dynamics take the time of compiling and have nothing to do with decoders."""
    monkeypatch.setattr(train.parts, "ActionsStage", lambda *_, **__: Drawn("actions", tensors["actions"]))
    monkeypatch.setattr(train.parts, "DynamicsStage", lambda *_, **__: Drawn("dynamics", tensors["dynamics"]))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", moving_square(60), fps=30)


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture
def trainer_file(tmp_path: Path) -> Path:
    """As rosinality's trainer writes it."""
    raw, args = networks(5)[0].state_dict(), argparse.Namespace(size=32, lr=0.002)
    content = {"g": raw, "d": D.state_dict(), "g_ema": G.state_dict(), "g_optim": {"state": {}}, "args": args}
    return save(tmp_path / "000100.pt", content | {"d_optim": {"state": {}}, "ada_aug_p": 0.0})


@pytest.fixture
def averaged_file(tmp_path: Path) -> Path:
    """As rosinality's converter writes it: no discriminator."""
    return save(tmp_path / "averaged.pt", {"g_ema": G.state_dict(), "latent_avg": torch.zeros(16)})


@pytest.fixture
def lightning_file(tmp_path: Path) -> Path:
    return save_lightning(tmp_path / "last.ckpt", lightning_state(G, D, S))


def imported(run: Path, *words: object) -> int:
    return main(["import", *map(str, words), "--run", str(run)])


def kept(run: Path, stage: str, stem: str) -> dict[str, np.ndarray]:
    return read_result(run / stage, stem)


def equal(arrays: dict[str, np.ndarray], module: torch.nn.Module, but: str = "none") -> bool:
    state = {name: value for name, value in module.state_dict().items() if not name.startswith(but)}
    return arrays.keys() >= state.keys() and all(np.array_equal(arrays[k], v.numpy()) for k, v in state.items())


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def begun(output: str) -> list[str]:
    return [line.split(":")[0] for line in output.splitlines() if ": begins" in line and " with " not in line]


@pytest.mark.parametrize("form", ["trainer", "converted", "prefixed", "bare", "legacy", "safetensors"])
def test_every_form_of_a_stylegan2_file(form: str, tmp_path: Path, trainer_file: Path, averaged_file: Path) -> None:
    state = G.state_dict()
    path = {"trainer": trainer_file, "converted": averaged_file}.get(form, tmp_path / f"{form}.pt")
    if form == "prefixed":
        both = {"g_ema": G, "d": D}
        save(path, {part: {f"module.{k}": v for k, v in net.state_dict().items()} for part, net in both.items()})
    elif form == "bare":
        save(path, state)
    elif form == "legacy":
        torch.save({"g_ema": state, "args": argparse.Namespace()}, path, _use_new_zipfile_serialization=False)
    elif form == "safetensors":
        path = path.with_suffix(".safetensors")
        safetensors.torch.save_file(state, path)
    run = tmp_path / "run"
    assert imported(run, "stylegan2", path, "--preset", "debug") == 0
    assert equal(kept(run, "teacher", "generator"), G)
    config = configured(Run(run), None)
    assert (config.size, config.style_dim, config.encoder.model.style_dim) == (32, 16, 16)
    assert config.teacher.generator == GENERATOR
    assert config.student.model.channels == (24, 24, 24)
    record = read_imports(Run(run).settings, run)["teacher"]
    assert list(record.files) == [path.name]
    has_critic = form in ("trainer", "prefixed")
    assert record.discriminator_trained == has_critic
    assert config.teacher.discriminator == (CRITIC if has_critic else DiscriminatorConfig(32, 2.0, 24))
    assert (run / "teacher" / "discriminator.safetensors").exists() == has_critic
    assert config.student.perceptual_kind == ("discriminator" if has_critic else "lpips")


@pytest.mark.usefixtures("quick")
def test_a_world_grows_from_an_imported_teacher(
    video: Path, tmp_path: Path, trainer_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert imported(run, "stylegan2", trainer_file, "--preset", "debug") == 0
    capsys.readouterr()
    words = ["train", "--run", str(run), "--device", "cpu"]
    assert main([*words, str(video)]) == 0
    stages = ["prepare", "student", "encoder", "drift", "latents", "actions", "dynamics", "world"]
    assert begun(capsys.readouterr().out) == stages
    assert equal(kept(run, "teacher", "generator"), G)
    assert not (run / "teacher" / "checkpoints").exists()
    assert read_world(run)[0].student["channels"] == [24, 24, 24]
    assert main(words) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main([*words, "--preset", "debug"]) == 0  # a preset gives way to what was imported
    assert "nothing to do" in capsys.readouterr().out
    assert main([*words, "--size", "64"]) == 2
    assert "--size 64: contradicts the imported teacher (StyleGAN2 of 000100.pt), whose value is 32" in one_line(capsys)
    assert main([*words, "--teacher.generator.n_mlp", "3"]) == 2
    assert "--teacher.generator.n_mlp 3: contradicts" in one_line(capsys)
    assert main([*words, "--style_dim", "8"]) == 2
    assert "--style_dim 8" in one_line(capsys)
    other = save(tmp_path / "other.pt", {"g_ema": networks(7)[0].state_dict(), "d": D.state_dict()})
    assert imported(run, "stylegan2", other) == 2
    assert "has a teacher already (imported, StyleGAN2 of 000100.pt). give --replace" in one_line(capsys)
    assert imported(run, "stylegan2", other, "--replace") == 0
    capsys.readouterr()
    assert main(words) == 0
    assert begun(capsys.readouterr().out) == ["student", "encoder", "drift", "latents", "dynamics", "world"]


@pytest.mark.usefixtures("quick")
def test_a_world_grows_from_a_lightning_file(
    video: Path, tmp_path: Path, lightning_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert imported(run, "mobile-stylegan", lightning_file, "--preset", "debug") == 0
    assert "not their average" in capsys.readouterr().out
    assert equal(kept(run, "student", "student"), S)
    assert equal(kept(run, "student", "discriminator"), D)
    assert equal(kept(run, "teacher", "generator"), G, but="noises")
    w = G.mapping(torch.randn(4096, 16, generator=torch.Generator().manual_seed(1))).detach().numpy()
    found = kept(run, "student", "w")
    np.testing.assert_allclose(found["mean"], w.mean(0), atol=0.1)
    np.testing.assert_allclose(found["std"], w.std(0), rtol=0.1)
    assert main(["train", str(video), "--run", str(run), "--device", "cpu", "--recipe", "frozen"]) == 0
    assert begun(capsys.readouterr().out) == ["prepare", "encoder", "drift", "latents", "actions", "dynamics", "world"]
    manifest, tensors, _ = read_world(run)
    assert manifest.student["channels"] == [16, 12, 8]
    assert equal(tensors["decoder"], S)
    assert main(["train", "--run", str(run), "--student.model.channels", "16,16,16"]) == 2
    assert "contradicts the imported student" in one_line(capsys)


def test_the_converters_two_files_are_the_teacher(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mapping, synthesis = write_teacher_files(tmp_path, G)
    assert imported(tmp_path / "alone", "mobile-stylegan", mapping) == 2
    assert "mnet.ckpt: a teacher is a mapping and a synthesis network, and mapping network was given" in one_line(
        capsys
    )
    for number, files in enumerate([(mapping, synthesis), (synthesis, mapping)]):
        run = tmp_path / f"run{number}"
        assert imported(run, "mobile-stylegan", *files, "--preset", "debug") == 0
        back = load_arrays(Generator(GENERATOR), kept(run, "teacher", "generator"))
        z = torch.randn(2, 16)
        assert torch.equal(back(z, "none"), G(z, "none"))
        assert not (run / "student").exists()
    first, second = (kept(tmp_path / f"run{number}", "teacher", "generator") for number in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)  # the noise images that it lacks too


@pytest.mark.parametrize(
    ("part", "name", "change", "fault"),
    [
        (1, "layers.1.conv2.conv.weight", "drop", "Missing tensor layers.1.conv2.conv.weight"),
        (1, "layers.0.to_rgb.bias", "drop", "Missing tensor layers.0.to_rgb.bias"),
        (1, "layers.2.conv1.noise.weight", "widen", "Tensor layers.2.conv1.noise.weight has the wrong shape"),
        (1, "layers.0.conv3.weight", "add", "Unknown tensor layers.0.conv3.weight"),
        (0, "layers.2.bias", "drop", "Missing tensor layers.2.bias"),
    ],
)
def test_a_teachers_fault_is_told_in_the_files_names(
    part: int, name: str, change: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write_teacher_files(tmp_path, G)
    content = torch.load(files[part], weights_only=True)
    if change == "drop":
        del content["ckpt"][name]
    else:
        content["ckpt"][name] = torch.zeros(2, 2)
    save(files[part], content)
    assert imported(tmp_path / "run", "mobile-stylegan", *files) == 2
    assert fault in one_line(capsys)
    assert not (tmp_path / "run" / "teacher").exists()


def test_a_student_alone_joins_the_runs_teacher(
    tmp_path: Path, trainer_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, path = tmp_path / "run", save(tmp_path / "student.pt", S.state_dict())
    assert imported(run, "mobile-stylegan", path, "--preset", "debug") == 2
    assert "holds a student without a teacher" in one_line(capsys)
    assert imported(run, "stylegan2", trainer_file, "--preset", "debug") == 0
    assert imported(run, "mobile-stylegan", path) == 0
    assert equal(kept(run, "student", "student"), S)
    assert equal(kept(run, "student", "discriminator"), D)
    assert equal(kept(run, "teacher", "generator"), G)
    assert configured(Run(run), None).student.model == STUDENT
    capsys.readouterr()
    assert imported(run, "stylegan2", trainer_file, "--replace") == 0  # and takes the other's student away
    assert set(read_imports(Run(run).settings, run)) == {"teacher"}
    narrow = {k: v[:, :8] if k.endswith("modulation.weight") else v for k, v in S.state_dict().items()}
    assert imported(run, "mobile-stylegan", save(tmp_path / "narrow.pt", narrow)) == 2
    assert "32 px from 8 numbers, its teacher 32 px from 16" in one_line(capsys)


def steps(run: Path, tmp_path: Path) -> dict[str, Any]:
    record, source = Run(run), Source((tmp_path / "clip.mp4",))
    record.settings |= source.settings(record)
    parts = train.parts.Parts(record, configured(record, None), tmp_path, torch.device("cpu"), jax.devices("cpu")[0])
    return {step.name: step for step in plan(parts, source)}


def test_an_imported_step_needs_nothing_and_gets_no_time(tmp_path: Path, trainer_file: Path) -> None:
    run = tmp_path / "run"
    assert imported(run, "stylegan2", trainer_file, "--preset", "debug") == 0
    planned = steps(run, tmp_path)
    teacher = planned["teacher"]
    assert (teacher.needs, teacher.share) == ((), 0.0)
    assert teacher.settings == {"imported": list(read_imports(Run(run).settings, run)["teacher"].files.values())}
    assert planned["student"].share == 1.0
    wider = tmp_path / "wider"
    assert imported(wider, "stylegan2", trainer_file, "--preset", "debug", "--student.model.channels", "32,16,8") == 0
    assert configured(Run(wider), None).student.model.channels == (32, 16, 8)
    assert imported(run, "mobile-stylegan", save(tmp_path / "s.pt", S.state_dict())) == 0
    assert steps(run, tmp_path)["student"].needs == ()


def test_a_trained_teacher_is_kept_unless_told(
    tmp_path: Path, trainer_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path / "run")
    run.begin("teacher", "f")
    run.finish("teacher", 1.0, steps=40)
    assert imported(run.path, "stylegan2", trainer_file) == 2
    assert "has a teacher already (trained for 40 steps)" in one_line(capsys)
    (run.path / "teacher").mkdir()
    (run.path / "teacher" / "old").touch()
    assert imported(run.path, "stylegan2", trainer_file, "--replace", "--preset", "debug") == 0
    assert not (run.path / "teacher" / "old").exists()


@pytest.mark.usefixtures("quick")
def test_without_a_discriminator_no_distance_is_made_up(
    video: Path,
    tmp_path: Path,
    averaged_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offline() -> None:
        raise torch_bridge.perceptual.LpipsUnavailable("no network")

    monkeypatch.setattr(torch_bridge.perceptual, "lpips_perceptual", offline)
    run = tmp_path / "run"
    assert imported(run, "stylegan2", averaged_file, "--preset", "debug") == 0
    assert "untrained features measure nothing" in capsys.readouterr().out
    words = ["train", str(video), "--run", str(run), "--device", "cpu"]
    for kind in ("discriminator", "auto"):
        assert main([*words, "--student.perceptual_kind", kind]) == 2
        assert f"--student.perceptual_kind {kind}: the imported file has no discriminator" in one_line(capsys)
    assert main(words) == 2
    assert "--student.perceptual_kind lpips: the weights of LPIPS" in one_line(capsys)
    capsys.readouterr()
    assert main([*words, "--student.perceptual", "0", "--student.adversarial", "0"]) == 2
    assert "--encoder.perceptual_kind discriminator" in one_line(capsys)  # nothing would have trained its features
    monkeypatch.setattr(train.parts.Parts, "encoder", lambda _: (_ for _ in ()).throw(UserError("enough", "a", "b")))
    assert main([*words, "--student.perceptual", "0"]) == 2
    captured = capsys.readouterr()
    assert "student: begins with a new discriminator, as none was imported; no perceptual distance" in captured.out
    assert captured.err.startswith("genie: enough")
    fresh = kept(run, "student", "discriminator")
    assert fresh.keys() == Discriminator(DiscriminatorConfig(32, 2.0, 24)).state_dict().keys()


def test_a_discriminator_of_another_kind_is_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = lightning_state(G, None, S) | {"loss.gan_loss.m.model.0.weight": torch.zeros(3)}
    path = save_lightning(tmp_path / "early.ckpt", state, legacy=True)
    assert imported(tmp_path / "run", "mobile-stylegan", path, "--preset", "debug") == 0
    assert "its discriminator is none of StyleGAN2 and is left out" in capsys.readouterr().out
    config = configured(Run(tmp_path / "run"), None)
    assert config.encoder.perceptual_kind == "lpips"
    assert not (tmp_path / "run" / "student" / "discriminator.safetensors").exists()


def test_an_imported_stage_that_is_gone_is_told(
    tmp_path: Path, video: Path, trainer_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert imported(run, "stylegan2", trainer_file, "--preset", "debug") == 0
    (run / "teacher" / "generator.safetensors").unlink()
    assert main(["train", str(video), "--run", str(run), "--device", "cpu"]) == 2
    assert "the imported teacher is gone. import 000100.pt again with --replace" in one_line(capsys)


def test_faults_are_one_line_that_names_them(
    tmp_path: Path, averaged_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = G.state_dict()
    run = tmp_path / "run"
    faults = {
        "Missing tensor convs.1.activate.bias": {k: v for k, v in state.items() if k != "convs.1.activate.bias"},
        "Unknown tensor to_rgb9.bias": state | {"to_rgb9.bias": torch.zeros(1)},
        "Tensor style.2.weight has the wrong shape": state | {"style.2.weight": torch.zeros(16, 9)},
        "Tensor conv1.conv.weight holds numbers that are not finite": state
        | {"conv1.conv.weight": state["conv1.conv.weight"] / 0},
    }
    for fault, tensors in faults.items():
        path = save(tmp_path / "faulty.pt", {"g_ema": tensors})
        assert imported(run, "stylegan2", path) == 2
        line = one_line(capsys)
        assert fault in line
        assert "faulty.pt" in line
    for words, fault in (
        (["stylegan3", averaged_file], "stylegan3: is no kind of weights"),
        (["stylegan2", averaged_file, averaged_file], "one file is imported at a time"),
        (["stylegan2", tmp_path / "gone.pt"], "gone.pt: No such file"),
        (["stylegan2", averaged_file, "--preset", "debug", "--size", "64"], "--size 64: contradicts"),
        (["stylegan2", averaged_file, "--sise", "64"], "did you mean --size?"),
    ):
        assert imported(run, *words) == 2
        assert fault in one_line(capsys)
    assert Run(run).stages == {}


def test_a_hostile_file_is_refused_and_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, marker in hostile_files(tmp_path, G).items():
        for kind in ("stylegan2", "mobile-stylegan"):
            assert imported(tmp_path / "run", kind, path) == 2
            assert "posix.system" in one_line(capsys)
        assert not marker.exists()


def test_nothing_is_imported_into_a_world(
    tmp_path: Path, averaged_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = tmp_path / "world"
    world.mkdir()
    (world / "world.json").write_text("{}")
    assert imported(world, "stylegan2", averaged_file) == 2
    assert "is a world" in one_line(capsys)
    assert [path.name for path in world.iterdir()] == ["world.json"]


def test_a_recipe_that_reads_no_import_gives_way_and_it_is_told(
    tmp_path: Path, trainer_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert imported(run, "stylegan2", trainer_file, "--preset", "tiny") == 0
    assert "note: recipe tuned in the place of joint, which reads no import" in capsys.readouterr().out
    assert json.loads((run / "run.json").read_text())["config"]["recipe"] == "tuned"
