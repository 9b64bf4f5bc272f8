import argparse

import numpy as np
import published
import pytest
import safetensors.torch
import torch
from published import hostile_files, mobile_teacher, save_lightning
from upstream_reference import SHAPES, mobile_weights, stylegan2_weights

from torch_bridge.discriminator import Discriminator, DiscriminatorConfig
from torch_bridge.layers import PixelNorm
from torch_bridge.mobile_stylegan import Student, StudentConfig
from torch_bridge.stylegan2 import Generator, GeneratorConfig
from torch_bridge.upstream import load_mobile_stylegan, load_stylegan2, load_stylegan2_discriminator
from torch_bridge.upstream_teacher import lightning_parts, load_mobile_teacher, teacher_part

GENERATOR = GeneratorConfig(size=128, style_dim=24, n_mlp=3, channel_multiplier=0.125, channel_max=48)
CRITIC = DiscriminatorConfig(size=128, channel_multiplier=0.125, channel_max=48)
STUDENT = StudentConfig(size=32, style_dim=20, channels=(16, 12, 10))


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(1)
    return Generator(GENERATOR)


@pytest.fixture(scope="module")
def critic() -> Discriminator:
    torch.manual_seed(2)
    return Discriminator(CRITIC)


@pytest.fixture(scope="module")
def student() -> Student:
    torch.manual_seed(3)
    return Student(STUDENT)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize("name", [n for n in SHAPES if n.startswith("stylegan2/")])
def test_our_names_and_shapes_are_the_published_ones(name):
    multiplier, size = float(name.split("/")[1].split("x")[1]), int(name.split("/")[1].split("x")[0])
    with torch.device("meta"):
        if name.endswith("generator"):
            ours = Generator(GeneratorConfig(size, channel_multiplier=multiplier))
        else:
            ours = Discriminator(DiscriminatorConfig(size, multiplier))
    assert {k: list(v.shape) for k, v in ours.state_dict().items()} == SHAPES[name]


def test_configs_are_inferred(generator, critic, student):
    assert load_stylegan2(generator.state_dict()).config == GENERATOR
    assert load_stylegan2_discriminator(critic.state_dict()).config == CRITIC
    assert load_mobile_stylegan(student.state_dict()).config == STUDENT
    assert load_mobile_stylegan(mobile_weights("64-512")).config == StudentConfig(64, 512, (512, 512, 512, 512))
    wide = GeneratorConfig(64, 8, 1, 4, 1024)
    assert load_stylegan2(Generator(wide).state_dict()).config == wide


def test_trainer_and_converted_files(tmp_path, generator, critic):
    torch.manual_seed(4)
    raw = Generator(GENERATOR)
    trainer = {"g": raw.state_dict(), "d": critic.state_dict(), "g_ema": generator.state_dict()}
    trainer |= {"args": argparse.Namespace(size=128, lr=0.002), "ada_aug_p": 0.1, "g_optim": {"state": {}}}
    torch.save(trainer, tmp_path / "trainer.pt")
    torch.save({"g_ema": generator.state_dict(), "latent_avg": torch.zeros(24)}, tmp_path / "converted.pt")
    torch.save({"g": raw.state_dict()}, tmp_path / "raw.pt", _use_new_zipfile_serialization=False)
    assert same(load_stylegan2(tmp_path / "trainer.pt"), generator)  # the averaged weights, not the raw ones
    assert same(load_stylegan2(str(tmp_path / "converted.pt")), generator)
    assert same(load_stylegan2(tmp_path / "raw.pt"), raw)
    assert same(load_stylegan2_discriminator(tmp_path / "trainer.pt"), critic)


def test_wrapped_bare_and_safetensors_files(tmp_path, generator):
    state = generator.state_dict()
    assert same(load_stylegan2({f"module.{k}": v for k, v in state.items()}), generator)
    safetensors.torch.save_file(state, tmp_path / "g.safetensors")
    assert same(load_stylegan2(tmp_path / "g.safetensors"), generator)
    torch.save(state, tmp_path / "g.pt")
    assert same(load_stylegan2(tmp_path / "g.pt"), generator)
    half = load_stylegan2({k: v.half() for k, v in state.items()})
    assert all(p.dtype == torch.float32 for p in half.parameters())


@pytest.mark.parametrize("legacy", [False, True])
def test_lightning_file_of_a_student(tmp_path, student, legacy):
    state = {f"student.{k}": v for k, v in student.state_dict().items()}
    state |= {"synthesis_net.input.input": torch.zeros(1), "style_mean": torch.zeros(1, 20)}
    state |= {"student.idwt.g0_col": torch.zeros(1, 1, 2, 1), "student.device_info": torch.zeros(1)}
    path = save_lightning(tmp_path / "last.ckpt", state, legacy=legacy)
    published.Callback.created = 0
    assert same(load_mobile_stylegan(path), student)
    assert published.Callback.created == 0


def test_a_file_with_other_objects_is_refused_and_named(tmp_path, generator):
    for path, marker in hostile_files(tmp_path, generator).items():
        with pytest.raises(ValueError, match=r"posix\.system.*refused") as error:
            load_stylegan2(path)
        assert str(path) in str(error.value)
        assert not marker.exists()
    contents = {
        "builtins.eval": {"g_ema": generator.state_dict(), "x": eval},
        "_reconstruct": {"g_ema": generator.state_dict(), "x": np.array([print, {}], dtype=object)},
        "torch_bridge.layers.PixelNorm": {"g_ema": generator.state_dict(), "model": PixelNorm()},
        "torch.hub.load": {"g_ema": generator.state_dict(), "x": torch.hub.load},
    }
    for number, (name, content) in enumerate(contents.items()):
        for legacy in (False, True):
            path = tmp_path / f"{number}{legacy}.pt"
            torch.save(content, path, _use_new_zipfile_serialization=not legacy)
            with pytest.raises(ValueError, match="refused") as error:
                load_stylegan2(path)
            assert name in str(error.value)


def test_a_teacher_under_the_names_of_mobile_stylegan(generator):
    mapping, synthesis = mobile_teacher(generator)
    back, w = load_mobile_teacher(mapping, synthesis), torch.randn(2, 24)
    assert back.config == GENERATOR
    assert torch.equal(back.mapping(w), generator.mapping(w))
    assert torch.equal(back.synthesis(w, "none"), generator.synthesis(w, "none"))
    for tensors in (mapping, synthesis):
        for name in [name for name in tensors if not name.endswith("kernel")]:
            rest = {k: v for k, v in tensors.items() if k != name}
            with pytest.raises(ValueError, match="tensor") as error:
                load_mobile_teacher(*((rest, synthesis) if tensors is mapping else (mapping, rest)))
            assert f" {name}" in str(error.value)


def test_style_inverse_of_a_student_is_loaded(student):
    state = {k: v.clone() for k, v in student.state_dict().items()}
    state["layers.0.conv1.conv.style_inv"].normal_()
    assert same(load_mobile_stylegan(state), load_mobile_stylegan(dict(state)))
    assert not same(load_mobile_stylegan(state), student)
    del state["layers.0.conv1.conv.style_inv"]
    with pytest.raises(ValueError, match=r"layers\.0\.conv1\.conv\.style_inv"):
        load_mobile_stylegan(state)


def test_constants_may_be_missing_and_parameters_may_not(generator, critic, student):
    for load, model in (
        (load_stylegan2, generator),
        (load_stylegan2_discriminator, critic),
        (load_mobile_stylegan, student),
    ):
        state = model.state_dict()
        constants = [k for k in state if k.endswith("kernel") or k.startswith("noises.")]
        loaded = load({k: v for k, v in state.items() if k not in constants})
        assert all(torch.equal(loaded.state_dict()[k], v) for k, v in state.items() if "noises" not in k)
        for name in set(state) - set(constants):
            with pytest.raises(ValueError, match="tensor") as error:
                load({k: v for k, v in state.items() if k != name})
            assert name in str(error.value)


def test_wrong_shapes_and_leftovers_are_named(generator, critic, student):
    for load, model in (
        (load_stylegan2, generator),
        (load_stylegan2_discriminator, critic),
        (load_mobile_stylegan, student),
    ):
        state = model.state_dict()
        for name, tensor in state.items():
            longer = torch.cat([tensor, tensor], tensor.ndim - 1)
            with pytest.raises(ValueError, match="wrong shape") as error:
                load(state | {name: longer})
            assert name in str(error.value)
        with pytest.raises(ValueError, match=r"conv1\.surplus"):
            load(state | {"conv1.surplus": torch.zeros(1)})
        integers = next(iter(state))
        with pytest.raises(ValueError, match="not floating point"):
            load(state | {integers: state[integers].long()})


def test_odd_tensors_and_names_are_named(generator):
    state = generator.state_dict()
    weight = "conv1.conv.weight"
    odd = {
        r"style\.4\.\*": {"style.5000000.weight": torch.zeros(24, 24)},
        r"conv1\.conv\.weight is sparse": {weight: state[weight].to_sparse()},
        r"conv1\.conv\.weight .* no values": {weight: state[weight].to("meta")},
        "Unknown tensor 0:": {0: torch.zeros(2)},
    }
    for words, changes in odd.items():
        with pytest.raises(ValueError, match=words):
            load_stylegan2(state | changes)


def test_wrapped_lightning_files_and_teacher_files_keep_their_parts():
    state = published.lightning_state(*published.networks())
    parts = lightning_parts({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()} | {0: 1}})
    assert parts.keys() == {"student", "mapping", "synthesis", "discriminator"}
    assert all(torch.equal(tensor, state[f"mapping_net.{name}"]) for name, tensor in parts["mapping"].items())
    assert teacher_part({"ckpt": {"module.conv1.x": 1, 0: 2}})[0] == "synthesis"


def test_files_that_are_no_checkpoint(tmp_path, critic):
    (tmp_path / "text.pt").write_text("not a checkpoint")
    (tmp_path / "text.safetensors").write_text("not a checkpoint")
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "epoch.pt")
    torch.save({"weights": critic.state_dict()}, tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:-2000])
    for name in ("text.pt", "text.safetensors", "empty.pt", "list.pt", "cut.pt"):
        with pytest.raises(ValueError, match=name):
            load_stylegan2(tmp_path / name)
    with pytest.raises(ValueError, match="'epoch' is a int"):
        load_stylegan2(tmp_path / "epoch.pt")
    for name in ("folder.pt", "folder.safetensors"):
        (tmp_path / name).mkdir()
        with pytest.raises(IsADirectoryError, match=name):
            load_stylegan2(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_stylegan2(tmp_path / "absent.pt")
    with pytest.raises(ValueError, match="Missing tensors"):
        load_stylegan2(critic.state_dict())


def test_no_published_architecture_is_guessed():
    weights = stylegan2_weights("32x1/generator")
    with pytest.raises(ValueError, match="Missing tensors"):
        load_mobile_stylegan({k: v for k, v in weights.items() if not k.startswith("layers")})
