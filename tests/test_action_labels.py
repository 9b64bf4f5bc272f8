"""A few true actions: which are used, what they do to the codes, what they leave alone, names, the run's memory."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genie_jax.action_labels import Labelled
from genie_jax.action_mlp import ActionMLPConfig
from genie_jax.action_training import init_action_state, make_action_step
from genie_jax.clips import Clip
from genie_jax.latent_action import LatentActionConfig, LatentActionModel
from genie_jax.training import OptimizerConfig, make_optimizer
from torch_bridge.manifest import numbered_codes
from train.action_labels import SETTING, choose_labels, fingerprinted, majority_actions
from train.actions import ActionsConfig, ActionsStage, load_action_model
from train.code_names import names_by_labels, renamed, with_learned_names, write_learned_names
from train.errors import UserError
from train.evaluate.truth import TrueActions
from train.overrides import to_json
from train.run import Run
from train.source import Source

MODEL = LatentActionConfig("mlp", codes=2, dim=4, mlp=ActionMLPConfig(rows=2, style_dim=1, hidden=16, layers=1))


def corpus_of(source_index: np.ndarray | None = None, sources: int = 1) -> SimpleNamespace:
    """Two training shots and a held-out one of 90 frames; w moves by chance."""
    frames = np.arange(90) if source_index is None else source_index
    shots = np.array([[0, 30], [30, 60], [60, 90]])
    store = SimpleNamespace(source_index=frames, sources=[None] * sources, shots=shots)

    def clip_indices(step: int, size: int, length: int, *, stream: str) -> np.ndarray:
        assert stream == "actions"
        starts = np.concatenate([np.arange(0, 31 - length), np.arange(30, 61 - length)])
        return np.random.default_rng(step).choice(starts, size)[:, None] + np.arange(length)

    return SimpleNamespace(
        store=store, seed=0, train_shots=shots[:2], heldout_shots=shots[2:], clip_indices=clip_indices
    )


def truth_of(actions: np.ndarray, cuts: tuple[int, ...] = ()) -> TrueActions:
    return TrueActions(actions, np.array(cuts, np.int64), "a.npz", ("left", "right"))


ACTIONS = np.random.default_rng(3).integers(0, 2, 90)
W_FLD = np.random.default_rng(4).normal(size=(90, 2, 1)).astype(np.float32)
CONFIG = ActionsConfig(model=MODEL, batch=8, label_batch=4)


def test_labels_are_of_training_transitions_that_are_known_and_over_no_cut() -> None:
    actions = ACTIONS.copy()
    actions[10:20] = -1
    labels = choose_labels(corpus_of(), truth_of(actions, (5,)), 1.0)
    known = [t for t in range(60) if t not in (29, 59, 4, *range(10, 20))]
    assert labels.first_N.tolist() == known
    assert np.array_equal(labels.actions_N, actions[known])
    few, more = (choose_labels(corpus_of(), truth_of(actions), share).first_N for share in (0.1, 0.5))
    assert len(few) == round(0.1 * 48)
    assert set(few) < set(more)
    assert not np.array_equal(few, np.sort(known)[: len(few)])


def test_labels_of_held_out_frames_are_never_used() -> None:
    other = ACTIONS.copy()
    other[59:] = np.arange(31) + 5
    ours, theirs = (choose_labels(corpus_of(), truth_of(actions), 1.0) for actions in (ACTIONS, other))
    assert np.array_equal(ours.first_N, theirs.first_N)
    assert np.array_equal(ours.actions_N, theirs.actions_N)
    assert ours.classes == 2
    drawn = np.concatenate([ours.first_N[ours.draw(0, step, 32)] for step in range(50)])
    assert drawn.max() < 59
    assert len(np.unique(drawn)) == len(ours.first_N)
    ends = np.full(90, 0)
    codes = np.append(ends[:59], np.full(31, 1))
    assert set(majority_actions(codes, ours)) == {0}  # code 1, of held-out frames alone, has no name


def test_labels_reach_the_kept_frames_of_a_faster_video() -> None:
    actions = np.full(180, -1)
    actions[[3, 8, 41]] = (1, 0, 1)
    labels = choose_labels(corpus_of(np.arange(90) * 2), truth_of(actions), 1.0)
    assert labels.first_N.tolist() == [1, 4, 20]
    assert labels.actions_N.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("corpus", "actions", "fault"),
    [
        (corpus_of(sources=2), ACTIONS, "several were given"),
        (corpus_of(), ACTIONS[:80], "80 actions"),
        (corpus_of(), np.zeros(90, np.int64), "no two different actions"),
        (corpus_of(), np.full(90, -1), "0 of 0 labelled"),
    ],
)
def test_labels_that_cannot_be_used_are_told(corpus: SimpleNamespace, actions: np.ndarray, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        choose_labels(corpus, truth_of(actions), 1.0)
    for wrong in ({"labels": 0.0}, {"labels": 1.5}, {"label_batch": 0}):
        with pytest.raises(ValueError, match=r"labels|label_batch"):
            ActionsConfig(**wrong)


def distracted(count: int, seed: int) -> tuple[Clip, np.ndarray]:
    """Pairs of w whose first row jumps by chance and whose second row follows the action, a little."""
    rng = np.random.default_rng(seed)
    actions = rng.integers(0, 2, count)
    before = rng.normal(size=(count, 2, 1))
    step = np.stack([rng.choice([-1.0, 1.0], count), 0.1 * (2 * actions - 1)], -1)[..., None]
    return Clip(w_BTLD=jnp.array(np.stack([before, before + step], 1), jnp.float32)), actions.astype(np.int32)


def test_vectors_learn_to_tell_actions_apart_beside_a_distractor() -> None:
    accuracy = {}
    for weight in (0.0, 1.0):
        model = LatentActionModel(replace(MODEL, label_weight=weight))
        optimizer = make_optimizer(OptimizerConfig(weight_decay=0.0))
        state, train = (
            init_action_state(model, optimizer, seed=0, label_classes=2),
            make_action_step(model, optimizer, seed=0),
        )
        for step in range(150):
            batches = jax.tree.map(lambda leaf: leaf[None], (distracted(32, 2 * step)[0], distracted(64, 2 * step + 1)))
            state, metrics = train(state, batches[0], step, 3e-3, Labelled(*batches[1]))
        accuracy[weight] = float(metrics["label_accuracy"])  # on pairs that no step before has seen
    assert accuracy[1.0] > 0.95
    assert accuracy[0.0] < 0.75


def advanced(config: ActionsConfig, labelled: bool, steps: range) -> ActionsStage:
    corpus = corpus_of()
    labels = choose_labels(corpus, truth_of(ACTIONS), 0.5) if labelled else None
    stage = ActionsStage(config, corpus, w_FLD=W_FLD, labels=labels, seed=1)
    for step in steps:
        metrics = stage.advance(step, step / 6, 1.0)
        assert ("label_accuracy" in metrics) == labelled
    return stage


def test_labels_without_weight_change_no_bit_and_with_weight_the_weights() -> None:
    idle = replace(CONFIG, model=replace(MODEL, label_weight=0.0))
    none, without, with_weight = (
        advanced(config, labelled, range(4)).result()["actions"]
        for config, labelled in ((CONFIG, False), (idle, True), (CONFIG, True))
    )
    assert none.keys() == without.keys() == with_weight.keys()
    assert all(np.array_equal(none[name], without[name]) for name in none)
    changed = {name.split("/")[1] for name in none if not np.array_equal(none[name], with_weight[name])}
    assert "encoder" in changed


def test_the_classifier_resumes_in_the_same_bits_and_stays_out_of_the_result() -> None:
    stage = advanced(CONFIG, True, range(2))
    half, ends = jax.tree.map(np.array, stage.state()), []
    for _ in range(2):
        stage.load_state(half)
        for step in (2, 3):
            stage.advance(step, step / 6, 1.0)
        ends.append([np.array(leaf) for leaf in jax.tree.leaves(stage.state())])
    assert all(np.array_equal(one, other) for one, other in zip(*ends, strict=True))
    assert set(stage.action_state.params) == {"encoder", "decoder", "labels"}
    tensors = stage.result()["actions"]
    assert not [name for name in tensors if "labels" in name]
    assert set(load_action_model(tensors, MODEL)[1]) == {"encoder", "decoder"}


def test_codes_are_named_after_the_actions_that_they_go_with() -> None:
    majority = {0: (0, 5), 2: (0, 9), 3: (1, 4), 4: (7, 2)}
    given = names_by_labels(majority, ("left", "right"), 6)
    assert given == {2: "left", 0: "left 2", 3: "right", 4: "true action 7"}


def test_names_are_such_as_a_person_could_give(tmp_path: Path) -> None:
    odd = ("a=b, c", "3", "random", "x" * 40, "action 6", "", "X" * 40, "left", "left 2", "Left")
    majority = {code: (code, 10 - code) for code in range(len(odd))} | {10: (7, 0)}
    given = names_by_labels(majority, odd, 12)
    assert len({name.casefold() for name in given.values()}) == 11
    write_learned_names(tmp_path, given)
    named = with_learned_names(numbered_codes([1] * 12), tmp_path)
    assert named[11].name == "action 12"
    assert [code.name for code in renamed(named, given, {})] == [code.name for code in named]
    assert with_learned_names(named, tmp_path / "none") == named


def write_actions(path: Path, actions: np.ndarray = ACTIONS) -> Path:
    np.savez(path, actions=actions)
    return path


def test_a_run_keeps_its_labels_while_the_video_is_the_same(tmp_path: Path) -> None:
    video, file = tmp_path / "a.mp4", write_actions(tmp_path / "a.npz")
    run = Run(tmp_path / "run")
    run.settings = Source.given([video], None, run, file).settings(run)
    first = run.settings[SETTING]
    for inputs in ([], [video]):
        assert Source.given(inputs, None, run).settings(run)[SETTING] == first
    assert SETTING not in Source.given([], None, run, Path("none")).settings(run)
    assert SETTING not in Source.given([tmp_path / "b.mp4"], None, run).settings(run)
    write_actions(file, 1 - ACTIONS)
    assert Source.given([], None, run).settings(run)[SETTING]["digest"] != first["digest"]
    file.unlink()
    assert Source.given([], None, run).settings(run)[SETTING] == first
    with pytest.raises(UserError, match="no such file"):
        Source.given([], None, run, tmp_path / "other.npz").settings(run)


def test_options_without_effect_leave_finished_runs_finished() -> None:
    def settings(digest: str | None, **changes: float) -> dict:
        model = {name: value for name, value in changes.items() if name in ("mask", "label_weight")}
        stage = {name: value for name, value in changes.items() if name not in model}
        return fingerprinted(to_json(replace(CONFIG, model=replace(MODEL, **model), **stage)), digest)

    plain = settings(None)
    known = {"optimizer", "pace", "batch", "clip", "steps_per_call", "model"}
    assert set(plain) == known
    assert not {"mask", "label_weight"} & set(plain["model"])
    assert settings(None, labels=0.5, label_weight=3.0, label_batch=9) == plain
    variants = [settings(None, mask=0.5), settings("x"), settings("y"), settings("x", labels=0.5)]
    variants += [settings("x", label_weight=2.0), settings("x", label_batch=9)]
    assert all(one != other for i, one in enumerate([plain, *variants]) for other in variants[i:])
