"""Weights in the published names reach the trunk bit for bit; what does not fit is named, and nothing is changed."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from torch_bridge.discriminator import Discriminator, DiscriminatorConfig
from torch_bridge.efficientvit_weights import load_efficientvit
from torch_bridge.encoder import Encoder, EncoderConfig
from torch_bridge.mobile_stylegan import Student, StudentConfig
from train.config import Config, override_config
from train.encoder import EncoderStage, EncoderStageConfig
from train.errors import UserError
from train.pack import without_folders
from train.parts import Parts
from train.pipeline import plan
from train.presets import preset
from train.run import Run
from train.source import Source
from train.torch_stage import load_arrays
from train.trunk_weights import load_trunk, trunk_digest

# timm's names -> the published ones, by size of network; first match counts
TO_PUBLISHED = {
    "b": [
        (r"^stem\.in_conv\.", "backbone.input_stem.op_list.0."),
        (r"^stem\.res0\.", "backbone.input_stem.op_list.1."),
        (r"^stem\.res1\.", "backbone.input_stem.op_list.2."),
        (r"^stages\.(\d)\.blocks\.(\d+)\.", r"backbone.stages.\1.op_list.\2."),
    ],
    "l": [
        (r"^stem\.in_conv\.", "backbone.stages.0.op_list.0."),
        (r"^stem\.res0\.", "backbone.stages.0.op_list.1."),
        *((rf"^stages\.{i}\.blocks\.(\d+)\.", rf"backbone.stages.{i + 1}.op_list.\1.") for i in range(4)),
    ],
}
HEAD = [
    (r"^head\.in_conv\.", "head.op_list.0."),
    (r"^head\.classifier\.0\.", "head.op_list.2.linear."),
    (r"^head\.classifier\.1\.", "head.op_list.2.norm."),
    (r"^head\.classifier\.4\.", "head.op_list.3.linear."),
]


def _classifier(size: str) -> nn.Module:
    """timm's whole model with random values everywhere, also in the statistics of its batch norms."""
    torch.manual_seed(0)
    model = timm.create_model(f"efficientvit_{size}", pretrained=False).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith(("running_mean", "norm.weight", "bias")):
                tensor.add_(0.1 * torch.randn_like(tensor))
            elif name.endswith("num_batches_tracked"):
                tensor.fill_(7)
    return model


def _published(model: nn.Module, size: str) -> dict[str, Tensor]:
    def rename(name: str) -> str:
        pattern, new = next(rule for rule in [*TO_PUBLISHED[size[0]], *HEAD] if re.match(rule[0], name))
        return re.sub(pattern, new, name)

    renamed = {rename(name): tensor for name, tensor in model.state_dict().items()}
    assert len(renamed) == len(model.state_dict())
    return renamed


def _encoder(size: str = "b0", taps: tuple[int, ...] = (0, 1, 2, 3)) -> Encoder:
    return Encoder(EncoderConfig(size, 64, 8, grid=2, width=4, taps=taps)).eval()


@torch.no_grad()
def _features(model: nn.Module, images: Tensor) -> list[Tensor]:
    x = model.stem(images)
    return [x := stage(x) for stage in model.stages]


@pytest.fixture(scope="module")
def b0() -> tuple[nn.Module, dict[str, Tensor]]:
    model = _classifier("b0")
    return model, _published(model, "b0")


@pytest.mark.parametrize("size", ["b0", "b1", "l1"])
def test_features_are_those_of_the_published_weights(size: str) -> None:
    model, encoder = _classifier(size), _encoder(size)
    load_efficientvit(_published(model, size), encoder)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found = encoder.trunk(images)
    for mine, theirs in zip(found, _features(model, images), strict=True):
        assert torch.equal(mine, theirs)
    assert all(norm.num_batches_tracked == 7 for norm in encoder.modules() if isinstance(norm, nn.BatchNorm2d))


@pytest.mark.parametrize(("size", "eps"), [("b0", 1e-5), ("b1", 1e-5), ("l1", 1e-7)])
def test_batch_norms_have_the_published_epsilon_wherever_an_encoder_is_built(size: str, eps: float) -> None:
    with torch.device("meta"):
        encoder = _encoder(size)
    assert {module.eps for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)} == {eps}


@pytest.mark.parametrize("form", ["state_dict.pt", "bare.pt", "sorted.safetensors", "parallel.pt"])
def test_forms_of_a_file(form: str, b0: tuple[nn.Module, dict[str, Tensor]], tmp_path: Path) -> None:
    path, tensors = tmp_path / form, b0[1]
    if form.endswith("safetensors"):
        save_file(tensors, path)
    elif form == "parallel.pt":
        torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}}, path)
    else:
        torch.save({"state_dict": tensors, "epoch": 3} if form == "state_dict.pt" else tensors, path)
    encoder = _encoder()
    load_efficientvit(path, encoder.trunk)
    assert torch.equal(encoder.trunk.stages_3.blocks[2].local_module.main.point_conv.conv.weight,
                       b0[0].stages[3].blocks[2].local_module.main.point_conv.conv.weight)  # fmt: skip


def test_a_trunk_cut_short_takes_its_stages(b0: tuple[nn.Module, dict[str, Tensor]]) -> None:
    encoder = _encoder(taps=(0, 2))
    load_efficientvit(b0[1], encoder)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found = encoder.trunk(images)
    assert all(torch.equal(a, b) for a, b in zip(found, _features(b0[0], images)[0:3:2], strict=True))


FIRST, LAST = "backbone.input_stem.op_list.0.conv.weight", "backbone.stages.3.op_list.2.local_module.main.point_conv"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({FIRST: None}, "stem_in_conv.conv.weight is missing"),
        ({f"{LAST}.norm.running_var": None}, r"stages_3.blocks.2.*running_var is missing"),
        ({"backbone.stages.1.op_list.9.x": torch.zeros(1)}, "stages_1.blocks.9.x is left over"),
        ({"neck.weight": torch.zeros(1)}, "neck.weight is left over"),
        ({FIRST: torch.zeros(8, 3, 5, 5)}, r"conv.weight \(8, 3, 5, 5\), not \(8, 3, 3, 3\) is of the wrong shape"),
        ({FIRST: torch.zeros(8, 3, 3, 3, dtype=torch.int32)}, "stem_in_conv.conv.weight is no finite floating-point"),
        ({FIRST: None, "neck.weight": torch.zeros(1)}, "conv.weight is missing; neck.weight is left over"),
        ({FIRST: torch.full((8, 3, 3, 3), torch.nan)}, "stem_in_conv.conv.weight is no finite floating-point"),
        ({"epoch": 3}, "epoch is no tensor"),
        ({"state_dict": "text"}, "state_dict is no tensor"),
        ({0: torch.zeros(1)}, "0 is left over"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_changes(
    changes: dict[str, object], words: str, b0: tuple[nn.Module, dict[str, Tensor]]
) -> None:
    encoder = _encoder()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    tensors = {name: value for name, value in {**b0[1], **changes}.items() if value is not None}
    with pytest.raises(ValueError, match=words):
        load_efficientvit(tensors, encoder)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


@pytest.mark.parametrize("size", ["b1", "l1"])
def test_weights_of_another_size_are_refused(size: str, b0: tuple[nn.Module, dict[str, Tensor]]) -> None:
    with torch.device("meta"):
        encoder = _encoder(size)
    with pytest.raises(ValueError, match=r"not the weights of this EfficientViT trunk: .* and \d+ more are missing"):
        load_efficientvit(b0[1], encoder)


class _Frames:
    """A corpus of noise."""

    train_indices, heldout_indices = np.arange(8), np.arange(8, 12)
    frames = np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3), np.uint8)
    mean_frame = frames.mean(0)

    def batch(self, _step: int, size: int, *, stream: str) -> np.ndarray:  # noqa: ARG002
        return self.frames[:size]

    def read(self, indices: np.ndarray) -> np.ndarray:
        return self.frames[indices]


def _stage(weights: Path | None) -> EncoderStage:
    model = EncoderConfig("b0", 32, 8, grid=2, width=4, taps=(1, 2))
    config = EncoderStageConfig(model, None if weights is None else str(weights), batch=4, perceptual=0.0)
    student, critic = Student(StudentConfig(32, 8, (8, 8, 8))), Discriminator(DiscriminatorConfig(32, 1, 8))
    mean, std = np.zeros(8, np.float32), np.ones(8, np.float32)
    return EncoderStage(config, _Frames(), student, critic, mean, std, seed=0, device=torch.device("cpu"))


def test_stage_starts_from_the_file_and_its_result_is_that_trunk(
    b0: tuple[nn.Module, dict[str, Tensor]], tmp_path: Path
) -> None:
    torch.save({"state_dict": b0[1]}, tmp_path / "b0.pt")
    stage = _stage(tmp_path / "b0.pt")
    result = stage.result()["encoder"]
    loaded = load_arrays(Encoder(stage.config.model), result).eval()
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        found = loaded.trunk(images)
    assert all(torch.equal(a, b) for a, b in zip(found, _features(b0[0], images)[1:3], strict=True))
    plain = _stage(None)
    assert torch.equal(plain.model.encoder.head.weight, stage.model.encoder.head.weight)
    assert not torch.equal(plain.model.encoder.trunk.stem_in_conv.conv.weight, b0[0].stem.in_conv.conv.weight)
    assert stage.advance(0, 0.0, 1.0)["loss"].isfinite()


def test_option_names_a_file_and_faults_are_one_sentence(
    b0: tuple[nn.Module, dict[str, Tensor]], tmp_path: Path
) -> None:
    path = tmp_path / "b0.safetensors"
    config = override_config(Config(), {"encoder.trunk_weights": str(path), "encoder.model.trunk": "b0"}).encoder
    assert config.trunk_weights == str(path)
    with pytest.raises(UserError, match=r"b0.safetensors: cannot be read .*--encoder.trunk_weights"):
        trunk_digest(config.model, config.trunk_weights)
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        trunk_digest(config.model, config.trunk_weights)
    save_file(b0[1], path)
    digest = trunk_digest(config.model, config.trunk_weights)
    moved = path.rename(tmp_path / "moved.safetensors")
    assert trunk_digest(config.model, str(moved)) == digest
    with pytest.raises(UserError, match="the trunk is b1: give its EfficientViT weights"):
        load_trunk(_encoder("b1"), str(moved))
    with pytest.raises(UserError, match="one of the two"):
        override_config(Config(), {"encoder.trunk_weights": str(moved), "pretrained": "true"})


def test_plan_knows_the_file_by_its_content_and_finished_runs_stay_finished(
    b0: tuple[nn.Module, dict[str, Tensor]], tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    run.settings = {"inputs": []}

    def settings(weights: Path | None) -> dict[str, object]:
        changes = {} if weights is None else {"encoder.trunk_weights": str(weights)}
        config = override_config(preset("debug"), changes)
        parts = Parts(run, config, tmp_path, torch.device("cpu"), jax.devices()[0])
        return next(step for step in plan(parts, Source()) if step.name == "encoder").settings

    assert "trunk_weights" not in settings(None)
    save_file(b0[1], first := tmp_path / "a.safetensors")
    save_file(b0[1], second := tmp_path / "b.safetensors")
    assert settings(first) == settings(second) != settings(None)
    save_file({name: tensor + 1 for name, tensor in b0[1].items()}, second)
    assert settings(first) != settings(second)
    second.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        settings(second)


def test_world_names_the_file_without_its_folder() -> None:
    config = override_config(preset("debug"), {"encoder.trunk_weights": "/home/somebody/weights/b0.pt"})
    assert without_folders(config).encoder.trunk_weights == "b0.pt"
    assert without_folders(preset("debug")) == preset("debug")
