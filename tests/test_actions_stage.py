"""Stage "actions": resume, previews, results, codes of a corpus, alarms."""

from copy import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from moving import moving_squares, positions

from genie_jax.action_mlp import ActionMLPConfig
from genie_jax.latent_action import LatentActionConfig
from genie_jax.warp import WarpConfig
from train.action_pictures import action_strips, usage_bars
from train.actions import ActionsConfig, ActionsStage, infer_corpus_codes, load_action_model
from train.checkpoint import Meta, load, save
from train.errors import UserError

WARP = LatentActionConfig(codes=4, dim=8, warp=WarpConfig(16, (4, 4, 8), (4, 8, 8)))
MLP = LatentActionConfig("mlp", codes=4, dim=8, mlp=ActionMLPConfig(rows=2, style_dim=1, hidden=16, layers=1))
CONFIG = ActionsConfig(model=WARP, batch=8)


class FakeCorpus:
    """Two training shots and one held-out shot of moving squares."""

    def __init__(self) -> None:
        self.frames = moving_squares(1, 90, seed=0)[0][0]
        self.train_shots, self.heldout_shots = np.array([[0, 30], [31, 60]]), np.array([[60, 90]])
        self.store = SimpleNamespace(shots=np.concatenate([self.train_shots, self.heldout_shots]))

    def clip_indices(self, step: int, size: int, length: int, *, stream: str) -> np.ndarray:
        assert stream == "actions"
        starts = np.concatenate([np.arange(a, b - length + 1) for a, b in self.train_shots])
        return np.random.default_rng(step).choice(starts, size)[:, None] + np.arange(length)

    def read(self, indices: np.ndarray) -> np.ndarray:
        return self.frames[indices]


@pytest.fixture(scope="module")
def corpus() -> FakeCorpus:
    return FakeCorpus()


@pytest.fixture(scope="module")
def stage(corpus: FakeCorpus) -> ActionsStage:
    """A stage after a few steps, shared by tests that change nothing."""
    stage = ActionsStage(CONFIG, corpus, seed=0)
    for step in range(3):
        metrics = stage.advance(step, step / 3, 1.0)
    assert np.isfinite(float(metrics["loss"]))
    return stage


def equal(one: dict, other: dict) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_a_resumed_stage_ends_in_the_same_bits(corpus: FakeCorpus, tmp_path: Path) -> None:
    config = replace(CONFIG, model=MLP, steps_per_call=2)
    w = positions(corpus.frames[None])[0]
    whole, resumed = (ActionsStage(config, corpus, w_FLD=w, seed=1) for _ in range(2))
    for step in (0, 2):
        whole.advance(step, step / 6, 1.0)
    path = save(tmp_path, whole.state(), Meta(4, 0.0, 0, "jax"))
    whole.advance(4, 4 / 6, 1.0)
    resumed.load_state(load(path, resumed.state())[0])
    assert not equal(whole.state(), resumed.state())
    resumed.advance(4, 4 / 6, 1.0)
    assert equal(whole.state(), resumed.state())


def test_pictures_resume_in_the_same_bits_too(stage: ActionsStage, tmp_path: Path) -> None:
    path = save(tmp_path, stage.state(), Meta(3, 0.0, 0, "jax"))
    ends = []
    for _ in range(2):
        stage.load_state(load(path, stage.state())[0])
        stage.advance(3, 0.5, 1.0)
        ends.append(jax.tree.map(np.array, stage.state()))
    assert equal(*ends)
    stage.load_state(load(path, stage.state())[0])
    assert not equal(stage.state(), ends[0])


def test_result_gives_the_model_back_and_every_pair_its_code(stage: ActionsStage, corpus: FakeCorpus) -> None:
    tensors = stage.result()["actions"]
    model, params, book = load_action_model(tensors, WARP)
    codes = infer_corpus_codes(model, params, book, corpus)
    assert codes.dtype == np.int32
    assert codes.shape == (90,)
    absent = np.isin(np.arange(90), [29, 30, 59, 89])  # ends of shots, and a frame that is in no shot
    assert (codes[absent] == -1).all()
    assert ((codes[~absent] >= 0) & (codes[~absent] < 4)).all()
    state = stage.action_state
    direct = model.infer(state.params, state.quantizer, stage._clip(np.arange(31, 59)[:, None] + np.arange(2)))
    assert np.array_equal(codes[31:59], direct[:, 0])
    with pytest.raises(ValueError, match="action model"):
        load_action_model({name: tensor for name, tensor in tensors.items() if "embed_KD" not in name}, WARP)


def test_previews_show_usage_and_what_each_code_does(stage: ActionsStage) -> None:
    pictures = stage.preview()
    assert set(pictures) == {"usage", "codes"}
    assert all(p.dtype == np.uint8 and p.ndim == 3 and p.shape[2] == 3 for p in pictures.values())
    assert pictures["codes"].shape[1] > 6 * 2 * 16  # frame t, four codes, frame t+1, enlarged


@pytest.mark.parametrize("codes", [2, 8, 64])
def test_pictures_have_room_for_every_code(codes: int) -> None:
    counts = np.zeros(codes, np.int64)
    counts[-1] = 5
    bars = usage_bars(counts)
    _, columns = np.nonzero((bars[:-20] == (31, 119, 180)).all(-1))
    assert columns.min() >= bars.shape[1] * (codes - 1) / codes
    assert np.ptp(columns) >= 10
    strips = action_strips(np.zeros((1, 2, 8, 8, 3)), np.zeros((1, codes, 8, 8, 3)), np.array([codes - 1]))
    _, columns = np.nonzero((strips == (255, 200, 0)).all(-1))
    assert columns.min() > strips.shape[1] * codes / (codes + 2) - 8


def test_health_names_collapse_and_useless_predictions(stage: ActionsStage) -> None:
    stage = copy(stage)  # compiled functions are shared, the state is not
    book = stage.action_state.quantizer
    far = jnp.full_like(book.embed_KD, 1e3).at[0].set(0)
    stage.action_state = stage.action_state._replace(quantizer=book._replace(embed_KD=far))
    alarms = " ".join(stage.health())
    assert "collapsed" in alarms
    assert "nearer to the current frame" in alarms


def test_latents_that_do_not_fit_are_refused(corpus: FakeCorpus) -> None:
    config = replace(CONFIG, model=MLP)
    with pytest.raises(UserError, match="encode the corpus"):
        ActionsStage(config, corpus, seed=0)
    with pytest.raises(UserError, match=r"rows and style_dim"):
        ActionsStage(config, corpus, w_FLD=np.zeros((90, 1, 5), np.float32), seed=0)
    with pytest.raises(UserError, match="at least 2"):
        ActionsStage(replace(CONFIG, clip=1), corpus, seed=0)
