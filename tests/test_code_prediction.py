"""Codes predicted from w while the encoder trains: w learns them, the head stays in training, the plan follows."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from media import moving_square, write_video
from test_torch_stages import CPU, CRITIC, ENCODER, SIZE, STUDENT

from app.cli import main
from torch_bridge.discriminator import Discriminator
from torch_bridge.encoder import Encoder
from torch_bridge.mobile_stylegan import Student
from train.code_order import in_order
from train.code_prediction import CodeHead, CodePrediction, PairCodes, heldout_pairs
from train.drift import DriftStage, DriftStageConfig
from train.encoder import EncoderStage, EncoderStageConfig
from train.errors import UserError
from train.optim import AdamConfig
from train.overrides import override
from train.parts import Parts
from train.pipeline import NEEDS, plan
from train.presets import preset
from train.run import Run
from train.source import Source
from train.stage import Pace
from train.torch_stage import Placement, seeded
from train.trees import read_tree, write_tree

DIM, FRAMES, HELD = 16, 200, 140


class Steps:
    """A bright bar that goes a step to the left (code 0) or to the right (code 1) at every frame, by chance."""

    def __init__(self) -> None:
        self.codes_F = np.random.default_rng(5).integers(0, 2, FRAMES).astype(np.int32)
        places = np.concatenate([[0], np.cumsum(np.where(self.codes_F[:-1] == 1, 4, -4))]) % SIZE
        self.frames = np.full((FRAMES, SIZE, SIZE, 3), 40, np.uint8)
        for frame, place in zip(self.frames, places, strict=True):
            frame[:, (place + np.arange(8)) % SIZE] = 230
        self.codes_F[[HELD - 1, -1]] = -1
        self.train_indices, self.heldout_indices = np.arange(HELD), np.arange(HELD, FRAMES)
        self.mean_frame = self.frames[:HELD].mean(0)

    def batch(self, step: int, size: int, *, stream: str) -> np.ndarray:
        assert stream == "encoder"
        return self.frames[np.random.default_rng(step).integers(0, HELD, size)]

    def clip_indices(self, step: int, size: int, length: int, *, stream: str) -> np.ndarray:
        assert stream in ("encoder", "drift")
        return np.random.default_rng(step).integers(0, HELD - length + 1, size)[:, None] + np.arange(length)

    def read(self, indices: np.ndarray) -> np.ndarray:
        return self.frames[indices]


STEPS = Steps()
CODES = PairCodes(STEPS.codes_F, 2)
PACE = Pace(steps=100, preview_every=60)
QUIET = {"perceptual": 0.0, "adversarial": 0.0, "batch": 16, "pace": PACE}


def encoder_stage(pairs: PairCodes | None = CODES, **changes: Any) -> EncoderStage:
    student, critic = seeded(1, "s", lambda: Student(STUDENT)), seeded(1, "d", lambda: Discriminator(CRITIC))
    config = EncoderStageConfig(**{"model": ENCODER, "codes": 1.0} | QUIET | changes)
    mean, std = np.zeros(DIM, np.float32), np.ones(DIM, np.float32)
    return EncoderStage(config, STEPS, student, critic, mean, std, codes=pairs, seed=3, device=CPU)


def drift_stage(pairs: PairCodes | None = CODES, **changes: Any) -> DriftStage:
    encoder, student = seeded(1, "e", lambda: Encoder(ENCODER)), seeded(1, "s", lambda: Student(STUDENT))
    config = DriftStageConfig(**{"pace": PACE, "batch": 8, "codes": 1.0} | changes)
    return DriftStage(config, STEPS, encoder, student, codes=pairs, seed=3, device=CPU)


def test_w_learns_to_name_the_codes_of_pairs_that_no_step_saw() -> None:
    found = {}
    for weight in (1e-12, 1.0):
        stage = encoder_stage(codes=weight, ema_half_life=50.0, adam=AdamConfig(rate=3e-3, beta1=0.9, clip=1.0))
        for step in range(60):
            metrics = stage.advance(step, step / 120, 1.0)
        assert metrics["heldout_code_majority"] < 0.6
        found[weight] = metrics["heldout_code_accuracy"]
    assert found[1.0] > 0.9, found
    assert found[1e-12] < 0.8, found


@pytest.mark.parametrize("build", [encoder_stage, drift_stage])
def test_resumed_with_its_head_a_stage_ends_in_the_same_bits(build: Any, tmp_path: Path) -> None:
    whole, first, second = (build(batch=4) for _ in range(3))
    for step in range(4):
        whole.advance(step, step / 4, 1.0)
    for step in range(2):
        first.advance(step, step / 4, 1.0)
    second.advance(0, 0.9, 0.5)
    write_tree(tmp_path, first.state())
    second.load_state(read_tree(tmp_path))
    for step in range(2, 4):
        second.advance(step, step / 4, 1.0)
    for name in ("head", "ema"):
        one, other = whole.state()["codes"][name], second.state()["codes"][name]
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
        assert one["out.weight"].abs().sum() > 0
    for stem, tensors in whole.result().items():
        assert all(np.array_equal(value, second.result()[stem][key]) for key, value in tensors.items())


@pytest.mark.parametrize("build", [encoder_stage, drift_stage])
def test_without_weight_nothing_is_there_and_with_it_no_result_holds_the_head(build: Any) -> None:
    without, with_head = build(None, codes=0.0), build()
    assert "codes" not in without.state()
    assert "code_loss" not in without.advance(0, 0.0, 1.0)
    assert {"code_loss", "code_accuracy"} <= set(with_head.advance(0, 0.0, 1.0))
    shapes = [
        {stem: {name: array.shape for name, array in tensors.items()} for stem, tensors in stage.result().items()}
        for stage in (without, with_head)
    ]
    assert shapes[0] == shapes[1]
    with pytest.raises(UserError, match="no codes to predict"):
        build(None)


def test_the_head_is_blind_at_first_and_its_scale_follows_w() -> None:
    mean = torch.full((2, 3), 5.0)
    head = seeded(0, "head", lambda: CodeHead(mean, 4))
    w = (mean + torch.randn(64, 2, 2, 3, generator=torch.Generator().manual_seed(0))).requires_grad_()
    assert torch.equal(head(w), torch.zeros(64, 4))
    torch.testing.assert_close(head.square, torch.tensor([1.0, 2.0]), atol=0.5, rtol=0)
    (blind,) = torch.autograd.grad(torch.nn.functional.cross_entropy(head(w), torch.zeros(64).long()), w)
    assert blind.abs().max() == 0
    torch.nn.init.normal_(head.out.weight)
    (seeing,) = torch.autograd.grad(torch.nn.functional.cross_entropy(head(w), torch.zeros(64).long()), w)
    assert (seeing.abs().amax((0, 2, 3)) > 0).all()
    before = head.square.clone()
    head.eval()(w)
    assert torch.equal(head.square, before)
    # Only directions and sizes beside the running ones count: w of another unit gives the same logits.
    other = seeded(0, "head", lambda: CodeHead(10 * mean, 4))
    other.out.load_state_dict(head.out.state_dict())
    other.train()(10 * w)
    torch.testing.assert_close(other.eval()(10 * w), head(w))


def test_targets_are_the_codes_of_the_pairs_and_held_out_ones_are_held_out() -> None:
    task = CodePrediction(CODES, STEPS, torch.zeros(1, DIM), 10.0, Placement(CPU), seed=0, stage="encoder")
    with torch.no_grad():
        task.head.out.bias.copy_(torch.tensor([2.0, 0.0]))  # always code 0
    first = np.array([3, 70, 100])
    loss, metrics = task.loss(torch.randn(3, 2, 1, DIM), first)
    share = (STEPS.codes_F[first] == 0).mean()
    assert metrics["code_accuracy"] == pytest.approx(share)
    assert loss.item() == pytest.approx(np.log1p(np.exp(-2)) + 2 * (1 - share))
    pairs = heldout_pairs(STEPS, STEPS.codes_F)
    assert pairs.min() >= HELD
    assert pairs.max() == FRAMES - 2
    assert HELD - 1 not in heldout_pairs(_without_heldout(), STEPS.codes_F)
    with pytest.raises(UserError, match="no shot has two"):
        heldout_pairs(STEPS, np.full(FRAMES, -1))


def _without_heldout() -> Steps:
    corpus = Steps()
    corpus.heldout_indices, corpus.train_indices = np.zeros(0, np.int64), np.arange(FRAMES)
    return corpus


def test_a_head_that_finds_nothing_is_told() -> None:
    stage = encoder_stage()
    assert any("raise encoder.codes" in alarm for alarm in stage.health())


def planned(tmp_path: Path, **changes: str) -> dict[str, Any]:
    run, source = Run(tmp_path), Source((tmp_path / "clip.mp4",))
    run.settings = source.settings(run)
    config = override(preset("debug"), changes)
    parts = Parts(run, config, tmp_path, CPU, jax.devices("cpu")[0])
    return {step.name: step for step in plan(parts, source)}


def test_the_plan_follows_only_where_codes_have_weight(tmp_path: Path) -> None:
    plain = planned(tmp_path)
    assert list(plain) == list(NEEDS)
    assert {name: step.needs for name, step in plain.items()} == NEEDS
    assert not [name for name in ("encoder", "drift") if "codes" in plain[name].settings]  # as before there were any
    for reading, first in (({"encoder.codes": "0.1"}, "encoder"), ({"drift.codes": "0.1"}, "drift")):
        steps = planned(tmp_path, **reading)
        names = list(steps)
        assert names.index("actions") + 1 == names.index(first)
        assert [name for name in names if name != "actions"] == [name for name in NEEDS if name != "actions"]
        assert [name for name in steps if steps[name].needs != NEEDS[name]] == [first]
        assert steps[first].needs == (*NEEDS[first], "actions")
        assert [name for name in steps if steps[name].settings != plain[name].settings] == [first]
    assert in_order(NEEDS, preset("debug")) == list(NEEDS)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (
            ["--encoder.codes", "0.1", "--actions.model.form", "mlp"],
            "give --actions.model.form warp, or --encoder.codes 0",
        ),
        (["--drift.codes", "0.1", "--actions.model.form", "mlp"], "--drift.codes"),
        (["--encoder.codes", "-1"], "codes -1.0 is no weight"),
        (["--drift.codes", "-1"], "codes -1.0 is no weight"),
        (["--encoder.codes", "1", "--encoder.batch", "5"], "a batch of 5 frames"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: list[str], fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = write_video(tmp_path / "clip.mp4", moving_square(10), fps=30)
    assert main(["train", str(video), "--run", str(tmp_path / "run"), "--preset", "debug", *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert fault in lines[0]
