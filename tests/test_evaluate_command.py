"""`genie evaluate` from the command line, on a real world with random weights and a real video."""

import json
from pathlib import Path

import numpy as np
import pytest
from media import write_video
from worlds import SIZE, make_world, moving_squares

from app.cli import main
from torch_bridge.manifest import Provenance
from train.errors import UserError
from train.evaluate.heldout import HeldOut, choose_shots
from train.ingest.config import IngestConfig
from train.ingest.prepare import prepare
from train.ingest.store import FrameStore
from train.run import Run

FRAMES = 100


def quiet(line: str) -> None:
    del line


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """world/, v.mp4, v.npz, and frames/ made of v.mp4."""
    place = tmp_path_factory.mktemp("evaluate")
    make_world(place / "world", fps=10.0)
    write_video(place / "v.mp4", moving_squares(FRAMES, size=64, seed=3), fps=10)
    write_video(place / "w.mp4", moving_squares(60, size=64, seed=4), fps=10)
    np.savez(place / "v.npz", actions=np.random.default_rng(0).integers(0, 3, FRAMES))
    config = IngestConfig(fps=10, size=SIZE, duplicates_seconds=10)
    prepare([place / "v.mp4"], place / "frames", config, log=quiet, progress=False)
    return place


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["evaluate", *words]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("genie: ")
    return lines[-1]


def test_a_video_is_prepared_measured_and_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = place / "result"
    words = ["evaluate", str(place / "world"), "--video", str(place / "v.mp4"), "--actions", str(place / "v.npz")]
    assert main([*words, "--out", str(out), "--clips", "3", "--quick"]) == 0
    printed = capsys.readouterr().out
    tree = json.loads((out / "metrics.json").read_text())
    assert "CONTROL" in printed
    assert 1 <= tree["data"]["clips"] <= 3
    assert tree["data"]["heldout"].startswith("unknown")
    assert tree["details"]["play"]["fps"]["process"] == "fresh"
    assert tree["play"]["peak_memory_mb"] > 50
    assert tree["actions"]["nmi"] is not None
    parts = tree["budget"]["parameters"]
    assert parts["total"] == sum(count for part, count in parts.items() if part != "total")
    assert tree["budget"]["gflop_per_frame"]["total"] > 0


def test_bad_input_is_told_in_one_line(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world, video = str(place / "world"), str(place / "v.mp4")
    assert "holds a world.json" in told(capsys, str(tmp_path), "--video", video)
    assert "no such file" in told(capsys, world, "--video", video, "--actions", str(tmp_path / "a.npz"))
    assert "genie prepare" in told(capsys, world, "--frames", str(tmp_path))
    (tmp_path / "file").write_text("")
    assert "in the place of the folder" in told(capsys, world, "--video", video, "--out", str(tmp_path / "file"))
    prepare([place / "v.mp4"], tmp_path / "big", IngestConfig(size=48), log=quiet, progress=False)
    assert "--size 32" in told(capsys, world, "--frames", str(tmp_path / "big"))
    for words, fault in ((["--only", "speed"], "choose of rollout,"), (["--far", "0"], "at least 1")):
        assert fault in told(capsys, world, "--frames", str(place / "frames"), "--out", str(tmp_path / "o"), *words)
    both = [video, str(place / "w.mp4")]
    line = told(capsys, world, "--video", *both, "--actions", str(place / "v.npz"), "--out", str(tmp_path / "o"))
    assert "belongs to one video" in line


def test_the_held_out_share_is_the_one_that_the_world_was_trained_with(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_world(tmp_path / "world", fps=10.0, provenance=Provenance(config={"holdout": 0.3}))
    run = Run(tmp_path)
    run.settings, run.config = {"frames": str(place / "frames")}, {"holdout": 0.1}  # as of a changed training
    run.save()
    asked: list[float] = []

    def noted(store: FrameStore, training: FrameStore | None, holdout: float, *, all_shots: bool) -> HeldOut:
        asked.append(holdout)
        chosen = choose_shots(store, training, holdout, all_shots=all_shots)
        raise UserError("stopped", chosen.said, "here")

    monkeypatch.setattr("train.evaluate.heldout.choose_shots", noted)
    assert main(["evaluate", str(tmp_path), "--frames", str(place / "frames")]) == 2
    assert asked == [0.3]


def test_only_shots_that_the_run_held_out_are_evaluated(place: Path, tmp_path: Path) -> None:
    training = FrameStore(place / "frames")
    own = choose_shots(training, training, 0.3, all_shots=False)
    assert own.shots is not None
    assert sum(stop - start for start, stop in own.shots) == pytest.approx(0.3 * len(training), abs=1)
    assert max(stop for _, stop in own.shots) == len(training)
    assert own.mean_frame.shape == (SIZE, SIZE, 3)
    assert choose_shots(training, training, 0.3, all_shots=True).shots is None

    config = IngestConfig(fps=10, size=SIZE, duplicates_seconds=10)
    prepare([place / "w.mp4", place / "v.mp4"], tmp_path / "more", config, log=quiet, progress=False)
    with pytest.raises(UserError, match="trained on this video"):
        choose_shots(FrameStore(tmp_path / "more"), training, 0.3, all_shots=False)
    prepare([place / "w.mp4"], tmp_path / "other", config, log=quiet, progress=False)
    other = choose_shots(FrameStore(tmp_path / "other"), training, 0.3, all_shots=False)
    assert other.shots is None
    assert other.said.startswith("yes")
    assert choose_shots(training, None, 0.0, all_shots=False).mean_frame is None
