"""The whole evaluation on worlds whose scores are known."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import torch
from evaluate_fakes import ShiftWorld, make_store
from PIL import Image

from train.errors import UserError
from train.evaluate import TrueActions, evaluate
from train.evaluate.bootstrap import jackknife_estimate
from train.evaluate.classifiers import _mlp, fit_and_predict, report_code_recovery
from train.evaluate.comparison import Subject, compare, format_comparison
from train.evaluate.drift import colour_distance, colour_estimate, frechet
from train.evaluate.image import PSNR_CAP_DB
from train.evaluate.meanings import MEANINGS
from train.evaluate.play import KEYS as PLAY_KEYS
from train.evaluate.play import WARM_UP, time_play
from train.evaluate.profile import PROFILES
from train.evaluate.results import Results, look_up
from train.evaluate.rollout import horizon, horizon_estimate
from train.evaluate.table import format_table

SMALL = replace(PROFILES["quick"], clips=12, drift_clips=4, drift_steps=(16,), play_steps=5)
NO_CUTS = np.zeros(0, np.int64)

DOCUMENTED = Path(__file__).parents[1] / "docs" / "metrics.md"


def quiet(line: str) -> None:
    del line


@pytest.fixture(scope="module")
def data():
    return make_store((110, 90, 80, 70, 60, 50))


@pytest.fixture(scope="module")
def trees(data, tmp_path_factory) -> dict[str, dict]:
    store, actions = data
    out = tmp_path_factory.mktemp("evaluations")
    truth = TrueActions(actions, NO_CUTS)
    return {
        kind: evaluate(
            ShiftWorld(kind), store, out=out / kind, actions=truth, profile=SMALL, seed=3, log=quiet, subject="a film"
        )
        | {"folder": str(out / kind)}
        for kind in ("perfect", "copy", "deaf")
    }


def test_a_perfect_world_has_no_error_and_the_longest_horizon(trees) -> None:
    tree = trees["perfect"]
    assert tree["reconstruction"]["psnr"] == PSNR_CAP_DB
    assert tree["reconstruction"]["sharpness"] == pytest.approx(1)
    assert tree["reconstruction"]["fixed_point"] == pytest.approx(0, abs=1e-6)
    assert set(tree["rollout"]["psnr"].values()) == {PSNR_CAP_DB}
    assert tree["rollout"]["horizon"] == tree["data"]["steps"]
    assert tree["control"]["delta_psnr"]["4"] > 20
    assert look_up(tree, "details.control.delta_psnr.interval.4")[0] > 0


def test_a_world_that_holds_the_last_frame_scores_as_that_baseline(trees) -> None:
    tree = trees["copy"]
    assert tree["rollout"]["horizon"] == 0
    assert tree["rollout"]["psnr"] == tree["rollout"]["copy_last_psnr"]


@pytest.mark.parametrize("kind", ["copy", "deaf"])
def test_a_world_that_ignores_codes_has_no_control(trees, kind: str) -> None:
    for key, steps in trees[kind]["control"].items():
        assert steps["4"] == 0, key
        assert set(steps.values()) <= {0, None}, key
    actions = trees[kind]["actions"]
    assert actions["consistency"] == pytest.approx(actions["chance"]["consistency"], abs=1e-5)


def test_codes_that_are_the_actions_agree_fully(trees) -> None:
    actions = trees["perfect"]["actions"]
    assert actions["mode_accuracy"] == 1
    assert actions["probe_accuracy"] == 1
    assert actions["nmi"] == pytest.approx(1)
    assert actions["usage"] == 4
    assert actions["perplexity"] == pytest.approx(4, abs=0.1)
    assert actions["chance"]["mode_accuracy"] < 0.4
    assert actions["chance"]["nmi"] < 0.05


@pytest.mark.parametrize("shift", [1, -1])
def test_actions_shifted_by_one_frame_fall_to_chance(data, tmp_path: Path, shift: int) -> None:
    store, actions = data
    truth = TrueActions(np.roll(actions, shift), NO_CUTS)
    tree = evaluate(ShiftWorld(), store, out=tmp_path, actions=truth, profile=SMALL, clips=2, log=quiet)
    chance = tree["actions"]["chance"]
    assert tree["actions"]["mode_accuracy"] < chance["mode_accuracy"] + 0.1
    assert tree["actions"]["nmi"] < 0.1


def test_every_documented_key_is_there_and_every_null_has_a_reason(trees) -> None:
    tree = trees["perfect"]
    keys = re.findall(r"^\| `([a-z0-9_.]+)` \|", DOCUMENTED.read_text(), re.MULTILINE)
    assert len(keys) > 40
    for key in keys:
        *parents, last = key.split(".")
        node = tree
        for name in parents:
            node = node[name]
        assert last in node, key
        if node[last] is None:
            assert look_up(tree, f"details.{key}.reason"), key
    assert tree["drift"]["colour"]["1000"] is None
    assert "--full" in tree["details"]["drift"]["colour"]["reason"]


def test_every_number_says_where_it_comes_from(trees) -> None:
    details = trees["perfect"]["details"]
    for part in ("rollout", "control"):
        for key, said in details[part].items():
            if "reason" not in said:
                assert {"n", "seed", "prompt", "mode"} <= set(said), (part, key)
    assert details["rollout"]["psnr"]["mode"] == "autoregressive"
    assert details["control"]["delta_psnr_prompt1"]["prompt"] == 1
    assert details["rollout"]["psnr"]["n"] == trees["perfect"]["data"]["clips"]


def test_files_hold_what_was_returned_and_pictures_open(trees) -> None:
    folder = Path(trees["deaf"]["folder"])
    tree = json.loads((folder / "metrics.json").read_text())
    assert tree["rollout"]["psnr"]["8"] == trees["deaf"]["rollout"]["psnr"]["8"]
    assert isinstance(tree["rollout"]["psnr"]["8"], float)
    text = (folder / "metrics.txt").read_text()
    assert "a film" in text
    assert "not shown" in text
    for name in ("reconstruction", "rollouts", "psnr_by_step"):
        with Image.open(folder / f"{name}.png") as picture:
            assert min(picture.size) > 100


def test_the_same_seed_gives_the_same_numbers(data, trees, tmp_path: Path) -> None:
    store, actions = data
    truth = TrueActions(actions, NO_CUTS)
    again = evaluate(ShiftWorld("deaf"), store, out=tmp_path, actions=truth, profile=SMALL, seed=3, log=quiet)
    for part in ("reconstruction", "rollout", "control", "actions", "drift", "latents"):
        assert again[part] == trees["deaf"][part], part


def test_a_decoder_that_is_10_levels_too_bright_is_measured_so(data, tmp_path: Path) -> None:
    store, _ = data
    store = replace(store, frames=np.minimum(store.frames, 200).astype(np.uint8))
    tree = evaluate(ShiftWorld(decode_offset=10), store, out=tmp_path, profile=SMALL, clips=3, log=quiet)
    assert tree["reconstruction"]["psnr"] == pytest.approx(20 * np.log10(255 / 10), abs=1e-3)
    assert tree["reconstruction"]["ssim"] > 0.9
    assert tree["actions"]["nmi"] is None
    assert "--actions" in look_up(tree, "details.actions.nmi.reason")


def test_the_floor_is_the_mean_frame_that_was_given(data, tmp_path: Path) -> None:
    store, _ = data
    grey = np.full(store.frames.shape[1:], 128, np.uint8)
    tree = evaluate(ShiftWorld(), store, out=tmp_path, mean_frame=grey, profile=SMALL, clips=2, log=quiet)
    assert tree["data"]["mean_frame_source"] == "training data"
    own = evaluate(ShiftWorld(), store, out=tmp_path, profile=SMALL, clips=2, log=quiet)
    assert own["data"]["mean_frame_source"].startswith("the evaluated frames")
    assert own["reconstruction"]["mean_frame_psnr"] > tree["reconstruction"]["mean_frame_psnr"]


def test_a_world_that_gives_the_wrong_number_of_frames_is_refused(data, tmp_path: Path) -> None:
    store, _ = data
    world = ShiftWorld()
    world.rollout_batch = lambda frames, prompt, codes, steps=None: frames  # noqa: ARG005
    with pytest.raises(ValueError, match="rollout_batch must give uint8 frames"):
        evaluate(world, store, out=tmp_path, profile=SMALL, clips=2, log=quiet)


def test_no_clips_are_refused(data, tmp_path: Path) -> None:
    store, _ = data
    with pytest.raises(UserError, match="--clips"):
        evaluate(ShiftWorld(), store, out=tmp_path, profile=SMALL, clips=0, log=quiet)


def test_the_full_profile_trains_a_classifier_and_compares_w(data, tmp_path: Path) -> None:
    store, actions = data
    profile = replace(SMALL, classifiers=True, frechet=True, drift_clips=8, action_frames=150)
    truth = TrueActions(actions, NO_CUTS)
    tree = evaluate(ShiftWorld(), store, out=tmp_path, actions=truth, profile=profile, log=quiet)
    assert 0 <= tree["actions"]["supervised_accuracy"] <= 1
    assert tree["actions"]["chance"]["supervised_accuracy"] < 0.45
    assert 0.2 < tree["drift"]["frechet_w"]["16"] < 5


def test_frechet_distance_of_known_gaussians() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4000, 3))
    assert frechet(a, a + np.array([2.0, 0, 0])) == pytest.approx(4)
    assert frechet(a, 3 * a) == pytest.approx(4 * np.var(a, 0, ddof=1).sum() + 4 * np.square(a.mean(0)).sum())
    b = rng.normal(size=(4000, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0], [0, 0, 2.0]])
    root = np.real(scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)))
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-6)


def test_runaway_colours_are_seen() -> None:
    rng = np.random.default_rng(0)
    real = rng.integers(50, 150, (20, 8, 8, 3)).astype(np.uint8)
    assert colour_distance(real, real) == 0
    assert colour_distance(real + np.uint8(30), real) == pytest.approx(30)


def test_a_pair_classifier_learns_what_can_be_learned() -> None:
    """The sign of one input: a net that trains at all is right, one fed with shuffled labels is not."""
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.normal(size=(1200, 6)).astype(np.float32))
    labels = (inputs[:, 0] > 0).long().numpy()
    training = np.arange(1200) < 900
    right = fit_and_predict(_mlp(6, 2), inputs, labels, training, 8, seed=0) == labels[~training]
    blind = fit_and_predict(_mlp(6, 2), inputs, rng.permutation(labels), training, 8, seed=0) == labels[~training]
    assert right.mean() > 0.9
    assert blind.mean() < 0.7


def test_the_play_clock_counts_every_step_after_the_warm_up() -> None:
    world = ShiftWorld()
    seen = []
    world.step = lambda code: seen.append(code) or np.zeros((32, 32, 3), np.uint8)
    timed = time_play(world, np.zeros((16, 32, 32, 3), np.uint8), 4, steps=7, seed=0)
    assert len(seen) == WARM_UP + 7
    assert set(timed) == set(PLAY_KEYS)
    assert timed["p50_ms"] <= timed["p95_ms"]
    assert timed["peak_memory_mb"] > 10


@pytest.mark.parametrize(("sharpness", "word"), [(0.1, "blurred"), (1.0, "keeps detail"), (8.9, "noise, not detail")])
def test_the_table_takes_neither_blur_nor_noise_for_detail(trees, sharpness: float, word: str) -> None:
    tree = trees["perfect"] | {"reconstruction": trees["perfect"]["reconstruction"] | {"sharpness": sharpness}}
    line = next(line for line in format_table(tree).splitlines() if line.startswith("  sharpness  "))
    assert word in line


def test_code_recovery_learns_nothing_from_frames_that_clips_share() -> None:
    rng = np.random.default_rng(0)
    # Codes are drawn apart from w: only knowing a frame by heart could tell them.
    w, codes = rng.normal(size=(600, 1, 64)).astype(np.float32), rng.integers(4, size=600)
    starts = np.arange(0, 560, 2)
    steps = starts[:, None] + np.arange(24)
    clips = SimpleNamespace(starts_N=starts, groups_N=starts // 24, prompt=4)
    context = SimpleNamespace(clips=clips, codes_NTm1=codes[steps[:, :-1]], code_count=4, seed=0)
    context.rng = lambda name: np.random.default_rng(len(name))
    results = Results()
    report_code_recovery(context, SimpleNamespace(w_NSLD=w[steps[:, 4:]]), results)
    assert results.get("latents.code_recovery") < 0.4


def test_colour_and_its_interval_are_those_of_the_frames() -> None:
    rng = np.random.default_rng(0)
    real, dark = (rng.integers(low, low + 100, (40, 8, 8, 3), np.uint8) for low in (100, 80))
    estimate = colour_estimate(dark, real, np.arange(40), seed=0)
    assert estimate.value == pytest.approx(colour_distance(dark, real))
    assert estimate.low < estimate.value < estimate.high
    assert estimate.n == 40


def test_jackknife_gives_the_standard_error_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(5, 2, 16)

    def mean(rows: np.ndarray) -> float:
        return float(values[rows].mean())

    estimate = jackknife_estimate(mean, np.arange(16))
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.high - estimate.low == pytest.approx(2 * 2.1314 * values.std(ddof=1) / 4, rel=1e-4)  # t of 15
    alone = jackknife_estimate(mean, np.zeros(16, int))
    assert alone.low == alone.high == alone.value


def test_jackknife_is_not_fooled_by_values_that_stand_for_each_other() -> None:
    values = np.repeat(np.random.default_rng(1).normal(5, 2, 8), 8)

    def width(groups: np.ndarray) -> float:
        estimate = jackknife_estimate(lambda rows: float(values[rows].mean()), groups)
        return estimate.high - estimate.low

    assert width(np.repeat(np.arange(8), 8)) > 2 * width(np.arange(64))


def test_horizon_has_an_interval_over_clips() -> None:
    steps = np.arange(1, 9)
    ends = np.array([2, 4, 6, 8] * 4)  # the step from which each clip is worse than the held frame
    psnr_NS = np.where(steps < ends[:, None], 1.0, -1.0) * 1.0
    estimate = horizon_estimate(psnr_NS, np.zeros_like(psnr_NS), groups=np.arange(16), seed=0)
    assert estimate.value == horizon(psnr_NS.mean(0), np.zeros(8))
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.low < estimate.high


PARTIAL = (("control",), ("drift", "play"))


@pytest.fixture(scope="module")
def partial(data, tmp_path_factory) -> dict[tuple[str, ...], Path]:
    """Evaluations of some groups alone, in folders where an earlier one left its pictures."""
    store, actions = data
    folders = {}
    for only in PARTIAL:
        out = folders[only] = tmp_path_factory.mktemp("-".join(only)) / "evaluation"
        out.mkdir()
        (out / "rollouts.png").write_bytes(b"of an earlier one")
        evaluate(
            ShiftWorld(), store, out=out, actions=TrueActions(actions, NO_CUTS), profile=SMALL, far=20, only=only,
            seed=3, log=quiet, subject="a film",
        )  # fmt: skip
    return folders


@pytest.mark.parametrize("only", PARTIAL)
def test_groups_that_were_left_out_are_null_with_the_reason(trees, partial, only: tuple[str, ...]) -> None:
    tree, whole = json.loads((partial[only] / "metrics.json").read_text()), trees["perfect"]
    for key in MEANINGS:
        group = {"latents": "actions", "fvd": "drift"}.get(key.partition(".")[0], key.partition(".")[0])
        if group in (*only, "reconstruction", "budget"):
            # Play is timed, and drift reaches another step.
            assert group in ("play", "drift") or look_up(tree, key) == look_up(whole, key), key
            assert look_up(tree, key) is not None or "left out" not in look_up(tree, f"details.{key}.reason")
        else:
            assert look_up(tree, key) is None, key
            assert look_up(tree, f"details.{key}.reason") == f"left out: --only {','.join(only)}"


@pytest.mark.parametrize("only", PARTIAL)
def test_table_page_and_comparison_cope_with_groups_left_out(trees, partial, only: tuple[str, ...]) -> None:
    folder = partial[only]
    tree = json.loads((folder / "metrics.json").read_text())
    assert (folder / "metrics.txt").read_text() == format_table(tree)
    page = (folder / "report.html").read_text()
    assert f"left out: --only {','.join(only)}" in page
    for text in (page, format_table(tree)):
        assert "None" not in text
        assert "rollouts.png" not in text
    assert not (folder / "rollouts.png").exists()
    assert (folder / "reconstruction.png").exists()
    subjects = [Subject("part", tree), Subject("whole", trees["perfect"])]
    rows = {row.key: row for row in compare(subjects)}
    part, whole = rows["rollout.psnr.1"].cells
    assert part.value is None
    assert whole.value == PSNR_CAP_DB
    assert not whole.best  # of one
    assert format_comparison(subjects, list(rows.values()))
    assert not {"rollout.psnr", "control.delta_psnr", "drift.colour"} & set(rows)


def test_far_measures_drift_up_to_that_step(partial) -> None:
    tree = json.loads((partial["drift", "play"] / "metrics.json").read_text())
    for key in ("colour", "colour_held", "frechet_w"):
        steps = {step: value for step, value in tree["drift"][key].items() if value is not None}
        assert list(steps) == ["16", "20"], key
    assert PROFILES["quick"].up_to(1000).drift_steps == PROFILES["full"].drift_steps
    assert PROFILES["full"].up_to(64).drift_steps == (16, 64)
    assert PROFILES["full"].up_to(5).drift_steps == (5,)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"only": ["control", "speed"]}, "called speed.*choose of rollout,"), ({"far": 0}, "0 is no step")],
)
def test_unknown_groups_and_steps_are_refused(data, tmp_path: Path, options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        evaluate(ShiftWorld(), data[0], out=tmp_path / "x", profile=SMALL, log=quiet, **options)
    assert not (tmp_path / "x").exists()
