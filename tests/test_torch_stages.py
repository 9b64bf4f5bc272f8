"""The torch stages on tiny shapes: resume is bit-identical, losses go down, results load, schedules hold."""

import copy
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train.latents
from torch_bridge.augment import GROUPS, AugmentConfig
from torch_bridge.discriminator import Discriminator, DiscriminatorConfig
from torch_bridge.distill import detail_loss, pyramid_losses
from torch_bridge.encoder import Encoder, EncoderConfig
from torch_bridge.mobile_stylegan import Student, StudentConfig
from torch_bridge.stylegan2 import Generator, GeneratorConfig
from torch_bridge.wavelet import haar_dwt
from train.drift import DriftStage, DriftStageConfig, perturb
from train.encoder import EncoderStage, EncoderStageConfig, moment_loss
from train.latents import encode_corpus
from train.optim import Adam, AdamConfig, rate_at
from train.stage import Pace
from train.student import StudentStage, StudentStageConfig
from train.teacher import TeacherStage, TeacherStageConfig
from train.torch_stage import Placement, load_arrays, seeded, step_rng
from train.trees import read_tree, write_tree

SIZE, DIM = 32, 16
CPU = torch.device("cpu")
PACE = Pace(steps=100, preview_every=3)
GENERATOR = GeneratorConfig(SIZE, DIM, 2, 1, 16)
CRITIC = DiscriminatorConfig(SIZE, 1, 16)
STUDENT = StudentConfig(SIZE, DIM, (16, 16, 16))
ENCODER = EncoderConfig("b0", SIZE, DIM, grid=2, width=8, taps=(1, 2))
AUGMENT = AugmentConfig(groups=GROUPS, p=0.5, every=1, ramp_images=40)


class Squares:
    """A corpus in memory: one bright square on a coloured ground, at a new place in every frame."""

    def __init__(self, frames: int = 40) -> None:
        rng = np.random.default_rng(0)
        self.frames = np.full((frames, SIZE, SIZE, 3), (30, 60, 90), np.uint8)
        for frame in self.frames:
            x, y = rng.integers(0, SIZE - 12, 2)
            frame[y : y + 12, x : x + 12] = rng.integers(120, 255, 3)
        self.train_indices = np.arange(frames - 8)
        self.heldout_indices = np.arange(frames - 8, frames)
        self.mean_frame = self.frames[:-8].mean(0)

    def _draw(self, step: int, size: int, stream: str) -> np.ndarray:
        return np.random.default_rng([step, zlib.crc32(stream.encode())]).integers(0, len(self.train_indices) - 1, size)

    def batch(self, step: int, size: int, *, stream: str) -> np.ndarray:
        return self.read(self._draw(step, size, stream))

    def clip_indices(self, step: int, size: int, length: int, *, stream: str) -> np.ndarray:
        return self._draw(step, size, stream)[:, None] + np.arange(length)

    def read(self, indices: np.ndarray) -> np.ndarray:
        return self.frames[indices]


def _generator() -> Generator:
    return seeded(1, "g", lambda: Generator(GENERATOR))


def _critic() -> Discriminator:
    return seeded(1, "d", lambda: Discriminator(CRITIC))


def _student() -> Student:
    return seeded(1, "s", lambda: Student(STUDENT))


def _teacher_stage(**changes: Any) -> TeacherStage:
    config = {"generator": GENERATOR, "discriminator": CRITIC, "pace": PACE, "batch": 4, "augment": AUGMENT}
    config |= {"r1_every": 2, "path_length_every": 2}
    return TeacherStage(TeacherStageConfig(**config | changes), Squares(), seed=3, device=CPU)


def _student_stage(**changes: Any) -> StudentStage:
    config = {"model": STUDENT, "pace": PACE, "batch": 4, "perceptual_kind": "discriminator", "r1_every": 2}
    config |= {"noise": "shared", "mixing": 0.5, "adversarial_every": 2}
    return StudentStage(StudentStageConfig(**config | changes), _generator(), _critic(), seed=3, device=CPU)


def _encoder_stage(**changes: Any) -> EncoderStage:
    config = {"model": ENCODER, "pace": PACE, "batch": 4, "perceptual_kind": "discriminator", "pyramid": 0.1}
    config |= {"r1_every": 2, "augment": AUGMENT, "adversarial_from": 0.0}
    mean, std = np.zeros(DIM, np.float32), np.ones(DIM, np.float32)
    stage_config = EncoderStageConfig(**config | changes)
    return EncoderStage(stage_config, Squares(), _student(), _critic(), mean, std, seed=3, device=CPU)


def _drift_stage(**changes: Any) -> DriftStage:
    encoder = seeded(1, "e", lambda: Encoder(ENCODER))
    return DriftStage(
        DriftStageConfig(**{"pace": PACE, "batch": 4} | changes), Squares(), encoder, _student(), seed=3, device=CPU
    )


STAGES = [_teacher_stage, _student_stage, _encoder_stage, _drift_stage]


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else None
    if items is None:
        return {path: tree}
    return {name: leaf for key, value in items for name, leaf in _flat(value, f"{path}/{key}").items()}


def _assert_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    flat_a, flat_b = _flat(a), _flat(b)
    assert flat_a.keys() == flat_b.keys()
    different = [name for name in flat_a if not np.array_equal(np.asarray(flat_a[name]), np.asarray(flat_b[name]))]
    assert different == []


@pytest.mark.parametrize("build", STAGES)
def test_a_resumed_stage_ends_in_the_same_bits(build: Callable[[], Any], tmp_path: Path) -> None:
    whole, first, second = build(), build(), build()
    for step in range(5):
        whole.advance(step, step / 5, 1.0)
    for step in range(3):
        first.advance(step, step / 5, 1.0)
    second.advance(0, 0.9, 0.5)  # what was there before the state is loaded must not matter
    torch.manual_seed(99)
    write_tree(tmp_path, first.state())  # through the file: a copy in memory would keep the memory format
    second.load_state(read_tree(tmp_path))
    for step in range(3, 5):
        metrics = second.advance(step, step / 5, 1.0)
    assert np.isfinite(float(metrics["loss"]))
    _assert_same(whole.state(), second.state())


@pytest.mark.parametrize("formats", [("last", "plain"), ("plain", "last"), ("last", "last")])
def test_the_optimiser_pairs_numbers_whatever_their_layout(formats: tuple[str, str]) -> None:
    layouts = {"last": torch.channels_last, "plain": torch.contiguous_format}
    of_weight, of_gradient = (layouts[name] for name in formats)
    rng = torch.Generator().manual_seed(0)
    start, slope = torch.randn((2, 4, 3, 3, 3), generator=rng)
    weight, plain = torch.nn.Parameter(start.contiguous(memory_format=of_weight)), torch.nn.Parameter(start.clone())
    ours, reference = Adam([weight], AdamConfig(decay="constant")), torch.optim.Adam([plain], 2e-3, (0.0, 0.99))
    for _ in range(2):
        ours.step((weight * slope.contiguous(memory_format=of_gradient)).sum(), 0.0, 1.0)
        plain.grad = slope.clone()
        reference.step()
        ours.load_state_dict(_plain(ours.state_dict()))
    torch.testing.assert_close(weight.detach(), plain.detach())


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state in the memory format that a file gives back."""
    moments = {key: {name: value.contiguous() for name, value in of.items()} for key, of in state["state"].items()}
    return {**state, "state": moments}


@pytest.mark.parametrize("build", STAGES)
def test_a_step_moves_weights_and_average_and_leaves_the_global_generator(build: Callable[[], Any]) -> None:
    stage = build()
    before, random = copy.deepcopy(_flat(stage.state())), torch.random.get_rng_state()
    stage.advance(0, 0.0, 1.0)
    after = _flat(stage.state())
    assert torch.equal(random, torch.random.get_rng_state())
    moved = {
        name.split("/")[1] for name in before if not np.array_equal(np.asarray(before[name]), np.asarray(after[name]))
    }
    weights = {"generator", "discriminator", "ema", "student", "model", "encoder"} & set(stage.state())
    assert weights <= moved


def test_learning_rate_scale_zero_stands_still() -> None:
    stage = _teacher_stage()
    before = copy.deepcopy(stage.state()["generator"])
    stage.advance(0, 0.0, 0.0)
    _assert_same(before, stage.state()["generator"])


def test_results_load_into_fresh_modules_and_are_the_averages() -> None:
    teacher, encoder = _teacher_stage(), _encoder_stage()
    teacher.advance(0, 0.0, 1.0)
    encoder.advance(0, 0.0, 1.0)
    result = teacher.result()
    assert set(result) == {"generator", "discriminator"}
    loaded = load_arrays(_generator(), result["generator"])
    w = torch.randn(2, DIM, generator=step_rng(0, "w", 0))
    # Weights of the stage lie channels-last, so the sums run in another order.
    assert torch.allclose(loaded.synthesis(w), teacher.ema.module.synthesis(w), atol=1e-5)
    _assert_same(result["generator"], teacher.ema.module.state_dict())
    assert set(encoder.result()) == {"encoder", "student", "discriminator"}
    assert set(_student_stage().result()) == {"student", "discriminator", "w"}


@pytest.mark.parametrize("build", STAGES)
def test_previews_are_pictures_and_health_is_words(build: Callable[[], Any]) -> None:
    stage = build()
    for picture in stage.preview().values():
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.shape[0] % SIZE == 0
        assert picture.std() > 0
    assert all(isinstance(alarm, str) for alarm in stage.health())


def test_encoder_and_student_learn_the_squares_and_say_so_on_heldout_frames() -> None:
    quiet = {"adversarial": 0.0, "perceptual": 0.0, "pyramid": 0.0, "batch": 8}
    stage = _encoder_stage(**quiet, adam=AdamConfig(rate=4e-3, beta1=0.9, clip=1.0))
    losses = [float(stage.advance(0, 0.0, 1.0)["mse"]) for _ in range(40)]  # the same frames every time
    assert losses[-1] < 0.5 * losses[0]
    metrics = stage.advance(32, 0.0, 1.0)  # preview_every = 3
    assert {"heldout_psnr", "heldout_mean_frame_psnr", "heldout_sharpness", "heldout_fixed_point"} <= set(metrics)
    assert metrics["frames_are_heldout"] == 1.0


def test_frozen_student_stays_and_drift_brings_w_back() -> None:
    stage = _encoder_stage(tune_student=False)
    before = copy.deepcopy(_student().state_dict())
    stage.advance(0, 0.0, 1.0)
    _assert_same(before, stage.model.student.state_dict())
    drift = _drift_stage(adam=AdamConfig(rate=2e-3, beta1=0.9), ema_half_life=20.0, batch=8)
    frozen = copy.deepcopy(drift.student.state_dict())
    losses = [float(drift.advance(step, 0.0, 1.0)["cosine"]) for step in range(16)]
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])
    _assert_same(frozen, drift.student.state_dict())


def test_student_approaches_its_teacher() -> None:
    stage = _student_stage(adversarial=0.0, perceptual=0.0, noise="none", adam=AdamConfig(4e-3, 0.9, 0.99, clip=1.0))
    losses = [float(stage.advance(0, 0.0, 1.0)["loss"]) for _ in range(30)]  # the same images every time
    assert losses[-1] < 0.7 * losses[0]


def test_adam_moves_against_the_gradient_and_clips() -> None:
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    adam = Adam([weight], AdamConfig(rate=0.1, beta1=0.9, clip=1.0, decay="constant"))
    norm = adam.step(weight.square().sum() * 5, 0.0, 1.0)
    assert norm.item() == pytest.approx(50.0)
    assert torch.allclose(weight.detach(), torch.tensor([2.9, 3.9]), atol=1e-4)
    moment = next(iter(adam.state_dict()["state"].values()))["exp_avg"]
    assert torch.allclose(moment, 0.1 * torch.tensor([0.6, 0.8]), atol=1e-4)


def test_learning_rate_schedules() -> None:
    cosine = AdamConfig(rate=1.0, decay="cosine", final=0.1)
    assert [rate_at(cosine, p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.55, 0.1])
    linear = AdamConfig(rate=2.0, decay="linear", final=0.0, warmup=0.5)
    assert [rate_at(linear, p) for p in (0.25, 0.5, 0.75, 1.0)] == pytest.approx([1.0, 1.0, 0.5, 0.0])
    assert rate_at(linear, 0.0) > 0
    lazy = AdamConfig(rate=0.002, beta1=0.0, beta2=0.99).lazy(4)
    assert (lazy.rate, lazy.beta2) == pytest.approx((0.0016, 0.99**0.8))


def test_random_numbers_depend_on_seed_stage_and_step_alone() -> None:
    draws = {step_rng(*key).initial_seed() for key in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]}
    assert len(draws) == 4
    assert step_rng(5, "teacher", 7).initial_seed() == step_rng(5, "teacher", 7).initial_seed()


def test_pyramid_losses_are_zero_for_the_target_and_follow_their_formula() -> None:
    target = torch.rand((2, 3, 16, 16), generator=step_rng(0, "x", 0)) * 2 - 1
    fine = haar_dwt(target)
    assert detail_loss(fine, target) == 0
    losses = pyramid_losses([fine], target)
    assert losses["l1"].abs() < 1e-6
    bands = torch.zeros_like(fine)
    losses = pyramid_losses([bands], target)
    assert torch.allclose(losses["l1"], target.abs().mean() + fine.abs().mean())
    assert torch.allclose(losses["l2"], target.square().mean() + fine.square().mean())
    assert len(pyramid_losses([torch.zeros(2, 12, 4, 4), bands], target)) == 2


def test_moment_loss_is_zero_at_the_teachers_moments() -> None:
    w = torch.randn((4000, 1, 3), generator=step_rng(0, "w", 0)) * torch.tensor([1.0, 2.0, 0.5]) + 4.0
    mean, std = torch.full((3,), 4.0), torch.tensor([1.0, 2.0, 0.5])
    assert moment_loss(w, mean, std) < 0.01
    assert moment_loss(w * 0, mean, std) > 1


def test_perturb_stays_on_the_line_between_frames_without_noise() -> None:
    w = torch.stack([torch.zeros(5, 1, 2), torch.ones(5, 1, 2)], dim=1)
    out = perturb(w, torch.ones(1, 2), 0.0, step_rng(0, "p", 0))
    assert ((out > 0) & (out < 1)).all()
    assert torch.equal(out[..., 0], out[..., 1])
    assert perturb(w, torch.ones(1, 2), 1.0, step_rng(0, "p", 0)).std() > out.std()


def test_latents_resume_at_a_block_and_equal_the_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.latents, "BLOCK_BATCHES", 1)
    corpus, encoder, place = Squares(), seeded(1, "e", lambda: Encoder(ENCODER)), Placement(CPU)

    def stop_early(done: int, _total: int) -> None:
        if done >= 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_corpus(encoder, corpus, 40, tmp_path, place=place, batch=8, progress=stop_early)
    assert not (tmp_path / "w.npy").exists()
    calls: list[int] = []
    w = encode_corpus(
        encoder, corpus, 40, tmp_path, place=place, batch=8, progress=lambda done, _total: calls.append(done)
    )
    assert calls == [32, 40]
    with torch.no_grad():
        expected = encoder(place.images(corpus.frames)).numpy()
    assert np.allclose(w, expected, atol=1e-5)
    stats = json.loads((tmp_path / "stats.json").read_text())
    assert np.allclose(stats["mean"], expected[:-8].mean(0), atol=1e-5)
    assert np.allclose(stats["std"], expected[:-8].std(0), atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stats.json", "w.npy"]


def test_latents_of_another_encoder_start_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.latents, "BLOCK_BATCHES", 1)
    corpus, place = Squares(), Placement(CPU)

    def stop_early(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_corpus(seeded(1, "e", lambda: Encoder(ENCODER)), corpus, 40, tmp_path, place=place, progress=stop_early)
    calls: list[int] = []
    other = seeded(2, "e", lambda: Encoder(ENCODER))
    encode_corpus(other, corpus, 40, tmp_path, place=place, progress=lambda done, _total: calls.append(done), batch=8)
    assert calls[0] == 8


def test_the_moments_of_w_leave_a_map_out() -> None:
    # No teacher has a map, so nothing says what its mean and deviation should be.
    mapped = EncoderConfig("b0", SIZE, DIM, rows=3, grid=2, width=8, taps=(1, 2), spatial=2)
    student = seeded(1, "s", lambda: Student(StudentConfig(SIZE, DIM, STUDENT.channels, 2)))
    config = EncoderStageConfig(model=mapped, pace=PACE, batch=4, perceptual=0.0, adversarial=0.0)
    mean, std = np.zeros(DIM, np.float32), np.ones(DIM, np.float32)
    stage = EncoderStage(config, Squares(), student, _critic(), mean, std, seed=3, device=CPU)
    real = torch.zeros(4, 3, SIZE, SIZE)
    w_BLD, other_BLD = torch.randn(2, 4, 3, DIM)
    other_BLD[:, :1] = w_BLD[:, :1]
    with torch.no_grad():
        one, other = (stage._reconstruction(w, *student.images(w), real)[1] for w in (w_BLD, other_BLD))
    assert one["moments"] == other["moments"]
    assert one["mse"] != other["mse"]
