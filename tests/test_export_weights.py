"""`genie export-weights`: what was trained here in the files of other programs, and back bit for bit."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from published import networks
from safetensors import safe_open
from upstream_reference import SHAPES
from vector_quantize_pytorch import VectorQuantize
from worlds import make_world, world_parts

from app.cli import main
from genie_jax.dynamics import DynamicsConfig
from torch_bridge.encoder import Encoder
from torch_bridge.manifest import parse_config
from torch_bridge.mobile_stylegan import Student, StudentConfig
from torch_bridge.reference.x_transformers import make_wrapper
from torch_bridge.stylegan2 import Generator, GeneratorConfig
from torch_bridge.upstream import load_mobile_stylegan, load_stylegan2, load_stylegan2_discriminator
from torch_bridge.upstream_export import rosinality_multiplier
from torch_bridge.world import World
from train.config import Config
from train.overrides import to_json
from train.presets import preset
from train.run import Run, read_result, write_result
from train.torch_stage import to_arrays

G, D, S = networks(3)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose stages up to drift are finished, with networks that were drawn."""
    record, base = Run(tmp_path / "run"), preset("debug")
    teacher = dataclasses.replace(base.teacher, generator=G.config, discriminator=D.config)
    student = dataclasses.replace(base.student, model=S.config)
    config: Config = dataclasses.replace(base, teacher=teacher, student=student)
    record.config = to_json(config)
    arrays = {"generator": to_arrays(G), "discriminator": to_arrays(D), "student": to_arrays(S)}
    encoder = to_arrays(Encoder(config.encoder.model))
    results = {
        "teacher": {name: arrays[name] for name in ("generator", "discriminator")},
        "student": {name: {k: v * 0 for k, v in arrays[name].items()} for name in ("student", "discriminator")},
        "encoder": {"student": arrays["student"], "encoder": {k: v * 0 for k, v in encoder.items()}},
        "drift": {"encoder": encoder},
    }
    for stage, result in results.items():
        record.begin(stage, "f")
        write_result(record.folder(stage), result)
        record.finish(stage, 1.0, steps=2)
    return record.path


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118 - no mapping


def test_exported_loaded_again_makes_the_same_image(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.pt"
    assert main(["export-weights", str(run), "--to", "rosinality", "-o", str(file)]) == 0
    said = capsys.readouterr().out
    assert "rosinality's own class has no such widths [24, 24, 24, 24]" in said
    content = torch.load(file, weights_only=True)
    assert set(content) == {"g_ema", "d", "latent_avg"}
    assert all(isinstance(value, torch.Tensor) for part in ("g_ema", "d") for value in content[part].values())
    z = torch.randn(3, 16)
    back, critic = load_stylegan2(file), load_stylegan2_discriminator(file)
    for noise in ("fixed", "none"):
        assert torch.equal(back.synthesis(back.mapping(z), noise), G.synthesis(G.mapping(z), noise))
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(critic(images), D(images))
    w = G.mapping(torch.randn(20_000, 16)).detach()
    assert content["latent_avg"].shape == (16,)
    torch.testing.assert_close(content["latent_avg"], w.mean(0), atol=float(w.std()) * 0.1, rtol=0)


def test_exported_and_imported_the_run_has_the_same_teacher(run: Path, tmp_path: Path) -> None:
    assert main(["export-weights", str(run), "--to", "rosinality"]) == 0
    again = tmp_path / "again"
    assert main(["import", "stylegan2", str(run / "stylegan2.pt"), "--run", str(again), "--preset", "debug"]) == 0
    for stem in ("generator", "discriminator"):
        one, other = read_result(run / "teacher", stem), read_result(again / "teacher", stem)
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("config", "multiplier"),
    [
        (GeneratorConfig(256), 2),
        (GeneratorConfig(128, channel_multiplier=1), 1),
        (GeneratorConfig(32), 1),
        (GeneratorConfig(64, channel_multiplier=4), 2),
        (GeneratorConfig(64, channel_multiplier=4, channel_max=1024), 4),
        (GeneratorConfig(64, channel_multiplier=0.5), None),
        (GeneratorConfig(256, channel_max=256), None),
    ],
)
def test_which_widths_the_published_class_can_hold(config: GeneratorConfig, multiplier: int | None) -> None:
    assert rosinality_multiplier(config) == multiplier


@pytest.mark.parametrize("name", [name for name in SHAPES if name.endswith("/generator")])
def test_names_and_shapes_of_the_file_are_the_published_ones(name: str) -> None:
    size, multiplier = name.split("/")[1].split("x")
    with torch.device("meta"):
        generator = Generator(GeneratorConfig(int(size), channel_multiplier=float(multiplier)))
    assert rosinality_multiplier(generator.config) == (1 if int(size) <= 32 else int(multiplier))
    assert {key: list(value.shape) for key, value in generator.state_dict().items()} == SHAPES[name]


def test_safetensors_carry_their_config(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    assert main(["export-weights", str(run), "--to", "safetensors", "-o", str(folder)]) == 0
    assert {file.name for file in folder.iterdir()} == {
        f"{part}.safetensors" for part in ("generator", "discriminator", "student", "encoder")
    }
    for part, network in (("generator", G), ("discriminator", D), ("student", S)):
        tensors, metadata = read(folder / f"{part}.safetensors")
        assert all(np.array_equal(tensors[name], value) for name, value in to_arrays(network).items())
        assert parse_config(type(network.config), json.loads(metadata["config"])) == network.config
    w = torch.randn(2, 16)
    assert torch.equal(load_stylegan2(folder / "generator.safetensors").synthesis(w), G.synthesis(w))
    assert torch.equal(load_mobile_stylegan(folder / "student.safetensors")(w), S(w))
    tensors, metadata = read(folder / "encoder.safetensors")
    assert metadata["from"] == "run/drift/encoder"
    kept = read_result(run / "drift", "encoder")
    assert all(np.array_equal(tensors[name], kept[name]) for name in kept)


def test_a_world_gives_what_it_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = make_world(tmp_path / "world")
    assert main(["export-weights", str(world), "--to", "safetensors"]) == 0
    assert "left out, as a world does not hold it: generator, discriminator" in capsys.readouterr().out
    tensors, metadata = read(world / "weights" / "student.safetensors")
    decoder = world_parts()[1]["decoder"]
    assert all(np.array_equal(tensors[name], value) for name, value in decoder.items())
    Student(parse_config(StudentConfig, json.loads(metadata["config"])))
    assert main(["export-weights", str(world), "--to", "rosinality"]) == 2
    assert "is a world, which holds no StyleGAN2. give the run that made it" in capsys.readouterr().err


def test_faults_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = Run(tmp_path / "empty")
    empty.config = to_json(preset("debug"))
    empty.save()
    for words, fault in (
        ([str(tmp_path / "gone"), "--to", "rosinality"], "there is no such folder"),
        ([str(empty.path), "--to", "onnx"], "--to onnx: is no form of weights"),
        ([str(empty.path), "--to", "rosinality"], "has no finished teacher"),
        ([str(empty.path), "--to", "safetensors"], "has no finished network"),
        ([str(empty.path)], "--to"),
    ):
        assert main(["export-weights", *words]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert fault in lines[0]


def test_dynamics_and_quantiser_load_into_the_packages_and_agree(tmp_path: Path) -> None:
    """The packages' own strict loading; then the same numbers as the world's own modules."""
    make_world(tmp_path / "world", context_noise=0.0)
    assert main(["export-weights", str(tmp_path / "world"), "--to", "safetensors", "-o", str(tmp_path)]) == 0
    world = World.load(tmp_path / "world", "cpu")
    (dynamics, metadata), (added, _) = (
        read(tmp_path / "dynamics.safetensors"),
        read(tmp_path / "dynamics_added.safetensors"),
    )
    config = parse_config(DynamicsConfig, json.loads(metadata["config"]))
    wrapper = make_wrapper(config).eval()
    wrapper.load_state_dict({name: torch.from_numpy(array) for name, array in dynamics.items()})
    rng = np.random.default_rng(0)
    w = rng.standard_normal((2, config.window, config.rows, config.style_dim), np.float32)
    codes = rng.integers(config.codes, size=w.shape[:2])
    with torch.no_grad():
        change = wrapper(torch.from_numpy(w).flatten(2), sum_embeds=torch.from_numpy(added["code"][codes])).numpy()
    np.testing.assert_allclose(
        world.player.model.apply(world.player.params, w, codes), w + change.reshape(w.shape), atol=1e-5
    )
    np.testing.assert_array_equal(added["w_mean"], world.player.w_mean_LD)

    named, metadata = read(tmp_path / "quantizer.safetensors")
    book = world.actions.vq_state
    actions = json.loads(metadata["config"])
    quantizer = VectorQuantize(actions["dim"], actions["codes"], rotation_trick=False).eval()
    quantizer.load_state_dict({name: torch.from_numpy(array) for name, array in named.items()})
    x = rng.standard_normal((50, actions["dim"]), np.float32)
    _, indices, _ = quantizer(torch.from_numpy(x))
    ours = world.actions.model.config.quantizer()(book, x, train=False)
    np.testing.assert_array_equal(ours.indices, indices)
