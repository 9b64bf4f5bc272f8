"""The whole path through the command line, from a video to a world: once straight, once killed in every stage."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from media import moving_square, write_video

import train.actions
import train.drift
import train.dynamics
import train.encoder
import train.loop
import train.parts
import train.pipeline
import train.student
import train.teacher
from app.cli import main
from torch_bridge.bundle import PARTS, read_world
from torch_bridge.world import World
from train.code_names import name_codes
from train.ingest.store import FrameStore
from train.presets import preset
from train.run import Run
from train.source import Source

STAGES = {
    "teacher": train.teacher.TeacherStage,
    "student": train.student.StudentStage,
    "encoder": train.encoder.EncoderStage,
    "drift": train.drift.DriftStage,
    "actions": train.actions.ActionsStage,
    "dynamics": train.dynamics.DynamicsStage,
}
STEPS = 4  # half before the kill, half after it: the optimisers' moments have to survive too
BEGIN = ["--preset", "debug", *(f"--{name}.pace.steps={STEPS}" for name in STAGES)]


class Killed(BaseException):
    """Stands for a process that ends without another word; unlike Ctrl-C, nobody saves anything for it."""


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clip; while it is used, all that XLA compiles is kept: every rebuilt stage would compile again."""
    folder = tmp_path_factory.mktemp("pipeline")
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # test processes run side by side, and the tensors are too small for two threads
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    yield write_video(folder / "clip.mp4", moving_square(150), fps=30)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", before)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def straight(video: Path) -> Path:
    """A run that was never interrupted."""
    run = video.parent / "straight"
    assert main(["train", str(video), "--run", str(run), *BEGIN, "--device", "cpu"]) == 0
    return run


def test_every_part_left_what_it_should(straight: Path) -> None:
    record = Run(straight)
    assert {stage.state for stage in record.stages.values()} == {"done"}
    assert [record.stages[name].steps for name in STAGES] == [STEPS] * len(STAGES)
    for name in STAGES:
        assert (straight / name / "metrics.jsonl").is_file()
        assert list((straight / "previews").glob(f"{name}_*.png")), name
    manifest, tensors, prompts = read_world(straight)
    assert manifest.size == 32
    assert len(prompts) == 8
    assert manifest.provenance.config["ingest"]["fps"] == 10.0
    codes = train.parts.read_result(straight / "actions", "codes")["codes"]
    counted = np.bincount(codes[codes >= 0], minlength=8) / (codes >= 0).sum()
    np.testing.assert_allclose([code.usage for code in manifest.codes], counted, atol=1e-6)
    assert set(tensors) == set(PARTS)


def results(run: Path) -> dict[str, dict[str, np.ndarray]]:
    """All that the stages left for one another, by file: the world packs the networks alone that play needs."""
    paths = [path for name in STAGES for path in (run / name).glob("*.safetensors")]
    found = {str(path.relative_to(run)): train.parts.read_result(path.parent, path.stem) for path in paths}
    return found | {"latents": {"w": np.load(run / "latents" / "w.npy")}}


def test_killed_in_every_stage_it_ends_in_the_same_bits(
    straight: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train.loop, "SAVE_COST", 0)  # save after every step, however much of the time that takes
    run = video.parent / "killed"
    words = ["train", str(video), "--run", str(run), "--device", "cpu"]
    made: dict[str, list[int]] = {name: [] for name in STAGES}
    killed: set[str] = set()
    for stage in STAGES.values():

        def once_killed(self: Any, step: int, *rest: float, advance: Any = stage.advance) -> dict[str, Any]:
            if step == STEPS // 2 and self.name not in killed:
                killed.add(self.name)
                raise Killed
            made[self.name].append(step)
            return advance(self, step, *rest)

        monkeypatch.setattr(stage, "advance", once_killed)
    for name in STAGES:
        with pytest.raises(Killed):
            main([*words, *BEGIN])
        assert Run(run).stages[name].state == "running"
    assert main(words) == 0
    assert made == {name: list(range(STEPS)) for name in STAGES}  # gone on from the kill, not from the beginning
    (_, one, prompts), (_, other, _) = read_world(straight), read_world(run)
    assert prompts
    one, other = {**one, **results(straight)}, {**other, **results(run)}
    assert one.keys() == other.keys()
    for part in one:
        assert one[part].keys() == other[part].keys()
        different = [name for name, value in one[part].items() if not np.array_equal(value, other[part][name])]
        assert different == [], part


def test_a_change_reruns_its_stage_and_what_depends_on_it(straight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--run", str(straight), "--device", "cpu"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    words = ["train", "--run", str(straight), f"--dynamics.pace.steps={STEPS + 1}", "--teacher.pace.preview_every", "7"]
    assert main([*words, "--device", "cpu"]) == 0
    begun = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if ": begins" in line]
    assert begun == ["dynamics", "world"]
    assert Run(straight).stages["dynamics"].steps == STEPS + 1


@pytest.mark.parametrize("name", list(train.pipeline.NEEDS))
def test_a_raised_version_of_its_code_changes_what_one_step_is_fingerprinted_by(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, source = Run(tmp_path), Source((tmp_path / "clip.mp4",))
    run.settings = source.settings(run)
    parts = train.parts.Parts(run, preset("debug"), tmp_path, torch.device("cpu"), jax.devices("cpu")[0])
    before = {step.name: step.settings for step in train.pipeline.plan(parts, source)}
    monkeypatch.setitem(train.pipeline.VERSIONS, name, train.pipeline.VERSIONS[name] + 1)
    after = {step.name: step.settings for step in train.pipeline.plan(parts, source)}
    assert [step for step in before if before[step] != after[step]] == [name]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--run", "RUN"], "genie train: no video was given"),
        (["gone.mp4", "--run", "RUN"], "gone.mp4"),
        (["--frames", "gone", "--run", "RUN"], "no folder of frames"),
        (["--run", "RUN", "--preset", "huge"], "--preset huge"),
        (["--run", "RUN", "--dynamics.model.layer", "3"], "did you mean --dynamics.model.layers?"),
        (["--run", "RUN", "--minutes", "0"], "--minutes 0"),
        (["--run", "RUN", "--device", "tpu"], "--device tpu"),
        (["--run", "RUN", "--fps"], "--fps"),
        (["--run", "RUN", "--codes", "65"], "give 2 to 64"),
        (["a.mp4", "--run", "RUN", "--actions", "gone.npz"], "gone.npz: there is no such file"),
        (["a.mp4", "--run", "RUN", "--actions.labels", "0.1"], "give --actions A.npz"),
        (["a.mp4", "--run", "RUN", "--actions.labels", "2"], "--actions.labels 2"),
        (["a.mp4", "--frames", "b", "--run", "RUN"], "one or the other"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *(str(tmp_path / "run") if word == "RUN" else word for word in words)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert fault in lines[0]


def test_labels_name_the_codes_until_a_person_does(
    straight: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = video.parent / "labelled", video.parent / "clip.npz"
    shutil.copytree(straight, run)
    actions = np.random.default_rng(0).integers(0, 2, 150)
    np.savez(file, actions=actions, action_names=np.array(["duck", "jump"]))
    words = ["train", str(video), "--run", str(run), "--device", "cpu"]
    assert main([*words, "--actions", str(file), "--actions.labels", "0.8"]) == 0
    begun = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if ": begins" in line]
    assert begun == ["actions", "dynamics", "world"]
    manifest, tensors, _ = read_world(run)
    named = [code.name for code in manifest.codes if not code.name.startswith("action ")]
    assert named
    assert {name.split()[0] for name in named} <= {"duck", "jump"}
    assert not [name for name in tensors["actions"] if name.startswith("params/labels")]
    number = next(k for k, code in enumerate(manifest.codes) if code.name in named)
    name_codes(run / "world", {number: "mine"}, {})
    assert main([*words, "--world.prompts=3"]) == 0
    again = read_world(run)[0]
    assert [code.name for code in again.codes if code.name not in named and not code.name.startswith("action ")] == [
        "mine"
    ]
    assert again.codes[number].name == "mine"
    np.savez(file, actions=actions[:100])
    assert main([*words, "--actions", str(file)]) == 2
    assert "100 actions" in capsys.readouterr().err


def stages_begun(
    straight: Path, run: Path, video: Path, capsys: pytest.CaptureFixture[str], *options: str
) -> list[str]:
    """The stages that a copy of the finished run trains again when options are given."""
    shutil.copytree(straight, run)
    assert main(["train", str(video), "--run", str(run), "--device", "cpu", *options]) == 0
    return [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if ": begins" in line]


def test_codes_predicted_from_w_rerun_the_encoder_and_not_the_action_model(
    straight: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = video.parent / "predicted"
    begun = stages_begun(straight, run, video, capsys, "--encoder.codes=0.1", "--drift.codes=0.1")
    assert begun == ["encoder", "drift", "latents", "dynamics", "world"]
    for stage in ("encoder", "drift"):
        rows = [json.loads(line) for line in (run / stage / "metrics.jsonl").read_text().splitlines()]
        assert "code_accuracy" in rows[-1]
        assert 0 <= next(row["heldout_code_accuracy"] for row in rows if "heldout_code_accuracy" in row) <= 1


def test_an_action_model_of_features_infers_the_same_codes_in_the_world(
    straight: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = video.parent / "features"
    begun = stages_begun(straight, run, video, capsys, "--actions.model.inputs=both")
    assert begun == ["latents", "actions", "dynamics", "world"]
    features = np.load(run / "latents" / "features.npy")
    assert features.dtype == np.float16
    assert np.array_equal(np.load(run / "latents" / "w.npy"), np.load(straight / "latents" / "w.npy"))
    codes_F = train.parts.read_result(run / "actions", "codes")["codes"]
    world = World.load(run, device="cpu")
    frames = FrameStore(run / "frames").read(np.arange(len(codes_F)))
    agree = world.infer_actions(frames) == codes_F[:-1]
    assert agree[codes_F[:-1] >= 0].mean() > 0.95  # the encoder's batches differ, and so may a rounding


def test_names_of_codes_survive_a_new_packing(straight: Path, video: Path) -> None:
    run = video.parent / "named"
    shutil.copytree(straight, run)
    name_codes(run / "world", {2: "jump"}, {2: "space"})
    words = ["train", str(video), "--run", str(run), "--device", "cpu"]
    assert main([*words, "--world.prompts=3"]) == 0
    manifest, _, prompts = read_world(run)
    assert len(prompts) == 3
    assert (manifest.codes[2].name, manifest.codes[2].key) == ("jump", " ")
