"""The dynamics stage on a small linear world whose next w is known: a rotation plus a push by the code."""

import dataclasses

import jax
import numpy as np
import pytest

from genie_jax.dynamics import DynamicsConfig
from genie_jax.dynamics_loss import LossConfig
from genie_jax.training import Checkpointer, OptimizerConfig
from train.dynamics import (
    DynamicsStage,
    DynamicsStageConfig,
    Latents,
    clip_length,
    load_dynamics,
    starts_of,
)
from train.errors import UserError
from train.stage import Pace

DIM, CODES, SHOT = 4, 3, 40
CONFIG = DynamicsStageConfig(
    model=DynamicsConfig(width=32, layers=1, heads=2, head_dim=16, window=4, codes=CODES, style_dim=DIM, ff_mult=2),
    loss=LossConfig(unroll=2, unroll_starts=2),
    optimizer=OptimizerConfig(learning_rate=1e-2, warmup=10, ema_decay=0.98),
    pace=Pace(steps=200),
    batch=32,
    clip=10,
)


def world(shots: int = 12) -> Latents:
    """Shots of `SHOT` frames; a w that is no continuation follows each cut."""
    rng = np.random.default_rng(0)
    turn, push = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0], rng.normal(size=(CODES, DIM))
    w, codes = np.zeros((shots * SHOT, 1, DIM), np.float32), rng.integers(0, CODES, shots * SHOT)
    for start in range(0, len(w), SHOT):
        x = rng.normal(size=DIM)
        for t in range(start, start + SHOT):
            w[t, 0] = x
            x = 0.9 * x @ turn + push[codes[t]]
    codes[SHOT - 1 :: SHOT] = -1
    bounds = np.arange(0, len(w), SHOT)
    pairs = np.stack([bounds, bounds + SHOT], axis=1)
    return Latents(w, codes, pairs[:-2], pairs[-2:], w.mean(axis=0), w.std(axis=0))


@pytest.fixture(scope="module")
def trained() -> tuple[DynamicsStage, list[dict], list[str]]:
    stage = DynamicsStage(CONFIG, world(), seed=0)
    fresh = stage.health()
    metrics = [stage.advance(step, step / 200, 1.0) for step in range(0, 200, CONFIG.steps_per_call)]
    return stage, [{name: float(value) for name, value in row.items()} for row in metrics], fresh


def test_a_world_with_actions_is_learned(trained):
    stage, metrics, _ = trained
    assert metrics[-1]["loss"] < 0.5 * metrics[0]["loss"]
    assert metrics[-1]["unroll_mse"] < metrics[-1]["copy_mse"]
    exam = stage.exam()
    assert stage.exam_is_heldout
    assert (exam.error_S < 0.5 * exam.copy_S).all()
    assert (exam.distance_KK + np.eye(CODES) > 0.05).all()


def test_alarms_of_an_untrained_model_are_silenced_by_training(trained):
    stage, _, fresh = trained
    assert any("no better than by copying" in alarm for alarm in fresh)
    assert any("hardly answer to the code" in alarm for alarm in fresh)
    assert stage.health() == []


def test_codes_that_the_dynamics_cannot_tell_apart_are_named(trained):
    stage = trained[0]
    kept = stage.train_state
    code_KM = kept.ema["embed"]["code"]
    embed = kept.ema["embed"] | {"code": code_KM.at[2].set(code_KM[0])}
    stage.load_state({"train": kept._replace(ema=kept.ema | {"embed": embed})})
    (alarm,) = [alarm for alarm in stage.health() if "do the same" in alarm]
    stage.load_state({"train": kept})
    assert "codes 0 and 2" in alarm


def test_self_generated_steps_grow_over_the_curriculum():
    assert [LossConfig(unroll=8, curriculum=0.6).steps_at(at) for at in (0, 0.19, 0.21, 0.39, 0.41, 0.59, 0.6, 1)] == [
        1, 1, 2, 2, 4, 4, 8, 8,
    ]  # fmt: skip
    uneven = LossConfig(unroll=6, curriculum=0.9)
    assert [uneven.steps_at(at / 10) for at in range(10)] == [1, 1, 1, 2, 2, 2, 4, 4, 4, 6]
    for unroll in (0, 1, 5):
        assert LossConfig(unroll=unroll).steps_at(0.0) == unroll
    for unroll in (0, 1):
        assert LossConfig(unroll=unroll, curriculum=0.5).steps_at(0.1) == unroll
    for share in range(1, 100):
        config = LossConfig(unroll=8, curriculum=share / 100)
        assert config.steps_at(np.nextafter(share / 100, 0)) == 4
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match="curriculum"):
            LossConfig(curriculum=share)


def test_each_part_of_the_curriculum_trains_through_its_own_number_of_steps(monkeypatch):
    built = []

    def make(loss_fn, *_, **__):
        calls: list[int] = []
        built.append(calls)

        def train(state, *_):
            calls.append(loss_fn(state.params, (), (None, None), key=None)[0])
            return state, {}

        return train

    monkeypatch.setattr("train.dynamics.make_train_step", make)
    loss = LossConfig(unroll=4, curriculum=0.5)
    stage = DynamicsStage(dataclasses.replace(CONFIG, loss=loss), world(4), seed=0)
    monkeypatch.setattr(stage.model, "loss", lambda *_, config, **__: (config.unroll, {}))
    told = [stage.advance(10 * call, call / 10, 1.0)["unroll"] for call in range(10)]
    assert told == [1, 1, 1, 2, 2, 4, 4, 4, 4, 4]
    assert built == [[1, 1, 1], [2, 2], [4] * 5]  # one program for each number


@pytest.mark.parametrize("head", ["curriculum", "flow"])
def test_an_interrupted_run_ends_in_the_same_bits(tmp_path, head):
    # The curriculum's steps are 1, 1, 2: the resumed run begins with a program that it has not compiled before.
    own = {"unroll": 2, "curriculum": 0.5} if head == "curriculum" else {"unroll": 1}
    head = "flow" if head == "flow" else "regression"
    model = dataclasses.replace(CONFIG.model, head=head, flow_width=16)
    loss = LossConfig(flow_draws=2, **own)
    config = dataclasses.replace(CONFIG, steps_per_call=2, model=model, loss=loss)
    straight = DynamicsStage(config, world(), seed=1)
    for step in range(0, 6, 2):
        straight.advance(step, step / 6, 1.0)
        if step == 2:
            Checkpointer().save(tmp_path / "state", straight.state())
    resumed = DynamicsStage(config, world(), seed=1)
    resumed.load_state(Checkpointer().restore(tmp_path / "state", resumed.state()))
    resumed.advance(4, 4 / 6, 1.0)
    for one, other in zip(jax.tree.leaves(straight.state()), jax.tree.leaves(resumed.state()), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_a_flow_head_is_told_how_much_w_changes():
    latents = world(4)
    stage = DynamicsStage(
        dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, head="flow")), latents, seed=0
    )
    w_FLD = np.asarray(stage._data.w_FLD)[: 2 * SHOT]  # the other two shots are held out
    change = np.diff(w_FLD.reshape(2, SHOT, DIM), axis=1)
    scale = stage.train_state.params["head"]["scale"]
    np.testing.assert_allclose(scale, np.sqrt(np.mean(change**2, axis=(0, 1))), rtol=1e-5)


def test_a_state_is_a_copy(trained):
    stage = trained[0]
    held = stage.state()
    kept = jax.tree.map(np.array, held)
    stage.advance(200, 1.0, 1.0)
    for now, before in zip(jax.tree.leaves(held), jax.tree.leaves(kept), strict=True):
        np.testing.assert_array_equal(now, before)
    stage.load_state(kept)  # host arrays
    stage.advance(200, 1.0, 1.0)
    for now, before in zip(jax.tree.leaves(kept), jax.tree.leaves(held), strict=True):
        np.testing.assert_array_equal(now, before)
    stage.load_state(held)


def test_loading_a_state_copies_it(trained):
    stage = trained[0]
    kept = jax.tree.map(np.array, stage.state())
    stage.load_state(stage.state())
    held = stage.state()
    stage.load_state(held)
    stage.advance(200, 1.0, 1.0)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(held))
    stage.load_state(kept)
    jax.tree.map(np.testing.assert_array_equal, stage.state(), kept)


def test_result_loads_to_the_averaged_weights(trained):
    stage = trained[0]
    tensors = stage.result()["dynamics"]
    model, params, mean, std = load_dynamics(tensors, CONFIG.model)
    jax.tree.map(np.testing.assert_array_equal, params, stage.train_state.ema)
    latents = world()
    np.testing.assert_array_equal(mean, latents.mean_LD)
    np.testing.assert_allclose(std, latents.std_LD, rtol=1e-6)
    assert model.config == CONFIG.model
    lacking = {name: array for name, array in tensors.items() if name != "w_mean"}
    with pytest.raises(ValueError, match="w_mean"):
        load_dynamics(lacking, CONFIG.model)


def test_previews_are_pictures(trained):
    pictures = trained[0].preview()
    assert set(pictures) == {"strips", "error"}
    for picture in pictures.values():
        assert picture.dtype == np.uint8
        assert picture.shape[2] == 3
        assert picture.std() > 5


def test_a_number_that_never_moves_is_not_blown_up():
    latents = world()
    latents.w_FLD[:, :, 1] = np.float32(0.5) + np.float32(1e-6) * latents.w_FLD[:, :, 0]
    latents = latents._replace(mean_LD=latents.w_FLD.mean(axis=0), std_LD=latents.w_FLD.std(axis=0))
    stage = DynamicsStage(CONFIG, latents, seed=0)
    assert np.abs(np.asarray(stage._data.w_FLD)[..., 1]).max() < 1e-3


def test_no_clip_straddles_a_cut_or_lacks_a_code():
    shots = np.array([[0, 6], [6, 8], [10, 16]])
    codes = np.array([0, 1, 0, 1, 0, -1, 1, -1, 0, 0, 2, -1, 2, 2, 2, -1])
    assert starts_of(shots, codes, 3).tolist() == [0, 1, 2, 3, 12, 13]
    assert starts_of(shots, codes, 6).tolist() == [0]
    assert starts_of(shots, codes, 7).tolist() == []


def test_every_batch_holds_neighbours_with_their_codes():
    latents = world(4)
    number = np.arange(len(latents.w_FLD), dtype=np.float32)
    latents = latents._replace(w_FLD=np.broadcast_to(number[:, None, None], latents.w_FLD.shape))
    stage = DynamicsStage(CONFIG, latents, seed=0)
    gather = jax.jit(stage._batch)
    seen = set()
    for step in range(5):
        w, codes = gather(stage._data, step, jax.random.key(step))
        frames = np.round(np.asarray(w) * stage.std_LD + stage.mean_LD)[:, :, 0, 0].astype(int)
        assert (np.diff(frames, axis=1) == 1).all()
        assert (frames[:, 0] // SHOT == frames[:, -1] // SHOT).all()
        assert frames.max() < latents.train_shots[-1, 1]
        np.testing.assert_array_equal(codes, latents.codes_F[frames[:, :-1]])
        seen |= set(frames[:, 0].tolist())
    assert len(seen) > 30


def test_clips_shorten_until_they_cover_half_of_the_footage():
    codes = np.zeros(100, np.int64)
    mixed = np.array([[0, 10], [10, 20], [20, 30], [30, 60]])
    assert clip_length(mixed, codes, 32, 4) == 30
    assert clip_length(np.array([[0, 10], [10, 20], [20, 30], [30, 45]]), codes, 32, 4) == 10
    assert clip_length(np.array([[0, 90]]), codes, 32, 4) == 32
    with pytest.raises(UserError, match="unroll"):
        clip_length(np.array([[0, 3], [3, 6]]), codes, 32, 4)


def test_short_shots_are_told():
    latents = world(4)
    cuts = np.arange(0, 4 * SHOT, 4)
    short = np.stack([cuts, cuts + 4], axis=1)
    stage = DynamicsStage(CONFIG, latents._replace(train_shots=short, heldout_shots=short[:0]), seed=0)
    assert stage.clip == 4
    assert not stage.exam_is_heldout
    assert any("shots are short" in alarm for alarm in stage.health())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"w_FLD": np.zeros((160, 1, 5), np.float32)}, "encode the corpus again"),
        ({"codes_F": np.zeros(3, np.int64)}, "3 for 160 frames"),
        ({"codes_F": np.full(160, CODES)}, "beyond the 3 codes"),
    ],
)
def test_what_does_not_belong_together_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        DynamicsStage(CONFIG, world(4)._replace(**changes), seed=0)
